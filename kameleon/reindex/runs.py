"""`kdb_reindex`: a run that builds a generation, its lease and its progress.

The lease is its owner's until it ends. Each batch renews it in the batch's own transaction, and finds out there whether
it was lost. On the owner's own machine the process tells: the lease is held as long as that is, and no longer.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, Update, bindparam, select, update

from ..errors import ReindexRunning
from ..stores.tables import Tables, utc
from ..values import Generation, ReindexRun
from .owners import is_alive, myself, shown

LEASE = timedelta(minutes=5)
EMBEDDING, INDEXING, COMPARING = "embedding", "indexing", "comparing"
DONE, STOPPED, REFUSED = "done", "stopped", "refused"


class Counted(NamedTuple):
    """What a batch adds to the run's progress: records, and seconds."""

    embedded: int = 0
    reused: int = 0
    failed: int = 0
    embedding_s: float = 0.0
    writing_s: float = 0.0


class Runs:
    """`owner` is who `begin` named in the lease; a helper has none."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.reindex
        self._advance = {is_owner: advancing(self._table, is_owner=is_owner) for is_owner in (True, False)}

    def check_free(self, connection: Connection) -> None:
        """Raises ReindexRunning, naming who holds the lease. The registry is locked."""
        for row in self._held(connection):
            raise ReindexRunning(
                f"{shown(row.owner)} is building generation {row.number} (since {utc(row.began_at):%H:%M} UTC, "
                f"{row.embedded + row.reused + row.failed:,} of {row.total:,} records). `kameleon embeddings "
                f"status` shows it, `kameleon embeddings cancel` stops it{ends(row)}"
            )

    def begin(self, connection: Connection, generation: Generation, *, total: int, batch_size: int) -> str:
        """Take the lease; tells its owner. What an earlier run of this generation counted goes on being counted."""
        now, table, owner = datetime.now(UTC), self._table, myself()
        mine = {
            "owner": owner,
            "lease_until": now + LEASE,
            "is_cancelled": False,
            "phase": EMBEDDING,
            "batch_size": batch_size,
            "began_at": now,
            "updated_at": now,
        }
        row = connection.execute(select(table).where(table.c.number == generation.number)).one_or_none()
        if row is not None:
            mine["total"] = row.embedded + row.reused + row.failed + total
            connection.execute(update(table).where(table.c.number == generation.number).values(**mine))
        else:
            zeros = dict.fromkeys((*Counted._fields, "indexing_s"), 0)
            new = {"number": generation.number, "total": total, "created_at": now, **zeros, **mine}
            connection.execute(table.insert(), new)
        return owner

    def advance(self, connection: Connection, number: int, counted: Counted, owner: str | None) -> bool:
        """Count a batch in its own transaction, and renew the lease; True if the run is to stop after it. Raises
        ReindexRunning where another run took the lease."""
        now = datetime.now(UTC)
        binds: dict[str, Any] = {f"more_{name}": value for name, value in counted._asdict().items()}
        binds |= {"of": number, "now": now}
        if owner is not None:
            binds |= {"until": now + LEASE, "mine": owner}
        return to_stop(connection.execute(self._advance[owner is not None], binds).one_or_none(), number)

    def note(self, connection: Connection, number: int, owner: str, **changes: Any) -> bool:
        """As `advance`, for other columns than the counts."""
        now, table = datetime.now(UTC), self._table
        mine = update(table).where(table.c.number == number, table.c.owner == owner)
        changes |= {"lease_until": now + LEASE, "updated_at": now}
        noted = mine.values(**changes).returning(table.c.is_cancelled, table.c.owner)
        return to_stop(connection.execute(noted).one_or_none(), number)

    def add_indexing(self, connection: Connection, number: int, owner: str, seconds: float) -> None:
        self.note(connection, number, owner, indexing_s=self._table.c.indexing_s + seconds)

    def end(self, connection: Connection, number: int, owner: str, phase: str) -> bool:
        """Give the lease back; False if it was lost before."""
        table = self._table
        mine = update(table).where(table.c.number == number, table.c.owner == owner)
        ended = mine.values(owner=None, lease_until=None, phase=phase, updated_at=datetime.now(UTC), is_cancelled=False)
        return connection.execute(ended).rowcount == 1

    def cancel(self, connection: Connection) -> list[str]:
        """Ask every run that is under way to stop; tells whose they are."""
        held = list(self._held(connection))
        numbers = [row.number for row in held]
        connection.execute(update(self._table).where(self._table.c.number.in_(numbers)).values(is_cancelled=True))
        return [shown(row.owner) for row in held]

    def forget(self, connection: Connection, numbers: Sequence[int]) -> None:
        connection.execute(self._table.delete().where(self._table.c.number.in_(numbers)))

    def held(self, connection: Connection) -> dict[int, int]:
        """The generations that a run is building at this moment, with its batch size."""
        return {row.number: row.batch_size for row in self._held(connection)}

    def all(self, connection: Connection) -> list[ReindexRun]:
        """What is known of each run, by generation."""
        now = datetime.now(UTC)
        rows = connection.execute(select(self._table).order_by(self._table.c.number))
        return [run_of(row, is_held(row, now)) for row in rows]

    def _held(self, connection: Connection) -> Iterable[Any]:
        now = datetime.now(UTC)
        owned = connection.execute(select(self._table).where(self._table.c.owner.is_not(None)))
        return [row for row in owned if is_held(row, now)]


def is_held(row: Any, now: datetime) -> bool:
    if row.owner is None:
        return False
    alive = is_alive(row.owner)
    return utc(row.lease_until) > now if alive is None else alive


def ends(row: Any) -> str:
    """When another machine's lease is over, should its process be gone."""
    until = f"; if that died, it is over at {utc(row.lease_until):%H:%M:%S} UTC"
    return until if is_alive(row.owner) is None else ""


def advancing(table: Table, *, is_owner: bool) -> Update:
    """Made once: composing it takes as long as running it."""
    changes: dict[str, Any] = {name: table.c[name] + bindparam(f"more_{name}") for name in Counted._fields}
    changes["updated_at"] = bindparam("now")
    statement = update(table).where(table.c.number == bindparam("of"))
    if is_owner:
        statement = statement.where(table.c.owner == bindparam("mine"))
        changes["lease_until"] = bindparam("until")
    return statement.values(changes).returning(table.c.is_cancelled, table.c.owner)


def to_stop(row: Any, number: int) -> bool:
    """A helper stops when the owner has ended."""
    if row is None:
        raise ReindexRunning(f"another run took generation {number} over, or it was pruned: this one stopped")
    return row.is_cancelled or row.owner is None


def run_of(row: Any, is_under_way: bool) -> ReindexRun:
    return ReindexRun(
        generation=row.number,
        phase=row.phase,
        owner=shown(row.owner) if is_under_way else None,
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
