"""Reads and prunes the generations of an index, and its recorded runs. Imports `values`, `stores` and `indexing`."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ..indexing.index import Index
from ..stores.catalog import current
from ..stores.values import Part
from ..values import Generation, ReindexRun
from .building import Building


@dataclass(frozen=True)
class PruneReport:
    """Generations whose tables are gone, and those whose table a transaction that is still open may be reading: the
    next prune drops these."""

    dropped: tuple[Generation, ...] = ()
    waiting: tuple[Generation, ...] = ()


class Registry:
    """The generations of one index, but for the run that builds one."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.building = Building(index)
        self._store = index.store

    def pending(self, conn: Connection, generation: Generation | None, part: Part) -> int:
        found = self._store.embeddings.status(conn, generation, has_provider=True, tenants=part.tenants)
        return sum(status.pending for status in found if not part.entities or status.entity in part.entities)

    def prune(self) -> PruneReport:
        """Drop every generation but the active one and those that are being built at this moment."""
        self.index.committed(self._forget_others)
        return self.drop_tables()

    def _forget_others(self, conn: Connection) -> None:
        self._store.schema.lock_registry(conn, is_first=True)
        generations = self.index.catalog.generations(conn)
        in_use, kept = current(generations), set(self.building.runs.held(conn))
        if in_use is not None:
            kept.add(in_use.number)
        self.forget(conn, [g.number for g in generations if g.number not in kept])

    def forget(self, conn: Connection, numbers: Sequence[int]) -> None:
        self.index.catalog.forget(conn, numbers)
        self.building.runs.forget(conn, numbers)
        self.building.ranges.drop(conn, numbers)

    def drop_tables(self) -> PruneReport:
        """Of generations that are forgotten."""
        with self.index.reading() as conn:
            there = self._store.schema.embedding_tables(conn)
            forgotten = [g for g in self.index.catalog.dropped(conn) if g.number in there]
        dropped, waiting = list[Generation](), list[Generation]()
        for generation in forgotten:
            with self._store.connections.translating():
                (dropped if self._store.schema.drop_generation(generation) else waiting).append(generation)
        return PruneReport(tuple(dropped), tuple(waiting))

    def cancel(self) -> list[str]:
        """Cancel the runs that are under way, on any machine: each stops after its batch; returns their owners."""
        return self.index.committed(self.building.runs.cancel)

    def status(self) -> list[ReindexRun]:
        """The recorded runs, by generation, under way or not."""
        with self.index.reading() as conn:
            return self.building.runs.all(conn)
