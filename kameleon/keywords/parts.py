"""Segments and tails as a query sees them. Pure. Imports `stores`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..stores.bm25 import K1, B
from .packing import Array

BLOCK = 2**16
"""How many records are scored together at the least: 256 kB a float32 array. Chosen, not measured."""


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
    are of one entity, and of one `tenant` but for those of a tail."""

    entity: str
    docs: Array
    lengths: Array
    length: float
    tenant: str = ""

    @classmethod
    def of(cls, entity: str, docs: Array, lengths: Array, tenant: str = "") -> "Head":
        return cls(entity, docs, lengths.astype("f4"), float(lengths.sum(dtype="f8")), tenant)


@dataclass(frozen=True, slots=True)
class Part:
    """A segment, or the tail; `dead` is None where no record of it is."""

    head: Head
    dead: Array | None
    postings: Mapping[str, Posting]


class Block(NamedTuple):
    """Parts from the first-th until before the last-th, which are scored together: small ones with the overhead of one,
    large ones alone, in a processor's cache. `norms` is BM25's of each record's length, `once` what a term adds that a
    record has once, before its weight."""

    first: int
    last: int
    dead: Array | None
    norms: Array
    once: Array


class Frame:
    """What BM25 needs of parts, whatever the query: `records` are those that are not dead, `average` is their length,
    or that of all records where the parts have some of them."""

    def __init__(self, views: Sequence[tuple[Head, Array | None]], average: float | None = None) -> None:
        sizes = [len(head.docs) for head, _ in views]
        self.starts = np.cumsum([0, *sizes])
        self.records = sum(sizes) - sum(int(np.count_nonzero(dead)) for _, dead in views if dead is not None)
        length = sum(_length(head, dead) for head, dead in views)
        self.average = average or length / max(self.records, 1) or 1.0
        self.blocks = [_block(views, *ends, self.average) for ends in _ends(sizes)]

    @property
    def nbytes(self) -> int:
        return sum(2 * block.norms.nbytes + len(block.norms) for block in self.blocks)


def _length(head: Head, dead: Array | None) -> float:
    return head.length - (0.0 if dead is None else float(head.lengths[dead].sum(dtype="f8")))


def _ends(sizes: Sequence[int]) -> list[tuple[int, int]]:
    ends: list[tuple[int, int]] = []
    first = records = 0
    for at, size in enumerate(sizes):
        if at > first and records >= BLOCK:
            ends.append((first, at))
            first, records = at, 0
        records += size
    return [*ends, (first, len(sizes))] if sizes else []


def _block(views: Sequence[tuple[Head, Array | None]], first: int, last: int, average: float) -> Block:
    own = views[first:last]
    lengths = joined([head.lengths for head, _ in own], "f4")
    norms = np.float32(K1 * (1 - B)) + np.float32(K1 * B / average) * lengths
    masks = [np.zeros(len(head.docs), bool) if dead is None else dead for head, dead in own]
    dead = None if all(dead is None for _, dead in own) else np.concatenate(masks)
    return Block(first, last, dead, norms, np.float32(K1 + 1) / (np.float32(1) + norms))


def joined(arrays: Sequence[Array], kind: str) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, kind)
