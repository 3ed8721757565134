"""Moves the tail to segments, merges segments and frees what they leave: one bounded step a transaction.

A fold is one transaction. A merge is several: it inserts a segment that is BUILDING, fills it with the postings of its
parents in the order of the terms, makes it LIVE and the parents DROPPING in one transaction, and empties these. Where
it is in this is in the tables, so whoever makes the next step goes on with it, after a crash, too; readers see LIVE
segments alone. What a step takes it deletes and counts: who finds less than it read has been overtaken and rolls back.
"""

import logging
from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, and_, delete, func, select, union, update

from ..forking import per_process
from ..stores.keyword_tables import BUILDING, DROPPING, LIVE, KeywordTables
from .dialect import Dialect, Partition
from .packing import Array, TailRow, Words
from .segments import Parent, PostingRow, merged, merged_words, of_tail
from .writing import DEAD, SEGMENT, add_postings, add_segment, new_number

FOLD_FROM = 256
"""The tail is folded from so many rows, which a query reads in about a millisecond (stress/README.md)."""
PACK_FROM = 100
"""Rows of single dead documents are packed from so many. Chosen, not measured."""
MOST_SEGMENTS = 10
"""A partition with more is merged. A query reads a posting of each term in each segment."""
DEAD_SHARE = 0.1
"""A partition with more dead documents is merged: each query reads their numbers."""

log = logging.getLogger("kameleon.keywords")


class Overtaken(Exception):
    """Another fold or merge took the same input first."""


class Limits(NamedTuple):
    fold_from: int = FOLD_FROM
    pack_from: int = PACK_FROM
    most_segments: int = MOST_SEGMENTS


class Maintenance:
    def __init__(self, engine: Engine, dialect: Dialect, tables: KeywordTables, limits: Limits | None = None) -> None:
        self._engine, self._dialect, self._tables = engine, dialect, tables
        self._limits = limits or Limits()

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def step(self, partition: Partition, *, purges: bool = False) -> bool:
        """Makes one step of what is due, in a transaction of its own; False where nothing was, or where it failed.
        `purges` merges all segments with dead documents and folds any tail. Never raises: it runs after commits that
        have succeeded. Not inside a transaction of the engine's."""
        if not self._dialect.may_fold(self._engine) or not self._lock.acquire(blocking=False):
            return False
        try:
            with self._dialect.folding(self._engine) as connection:
                if not self._dialect.try_lock(connection, *partition):
                    return False
                return Step(connection, self._dialect, self._tables, partition, self._limits).make(purges)
        except Overtaken:
            return False
        except Exception as error:  # noqa: BLE001 - whatever a database, a pool or a driver raises, the commit is done
            log.debug("keywords of %s are not folded now: %s", partition.entity, error)
            return False
        finally:
            self._lock.release()

    def run(self, partition: Partition, *, purges: bool = False) -> int:
        """Makes steps until none is due; how many."""
        steps = 0
        while self.step(partition, purges=purges):
            steps += 1
        return steps

    def partitions(self, connection: Connection) -> list[Partition]:
        """Those that have any row."""
        tables = (self._tables.tail, self._tables.segment)
        each = [select(table.c.tenant, table.c.entity_name) for table in tables]
        return sorted(Partition(*row) for row in connection.execute(union(*each)))


class Step:
    """One transaction's."""

    def __init__(
        self, connection: Connection, dialect: Dialect, tables: KeywordTables, partition: Partition, limits: Limits
    ) -> None:
        self._connection, self._dialect, self._tables = connection, dialect, tables
        self._partition, self._limits = partition, limits

    def make(self, purges: bool) -> bool:
        tail, dead = (self._count(table) for table in (self._tables.tail, self._tables.dead))
        takes_tail = tail >= self._limits.fold_from or (purges and tail > 0)
        if takes_tail or dead >= self._limits.pack_from:
            return self._fold(takes_tail)
        columns = self._tables.segment.c
        segments = self._all(select(columns.segment, columns.state, columns.records).where(self._own(columns)))
        for state, go_on in ((BUILDING, self._build), (DROPPING, self._drop)):
            for row in segments:
                if row.state == state:
                    return go_on(row.segment)
        live = sorted((row.records, row.segment) for row in segments if row.state == LIVE)
        parents = self._with_dead(live, purges) or _smallest(live, self._limits.most_segments)
        return bool(parents) and self._begin(parents)

    def _count(self, table: Table) -> int:
        """Rows, up to as many as make a fold due; of dead ones those of single documents."""
        where = self._own(table.c)
        if table is self._tables.dead:
            where = and_(where, table.c.docs == b"")
        counted = select(table.c.doc).where(where).limit(self._limits.fold_from).subquery()
        return self._connection.scalar(select(func.count()).select_from(counted)) or 0

    def _own(self, columns: Any) -> ColumnElement[bool]:
        return and_(columns.tenant == self._partition.tenant, columns.entity_name == self._partition.entity)

    def _all(self, statement: Any) -> Sequence[Row[Any]]:
        return self._connection.execute(statement).all()

    def _fold(self, takes_tail: bool) -> bool:
        """Dead rows are read first: the document of each is in the tail that is read then, or in a segment. Those of
        documents that the fold drops go, others are packed in one row."""
        dead, tail = self._tables.dead, self._tables.tail
        rows = self._all(select(dead.c.doc, dead.c.docs).where(self._own(dead.c)))
        gone = _docs_of(rows)
        taken = self._tail_rows() if takes_tail else []
        dropped = np.intersect1d(gone, np.array([row.doc for row in taken], "<i8"))
        changed = [row for row in rows if not row.docs or np.isin(np.frombuffer(row.docs, "<i8"), dropped).any()]
        is_dropped = set(dropped.tolist())
        kept = [row for row in taken if row.doc not in is_dropped]
        segment = of_tail(kept) if kept else None
        self._dialect.begin_writing(self._connection)
        self._take(dead, [row.doc for row in changed])
        self._take(tail, [row.doc for row in taken])
        self._pack_dead(np.setdiff1d(_docs_of(changed), dropped))
        if segment is not None:
            add_segment(self._connection, self._dialect, self._partition, segment)
        return bool(taken or changed)

    def _tail_rows(self) -> list[TailRow]:
        tail = self._tables.tail.c
        columns = [tail[name] for name in TailRow._fields]
        rows = self._all(select(*columns).where(self._own(tail)).order_by(tail.doc).limit(self._dialect.fold_rows))
        return [TailRow._make(row) for row in _bounded(rows, self._dialect.step_rows * 10)]

    def _take(self, table: Table, docs: Sequence[int]) -> None:
        for start in range(0, len(docs), 500):
            part = docs[start : start + 500]
            found = self._connection.execute(delete(table).where(self._own(table.c), table.c.doc.in_(part)))
            if found.rowcount != len(part):
                raise Overtaken

    def _pack_dead(self, docs: Array) -> None:
        """One row for many, under the first of them."""
        if len(docs):
            row = (*self._partition, int(docs[0]), docs.tobytes())
            self._dialect.insert(self._connection, "kdb_dead", DEAD, [row])

    def _dead(self) -> Array:
        dead = self._tables.dead.c
        return _docs_of(self._all(select(dead.doc, dead.docs).where(self._own(dead))))

    def _with_dead(self, live: Sequence[tuple[int, int]], purges: bool) -> list[int]:
        """Segments with more dead documents than they may have."""
        dead = self._dead()
        most = 0.0 if purges else DEAD_SHARE
        if not len(dead) or len(dead) <= most * sum(records for records, _ in live):
            return []
        counted = {segment: np.isin(self._head(segment)[0], dead).sum() for _, segment in live}
        return [segment for records, segment in live if counted[segment] > most * records]

    def _head(self, segment: int) -> tuple[Array, Array, int]:
        """Document numbers, lengths and the bytes of a place."""
        columns = self._tables.segment.c
        where = self._own(columns) & (columns.segment == segment)
        row = self._connection.execute(select(columns.docs, columns.lengths, columns.place_bytes).where(where)).first()
        if row is None:
            raise Overtaken
        return np.frombuffer(row.docs, "<i8"), np.frombuffer(row.lengths, "<u4"), row.place_bytes

    def _begin(self, parents: Sequence[int]) -> bool:
        """Adds the segment that these become: what is dead now is left out."""
        dead = self._dead()
        docs, lengths, widths = zip(*map(self._head, parents), strict=True)
        joined, length = np.concatenate(docs), np.concatenate(lengths)
        alive = np.flatnonzero(~np.isin(joined, dead))
        order = alive[np.argsort(joined[alive])]
        self._dialect.begin_writing(self._connection)
        columns = self._tables.segment.c
        where = self._own(columns) & ((columns.state == BUILDING) | columns.segment.in_(parents))
        if sorted(row.state for row in self._all(select(columns.state).where(where))) != [LIVE] * len(parents):
            raise Overtaken
        row = (new_number(), BUILDING, len(order), max(widths), np.array(parents, "<i8").tobytes())
        heads = (joined[order].tobytes(), length[order].tobytes(), b"")
        self._dialect.insert(self._connection, "kdb_segment", SEGMENT, [(*self._partition, *row, *heads)])
        return True

    def _build(self, segment: int) -> bool:
        """Inserts the postings of the next terms; after the last ones the segment is live."""
        columns = self._tables.segment.c
        where = self._own(columns) & (columns.segment == segment)
        raw = self._connection.scalar(select(columns.parents).where(where)) or b""
        parents = [int(parent) for parent in np.frombuffer(raw, "<i8")]
        docs, _, place_bytes = self._head(segment)
        heads = {parent: self._head(parent) for parent in parents}
        new = {parent: _new_ordinals(head[0], docs) for parent, head in heads.items()}
        largest = max(parents, key=lambda parent: len(heads[parent][0]))
        reached = first = self._last_term(segment)
        rows: list[PostingRow] = []
        while not rows:
            last = self._term_after(largest, reached, self._dialect.step_rows * 2 // (len(parents) + 1))
            given = self._postings(parents, reached, last)
            each = [Parent(given[parent], new[parent], heads[parent][2]) for parent in parents]
            rows = list(merged(each, len(docs)).rows(len(docs), place_bytes))
            if last is None:
                break
            reached = last
        words = self._words(segment, parents, rows) if last is None else None
        self._dialect.begin_writing(self._connection)
        if self._last_term(segment) != first or not self._connection.scalar(select(columns.state).where(where)):
            raise Overtaken
        add_postings(self._connection, self._dialect, self._partition, segment, rows)
        if words is not None:
            dropped = np.concatenate([heads[parent][0][new[parent] < 0] for parent in parents])
            self._switch(segment, parents, dropped, words if len(docs) else None)
        return True

    def _last_term(self, segment: int) -> str:
        posting = self._tables.posting.c
        where = self._own(posting) & (posting.segment == segment)
        return self._connection.scalar(select(func.max(posting.term)).where(where)) or ""

    def _term_after(self, segment: int, term: str, rows: int) -> str | None:
        """The term so many rows on, None where there are fewer."""
        posting = self._tables.posting.c
        where = self._own(posting) & (posting.segment == segment) & (posting.term > term)
        statement = select(posting.term).where(where).order_by(posting.term).limit(1).offset(rows)
        return self._connection.scalar(statement)

    def _postings(self, parents: Sequence[int], after: str, last: str | None) -> dict[int, list[PostingRow]]:
        posting = self._tables.posting.c
        where = self._own(posting) & posting.segment.in_(parents) & (posting.term > after)
        if last is not None:
            where &= posting.term <= last
        found: dict[int, list[PostingRow]] = {parent: [] for parent in parents}
        columns = [posting[name] for name in PostingRow._fields]
        for row in self._connection.execute(select(posting.segment, *columns).where(where)):
            found[row.segment].append(PostingRow(*row[1:]))
        return found

    def _words(self, segment: int, parents: Sequence[int], rows: Sequence[PostingRow]) -> Words:
        """Those of the parents whose term has a record."""
        posting, columns = self._tables.posting.c, self._tables.segment.c
        where = self._own(posting) & (posting.segment == segment)
        terms = frozenset(self._connection.execute(select(posting.term).where(where)).scalars())
        packed = select(columns.words).where(self._own(columns), columns.segment.in_(parents))
        each = [Words.unpack(words) for words in self._connection.execute(packed).scalars()]
        return merged_words(each, terms.union(row.term for row in rows))

    def _switch(self, segment: int, parents: Sequence[int], dropped: Array, words: Words | None) -> None:
        """Makes a segment live in place of its parents; none where each record is dead."""
        table, dead = self._tables.segment, self._tables.dead
        taken = delete(dead).where(self._own(dead.c)).returning(dead.c.doc, dead.c.docs)
        self._pack_dead(np.setdiff1d(_docs_of(self._all(taken)), dropped))
        own = self._own(table.c)
        emptied = {"state": DROPPING, "docs": b"", "lengths": b"", "words": b""}
        self._connection.execute(update(table).where(own, table.c.segment.in_(parents)).values(emptied))
        if words is None:
            self._connection.execute(delete(table).where(own, table.c.segment == segment))
        else:
            values = {"state": LIVE, "parents": b"", "words": words.pack()}
            self._connection.execute(update(table).where(own, table.c.segment == segment).values(values))

    def _drop(self, segment: int) -> bool:
        """Deletes the first postings of a segment, and with the last ones the segment."""
        table, posting = self._tables.segment, self._tables.posting
        self._dialect.begin_writing(self._connection)
        last = self._term_after(segment, "", self._dialect.step_rows)
        where = self._own(posting.c) & (posting.c.segment == segment)
        if last is not None:
            where &= posting.c.term <= last
        self._connection.execute(delete(posting).where(where))
        if last is None:
            self._connection.execute(delete(table).where(self._own(table.c), table.c.segment == segment))
        return True


def _smallest(live: Sequence[tuple[int, int]], most: int) -> list[int]:
    """Of too many segments, ascending by (records, number), the smallest, as long as the next is no larger than those
    before it: so a record is written again a few times in all."""
    if len(live) <= most:
        return []
    total = 0
    parents: list[int] = []
    for records, segment in live:
        if len(parents) >= 2 and records > total:
            break
        total += records
        parents.append(segment)
    return parents


def _bounded(rows: Sequence[Row[Any]], entries: int) -> list[Row[Any]]:
    """As many rows as have so many terms in all, one at the least."""
    taken: list[Row[Any]] = []
    for row in rows:
        entries -= len(row.hashes) // 8
        if taken and entries < 0:
            break
        taken.append(row)
    return taken


def _docs_of(rows: Sequence[Row[Any]]) -> Array:
    single = np.array([row.doc for row in rows if not row.docs], "<i8")
    return np.concatenate([single, np.frombuffer(b"".join(row.docs for row in rows), "<i8")])


def _new_ordinals(old: Array, new: Array) -> Array:
    """For each old document its ordinal among the new ones, -1 for a dead one."""
    at = np.searchsorted(new, old)
    is_there = at < len(new)
    is_there[is_there] = new[at[is_there]] == old[is_there]
    return np.where(is_there, at, -1)
