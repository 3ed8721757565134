"""Moves the tail of a partition to segments, and finds what is due: a fold, or a step of a merge. Imports `telemetry`,
`forking` and `stores`.

Folds and merges run in transactions of kameleon's own, after those of the application. What a step takes it deletes and
counts: who finds less than it read has been overtaken and rolls back.
"""

import logging
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, Row, Select, Table, and_, case, func, select

from ..forking import per_process
from ..stores.keyword_tables import LIVE, KeywordTables
from ..telemetry import Operation, operation
from .dialect import Dialect, Partition
from .merging import DEAD_SHARE, MOST_SEGMENTS, Merges, MergeStep
from .packing import Array, TailRow
from .segments import of_tail
from .steps import Overtaken, Step, docs_of
from .writing import insert, rows_of

FOLD_FROM = 256
"""The tail is folded from so many rows: a query reads 255 of 35 words in 0.9 ms (SQLite, CPU)."""
PACK_FROM = 100
"""Rows of single dead documents are packed from so many. Chosen, not measured."""

log = logging.getLogger("kameleon.keywords")


class Limits(NamedTuple):
    fold_from: int = FOLD_FROM
    pack_from: int = PACK_FROM
    most_segments: int = MOST_SEGMENTS


class Maintenance:
    def __init__(self, engine: Engine, dialect: Dialect, tables: KeywordTables, limits: Limits | None = None) -> None:
        self._engine, self._dialect, self._tables = engine, dialect, tables
        self._limits = limits or Limits()
        self._merges: Merges = {}

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def step(self, partition: Partition, *, purges: bool = False) -> bool:
        """Makes one step of what is due, in a transaction of its own; False where nothing was, or where it failed.
        `purges` takes all dead documents out, and leaves a tail that is too small to fold. Never raises: it runs after
        commits that have succeeded. Not inside a transaction of the engine's."""
        if not self._dialect.may_fold(self._engine) or not self._lock.acquire(blocking=False):
            return False
        try:
            with operation() as observed, self._dialect.folding(self._engine) as connection:
                if not self._dialect.try_lock(connection, *partition):
                    return False
                return self._step(connection, partition, purges, observed)
        except Overtaken:
            return False
        except Exception as error:  # noqa: BLE001 - whatever a database, a pool or a driver raises, the commit is done
            log.debug("keywords of %s are not folded now: %s", partition.entity, error)
            return False
        finally:
            self._lock.release()

    def _step(self, connection: Connection, partition: Partition, purges: bool, observed: Operation) -> bool:
        fold = FoldStep(connection, self._dialect, self._tables, partition)
        tail = fold.count(self._tables.tail, self._limits.fold_from)
        takes_tail = tail >= self._limits.fold_from
        if purges and not takes_tail and tail and fold.clean():
            fold.begin(observed, "clean")
            return True
        if takes_tail or fold.count(self._tables.dead, self._limits.pack_from) >= self._limits.pack_from:
            fold.begin(observed, "fold")
            return fold.make(takes_tail)
        merge = MergeStep(connection, self._dialect, self._tables, partition)
        return merge.make(self._merges, self._limits.most_segments, purges, observed)

    def run(self, partition: Partition, *, purges: bool = False) -> int:
        """Makes steps until none is due; how many."""
        steps = 0
        while self.step(partition, purges=purges):
            steps += 1
        return steps

    def due(self, connection: Connection, purges: bool = False) -> list[Partition]:
        """Those in which a step is due, or may be: three statements, however many there are."""
        tail, dead, segment = (table.c for table in (self._tables.tail, self._tables.dead, self._tables.segment))
        limits = self._limits

        def grouped(of: Any, *figures: Any) -> Select[Any]:
            return select(of.tenant, of.entity_name, *figures).group_by(of.tenant, of.entity_name)

        rows = connection.execute(grouped(tail).having(func.count() >= limits.fold_from))
        found = {Partition(*row) for row in rows}
        records: dict[Partition, int] = {}
        figures = func.sum(segment.records), func.count(), func.max(segment.state)
        for tenant, entity, total, segments, state in connection.execute(grouped(segment, *figures)):
            records[Partition(tenant, entity)] = total
            if segments > limits.most_segments or state != LIVE:
                found.add(Partition(tenant, entity))
        sizes = func.sum(case((dead.docs == b"", 1), else_=0)), func.sum(func.length(dead.docs))
        for tenant, entity, single, packed in connection.execute(grouped(dead, *sizes)):
            of = Partition(tenant, entity)
            is_large = of in records and single + packed // 8 > DEAD_SHARE * records[of]
            if purges or is_large or single >= limits.pack_from:
                found.add(of)
        return sorted(found)


class FoldStep(Step):
    def count(self, table: Table, most: int) -> int:
        """Rows, up to so many; of dead ones those of single documents."""
        where = self._own(table.c)
        if table is self.tables.dead:
            where = and_(where, table.c.docs == b"")
        counted = select(table.c.doc).where(where).limit(most).subquery()
        return self.connection.scalar(select(func.count()).select_from(counted)) or 0

    def make(self, takes_tail: bool) -> bool:
        """Dead rows are read first: the document of each is in the tail that is read then, or in a segment. Those of
        documents that the fold drops go, others are packed in one row."""
        dead, tail = self.tables.dead, self.tables.tail
        rows = self._all(select(dead.c.doc, dead.c.docs).where(self._own(dead.c)))
        gone = docs_of(rows)
        taken = self._tail_rows() if takes_tail else []
        dropped = np.intersect1d(gone, np.array([row.doc for row in taken], "<i8"))
        changed = [row for row in rows if not row.docs or _has_any(row, dropped)]
        is_dropped = set(dropped.tolist())
        kept = [row for row in taken if row.doc not in is_dropped]
        rows_added = rows_of(self.partition, of_tail(kept)) if kept else None
        self._begin_writing()
        self._take(dead, [row.doc for row in changed])
        self._take(tail, [row.doc for row in taken])
        self._pack_dead(np.setdiff1d(docs_of(changed), dropped))
        if rows_added is not None:
            insert(self.connection, self.dialect, rows_added)
        return bool(taken or changed)

    def clean(self) -> bool:
        """Deletes dead documents from the tail, with their dead rows; False where it has none."""
        dead, tail = self.tables.dead, self.tables.tail
        rows = self._all(select(dead.c.doc, dead.c.docs).where(self._own(dead.c)))
        docs = self.connection.scalars(select(tail.c.doc).where(self._own(tail.c))) if rows else ()
        dropped = np.intersect1d(docs_of(rows), np.fromiter(docs, "<i8"))
        if not len(dropped):
            return False
        changed = [row for row in rows if _has_any(row, dropped)]
        self._begin_writing()
        self._take(dead, [row.doc for row in changed])
        self._take(tail, dropped.tolist())
        self._pack_dead(np.setdiff1d(docs_of(changed), dropped))
        return True

    def _tail_rows(self) -> list[TailRow]:
        tail = self.tables.tail.c
        columns = [tail[name] for name in TailRow._fields]
        rows = self._all(select(*columns).where(self._own(tail)).order_by(tail.doc).limit(self.dialect.fold_rows))
        return [TailRow._make(row) for row in _bounded(rows, self.dialect.step_rows * 10)]


def _has_any(row: Row[Any], docs: Array) -> bool:
    """Whether a dead row has any of these documents."""
    return bool(np.isin(docs_of([row]), docs).any())


def _bounded(rows: Sequence[Row[Any]], entries: int) -> list[Row[Any]]:
    """As many rows as have so many terms in all, one at the least."""
    taken: list[Row[Any]] = []
    for row in rows:
        entries -= len(row.hashes) // 8
        if taken and entries < 0:
            break
        taken.append(row)
    return taken
