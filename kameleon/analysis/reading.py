"""From chunks, which are what is between two spaces, to terms. Imports this package alone."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from threading import local
from typing import NamedTuple, TypeVar

import Stemmer

from .characters import Characters, Folding, Places
from .codes import joined, runs, written_as_one
from .languages import SIMPLE, rules
from .words import SPACED_UNITS, Part, Word, words

ALTERNATIVE = "="
HASHED = "~"
MAX_TERM_BYTES = 255
LONGEST_STEMMED = 64  # characters; a longer word is of no language
KNOWN_WORDS = 100_000  # chunks remembered a language: 25 MB, measured on 36,273 film summaries
KNOWN_CODES = 20_000
LONGEST_KNOWN = 32

LETTERS = re.compile(r"[^\W\d_]+(?!\w)")
OPENING = "\"'([{"
CLOSING = ".,;:!?\"')]}"

POSITION = itemgetter(2)

Value = TypeVar("Value")
# A term of a chunk: term, form, position of its word in the chunk, start and end in the chunk.
Piece = tuple[str, str, int, int, int]
# Of a chunk that is one word: term, form, its packed place. Of another: None, nothing, whether it is a number.
Entry = tuple[str | None, str, int]
PLACE_BITS = 32


class Chunk(NamedTuple):
    """The terms of a chunk of none or several, and the number of its words."""

    pieces: tuple[Piece, ...]
    width: int
    is_number: bool


class Memo(dict[str, Value]):
    """What was made of chunks. When it is full, those that were not used since it was full before are dropped."""

    def __init__(self, make: Callable[[str], Value], size: int) -> None:
        super().__init__()
        self._make = make
        self._half = size // 2
        self._older: dict[str, Value] = {}

    def __missing__(self, chunk: str) -> Value:
        value = self._older.get(chunk)
        if value is None:
            value = self._make(chunk)
        if len(chunk) <= LONGEST_KNOWN:
            self.keep(chunk, value)
        return value

    def keep(self, chunk: str, value: Value) -> None:
        if len(self) >= self._half:
            self._older = self.copy()
            self.clear()
        self[chunk] = value


class Reader:
    """Reads chunks of one language. Threads may share it."""

    def __init__(self, language: str) -> None:
        self._rules = rules(language)
        self._places = Places(Characters(language))
        self._folding = Folding(self._rules.kept_letters)
        self._language = language
        self._thread = local()  # PyStemmer's stemmers are for one thread each
        self._lowers_ascii = language != "turkish"
        self.known = Memo(self._entry, KNOWN_WORDS)
        self.codes = Memo(self._chunk, KNOWN_CODES)

    def words(self, chunk: str) -> Iterator[Word]:
        return words(self._places.normalise(chunk)[0], self._rules.apostrophes)

    def _entry(self, chunk: str) -> Entry:
        if chunk.isascii():
            bare = chunk.lstrip(OPENING).rstrip(CLOSING)
            if bare.isalpha():
                start = chunk.index(bare)
                form = bare.lower() if self._lowers_ascii else self._places.normalise(bare)[0]
                form = chunk if form == chunk else form
                return self.term(form), form, packed(start, start + len(bare))
        made = self._chunk(chunk)
        if made.width == len(made.pieces) == 1 and not made.is_number:
            term, form, _, start, end = made.pieces[0]
            return term, form, packed(start, end)
        if len(chunk) <= LONGEST_KNOWN:
            self.codes.keep(chunk, made)
        return None, "", made.is_number

    def _chunk(self, chunk: str) -> Chunk:
        if chunk.isascii() and (bare := chunk.lstrip(OPENING).rstrip(CLOSING)).isdigit():
            start = chunk.index(bare)
            piece = (bounded(bare), bare, 0, start, start + len(bare))
            return Chunk((piece,), 1, chunk.endswith(bare))
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
        return Chunk(tuple(pieces), width, is_number)

    def _pieces(self, word: Word, position: int) -> list[Piece]:
        """The terms of a word that is at a position, in the order of their first parts."""
        if word.is_run:
            return run_pieces(word.parts, position)
        parts = word.parts
        pieces: list[Piece] = []
        for text, start, end, _ in parts:
            pieces.append((self.part_term(text), text, position + len(pieces), start, end))
        if word.is_plain and "'" not in parts[0].text:
            return pieces
        return sorted(pieces + self._joined(word, position), key=POSITION)

    def _joined(self, word: Word, position: int) -> list[Piece]:
        """What a code gives beside its parts."""
        parts, before, after = word.parts, word.before, word.after
        forms = [part.text for part in parts]
        texts = [self.fold(text) for text in forms]
        joins = runs(texts, parts)
        written = joins if texts == forms else runs(forms, parts)
        found: list[Piece] = [
            (bounded(run), form, position + first, parts[first].start, parts[last].end)
            for (first, last, run), (_, _, form) in zip(joins, written, strict=True)
        ]
        if before or after:
            whole, form = (before + joined(names, parts) + after for names in (texts, forms))
            start, end = parts[0].start - len(before), parts[-1].end + len(after)
            found.append((bounded(whole), form, position, start, end))
        for first, last, text in written_as_one(parts):
            term = ALTERNATIVE + self.part_term(text)
            found.append((term, "", position + first, parts[first].start, parts[last].end))
        return found

    def part_term(self, text: str) -> str:
        if text.isalpha():
            return self.known[text][0] or self.term(text) if text.isascii() else self.term(text)
        return self.term(text) if "'" in text else bounded(self.fold(text))

    def term(self, word: str) -> str:
        """The term of a normalised word."""
        if self._language == SIMPLE or len(word) > LONGEST_STEMMED:
            return bounded(self.fold(word))
        if self._rules.is_folded_first:
            return self._stem(self.fold(word)) or word
        return self.fold(self._stem(word)) or word

    def _stem(self, word: str) -> str:
        try:
            stemmer = self._thread.stemmer
        except AttributeError:
            stemmer = self._thread.stemmer = Stemmer.Stemmer(self._language, 0)
        stem: str = stemmer.stemWord(word)
        return stem

    def fold(self, word: str) -> str:
        return word if word.isascii() else word.translate(self._folding)


def run_pieces(parts: Sequence[Part], position: int) -> list[Piece]:
    """Each character, and each two neighbours."""
    pieces: list[Piece] = []
    for at, (left, right) in enumerate(pairwise(parts), position):
        pieces.append((left.text, "", at, left.start, left.end))
        pieces.append((left.text + right.text, "", at, left.start, right.end))
    last = parts[-1]
    return [*pieces, (last.text, "", position + len(parts) - 1, last.start, last.end)]


def packed(start: int, end: int) -> int:
    return start << PLACE_BITS | end


def unpacked(place: int) -> tuple[int, int]:
    return place >> PLACE_BITS, place & (1 << PLACE_BITS) - 1


def is_unit(chunk: str) -> bool:
    found = LETTERS.match(chunk)
    return found is not None and found.group().rstrip("²³").casefold() in SPACED_UNITS


def bounded(term: str) -> str:
    """A term that the index can hold."""
    if len(term) <= MAX_TERM_BYTES // 4 or len(encoded := term.encode()) <= MAX_TERM_BYTES:
        return term
    return HASHED + hashlib.blake2b(encoded, digest_size=16).hexdigest()
