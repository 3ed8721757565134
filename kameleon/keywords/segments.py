"""Segments in memory: built of documents or of tail rows, merged, and cut into the rows of a table. Pure. Imports this
package alone.

A posting is (term, record, count); postings are sorted by term and record, and a record is an ordinal, its place among
the segment's sorted document numbers.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat, starmap
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from .packing import (
    ESCAPE,
    WIDTHS,
    Array,
    Document,
    TailRow,
    Words,
    join_counts,
    line_of,
    pack_counts,
    term_and_form,
    unpack_places,
    width_of,
)

SHORT_ORDINALS = 2**16
NOT_PLACED = -1
"""The position of an occurrence that is in no phrase."""


class PostingRow(NamedTuple):
    """A row of `kdb_posting` after its segment; `form`, the commonest, is empty where it is the term or none."""

    term: str
    df: int
    form: str
    docs: bytes
    counts: bytes
    places: bytes


def ordinal_type(records: int) -> np.dtype[Any]:
    return WIDTHS[2 if records <= SHORT_ORDINALS else 4]


@dataclass(frozen=True, slots=True)
class Columns:
    """Postings: `df` of each term; an ordinal and a count for each posting; a place for each occurrence."""

    terms: Sequence[str]
    forms: Sequence[str]
    df: Array
    ordinals: Array
    counts: Array
    places: Array

    @classmethod
    def empty(cls) -> "Columns":
        return cls([], [], *(np.empty(0, "<u4") for _ in range(4)))

    def rows(self, records: int, place_bytes: int) -> Iterator[tuple[Any, ...]]:
        """The columns of `PostingRow`, in the order of the terms."""
        if not len(self.df):
            return
        width, ordinals = ordinal_type(records).itemsize, self.ordinals.astype(ordinal_type(records)).tobytes()
        short, places = np.minimum(self.counts, ESCAPE).astype("u1").tobytes(), self._places(place_bytes)
        ends = np.cumsum(self.df)
        starts = ends - self.df
        most = np.maximum.reduceat(self.counts, starts).tolist()
        place_ends = (np.cumsum(self.counts)[ends - 1] * place_bytes).tolist()
        begin = 0
        for term, form, df, start, end, many, place_end in zip(
            self.terms, self.forms, self.df.tolist(), starts.tolist(), ends.tolist(), most, place_ends, strict=True
        ):
            counts = b"" if many == 1 else short[start:end]
            if many >= ESCAPE:
                counts = pack_counts(self.counts[start:end].tolist())
            docs = ordinals[start * width : end * width]
            yield term, df, "" if form == term else form, docs, counts, places[begin:place_end]
            begin = place_end

    def _places(self, place_bytes: int) -> bytes:
        return self.places.astype(WIDTHS[place_bytes]).tobytes()


@dataclass(frozen=True, slots=True)
class Segment:
    """`docs` int64, ascending; `lengths` uint32."""

    docs: Array
    lengths: Array
    words: Words
    columns: Columns

    @property
    def place_bytes(self) -> int:
        return width_of(int(self.columns.places.max(initial=0)))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        return self.columns.rows(len(self.docs), self.place_bytes)


def of_documents(documents: Sequence[Document]) -> Segment:
    documents = sorted(documents, key=lambda document: document.doc)
    pairs: list[Sequence[tuple[Any, ...]]] = []
    places: list[Iterable[int]] = []
    sizes = []
    for _, text, emphasis in documents:
        pairs.append(text.pairs)
        places.append(text.positions)
        if emphasis:
            pairs.append(emphasis.pairs)
            places.append(repeat(NOT_PLACED, len(emphasis.pairs)))
        sizes.append(len(text.pairs) + (len(emphasis.pairs) if emphasis else 0))
    numbers: defaultdict[tuple[Any, ...], int] = defaultdict(count().__next__)
    number = np.fromiter(map(numbers.__getitem__, chain.from_iterable(pairs)), "i8", sum(sizes))
    lines: defaultdict[tuple[str, str], int] = defaultdict(count().__next__)
    line_of_pair = np.fromiter(map(lines.__getitem__, map(itemgetter(0, 1), numbers)), "i8", len(numbers))
    docs = np.array([document.doc for document in documents], "<i8")
    lengths = np.array([document.length for document in documents], "<u4")
    at = (np.fromiter(chain.from_iterable(places), "<i4", sum(sizes)) + 1).astype("<u4")
    return _built(docs, lengths, np.array(sizes, "i8"), list(lines), line_of_pair[number], at)


def of_tail(rows: Sequence[TailRow]) -> Segment:
    rows = sorted(rows, key=lambda row: row.doc)
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    pairs: list[int] = []
    for row in rows:
        pairs += map(numbers.__getitem__, row.words.decode().split("\n") if row.hashes else ())
    sizes = [len(row.hashes) // 8 for row in rows]
    counts = join_counts([row.counts for row in rows], sizes)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype("i8")
    ends = np.cumsum([0, *sizes])
    occurrences = np.diff(starts[ends])
    places = [unpack_places(row.places, n) for row, n in zip(rows, occurrences.tolist(), strict=True)]
    docs = np.array([row.doc for row in rows], "<i8")
    lengths = np.array([row.length for row in rows], "<u4")
    lines = [term_and_form(line) for line in numbers]
    at = np.concatenate(places).astype("<u4") if places else np.empty(0, "<u4")
    return _built(docs, lengths, occurrences, lines, np.repeat(np.array(pairs, "i8"), counts), at)


def _built(
    docs: Array, lengths: Array, sizes: Array, lines: Sequence[tuple[str, str]], pairs: Array, places: Array
) -> Segment:
    """`sizes` occurrences a record; for each occurrence the number of its (term, form) in `lines`, and its place."""
    terms = sorted({term for term, _ in lines})
    ranks = {term: rank for rank, term in enumerate(terms)}
    rank_of_pair = np.fromiter((ranks[term] for term, _ in lines), ordinal_type(len(terms)), len(lines))
    times = np.bincount(pairs, minlength=len(lines))
    occurring = rank_of_pair[pairs]
    order = np.argsort(occurring, kind="stable")
    rank, ordinal = occurring[order], np.repeat(np.arange(len(docs), dtype="<u4"), sizes)[order]
    is_first = np.ones(len(rank), bool)
    is_first[1:] = (rank[1:] != rank[:-1]) | (ordinal[1:] != ordinal[:-1])
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.append(starts, len(rank))).astype("<u4")
    df = np.bincount(rank[starts], minlength=len(terms))
    forms = _commonest([form for _, form in lines], rank_of_pair, times, len(terms))
    words = Words.of(zip(starmap(line_of, lines), times.tolist(), strict=True))
    return Segment(docs, lengths, words, Columns(terms, forms, df, ordinal[starts], counts, places[order]))


def _commonest(forms: Sequence[str], ranks: Array, times: Array, terms: int) -> list[str]:
    """The form of each term that occurs most often."""
    order = np.lexsort((times, ranks))
    last = np.cumsum(np.bincount(ranks, minlength=terms)) - 1
    return [forms[n] for n in order[last].tolist()]


class Parent(NamedTuple):
    """A part of a segment to merge: `ordinals` has the new ordinal for each old one, -1 for a dead record."""

    rows: Sequence[PostingRow]
    ordinals: Array
    place_bytes: int


def merged(parents: Sequence[Parent], records: int) -> Columns:
    """The postings of the same terms in several segments as those of one with so many records."""
    rows = [row for parent in parents for row in parent.rows]
    terms = sorted({row.term for row in rows})
    ranks = {term: rank for rank, term in enumerate(terms)}
    df = np.array([row.df for row in rows], "i8")
    rank_of_row = np.array([ranks[row.term] for row in rows], "i8")
    counts = join_counts([row.counts for row in rows], df.tolist())
    ordinals = np.concatenate([_ordinals(parent) for parent in parents]).astype("i8")
    places = np.concatenate([_places(parent) for parent in parents])
    starts = np.cumsum(counts, dtype="i8") - counts
    rank = np.repeat(rank_of_row, df)
    alive = np.flatnonzero(ordinals >= 0)
    order = alive[np.argsort(rank[alive] * records + ordinals[alive], kind="stable")]
    new_df = np.bincount(rank[order], minlength=len(terms))
    forms = _commonest([row.form or row.term for row in rows], rank_of_row, df, len(terms))
    kept = np.flatnonzero(new_df).tolist()
    return Columns(
        [terms[n] for n in kept],
        [forms[n] for n in kept],
        new_df[kept],
        ordinals[order].astype("<u4"),
        counts[order],
        places[spans(starts[order], counts[order])],
    )


def _ordinals(parent: Parent) -> Array:
    joined = np.frombuffer(b"".join(row.docs for row in parent.rows), ordinal_type(len(parent.ordinals)))
    ordinals: Array = parent.ordinals[joined]
    return ordinals


def _places(parent: Parent) -> Array:
    return np.frombuffer(b"".join(row.places for row in parent.rows), WIDTHS[parent.place_bytes]).astype("<u4")


def spans(starts: Array, sizes: Array) -> Array:
    """The integers from each start on, as many as its size."""
    sizes = sizes.astype("i8")
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(ends[-1] if len(ends) else 0)


def merged_words(lines: Iterable[tuple[str, int]], terms: Iterable[str] | None) -> Words:
    """Lines of several segments, each with the sum of its counts, without those whose term is not among `terms`."""
    summed: dict[str, int] = {}
    for line, n in lines:
        summed[line] = summed.get(line, 0) + n
    if terms is not None:
        kept = frozenset(terms)
        summed = {line: n for line, n in summed.items() if line.partition("\t")[0] in kept}
    return Words.of(summed.items())
