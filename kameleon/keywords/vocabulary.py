"""The words of partitions, of records that are not dead: how many have a term, what completes a prefix, what is near a
misspelt word. Imports `forking`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nlargest, nsmallest
from typing import NamedTuple

from sqlalchemy import Connection

from ..forking import lazy
from .cache import SegmentCache
from .dialect import Dialect, Partitions
from .packing import Words, term_and_form
from .parts import Part
from .reading import Snapshot, read
from .scoring import live_df

OFFERED = 200
"""Bounds the words whose records are counted, those that occur most often. Chosen, not measured."""
PREFIX_TERMS = 500
"""Bounds the terms that a prefix stands for, those that occur most often: their postings are read. Chosen, not
measured."""
SUFFIX = 6
"""Bounds the letters of a prefix that the stem of a word may lack: words with accents are found by their stems. Chosen,
not measured."""
SHORTEST = 2


class Word(NamedTuple):
    """A word as written, its term, and how many records have that."""

    form: str
    term: str
    df: int


class Vocabulary:
    """Of partitions, as a connection sees them, or as a query has read them as its `snapshot`. `fold` takes the accents
    of a form away; prefixes and suffixes have none."""

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        cache: SegmentCache,
        partitions: Partitions,
        fold: Callable[[str], str] = str,
    ) -> None:
        self._connection, self._dialect, self._cache, self._partitions = connection, dialect, cache, partitions
        self._fold = fold
        self.snapshot: Snapshot | None = None

    def frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """How many records have each term; none without a record."""
        wanted = list(dict.fromkeys(terms))
        if not wanted:
            return {}
        parts = self._read(wanted).parts
        return {term: df for term in wanted if (df := frequency(parts, (term,)))}

    def completions(self, prefix: str, limit: int) -> list[Word]:
        """Words that begin so, those in most records first, of these the shortest."""
        counts = [
            Word(form, term, n)
            for line, n in self._beginning(prefix).items()
            for term, form in (term_and_form(line),)
            if self._begins(line, prefix)
        ]
        offered = nsmallest(OFFERED, counts, key=commonest_first)
        found = self._with_df((word.form, word.term) for word in offered)
        return sorted(found, key=commonest_first)[:limit]

    def terms(self, prefixes: Iterable[str]) -> tuple[tuple[str, ...], bool]:
        """The terms that begin with any of these, or whose words do, and whether these are all."""
        counts: Counter[str] = Counter()
        for prefix in prefixes:
            for line, n in self._beginning(prefix).items():
                counts[term_and_form(line)[0]] += n
        most = nlargest(PREFIX_TERMS, counts.items(), key=lambda item: (item[1], item[0]))
        return tuple(term for term, _ in most), len(counts) <= PREFIX_TERMS

    def alike(self, first: str, last: str, lengths: range) -> dict[str, str]:
        """Words of such lengths that begin with `first` or end with `last`, by their forms, with their terms; some may
        be in no record any more."""
        found = set(self._beginning(first))
        for words in self._words:
            found.update(line for line, _ in words.ending(last))
        pairs = map(term_and_form, found)
        return {form: term for term, form in pairs if len(form) in lengths}

    def near(self, first: str, last: str, lengths: range) -> list[Word]:
        """Those of `alike` that records have."""
        return self._with_df(self.alike(first, last, lengths).items())

    def _with_df(self, pairs: Iterable[tuple[str, str]]) -> list[Word]:
        pairs = list(pairs)
        df = self.frequencies(term for _, term in pairs)
        return [Word(form, term, df[term]) for form, term in pairs if term in df]

    def _begins(self, line: str, prefix: str) -> bool:
        """Whether it is a word, and begins so as written."""
        form = line.partition("\t")[2] if "\t" in line else line
        return bool(form) and self._fold(form).startswith(prefix)

    def _beginning(self, prefix: str) -> Mapping[str, int]:
        """Lines whose term or whose form begins so. A form with accents is among those of its stem."""
        stem = prefix[: max(SHORTEST, len(prefix) - SUFFIX)]
        found: Counter[str] = Counter()
        for words in self._words:
            for line, n in words.of_terms(stem):
                if line.startswith(prefix) or self._begins(line, prefix):
                    found[line] += n
            for line, n in words.beginning(prefix):
                if not line.startswith(stem):
                    found[line] += n
        return found

    @lazy
    def _words(self) -> list[Words]:
        snapshot = self.snapshot or self._read(())
        segments = snapshot.segments
        known = {
            segment: words
            for segment, words in zip(segments, self._cache.get_many((n,) for n in segments), strict=True)
            if words is not None
        }
        packed: dict[int, list[bytes]] = {}
        if missing := [segment for segment in segments if segment not in known]:
            binds = {**self._partitions.binds, "segments": missing}
            for segment, words in self._dialect.read_words(self._connection, binds):
                packed.setdefault(segment, []).extend([words] if words else [])
        read = [self._unpacked(segment, blobs) for segment, blobs in packed.items()]
        return [*known.values(), *read, snapshot.tail.words]

    def _read(self, terms: Sequence[str]) -> Snapshot:
        return read(self._connection, self._dialect, self._cache, self._partitions, terms)

    def _unpacked(self, segment: int, blobs: Sequence[bytes]) -> Words:
        words = Words.unpack(blobs)
        self._cache.put((segment,), words, words.nbytes)
        return words


def commonest_first(word: Word) -> tuple[int, int, str]:
    return -word.df, len(word.form), word.form


def frequency(parts: Iterable[Part], terms: Sequence[str]) -> int:
    """How many records have any of the terms, that in most parts for several."""
    return sum(max((live_df(part, part.postings[term]) for term in terms), default=0) for part in parts)
