"""`kdb_reindex`: a run that builds a generation, its lease and its progress; `kdb_reindex_range`: what of it is left to
whoever takes it.

The lease is the owner's until it ends; each batch renews it in the batch's own transaction, and finds out there whether
it was lost. On the owner's own machine it is over as soon as its process is. Ranges only keep helpers apart: what a
helper that died left undone is pending, and so is found.
"""

import os
import secrets
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, Update, bindparam, func, select, update

from ..errors import ReindexRunning
from ..values import Generation, Rebuild
from .tables import Tables, utc

LEASE = timedelta(minutes=5)
RANGE_LEASE = timedelta(minutes=2)
WHOLE_RUN = timedelta(days=3_650)
RANGE_PAUSE = timedelta(seconds=30)
EMBEDDING, INDEXING, COMPARING = "embedding", "indexing", "comparing"
DONE, STOPPED = "done", "stopped"
OVER = ("Z", "X")


class Range(NamedTuple):
    """Records whose key is beyond `after`, up to and with `upto`: a store's own keys, None for no bound."""

    place: int
    after: Any
    upto: Any


class Batch(NamedTuple):
    embedded: int = 0
    reused: int = 0
    failed: int = 0
    embedding_s: float = 0.0
    writing_s: float = 0.0


def myself() -> str:
    """This process among all: machine, number, when it began, and a mark of this run's own."""
    return f"{machine()} {os.getpid()} {began(os.getpid())} {secrets.token_hex(4)}"


def machine() -> str:
    """The host's name, and what tells its boots and containers apart where the system says so."""
    marks = [socket.gethostname().replace(" ", "-")]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        if os.path.exists(path):
            marks.append(os.readlink(path) if os.path.islink(path) else Path(path).read_text("ascii").strip())
    return "/".join(marks)


def began(pid: int) -> str:
    """When a process began, in the system's own ticks; "?" where the system does not say, and of one that is over and
    whose parent has yet to notice."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except FileNotFoundError:
        return "?"
    fields = said.rpartition(")")[2].split()
    return "?" if fields[0] in OVER else fields[19]


def is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that is no more."""
    host, pid, start, _ = owner.split()
    if os.name != "posix" or host != machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return began(int(pid)) != start
    return began(int(pid)) != start


def shown(owner: str) -> str:
    host, pid, *_ = owner.split()
    return f"process {pid} on {host.partition('/')[0]}"


def is_held(row: Any, now: datetime) -> bool:
    return row.owner is not None and utc(row.lease_until) > now and not is_dead(row.owner)


class Runs:
    """`owner` is this process's name in the lease."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.reindex
        self._ranges: Table = tables.reindex_range
        self.owner = ""
        self._advance = {is_owner: advancing(self._table, is_owner=is_owner) for is_owner in (True, False)}

    def check_free(self, connection: Connection) -> None:
        """Raises ReindexRunning, naming who holds the lease. The registry is locked."""
        now = datetime.now(UTC)
        for row in connection.execute(select(self._table).where(self._table.c.owner.is_not(None))):
            if is_held(row, now):
                raise ReindexRunning(
                    f"{shown(row.owner)} is building generation {row.number} (since {utc(row.began_at):%H:%M} UTC, "
                    f"{row.embedded + row.reused + row.failed:,} of {row.total:,} records). `kameleon embeddings "
                    "status` shows it, `kameleon embeddings cancel` stops it; a run that died on another machine "
                    f"frees it at {utc(row.lease_until):%H:%M:%S} UTC"
                )

    def begin(self, connection: Connection, generation: Generation, *, total: int, batch_size: int) -> None:
        """Take the lease. What an earlier run of this generation counted goes on being counted."""
        now = datetime.now(UTC)
        self.owner = myself()
        mine = {
            "owner": self.owner,
            "lease_until": now + LEASE,
            "is_cancelled": False,
            "phase": EMBEDDING,
            "batch_size": batch_size,
            "began_at": now,
            "updated_at": now,
        }
        table = self._table
        row = connection.execute(select(table).where(table.c.number == generation.number)).one_or_none()
        if row is not None:
            done = row.embedded + row.reused + row.failed
            connection.execute(
                update(table).where(table.c.number == generation.number).values(**mine, total=done + total)
            )
            return
        counted = ("batches", "embedded", "reused", "failed", "embedding_s", "writing_s", "indexing_s")
        zeros = dict.fromkeys(counted, 0)
        connection.execute(
            table.insert(), {"number": generation.number, "total": total, "created_at": now, **zeros, **mine}
        )

    def advance(self, connection: Connection, number: int, batch: Batch, *, is_owner: bool) -> bool:
        """Count a batch in its own transaction, and renew the lease; True if the run is to stop after it. Raises
        ReindexRunning where another run took the lease."""
        now = datetime.now(UTC)
        binds: dict[str, Any] = {f"more_{name}": value for name, value in batch._asdict().items()}
        binds |= {"of": number, "now": now}
        if is_owner:
            binds |= {"until": now + LEASE, "mine": self.owner}
        return still_mine(connection.scalar(self._advance[is_owner], binds), number)

    def note(self, connection: Connection, number: int, **changes: Any) -> bool:
        """As `advance`, for other columns than the counts."""
        now, table = datetime.now(UTC), self._table
        mine = update(table).where(table.c.number == number, table.c.owner == self.owner)
        changes |= {"lease_until": now + LEASE, "updated_at": now}
        return still_mine(connection.scalar(mine.values(**changes).returning(table.c.is_cancelled)), number)

    def add_indexing(self, connection: Connection, number: int, seconds: float) -> None:
        self.note(connection, number, indexing_s=self._table.c.indexing_s + seconds)

    def end(self, connection: Connection, number: int, phase: str) -> bool:
        """Give the lease back; False if it was lost before."""
        table = self._table
        mine = update(table).where(table.c.number == number, table.c.owner == self.owner)
        now = datetime.now(UTC)
        ended = mine.values(owner=None, lease_until=None, phase=phase, updated_at=now, is_cancelled=False)
        return connection.execute(ended).rowcount == 1

    def cancel(self, connection: Connection) -> list[str]:
        """Ask every run that is under way to stop; tells whose they are."""
        table, now = self._table, datetime.now(UTC)
        held = [row for row in connection.execute(select(table).where(table.c.owner.is_not(None))) if is_held(row, now)]
        for row in held:
            connection.execute(update(table).where(table.c.number == row.number).values(is_cancelled=True))
        return [shown(row.owner) for row in held]

    def forget(self, connection: Connection, numbers: Sequence[int]) -> None:
        for table in (self._table, self._ranges):
            connection.execute(table.delete().where(table.c.number.in_(numbers)))

    def held(self, connection: Connection) -> set[int]:
        """The generations that a run is building at this moment."""
        table, now = self._table, datetime.now(UTC)
        rows = connection.execute(select(table).where(table.c.owner.is_not(None)))
        return {row.number for row in rows if is_held(row, now)}

    def all(self, connection: Connection) -> list[Rebuild]:
        """What is known of each run, by generation."""
        table, now = self._table, datetime.now(UTC)
        return [rebuild(row, now) for row in connection.execute(select(table).order_by(table.c.number))]

    # ranges

    def add_ranges(self, connection: Connection, number: int, bounds: Sequence[Any]) -> None:
        now = datetime.now(UTC)
        rows = [
            {"number": number, "place": place, "after": after, "upto": upto, "due_at": now}
            for place, (after, upto) in enumerate(pairwise([None, *bounds, None]))
        ]
        connection.execute(self._ranges.insert(), rows)

    def shared(self, connection: Connection) -> int | None:
        """A generation that is being built and has a range that nobody has."""
        due = select(self._ranges.c.number).where(self._ranges.c.due_at <= datetime.now(UTC)).distinct()
        free = set(connection.execute(due).scalars())
        return min(free & self.held(connection), default=None) if free else None

    def ranges_left(self, connection: Connection, number: int) -> int:
        """Those that are not done, taken or not."""
        ranges = self._ranges
        return connection.scalar(select(func.count()).where(ranges.c.number == number)) or 0

    def take_range(
        self, connection: Connection, number: int, worker: str, lease: timedelta = RANGE_LEASE
    ) -> Range | None:
        """The first that nobody has, this worker's until its lease ends."""
        ranges, now = self._ranges, datetime.now(UTC)
        due = select(ranges.c.place).where(ranges.c.number == number, ranges.c.due_at <= now).order_by(ranges.c.place)
        for place in connection.execute(due.limit(10)).scalars().all():
            mine = update(ranges).where(ranges.c.number == number, ranges.c.place == place, ranges.c.due_at <= now)
            taken = mine.values(due_at=now + lease, claimed_by=worker).returning(ranges.c.after, ranges.c.upto)
            row = connection.execute(taken).one_or_none()
            if row is not None:
                return Range(place, row.after, row.upto)
        return None

    def leave_range(self, connection: Connection, number: int, place: int) -> None:
        """Done with it."""
        ranges = self._ranges
        connection.execute(ranges.delete().where(ranges.c.number == number, ranges.c.place == place))

    def keep_range(self, connection: Connection, number: int, place: int) -> None:
        self._set_due(connection, number, place, RANGE_LEASE)

    def put_off(self, connection: Connection, number: int, place: int) -> None:
        """Not done with it: another may have it after a pause."""
        self._set_due(connection, number, place, RANGE_PAUSE)

    def _set_due(self, connection: Connection, number: int, place: int, pause: timedelta) -> None:
        ranges = self._ranges
        mine = update(ranges).where(ranges.c.number == number, ranges.c.place == place)
        connection.execute(mine.values(due_at=datetime.now(UTC) + pause))

    def free_ranges(self, connection: Connection, number: int) -> None:
        """Nobody takes any of it from here on."""
        connection.execute(self._ranges.delete().where(self._ranges.c.number == number))


def advancing(table: Table, *, is_owner: bool) -> Update:
    """Made once: composing it takes as long as running it."""
    counts: dict[str, Any] = {name: table.c[name] + bindparam(f"more_{name}") for name in Batch._fields}
    counts |= {"batches": table.c.batches + 1, "updated_at": bindparam("now")}
    statement = update(table).where(table.c.number == bindparam("of"))
    if is_owner:
        statement = statement.where(table.c.owner == bindparam("mine"))
        counts["lease_until"] = bindparam("until")
    return statement.values(counts).returning(table.c.is_cancelled)


def still_mine(is_cancelled: bool | None, number: int) -> bool:
    if is_cancelled is None:
        raise ReindexRunning(f"another run took generation {number} over, or it was pruned: this one stopped")
    return is_cancelled


def rebuild(row: Any, now: datetime) -> Rebuild:
    return Rebuild(
        generation=row.number,
        phase=row.phase,
        owner=shown(row.owner) if is_held(row, now) else None,
        total=row.total,
        embedded=row.embedded,
        reused=row.reused,
        failed=row.failed,
        embedding_s=row.embedding_s,
        writing_s=row.writing_s,
        indexing_s=row.indexing_s,
        began_at=utc(row.began_at),
        updated_at=utc(row.updated_at),
    )
