"""Who holds a lease: a process, named so that others on its machine can tell whether it still is."""

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

UNKNOWN, OVER = "?", ("Z", "X")

_resigned: set[str] = set()


def myself() -> str:
    """This process among all: machine, number, when it began, and a mark of this run's own."""
    return f"{machine()} {os.getpid()} {began(os.getpid())} {secrets.token_hex(4)}"


def machine() -> str:
    """The host's name, and what tells its boots and containers apart where the system says so."""
    marks = [socket.gethostname().replace(" ", "-")]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(marks)


def began(pid: int) -> str:
    """When a process began, in the system's own ticks; empty for one that is over and whose parent has yet to notice,
    "?" where the system does not say."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return UNKNOWN
    fields = said.rpartition(")")[2].split()
    return "" if fields[0] in OVER else fields[19]


def resign(owner: str) -> None:
    """This process has done with a lease that it could not give back: the database took no more writes."""
    _resigned.add(owner)


def is_alive(owner: str) -> bool | None:
    """Whether a process of this machine still is, and has not resigned; None of another's, and of this very one, which
    may have done with it."""
    if owner in _resigned:
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
