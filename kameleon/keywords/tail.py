"""The tail of an entity in memory, sorted by term. Pure. Imports this package alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from .packing import Array, hash_of, join_counts, unpack_places
from .parts import ABSENT, Head, Posting
from .segments import spans

Row = Sequence[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """An entry is a term of a record, in the order of the terms' hashes: the record's ordinal, a count, and where its
    places begin, which are None where they were not read."""

    head: Head
    hashes: Array
    ordinals: Array
    counts: Array
    starts: Array
    places: Array | None

    @property
    def nbytes(self) -> int:
        return 4 * self.hashes.nbytes + 2 * self.head.docs.nbytes + (0 if self.places is None else self.places.nbytes)

    def postings(self, terms: Sequence[str]) -> dict[str, Posting]:
        wanted = np.frombuffer(b"".join(map(hash_of, terms)), "<u8")
        firsts = np.searchsorted(self.hashes, wanted, "left").tolist()
        lasts = np.searchsorted(self.hashes, wanted, "right").tolist()
        return {term: self._posting(*ends) for term, *ends in zip(terms, firsts, lasts, strict=True)}

    def _posting(self, first: int, last: int) -> Posting:
        if first == last:
            return ABSENT
        places = None if self.places is None else self.places[self.starts[first] : self.starts[last]]
        return Posting(self.ordinals[first:last], self.counts[first:last], places)


def tails(rows: Sequence[Row]) -> list[Tail]:
    """Those of the entities of some rows, whatever their tenants: (-, doc, length, entity, hashes, counts, places,
    words)."""
    ordered = sorted(rows, key=itemgetter(3, 1))
    return [_tail(entity, list(group)) for entity, group in groupby(ordered, itemgetter(3))]


def _tail(entity: str, rows: Sequence[Row]) -> Tail:
    """A record has several entries of a term that is written in several ways: they become one."""
    _, docs, lengths, _, hashes, counts, places, _ = zip(*rows, strict=True)
    sizes = [len(blob) // 8 for blob in hashes]
    entries, times = np.frombuffer(b"".join(hashes), "<u8"), join_counts(counts, sizes)
    ordinals = np.repeat(np.arange(len(rows)), sizes)
    order = np.argsort(entries, kind="stable")
    sorted_hashes, sorted_ordinals, sorted_times = entries[order], ordinals[order], times[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(sorted_hashes) != 0) | (np.diff(sorted_ordinals) != 0)
    first = np.flatnonzero(is_first)
    summed = np.add.reduceat(sorted_times, first) if len(first) else sorted_times
    at = None
    if places[0] is not None:
        occurrences = np.bincount(ordinals, times, len(rows)).astype("i8").tolist()
        each = np.concatenate([unpack_places(blob, n) for blob, n in zip(places, occurrences, strict=True)])
        at = each[spans((np.cumsum(times, dtype="i8") - times)[order], sorted_times)]
    return Tail(
        Head.of(entity, np.array(docs, "<i8"), np.array(lengths, "<u4")),
        sorted_hashes[first],
        sorted_ordinals[first],
        summed,
        np.concatenate([[0], np.cumsum(summed, dtype="i8")]),
        at,
    )
