"""Reads of partitions what a query needs, as one statement sees it: so it is exact at every isolation level, whatever
folds and merges do meanwhile. Imports `forking`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection

from ..forking import lazy
from .cache import SegmentCache
from .dialect import Dialect, Partitions
from .packing import Array, Words, unpack_counts, unpack_places
from .parts import ABSENT, Frame, Head, Part, Posting
from .segments import ordinal_type
from .tail import Tail, tails

SEGMENT, TAIL, DEAD, POSTING, STATE = range(5)


class Remembered(NamedTuple):
    head: Head
    postings: dict[str, Posting]


@dataclass(eq=False)
class RememberedTail:
    """The tail of partitions in one state: what a statement reads as their rows' numbers and marks. `lines` are the
    words of each row."""

    state: str = ""
    tails: Sequence[Tail] = ()
    has_places: bool = True
    lines: Sequence[bytes] = ()

    @lazy
    def words(self) -> Words:
        counted = Counter(chain.from_iterable(blob.decode().split("\n") for blob in self.lines if blob))
        return Words.of(counted.items())

    @property
    def nbytes(self) -> int:
        """With about what its words take."""
        return len(self.state) + sum(each.nbytes for each in self.tails) + 3 * sum(map(len, self.lines))


class Snapshot(NamedTuple):
    """The parts of some partitions with the postings of a query, their frame, and where their words are."""

    parts: Sequence[Part]
    frame: Frame
    segments: Sequence[int]
    tail: RememberedTail


class RememberedFrame(NamedTuple):
    """`key` is all that it was made of: segments, the rows of their dead documents, and the tail's state."""

    key: object
    dead: Sequence[Array | None]
    frame: Frame


def read(
    connection: Connection,
    dialect: Dialect,
    cache: SegmentCache,
    partitions: Partitions,
    terms: Sequence[str],
    placed: Sequence[str] = (),
) -> Snapshot:
    """The partitions' parts with the postings of `terms`; `placed` are those whose places are read, too."""
    known = _remembered(cache, partitions, terms, frozenset(placed))
    tail = cache.get(("tail", partitions)) or RememberedTail()
    if placed and not tail.has_places:
        tail = RememberedTail()
    binds = {
        **partitions.binds,
        "known": list(known),
        "tail": tail.state,
        "terms": list(terms),
        "placed": list(placed),
        "pairs": [
            (held.head.tenant, held.head.entity, segment, term)
            for segment, held in known.items()
            for term in terms
            if term not in held.postings
        ],
    }
    rows: tuple[list[Sequence[Any]], ...] = ([], [], [], [], [])
    for row in dialect.read(connection, binds):
        rows[row[0]].append(row)
    found = _segments(cache, known, rows[SEGMENT], rows[POSTING], terms)
    cache.note_segments(partitions, tuple(found))
    state = rows[STATE][0][3] or ""
    if state != tail.state:
        tail = RememberedTail(state, tails(rows[TAIL]), bool(placed), [row[7] for row in rows[TAIL]])
        cache.put(("tail", partitions), tail, tail.nbytes)
    heads = [*(held.head for held in found.values()), *(each.head for each in tail.tails)]
    framed = _framed(cache, partitions, (tuple(found), _dead_key(rows[DEAD]), state), heads, rows[DEAD])
    postings = [*(held.postings for held in found.values()), *(each.postings(terms) for each in tail.tails)]
    return Snapshot(list(map(Part, heads, framed.dead, postings)), framed.frame, tuple(found), tail)


def _remembered(
    cache: SegmentCache, partitions: Partitions, terms: Sequence[str], placed: frozenset[str]
) -> dict[int, Remembered]:
    """What is held here stays, whatever the cache forgets before the query is done."""
    known = {}
    for segment in cache.segments(partitions):
        head, *postings = cache.get_many([segment, *((segment, term) for term in terms)])
        if head is None:
            continue
        held = {
            term: posting
            for term, posting in zip(terms, postings, strict=True)
            if posting is not None and (posting.places is not None or term not in placed)
        }
        known[segment] = Remembered(head, held)
    return known


def _segments(
    cache: SegmentCache,
    known: Mapping[int, Remembered],
    heads: Sequence[Sequence[Any]],
    postings: Sequence[Sequence[Any]],
    terms: Sequence[str],
) -> dict[int, Remembered]:
    found: dict[int, Remembered] = {}
    for _, segment, _, entity, docs, lengths, _, tenant in heads:
        if segment in known:
            found[segment] = known[segment]
            continue
        head = Head.of(entity, np.frombuffer(docs, "<i8"), np.frombuffer(lengths, "<u4"), tenant.decode())
        cache.put(segment, head, head.docs.nbytes + head.lengths.nbytes)
        found[segment] = Remembered(head, {})
    for _, segment, df, term, docs, counts, places, _ in postings:
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


def _framed(
    cache: SegmentCache, partitions: Partitions, key: object, heads: Sequence[Head], dead_rows: Sequence[Sequence[Any]]
) -> RememberedFrame:
    framed: RememberedFrame | None = cache.get(("frame", partitions))
    if framed is None or framed.key != key:
        docs = _dead(dead_rows)
        dead = [_mask(head.docs, docs) for head in heads]
        framed = RememberedFrame(key, dead, Frame(list(zip(heads, dead, strict=True))))
        cache.put(("frame", partitions), framed, framed.frame.nbytes)
    return framed


def _dead_key(rows: Iterable[Sequence[Any]]) -> object:
    return tuple((row[1], row[4]) for row in rows)


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
