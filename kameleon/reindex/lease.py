"""`kdb_reindex`: a run that builds a generation, its lease and its progress. Imports `values`, `errors` and
`stores`.

The lease is its owner's until it expires. Each batch renews it in the batch's own transaction, and finds out there
whether it was lost. On the owner's own machine the lease is held as long as the owner's process runs, and no longer.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, select, update

from ..errors import ReindexRunning
from ..stores.tables import Tables, utc
from ..values import Generation, ReindexRun
from .owners import is_alive, new_owner, shown

RUN_LEASE = timedelta(minutes=5)
"""Bounds how long a run on another machine is waited for after its last batch. Longer than a batch takes to embed."""
EMBEDDING, INDEXING, COMPARING = "embedding", "indexing", "comparing"
DONE, STOPPED, REFUSED = "done", "stopped", "refused"
COUNTED = ("embedded", "reused", "failed", "embedding_s", "writing_s", "indexing_s")
"""What batches and the building of an index add to a run's row: records, and seconds."""


class Runs:
    """`owner` is the name that `begin` wrote into the lease; a helper has none."""

    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.reindex

    def check_free(self, connection: Connection) -> None:
        """Raises ReindexRunning, naming who holds the lease. The registry is locked."""
        row = next(iter(self._held(connection)), None)
        if row is None:
            return
        expires = f"; if that died, it is over at {utc(row.lease_until):%H:%M:%S} UTC"
        raise ReindexRunning(
            f"{shown(row.owner)} is building generation {row.number} (since {utc(row.began_at):%H:%M} UTC, "
            f"{row.embedded + row.reused + row.failed:,} of {row.total:,} records). `kameleon embeddings "
            f"status` shows it, `kameleon embeddings cancel` stops it"
            f"{expires if is_alive(row.owner) is None else ''}"
        )

    def begin(self, connection: Connection, generation: Generation, *, total: int, batch_size: int) -> str:
        """Take the lease; returns its owner. The counts of an earlier run of this generation are added to."""
        now, table, owner = datetime.now(UTC), self._table, new_owner()
        own = {
            "owner": owner,
            "lease_until": now + RUN_LEASE,
            "is_cancelled": False,
            "phase": EMBEDDING,
            "batch_size": batch_size,
            "began_at": now,
            "updated_at": now,
        }
        row = connection.execute(select(table).where(table.c.number == generation.number)).one_or_none()
        if row is not None:
            own["total"] = row.embedded + row.reused + row.failed + total
            connection.execute(update(table).where(table.c.number == generation.number).values(**own))
        else:
            zeros = dict.fromkeys(COUNTED, 0)
            new = {"number": generation.number, "total": total, "created_at": now, **zeros, **own}
            connection.execute(table.insert(), new)
        return owner

    def advance(self, connection: Connection, number: int, owner: str | None, **amounts: float) -> bool:
        """Add to the run's counts in the batch's own transaction; as `renew`."""
        columns = self._table.c
        return self.renew(connection, number, owner, **{name: columns[name] + more for name, more in amounts.items()})

    def renew(self, connection: Connection, number: int, owner: str | None, **changes: Any) -> bool:
        """Renew the owner's lease and note changes of the run; True if the run is to stop, as a helper's is when the
        owner's has ended. Raises ReindexRunning where another run took the lease."""
        now, table = datetime.now(UTC), self._table
        own = update(table).where(table.c.number == number)
        if owner is not None:
            own = own.where(table.c.owner == owner).values(lease_until=now + RUN_LEASE)
        changed = own.values(updated_at=now, **changes).returning(table.c.is_cancelled, table.c.owner)
        row = connection.execute(changed).one_or_none()
        if row is None:
            raise ReindexRunning(f"another run took generation {number} over, or it was pruned: this one stopped")
        return row.is_cancelled or row.owner is None

    def end(self, connection: Connection, number: int, owner: str, phase: str) -> bool:
        """Release the lease; False if it was lost before."""
        table = self._table
        own = update(table).where(table.c.number == number, table.c.owner == owner)
        ended = own.values(owner=None, lease_until=None, phase=phase, updated_at=datetime.now(UTC), is_cancelled=False)
        return connection.execute(ended).rowcount == 1

    def cancel(self, connection: Connection) -> list[str]:
        """Mark every run that is under way as cancelled; returns their owners."""
        held = self._held(connection)
        numbers = [row.number for row in held]
        connection.execute(update(self._table).where(self._table.c.number.in_(numbers)).values(is_cancelled=True))
        return [shown(row.owner) for row in held]

    def forget(self, connection: Connection, numbers: Sequence[int]) -> None:
        connection.execute(self._table.delete().where(self._table.c.number.in_(numbers)))

    def held(self, connection: Connection) -> dict[int, int]:
        """The generations that a run is building at this moment, with its batch size."""
        return {row.number: row.batch_size for row in self._held(connection)}

    def all(self, connection: Connection) -> list[ReindexRun]:
        """Every recorded run, by generation."""
        return [run_of(row) for row in connection.execute(select(self._table).order_by(self._table.c.number))]

    def _held(self, connection: Connection) -> Sequence[Any]:
        return [row for row in connection.execute(select(self._table)) if is_held(row)]


def is_held(row: Any) -> bool:
    if row.owner is None:
        return False
    alive = is_alive(row.owner)
    return utc(row.lease_until) > datetime.now(UTC) if alive is None else alive


def run_of(row: Any) -> ReindexRun:
    return ReindexRun(
        generation=row.number,
        phase=row.phase,
        owner=shown(row.owner) if is_held(row) else None,
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
