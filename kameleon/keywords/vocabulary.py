"""The words of partitions, of records that are not dead: how many have a term, what completes a prefix, what is near a
misspelt word. Imports `reading`, `scoring` and this package."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from typing import NamedTuple

from sqlalchemy import Connection

from .cache import SegmentCache
from .dialect import Dialect, Partition
from .packing import Words, term_and_form
from .reading import read
from .scoring import live_df

OFFERED = 200
"""Bounds the words whose records are counted, those that occur most often. Chosen, not measured."""
PREFIX_TERMS = 500
"""Bounds the terms that a prefix stands for, those that occur most often: their postings are read. Chosen, not
measured."""


class Word(NamedTuple):
    """A word as written, its term, and how many records have that."""

    form: str
    term: str
    df: int


class Vocabulary:
    """Of partitions, as a connection sees them."""

    def __init__(
        self, connection: Connection, dialect: Dialect, cache: SegmentCache, partitions: Sequence[Partition]
    ) -> None:
        self._connection, self._dialect, self._cache, self._partitions = connection, dialect, cache, partitions

    def frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """How many records have each term; none without a record."""
        counts: Counter[str] = Counter()
        wanted = list(dict.fromkeys(terms))
        for partition in self._partitions if wanted else ():
            for part in read(self._connection, self._dialect, self._cache, partition, wanted):
                counts.update({term: live_df(part, part.postings[term]) for term in wanted})
        return {term: df for term, df in counts.items() if df}

    def completions(self, prefix: str, limit: int) -> list[Word]:
        """Words that begin so, those in most records first, of these the shortest."""
        offered = nlargest(OFFERED, self._beginning(prefix).items(), key=lambda item: (item[1], item[0]))
        found = self._counted(line for line, _ in offered)
        return sorted(found, key=lambda word: (-word.df, len(word.form), word.form))[:limit]

    def terms(self, prefixes: Iterable[str]) -> tuple[tuple[str, ...], bool]:
        """The terms that begin with any of these, and whether they are all."""
        counts: Counter[str] = Counter()
        for line, n in (found for words in self._words() for prefix in prefixes for found in words.of_terms(prefix)):
            counts[term_and_form(line)[0]] += n
        most = nlargest(PREFIX_TERMS, counts.items(), key=lambda item: (item[1], item[0]))
        return tuple(term for term, _ in most), len(counts) <= PREFIX_TERMS

    def near(self, first: str, last: str, lengths: range) -> list[Word]:
        """Words of such lengths that begin with `first` or end with `last`."""
        found = set(self._beginning(first))
        for words in self._words():
            found.update(line for line, _ in words.ending(last))
        return self._counted(line for line in found if len(term_and_form(line)[1]) in lengths)

    def _counted(self, lines: Iterable[str]) -> list[Word]:
        pairs = [term_and_form(line) for line in lines]
        df = self.frequencies(term for term, _ in pairs)
        return [Word(form, term, df[term]) for term, form in pairs if term in df]

    def _beginning(self, prefix: str) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for words in self._words():
            for line, n in words.beginning(prefix):
                found[line] += n
        return found

    def _words(self) -> list[Words]:
        return [words for partition in self._partitions for words in self._words_of(partition)]

    def _words_of(self, partition: Partition) -> list[Words]:
        known = {
            segment: words
            for segment in self._cache.segments(partition)
            if (words := self._cache.get((segment,))) is not None
        }
        binds = {"tenant": partition.tenant, "entity": partition.entity, "known": list(known)}
        packed: dict[int, list[bytes]] = {}
        tail: Counter[str] = Counter()
        for is_tail, segment, words in self._dialect.read_words(self._connection, binds):
            if is_tail:
                tail.update(words.decode().split("\n") if words else ())
            else:
                packed.setdefault(segment, []).extend([words] if words else [])
        each = [known.get(segment) or self._unpacked(segment, blobs) for segment, blobs in packed.items()]
        return [*each, Words.of(tail.items())]

    def _unpacked(self, segment: int, blobs: Sequence[bytes]) -> Words:
        words = Words.unpack(blobs)
        self._cache.put((segment,), words, words.nbytes)
        return words
