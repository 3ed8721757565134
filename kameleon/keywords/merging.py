"""Merges segments of a partition, a bounded step a transaction. Imports `telemetry` and `stores`.

A merge inserts a segment that is BUILDING, fills it with the postings of its parents in the order of the terms, makes
it LIVE and the parents DROPPING in one transaction, and empties these. Where it is in this is in the tables, so whoever
makes the next step goes on with it, after a crash, too; readers see LIVE segments alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import delete, func, select, update

from ..stores.keyword_tables import BUILDING, DROPPING, LIVE
from ..telemetry import Operation
from .packing import Array, Words
from .segments import Columns, Parent, PostingRow, merged, merged_words
from .steps import Overtaken, Step, docs_of
from .writing import SEGMENT, Rows, insert, new_number, word_rows

MOST_SEGMENTS = 10
"""A partition with more is merged. A query reads a posting of each term in each segment."""
DEAD_SHARE = 0.1
"""A partition with more dead documents is merged: each query reads their numbers."""


class Merge(NamedTuple):
    """A merge that was begun: `records` of the new segment; for each parent the new `ordinals` of its records, -1 for
    those that are `dropped`. `words` are those of the step before, by the key of their row."""

    records: int
    place_bytes: int
    ordinals: Mapping[int, Array]
    place_bytes_of: Mapping[int, int]
    largest: int
    dropped: Array
    words: dict[tuple[int, str], Words]

    @property
    def parents(self) -> list[int]:
        return list(self.ordinals)


Merges = dict[int, Merge]
"""What who makes several steps of a merge reads once, by the number of the new segment."""


class MergeStep(Step):
    def make(self, merges: Merges, most_segments: int, purges: bool, observed: Operation) -> bool:
        """The next step of a merge that was begun, or of one that is due; False where none is."""
        columns = self.tables.segment.c
        segments = self._all(select(columns.segment, columns.state, columns.records).where(self._own(columns)))
        building, dropping = ([row.segment for row in segments if row.state == state] for state in (BUILDING, DROPPING))
        if building:
            self.begin(observed, "merge")
            return self._build(building[0], merges)
        if dropping:
            self.begin(observed, "drop")
            return self._drop(dropping[0])
        live = sorted((row.records, row.segment) for row in segments)
        parents = self._with_dead(live, purges) or smallest(live, most_segments)
        if not parents:
            return False
        self.begin(observed, "merge")
        return self._begin(parents)

    def _with_dead(self, live: Sequence[tuple[int, int]], purges: bool) -> list[int]:
        """Segments with more dead documents than they may have."""
        dead = self._dead()
        most = 0.0 if purges else DEAD_SHARE
        if not len(dead) or len(dead) <= most * sum(records for records, _ in live):
            return []
        counted = {segment: np.isin(self._head(segment).docs, dead).sum() for _, segment in live}
        return [segment for records, segment in live if counted[segment] > most * records]

    def _begin(self, parents: Sequence[int]) -> bool:
        """Adds the segment that these become: what is dead now is left out."""
        dead = self._dead()
        docs, lengths, widths = zip(*map(self._head, parents), strict=True)
        joined, length = np.concatenate(docs), np.concatenate(lengths)
        alive = np.flatnonzero(~np.isin(joined, dead))
        order = alive[np.argsort(joined[alive])]
        self._begin_writing()
        columns = self.tables.segment.c
        where = self._own(columns) & ((columns.state == BUILDING) | columns.segment.in_(parents))
        if sorted(row.state for row in self._all(select(columns.state).where(where))) != [LIVE] * len(parents):
            raise Overtaken
        row = (new_number(), BUILDING, len(order), max(widths), np.array(parents, "<i8").tobytes())
        heads = (joined[order].tobytes(), length[order].tobytes())
        self.dialect.insert(self.connection, "kdb_segment", SEGMENT, [(*self.partition, *row, *heads)])
        return True

    def _build(self, segment: int, merges: Merges) -> bool:
        """Inserts the postings of the next terms, whose keys nobody else can have inserted; after the last ones the
        segment is live."""
        merge = merges.get(segment) or self._merge(segment)
        merges.clear()
        merges[segment] = merge
        reached = self._last_term(segment)
        kept = Columns.empty()
        last: str | None = ""
        while last is not None and not len(kept.df):
            last = self._term_after(merge.largest, reached, self.dialect.step_rows * 2 // (len(merge.parents) + 1))
            lines = self._lines(merge, reached, last)
            kept = merged(self._postings(merge, reached, last), merge.records)
            reached = last or reached
        key = (*self.partition, segment)
        words = word_rows(key, kept.terms, merged_words(lines, kept.terms if len(merge.dropped) else None))
        postings = [key + row for row in kept.rows(merge.records, merge.place_bytes)]
        self._begin_writing()
        if self._merging(segment) is None:
            raise Overtaken
        insert(self.connection, self.dialect, Rows([], words, postings))
        if last is None:
            self._switch(segment, merge)
        return True

    def _merging(self, segment: int) -> Any:
        """The row of a segment that is being built."""
        columns = self.tables.segment.c
        where = self._own(columns) & (columns.segment == segment) & (columns.state == BUILDING)
        return self.connection.execute(select(columns.parents, columns.place_bytes).where(where)).first()

    def _merge(self, segment: int) -> Merge:
        row = self._merging(segment)
        if row is None:
            raise Overtaken
        parents = {int(parent): self._head(int(parent)) for parent in np.frombuffer(row.parents, "<i8")}
        docs = self._head(segment).docs
        ordinals = {parent: _new_ordinals(head.docs, docs) for parent, head in parents.items()}
        dropped = np.concatenate([head.docs[ordinals[parent] < 0] for parent, head in parents.items()])
        largest = max(parents, key=lambda parent: len(parents[parent].docs))
        widths = {parent: head.place_bytes for parent, head in parents.items()}
        return Merge(len(docs), row.place_bytes, ordinals, widths, largest, dropped, {})

    def _last_term(self, segment: int) -> str:
        posting = self.tables.posting.c
        where = self._own(posting) & (posting.segment == segment)
        return self.connection.scalar(select(func.max(posting.term)).where(where)) or ""

    def _term_after(self, segment: int, term: str, rows: int) -> str | None:
        """The term so many rows on, None where there are fewer."""
        posting = self.tables.posting.c
        where = self._own(posting) & (posting.segment == segment) & (posting.term > term)
        statement = select(posting.term).where(where).order_by(posting.term).limit(1).offset(rows)
        return self.connection.scalar(statement)

    def _postings(self, merge: Merge, after: str, last: str | None) -> list[Parent]:
        posting = self.tables.posting.c
        where = self._own(posting) & posting.segment.in_(merge.parents) & (posting.term > after)
        if last is not None:
            where &= posting.term <= last
        found: dict[int, list[PostingRow]] = {parent: [] for parent in merge.parents}
        columns = [posting[name] for name in PostingRow._fields]
        for row in self._all(select(posting.segment, *columns).where(where)):
            found[row[0]].append(PostingRow._make(row[1:]))
        return [Parent(found[n], merge.ordinals[n], merge.place_bytes_of[n]) for n in merge.parents]

    def _lines(self, merge: Merge, after: str, last: str | None) -> list[tuple[str, int]]:
        """The words of these terms in each of the parents."""
        word = self.tables.word.c
        where = self._own(word) & word.segment.in_(merge.parents) & (word.last > after)
        if last is not None:
            where &= word.first <= last
        keys = {(row.segment, row.last) for row in self._all(select(word.segment, word.last).where(where))}
        for key in merge.words.keys() - keys:
            del merge.words[key]
        if missing := {segment for segment, _ in keys - merge.words.keys()}:
            columns = (word.segment, word.last, word.words)
            for row in self._all(select(*columns).where(where, word.segment.in_(missing))):
                merge.words[row.segment, row.last] = Words.unpack([row.words])
        return [line for words in merge.words.values() for line in words.between(after, last)]

    def _switch(self, segment: int, merge: Merge) -> None:
        """Makes a segment live in place of its parents; none where each record is dead."""
        table, dead = self.tables.segment, self.tables.dead
        taken = delete(dead).where(self._own(dead.c)).returning(dead.c.doc, dead.c.docs)
        self._pack_dead(np.setdiff1d(docs_of(self._all(taken)), merge.dropped))
        own, emptied = self._own(table.c), {"state": DROPPING, "docs": b"", "lengths": b""}
        self.connection.execute(update(table).where(own, table.c.segment.in_(merge.parents)).values(emptied))
        if merge.records:
            live = update(table).values(state=LIVE, parents=b"")
            self.connection.execute(live.where(own, table.c.segment == segment))
        else:
            self.connection.execute(delete(table).where(own, table.c.segment == segment))

    def _drop(self, segment: int) -> bool:
        """Deletes the first postings of a segment, and with the last ones the segment."""
        table, posting = self.tables.segment, self.tables.posting
        self._begin_writing()
        last = self._term_after(segment, "", self.dialect.step_rows)
        where = self._own(posting.c) & (posting.c.segment == segment)
        if last is not None:
            where &= posting.c.term <= last
        self.connection.execute(delete(posting).where(where))
        if last is None:
            for of in (self.tables.word, table):
                self.connection.execute(delete(of).where(self._own(of.c), of.c.segment == segment))
        return True


def smallest(live: Sequence[tuple[int, int]], most: int) -> list[int]:
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


def _new_ordinals(old: Array, new: Array) -> Array:
    """For each old document its ordinal among the new ones, -1 for a dead one."""
    at = np.searchsorted(new, old)
    is_there = at < len(new)
    is_there[is_there] = new[at[is_there]] == old[is_there]
    return np.where(is_there, at, -1)
