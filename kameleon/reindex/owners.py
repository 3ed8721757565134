"""Names the process that holds a lease, so that others on its machine can find out whether it still runs. Imports
nothing of kameleon's."""

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

UNKNOWN, ENDED = "?", ("Z", "X")

_released: set[str] = set()


def new_owner() -> str:
    """This process among all: machine, number, when it began, and a random mark of one lease."""
    return f"{machine()} {os.getpid()} {began(os.getpid())} {secrets.token_hex(4)}"


def machine() -> str:
    """The host's name, and what distinguishes its boots and containers where the system provides that."""
    marks = [socket.gethostname().replace(" ", "-")]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(marks)


def began(pid: int) -> str:
    """When a process began, in the system's own ticks; empty for one that has ended and whose parent has yet to notice,
    "?" where the system does not provide it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return UNKNOWN
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ENDED else fields[19]


def release(owner: str) -> None:
    """Record that this process no longer uses a lease which it could not release in the database."""
    _released.add(owner)


def is_alive(owner: str) -> bool | None:
    """Whether a process of this machine still runs and has not released its lease; None of another machine's, and of
    this very process, of which the lease's time decides."""
    if owner in _released:
        return False
    host, pid, start, _ = owner.split()
    if os.name != "posix" or host != machine() or (int(pid) == os.getpid() and start == began(os.getpid())):
        return None
    with suppress(PermissionError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
    return began(int(pid)) in (start, UNKNOWN)


def shown(owner: str) -> str:
    host, pid, *_ = owner.split()
    return process(host, int(pid))


def process(host: str, pid: int) -> str:
    return f"process {pid} on {host.partition('/')[0]}"
