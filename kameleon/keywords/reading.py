"""Reads of partitions what a query needs, as one statement sees it: so it is exact at every isolation level, whatever
folds and merges do meanwhile. Imports this package alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection

from .cache import SegmentCache
from .dialect import Dialect, Partitions
from .packing import Array, hash_of, join_counts, unpack_counts, unpack_places
from .segments import ordinal_type, spans

SEGMENT, TAIL, DEAD, POSTING = range(4)


class Posting(NamedTuple):
    """The records that have a term, as ascending ordinals. `counts` None is 1 for each; `places` are None where they
    were not asked for, else as many for each record as its count."""

    ordinals: Array
    counts: Array | None
    places: Array | None = None

    @property
    def placed(self) -> Array:
        if self.places is None:
            raise ValueError("these places were not read: name the term among `placed`")
        return self.places


ABSENT = Posting(np.empty(0, "<u2"), None, np.empty(0, "u1"))


class Head(NamedTuple):
    """A segment's document numbers, int64 and ascending, and the lengths of its records, float32, with their sum. All
    are of one entity."""

    entity: str
    docs: Array
    lengths: Array
    length: float

    @classmethod
    def of(cls, entity: str, docs: Array, lengths: Array) -> "Head":
        return cls(entity, docs, lengths.astype("f4"), float(lengths.sum(dtype="f8")))


@dataclass(frozen=True, slots=True)
class Part:
    """A segment, or the tail, as a query sees it; `dead` is None where no record of it is. `records` and `length`
    count those that are not dead."""

    head: Head
    dead: Array | None
    postings: Mapping[str, Posting]

    @property
    def records(self) -> int:
        return len(self.head.docs) - (0 if self.dead is None else int(np.count_nonzero(self.dead)))

    @property
    def length(self) -> float:
        dead = 0.0 if self.dead is None else float(self.head.lengths[self.dead].sum(dtype="f8"))
        return self.head.length - dead


class Remembered(NamedTuple):
    head: Head
    postings: dict[str, Posting]


def read(
    connection: Connection,
    dialect: Dialect,
    cache: SegmentCache,
    partitions: Partitions,
    terms: Sequence[str],
    placed: Iterable[str] = (),
) -> list[Part]:
    """The partitions' parts with the postings of `terms`; `placed` are those whose places are read, too."""
    known = _remembered(cache, partitions, terms, frozenset(placed))
    binds = {
        "tenant": partitions.tenant,
        "entities": list(partitions.entities),
        "known": list(known),
        "terms": list(terms),
        "placed": list(placed),
        "pairs": [
            (held.head.entity, segment, term)
            for segment, held in known.items()
            for term in terms
            if term not in held.postings
        ],
    }
    rows: tuple[list[Sequence[Any]], ...] = ([], [], [], [])
    for row in dialect.read(connection, binds):
        rows[row[0]].append(row)
    found = _segments(cache, known, rows[SEGMENT], rows[POSTING], terms)
    cache.note_segments(partitions, tuple(found))
    dead = _dead(rows[DEAD])
    parts = [Part(held.head, _mask(held.head.docs, dead), held.postings) for held in found.values()]
    for entity, group in groupby(sorted(rows[TAIL], key=itemgetter(3, 1)), itemgetter(3)):
        tail = _tail(entity, list(group), terms)
        parts.append(Part(tail.head, _mask(tail.head.docs, dead), tail.postings))
    return parts


def _remembered(
    cache: SegmentCache, partitions: Partitions, terms: Sequence[str], placed: frozenset[str]
) -> dict[int, Remembered]:
    """What is held here stays, whatever the cache forgets before the query is done."""
    known = {}
    for segment in cache.segments(partitions):
        head = cache.get(segment)
        if head is None:
            continue
        postings = {}
        for term in terms:
            posting = cache.get((segment, term))
            if posting is not None and (posting.places is not None or term not in placed):
                postings[term] = posting
        known[segment] = Remembered(head, postings)
    return known


def _segments(
    cache: SegmentCache,
    known: Mapping[int, Remembered],
    heads: Sequence[Sequence[Any]],
    postings: Sequence[Sequence[Any]],
    terms: Sequence[str],
) -> dict[int, Remembered]:
    found: dict[int, Remembered] = {}
    for _, segment, _, entity, docs, lengths, _ in heads:
        if segment in known:
            found[segment] = known[segment]
            continue
        head = Head.of(entity, np.frombuffer(docs, "<i8"), np.frombuffer(lengths, "<u4"))
        cache.put(segment, head, head.docs.nbytes + head.lengths.nbytes)
        found[segment] = Remembered(head, {})
    for _, segment, df, term, docs, counts, places in postings:
        if segment in found:
            held = found[segment]
            held.postings[term] = posting = _posting(len(held.head.docs), df, docs, counts, places)
            cache.put((segment, term), posting, len(docs) + len(counts) + len(places or b""))
    for segment, held in found.items():
        for term in terms:
            if term not in held.postings:
                held.postings[term] = ABSENT
                cache.put((segment, term), ABSENT, 0)
    return found


def _posting(records: int, df: int, docs: bytes, counts: bytes, places: bytes | None) -> Posting:
    ordinals, times = np.frombuffer(docs, ordinal_type(records)), unpack_counts(counts, df)
    if places is None:
        return Posting(ordinals, times)
    return Posting(ordinals, times, unpack_places(places, df if times is None else int(times.sum(dtype="i8"))))


def _dead(rows: Sequence[Sequence[Any]]) -> Array:
    """Ascending document numbers."""
    single = np.array([row[1] for row in rows if not row[4]], "<i8")
    packed = np.frombuffer(b"".join(row[4] for row in rows), "<i8")
    return np.sort(np.concatenate([single, packed]))


def _mask(docs: Array, dead: Array) -> Array | None:
    """True for each of ascending docs that is dead; None where none is."""
    if not len(docs) or not len(dead):
        return None
    near = dead[np.searchsorted(dead, docs[0]) : np.searchsorted(dead, docs[-1], "right")]
    at = np.searchsorted(docs, near)
    at = at[docs[at] == near]
    if not len(at):
        return None
    mask = np.zeros(len(docs), bool)
    mask[at] = True
    return mask


def _tail(entity: str, rows: Sequence[Sequence[Any]], terms: Sequence[str]) -> Remembered:
    _, docs, lengths, _, hashes, counts, places = zip(*rows, strict=True)
    sizes = [len(blob) // 8 for blob in hashes]
    entries, times = np.frombuffer(b"".join(hashes), "<u8"), join_counts(counts, sizes)
    rows_of = np.repeat(np.arange(len(rows)), sizes)
    at = None
    if places[0] is not None:
        occurrences = np.bincount(rows_of, times, len(rows)).astype("i8").tolist()
        at = np.concatenate([unpack_places(blob, n) for blob, n in zip(places, occurrences, strict=True)])
    starts = np.cumsum(times, dtype="i8") - times
    postings = {}
    for term in terms:
        found = np.flatnonzero(entries == int.from_bytes(hash_of(term), "little"))
        placed = None if at is None else at[spans(starts[found], times[found])]
        postings[term] = _of_entries(rows_of[found], times[found], placed)
    return Remembered(Head.of(entity, np.array(docs, "<i8"), np.array(lengths, "<u4")), postings)


def _of_entries(rows: Array, counts: Array, places: Array | None) -> Posting:
    """A record has several entries of a term that is written in several ways."""
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    if len(first) == len(rows):
        return Posting(rows, counts, places)
    return Posting(rows[first], np.add.reduceat(counts, first), places)
