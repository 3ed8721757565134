"""Texts to terms: the one analyser of both databases, for what is indexed, queries, phrases, prefixes and highlights.
Imports `errors`.

A word's term is its Snowball stem with accents folded. A code (`POL-358-A`) gives its parts, each at a position of its
own, and every run of them joined, at the position of the run's first part. Joined terms never meet ordinary words or
other numbers:
- joints stay in them (`11.83`, `12:30`, `wi-fi`, `src/app.java`, `at&t`), `_` as `-`; between a letter and a digit
  `-` and `_` are left out (`pol358a`), so that `POL-358-A`, `POL_358_A` and `POL358A` are one;
- symbols before and after stay too: `c++`, `#12345`, `.net`, `@jane`;
- another way to write a whole code as one word or number begins with `=`: `=wifi` for `Wi-Fi`, `=obrien`, `=1000` for
  `1,000`, `=5551234567`. A query's word is looked up as itself and as this, two ways to write the same.
A term of more than 255 bytes is `~` and its hash. Terms of Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese are
each character and each two neighbours, at the position of the first. An emoji is a word.

Positions jump at the gaps of a text, which are where another field or item of a list begins: no phrase extends across.

Exact forms: the index holds no terms for them. `Terms.forms` are the words as written (lower case, accents kept) and
`QueryWord.surface` is a query's, so hits of equal score are ordered by `Analyser.exactness` of their texts.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from operator import itemgetter
from typing import Any

from ..errors import InvalidInput, seen
from .codes import joined, runs, written_as_one
from .languages import NAMES
from .reading import ALTERNATIVE, Piece, Reader, bounded, is_unit, unpacked
from .stop_words import stop_words
from .terms import PhrasePart, QueryWord, Terms, Token, end_of
from .words import UNITS, Word

__all__ = [
    *("VERSION", "Analyser", "PhrasePart", "QueryWord", "Terms", "Token", "analyser"),
    "languages",
]

VERSION = 1
GAP_WIDTH = 1
"""Bounds from below the positions left out at a gap: the words of a phrase have successive ones."""
LONGEST_SURE_RUN = 2  # characters of a script without spaces that are one term
LONGEST_MARKED_RUN = 32
"""Bounds the pairs of characters of a run that is marked as a whole: of one character, each begins at each place of the
text. Chosen, not measured."""
SHORTEST_WRITTEN_AS_ONE, SHORTEST_NUMBER_AS_ONE = 2, 4

CHUNK = re.compile(r"\S+")
FIRST = itemgetter(0)


def languages() -> list[str]:
    return sorted(NAMES)


@lru_cache
def analyser(language: str = "english") -> "Analyser":
    """The analyser of a language, which remembers the words that it has met."""
    return Analyser(language)


class Analyser:
    """Reads texts and queries of one language. Threads may share it."""

    def __init__(self, language: str = "english") -> None:
        """Raises InvalidInput for a language that it does not know."""
        if language not in NAMES:
            raise InvalidInput(f"unknown language {seen(language)}. Known: {', '.join(languages())}")
        self.language = language
        self._reader = Reader(language)
        self._stop_words = frozenset(map(self._reader.fold, stop_words(language)))

    # what is indexed

    def terms(self, text: str, gaps: Sequence[int] = ()) -> Terms:
        """Returns what is indexed of a text; `gaps` are where in it another field or item begins."""
        pairs: list[tuple[Any, ...]] = []
        positions: list[int] = []
        position = 0
        for start, end in pairwise((0, *gaps, len(text))):
            position = self._add(text[start:end].split(), position, pairs, positions) + GAP_WIDTH
        return Terms(pairs, positions, position - GAP_WIDTH * (len(gaps) + 1))

    def _add(self, chunks: list[str], position: int, pairs: list[tuple[Any, ...]], positions: list[int]) -> int:
        """Adds the terms of chunks; returns the position after them. Most chunks are one word, so that what is between
        two others is added at once, as the tuples that are remembered: a new one for each word costs more than all
        else."""
        found = [*map(self._reader.known.__getitem__, chunks)]
        terms = [*map(FIRST, found)]
        start, others = 0, terms.count(None)
        while others:
            others -= 1
            end = terms.index(None, start)
            pairs += found[start:end]
            positions += range(position, position + end - start)
            position += end - start
            start = end + 1
            name = chunks[end]
            if found[end][2] and start < len(chunks) and is_unit(chunks[start]):
                name += chunks[start]
                others -= terms[start] is None
                start += 1
            chunk = self._reader.codes[name]
            pairs += chunk.pieces
            positions += [position + piece[2] for piece in chunk.pieces]
            position += chunk.width
        pairs += found[start:]
        positions += range(position, position + len(found) - start)
        return position + len(found) - start

    # where it is

    def tokens(self, text: str) -> list[Token]:
        """Returns the terms of a text with their places in it, in the order of `terms`."""
        tokens: list[Token] = []
        position = 0
        for chunk, start, split, gap in self._chunks(text):
            pieces, width = self._pieces(chunk)
            for term, form, offset, begin, end in pieces:
                begin += start + (gap if begin >= split else 0)
                end += start + (gap if end > split else 0)
                tokens.append(Token(term, position + offset, begin, end, form))
            position += width
        return tokens

    def _pieces(self, chunk: str) -> tuple[Sequence[Piece], int]:
        term, form, place = self._reader.known[chunk]
        if term is not None:
            return ((term, form, 0, *unpacked(place)),), 1
        made = self._reader.codes[chunk]
        return made.pieces, made.width

    def _chunks(self, text: str) -> Iterator[tuple[str, int, int, int]]:
        """(chunk, start, split, gap): a number and its unit are one chunk, which `gap` spaces part at `split`."""
        known = self._reader.known
        number: re.Match[str] | None = None
        for match in CHUNK.finditer(text):
            chunk, start = match.group(), match.start()
            if number:
                before, end = number.group(), number.end()
                if is_unit(chunk):
                    yield before + chunk, number.start(), len(before), start - end
                    number = None
                    continue
                yield before, number.start(), len(before), 0
                number = None
            term, _, is_number = known[chunk]
            if term is None and is_number:
                number = match
            else:
                yield chunk, start, len(chunk), 0
        if number:
            yield number.group(), number.start(), len(number.group()), 0

    # queries

    def query_terms(self, text: str) -> list[QueryWord]:
        """Returns the words of a query, without stop words where others are left."""
        found = list(self._query_words(text))
        kept = [word for word in found if self._reader.fold(word.surface) not in self._stop_words]
        return kept or found

    def _query_words(self, text: str) -> Iterator[QueryWord]:
        for chunk, *_ in self._chunks(text):
            term, form, _ = self._reader.known[chunk]
            if term is not None and form.isascii() and form.isalpha():
                yield QueryWord(form, (term, ALTERNATIVE + term) if len(form) >= SHORTEST_WRITTEN_AS_ONE else (term,))
            else:
                yield from map(self._query_word, self._reader.words(chunk))

    def _words(self, text: str) -> Iterator[Word]:
        for chunk, *_ in self._chunks(text):
            yield from self._reader.words(chunk)

    def _folded(self, word: Word) -> list[str]:
        return [self._reader.fold(part.text) for part in word.parts]

    def _query_word(self, word: Word) -> QueryWord:
        parts, texts = word.parts, self._folded(word)
        if word.is_run:
            return self._query_run(texts)
        if word.is_plain:
            return QueryWord(parts[0].text, self._ways(parts[0].text))
        whole = [bounded(word.before + joined(texts, parts) + word.after)]
        for first, last, text in written_as_one(parts):
            if last - first + 1 == len(parts):
                whole += self._ways(text)[::-1]
        surface = word.before + joined([part.text for part in parts], parts) + word.after
        return QueryWord(surface, tuple(whole), tuple(self._query_parts(word, texts, whole[0])))

    @staticmethod
    def _query_run(texts: Sequence[str]) -> QueryWord:
        surface = "".join(texts)
        if len(texts) <= LONGEST_SURE_RUN:
            return QueryWord(surface, (surface,))
        return QueryWord(surface, (), tuple(left + right for left, right in pairwise(texts)))

    def _query_parts(self, word: Word, texts: Sequence[str], whole: str) -> Iterator[str]:
        found = sorted(runs(texts, word.parts), key=lambda run: run[0] - run[1])
        yield from (bounded(run) for _, _, run in found if run != whole)
        for at, (part, text) in enumerate(zip(word.parts, texts, strict=True)):
            is_unit_of_number = at and not part.joint and text in UNITS
            is_minor = (len(text) == 1 and text.isalpha()) or text in self._stop_words or is_unit_of_number
            if len(texts) == 1 or not is_minor:
                yield self._reader.part_term(part.text)

    def _ways(self, text: str) -> tuple[str, ...]:
        """The term of a word, and that of codes which are also written so."""
        term = self._reader.part_term(text)
        is_word = text.isalpha() and len(text) >= SHORTEST_WRITTEN_AS_ONE
        is_number = text.removesuffix("x").isdigit() and len(text) >= SHORTEST_NUMBER_AS_ONE
        return (term, ALTERNATIVE + term) if is_word or is_number else (term,)

    def phrases(self, text: str) -> list[list[PhrasePart]]:
        """Returns the ways to write a phrase, of each what must be one after the other where a text has it."""
        words = list(self._words(text))
        if not words:
            return []
        starts = [0, *accumulate(len(word.parts) for word in words)]
        parts = [list(self._phrase_parts(word, start)) for word, start in zip(words, starts, strict=False)]
        found = [list(chain.from_iterable(parts))]
        whole = self._query_word(words[-1]).whole  # as one word, a code has another number of positions
        if whole and not words[-1].is_run:
            as_one = [*chain.from_iterable(parts[:-1]), PhrasePart(whole, starts[-2])]
            found = [as_one] if len(words[-1].parts) == 1 else [*found, as_one]
        return found

    def _phrase_parts(self, word: Word, position: int) -> Iterator[PhrasePart]:
        parts = word.parts
        if word.is_run and len(parts) > 1:
            pairs = pairwise(self._folded(word))
            yield from (PhrasePart((left + right,), position + at) for at, (left, right) in enumerate(pairs))
        elif len(parts) == 1 and (word.before or word.after):
            yield PhrasePart((bounded(word.before + self._folded(word)[0] + word.after),), position)
        else:
            terms = (self._reader.part_term(part.text) for part in parts)
            yield from (PhrasePart((term,), position + at) for at, term in enumerate(terms))

    def prefixes(self, word: str) -> list[str]:
        """Returns what the terms begin with of words that begin so; none for a run of over two characters without
        spaces, which is a phrase. A word whose stem is shorter than `word` is found by its own term."""
        found = [*self._words(word)]
        if not found or (found[-1].is_run and len(found[-1].parts) > LONGEST_SURE_RUN):
            return []
        last, texts = found[-1], self._folded(found[-1])
        if last.is_run:
            return ["".join(texts)]
        text = last.before + joined(texts, last.parts)
        if text.isdigit() and len(text) >= SHORTEST_NUMBER_AS_ONE:
            return [text, ALTERNATIVE + text]
        if len(texts) > 1 or not text.isalpha():
            return [text]
        stem = self._reader.term(last.parts[0].text)
        begins = [text] if text.startswith(stem) else [text, stem]
        return [*begins, ALTERNATIVE + text]

    def fold(self, form: str) -> str:
        """Returns the form of a word without its accents, where readers of the language ignore them."""
        return self._reader.fold(form)

    def is_stop_word(self, form: str) -> bool:
        return self._reader.fold(form) in self._stop_words

    # what matched

    def marks(self, text: str, query: Iterable[QueryWord]) -> list[tuple[int, int]]:
        """Returns the places in a text of what a query's words match: of a code the whole, or where that is not in the
        text its parts."""
        return merged((start, end) for start, end, _ in self.occurrences(text, query))

    def occurrences(self, text: str, query: Iterable[QueryWord]) -> list[tuple[int, int, int]]:
        """Returns these places one by one, each with the number of its word among the distinct ones of the query."""
        query = list(dict.fromkeys(query))
        places = self._places(text, {term for word in query for term in word.terms})
        found: list[tuple[int, int, int]] = []
        for number, word in enumerate(query):
            whole = [place for term in word.whole for place in places.get(term, ())]
            if not word.whole and len(word.parts) <= LONGEST_MARKED_RUN:
                whole = chained([places.get(term, ()) for term in word.parts])
            found += [(*place, number) for place in whole or self._of_parts(word, places)]
        return [*found, *self._phrase_occurrences(text, query)]

    def _phrase_occurrences(self, text: str, query: Sequence[QueryWord]) -> Iterator[tuple[int, int, int]]:
        """Yields the places of the words' phrases, each from its first word to its last."""
        ways = [(way, number) for number, word in enumerate(query) for way in word.phrases]
        tokens = {(token.term, token.position): token for token in self.tokens(text)} if ways else {}
        for way, number in ways:
            for (term, position), token in tokens.items():
                if term in way[0].terms and (end := end_of(tokens, way, position)):
                    yield token.start, end, number

    @staticmethod
    def _of_parts(word: QueryWord, places: Mapping[str, Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
        return [place for term in set(word.parts) for place in places.get(term, ())]

    def terms_of(self, chunk: str) -> Sequence[str]:
        """Returns the terms of what is between two spaces of a text."""
        term = self._reader.known[chunk][0]
        return (term,) if term is not None else [piece[0] for piece in self._pieces(chunk)[0]]

    def _places(self, text: str, terms: set[str]) -> dict[str, list[tuple[int, int]]]:
        """Where a text has each of these terms."""
        places: dict[str, list[tuple[int, int]]] = {}
        known = self._reader.known
        for chunk, start, split, gap in self._chunks(text):
            whole = known[chunk][0]
            if whole is not None and whole not in terms:
                continue
            for term, _, _, begin, end in self._pieces(chunk)[0]:
                if term in terms:
                    begin += start + (gap if begin >= split else 0)
                    end += start + (gap if end > split else 0)
                    places.setdefault(term, []).append((begin, end))
        return places

    def exactness(self, text: str, query: Iterable[QueryWord]) -> int:
        """Returns how many of a query's words are in a text as they are written in the query."""
        forms = set(self.terms(text).forms)
        return sum(word.surface in forms for word in query)


def chained(pairs: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The spans of the runs of which these are the neighbours, each two by their spans."""
    found = [(begin, begin, end) for begin, end in pairs[0]]
    for spans in pairs[1:]:
        begins = [begin for begin, _ in spans]
        following = ((start, end, bisect_right(begins, begin)) for start, begin, end in found)
        found = [(start, *spans[at]) for start, end, at in following if at < len(begins) and begins[at] < end]
    return [(start, end) for start, _, end in found]


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
