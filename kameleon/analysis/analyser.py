"""Texts to terms: the one analyser of both databases, for what is indexed, queries, phrases, prefixes and highlights.

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

U+2029 (`GAP`) separates fields and the items of lists: positions jump there, so that no phrase runs across.

Exact forms: the index holds no terms for them. `Terms.forms` are the words as written (lower case, accents kept) and
`QueryWord.surface` is a query's, so hits of equal score are ordered by `Analyser.exactness` of their texts.

Imports only `errors` and its siblings in `analysis`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from typing import NamedTuple

import Stemmer

from ..errors import InvalidInput, seen
from .characters import Characters, Folding, Places
from .codes import joined, runs, written_as_one
from .languages import NAMES, SIMPLE, rules
from .stop_words import stop_words
from .terms import PhrasePart, QueryWord, Terms, Token
from .words import SPACED_UNITS, Part, Word, words

VERSION = 1
GAP = "\u2029"
GAP_WIDTH = 1
ALTERNATIVE = "="
HASHED = "~"
MAX_TERM_BYTES = 255
KNOWN_CHUNKS = 100_000  # remembered a language; about 25 MB
LONGEST_KNOWN = 32
LONGEST_STEMMED = 64
LEAST_ALTERNATIVE = 2

CHUNK = re.compile(r"\S+")
UNIT = re.compile(r"([^\W\d_]+)[²³]?(?!\w)")
OPENING = "\"'([{"
CLOSING = ".,;:!?\"')]}"


Piece = tuple[str, str, int, int, int]  # a term of a chunk: term, form, its word's position, its place in the chunk


class Chunk(NamedTuple):
    """What is between two spaces, where it is not one plain word."""

    pieces: tuple[Piece, ...]
    width: int
    is_number: bool


Entry = tuple[str | None, str | Chunk, int, int]  # (term, form, start, end) of a plain word, (None, chunk, 0, 0)


class Known(dict[str, Entry]):
    """The chunks that were analysed before. When there are `KNOWN_CHUNKS`, those that were not met again since the last
    time are forgotten."""

    def __init__(self, analyse: Callable[[str], Entry]) -> None:
        super().__init__()
        self._analyse = analyse
        self._older: dict[str, Entry] = {}

    def __missing__(self, chunk: str) -> Entry:
        entry = self._older.get(chunk)
        if entry is None:
            entry = self._analyse(chunk)
        if len(chunk) <= LONGEST_KNOWN:
            if len(self) >= KNOWN_CHUNKS // 2:
                self._older = self.copy()
                self.clear()
            self[chunk] = entry
        return entry


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
        self._rules = rules(language)
        self._places = Places(Characters(language))
        self._folding = Folding(self._rules.kept_letters)
        self._stemmer = None if language == SIMPLE else Stemmer.Stemmer(language, 0)
        self._lock = Lock()
        self._known = Known(self._entry)
        self._lowers_ascii = language != "turkish"
        self._stop_words = frozenset(map(self._fold, stop_words(language)))

    # what is indexed

    def terms(self, text: str) -> Terms:
        """Returns what is indexed of a text."""
        terms: list[str] = []
        positions: list[int] = []
        forms: list[str] = []
        position = gaps = 0
        for section in text.split(GAP):
            position = self._add(section, position, terms, positions, forms) + GAP_WIDTH
            gaps += GAP_WIDTH
        return Terms(terms, positions, position - gaps, forms)

    def _add(self, text: str, position: int, terms: list[str], positions: list[int], forms: list[str]) -> int:
        """Adds the terms of a text without gaps; returns the position after them."""
        entries = self._entries(text)
        if not entries:
            return position
        found, details, _, _ = zip(*entries, strict=True)
        start, count = 0, found.count(None)
        for _ in range(count):
            end = found.index(None, start)
            terms += found[start:end]
            forms += details[start:end]
            positions += range(position, position + end - start)
            position += end - start
            chunk = details[end]
            for term, form, offset, _, _ in chunk.pieces:
                terms.append(term)
                forms.append(form)
                positions.append(position + offset)
            position += chunk.width
            start = end + 1
        end = len(found)
        terms += found[start:end]
        forms += details[start:end]
        positions += range(position, position + end - start)
        return position + end - start

    def _entries(self, text: str) -> list[Entry]:
        chunks = text.split()
        known = self._known
        entries = [known[chunk] for chunk in chunks]
        numbers = [at for at, entry in enumerate(entries[:-1]) if entry[0] is None and entry[1].is_number]
        for at in reversed(numbers):
            if is_unit(chunks[at + 1]):
                entries[at : at + 2] = [known[chunks[at] + chunks[at + 1]]]
        return entries

    def _entry(self, chunk: str) -> Entry:
        if chunk.isascii():
            bare = chunk.lstrip(OPENING).rstrip(CLOSING)
            if bare.isalpha():
                start = chunk.index(bare)
                form = bare.lower() if self._lowers_ascii else self._places.normalise(bare)[0]
                form = chunk if form == chunk else form
                return self._term(form), form, start, start + len(bare)
            if bare.isdigit():
                start = chunk.index(bare)
                piece = (bounded(bare), bare, 0, start, start + len(bare))
                return None, Chunk((piece,), 1, chunk.endswith(bare)), 0, 0
        return self._chunk(chunk)

    def _chunk(self, chunk: str) -> Entry:
        text, places = self._places.normalise(chunk)
        pieces: list[Piece] = []
        width = 0
        is_number = False
        for word in words(text, self._rules.apostrophes):
            pieces += self._pieces(word, width)
            width += len(word.parts)
            is_number = word.parts[-1].end == len(text) and all(part.text.isdigit() for part in word.parts)
        if places is not None:
            pieces = [(*piece[:3], places[piece[3]][0], places[piece[4] - 1][1]) for piece in pieces]
        if len(pieces) == 1 and width == 1 and not is_number:
            term, form, _, start, end = pieces[0]
            return term, form, start, end
        return None, Chunk(tuple(pieces), width, is_number), 0, 0

    def _pieces(self, word: Word, position: int) -> list[Piece]:
        """The terms of a word that is at a position, in the order of their first parts."""
        parts = word.parts
        at: list[list[Piece]] = [
            [(self._part_term(text), text, place, start, end)] for place, (text, start, end, _) in enumerate(parts, position)
        ]
        if word.is_run:
            for place, (left, right) in enumerate(pairwise(parts)):
                at[place].append((left.text + right.text, "", position + place, left.start, right.end))
        elif len(parts) > 1 or word.before or word.after or not parts[0].text.isalpha():
            for first, last, term, form in self._joined(word):
                start = parts[first].start - (len(word.before) if term[0] in "#@." else 0)
                end = parts[last].end + (len(word.after) if term[-1] in "+#" else 0)
                at[first].append((bounded(term), form, position + first, start, end))
        return [piece for pieces in at for piece in pieces]

    def _joined(self, word: Word) -> Iterator[tuple[int, int, str, str]]:
        """(first, last, term, form) of what a code gives beside its parts."""
        parts = word.parts
        texts = [self._fold(part.text) for part in parts]
        if len(parts) > 1:
            for first, last, run in runs(texts, parts):
                yield first, last, run, run
        if word.before or word.after:
            whole = word.before + joined(texts, parts) + word.after
            yield 0, len(parts) - 1, whole, whole
        for first, last, text in written_as_one(parts, self._rules.apostrophes.elisions):
            yield first, last, ALTERNATIVE + self._part_term(text), ""

    # words

    def _part_term(self, text: str) -> str:
        return self._term(text) if text.isalpha() or "'" in text else bounded(self._fold(text))

    def _term(self, word: str) -> str:
        """The term of a normalised word."""
        if self._stemmer is None or len(word) > LONGEST_STEMMED:
            return bounded(self._fold(word))
        if self._rules.is_folded_first:
            return self._stem(self._fold(word)) or word
        return self._fold(self._stem(word)) or word

    def _stem(self, word: str) -> str:
        with self._lock:
            stem: str = self._stemmer.stemWord(word)
        return stem

    def _fold(self, word: str) -> str:
        return word if word.isascii() else word.translate(self._folding)

    # where it is

    def tokens(self, text: str) -> list[Token]:
        """Returns the terms of a text with their places in it, in the order of `terms`."""
        tokens: list[Token] = []
        position = start = 0
        for section in text.split(GAP):
            position = self._add_tokens(section, start, position, tokens) + GAP_WIDTH
            start += len(section) + len(GAP)
        return tokens

    def _add_tokens(self, text: str, base: int, position: int, tokens: list[Token]) -> int:
        for chunk, start, split, gap in self._placed_chunks(text):
            term, detail, begin, end = self._known[chunk]
            start += base
            pieces = detail.pieces if term is None else ((term, detail, 0, begin, end),)
            for name, form, offset, begin, end in pieces:
                begin += start + (gap if begin >= split else 0)
                end += start + (gap if end > split else 0)
                tokens.append(Token(name, position + offset, begin, end, form))
            position += detail.width if term is None else 1
        return position

    def _placed_chunks(self, text: str) -> Iterator[tuple[str, int, int, int]]:
        """(chunk, start, split, gap): a number and its unit are one chunk, which `gap` spaces part at `split`."""
        matches = [*CHUNK.finditer(text)]
        at = 0
        while at < len(matches):
            match = matches[at]
            at += 1
            chunk = match.group()
            if at < len(matches) and self._is_number(chunk) and is_unit(matches[at].group()):
                yield chunk + matches[at].group(), match.start(), len(chunk), matches[at].start() - match.end()
                at += 1
            else:
                yield chunk, match.start(), len(chunk), 0

    def _is_number(self, chunk: str) -> bool:
        term, detail, _, _ = self._known[chunk]
        return term is None and detail.is_number

    # queries

    def query_terms(self, text: str) -> list[QueryWord]:
        """Returns the words of a query, without stop words where others are left."""
        asked = [self._query_word(word) for word in self._words(text)]
        kept = [word for word in asked if word.surface not in self._stop_words]
        return kept or asked

    def _words(self, text: str) -> Iterator[Word]:
        for section in text.split(GAP):
            for chunk, *_ in self._placed_chunks(section):
                yield from words(self._places.normalise(chunk)[0], self._rules.apostrophes)

    def _query_word(self, word: Word) -> QueryWord:
        parts = word.parts
        texts = [self._fold(part.text) for part in parts]
        if word.is_run:
            return self._query_run(texts)
        if len(parts) == 1 and not (word.before or word.after):
            return QueryWord(parts[0].text, self._ways(parts[0].text))
        whole = [bounded(word.before + joined(texts, parts) + word.after)]
        for first, last, text in written_as_one(parts, self._rules.apostrophes.elisions):
            if last - first + 1 == len(parts):
                whole += self._ways(text)[::-1]
        surface = word.before + joined([part.text for part in parts], parts) + word.after
        return QueryWord(surface, tuple(whole), tuple(self._query_parts(word, texts, whole[0])))

    def _query_run(self, texts: Sequence[str]) -> QueryWord:
        surface = "".join(texts)
        if len(texts) <= LEAST_ALTERNATIVE:
            return QueryWord(surface, (surface,))
        return QueryWord(surface, (), tuple(left + right for left, right in pairwise(texts)))

    def _query_parts(self, word: Word, texts: Sequence[str], whole: str) -> Iterator[str]:
        found = sorted(runs(texts, word.parts), key=lambda run: run[0] - run[1])
        yield from (bounded(run) for _, _, run in found if run != whole)
        is_code = len(word.parts) > 1
        for part, text in zip(word.parts, texts, strict=True):
            if not is_code or not ((len(text) == 1 and text.isalpha()) or text in self._stop_words):
                yield self._part_term(part.text)

    def _ways(self, text: str) -> tuple[str, ...]:
        """The term of a word, and that of codes which are also written so."""
        term = self._part_term(text)
        is_letters = text.isalpha() and len(text) >= LEAST_ALTERNATIVE
        return (term, ALTERNATIVE + term) if is_letters or (text.isdigit() and len(text) > 3) else (term,)

    def phrase(self, text: str) -> list[PhrasePart]:
        """Returns what must be one after the other where a text has the phrase."""
        found: list[PhrasePart] = []
        position = 0
        for word in self._words(text):
            found += self._phrase_parts(word, position)
            position += len(word.parts)
        if len(found) == 1 and found[0].terms[0] == self._part_term(text.strip().lower()):
            return [PhrasePart(self._ways(text.strip().lower()), 0)]
        return found

    def _phrase_parts(self, word: Word, position: int) -> Iterator[PhrasePart]:
        parts = word.parts
        texts = [self._fold(part.text) for part in parts]
        if word.is_run and len(parts) > 1:
            yield from (PhrasePart((left + right,), position + at) for at, (left, right) in enumerate(pairwise(texts)))
        elif len(parts) == 1 and (word.before or word.after):
            yield PhrasePart((bounded(word.before + texts[0] + word.after),), position)
        else:
            yield from (PhrasePart((self._part_term(part.text),), position + at) for at, part in enumerate(parts))

    def prefixes(self, word: str) -> list[str]:
        """Returns what the terms begin with of words that begin so; none for a run of over two characters without
        spaces, which is a phrase. A word whose stem is shorter than `word` is found by its own term."""
        found = [*self._words(word)]
        if not found or (found[-1].is_run and len(found[-1].parts) > LEAST_ALTERNATIVE):
            return []
        last = found[-1]
        texts = [self._fold(part.text) for part in last.parts]
        if last.is_run:
            return ["".join(texts)]
        text = last.before + joined(texts, last.parts)
        if len(texts) > 1 or not text.isalpha():
            return [text]
        stem = self._term(last.parts[0].text)
        begins = [text] if text.startswith(stem) else [text, stem]
        return [*begins, ALTERNATIVE + text]

    # what matched

    def marks(self, text: str, asked: Iterable[QueryWord]) -> list[tuple[int, int]]:
        """Returns the places in a text of what a query's words match: of a code the whole, or where that is not in the
        text its parts."""
        places: dict[str, list[tuple[int, int]]] = {}
        for token in self.tokens(text):
            places.setdefault(token.term, []).append((token.start, token.end))
        found: list[tuple[int, int]] = []
        for word in asked:
            whole = [place for term in word.whole for place in places.get(term, ())]
            found += whole or [place for term in word.parts for place in places.get(term, ())]
        return merged(found)

    def exactness(self, text: str, asked: Iterable[QueryWord]) -> int:
        """Returns how many of a query's words are in a text as they are written in the query."""
        forms = set(self.terms(text).forms)
        return sum(word.surface in forms for word in asked)


def is_unit(chunk: str) -> bool:
    found = UNIT.match(chunk)
    return found is not None and found[1].casefold() in SPACED_UNITS


def bounded(term: str) -> str:
    """A term that the index can hold."""
    if len(term) <= MAX_TERM_BYTES // 4 or len(encoded := term.encode()) <= MAX_TERM_BYTES:
        return term
    return HASHED + hashlib.blake2b(encoded, digest_size=16).hexdigest()


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
