"""How a text is put before PostgreSQL's analyser.

Its parser takes `foo.com/bar` for an address, `-358` for a number and `<b>` for a tag, and finds no `bar` in the first.
So a text is cut here, at every character that is no letter, digit or mark, as FTS5 cuts it; PostgreSQL gets words with
spaces between and does what it does well: stop words and stems. A lower-case letter is meant by either case, whatever
the database's locale knows of it; `é` is `e` where the stemmer does not read accents, and `ø`, which is no letter with
a mark, stays.
"""

import re
from collections import Counter
from unicodedata import category, normalize

from ...content import analyze

FOLDED = ("english", "simple")
ACCENTED = re.compile("[\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff]")
WORD = re.compile(r"\S+")
KEPT_CHARACTERS = 20_000
SAFE_CHARACTERS = 100_000
MAX_BYTES = 1_000_000
MAX_POSITION, MAX_POSITIONS = 16_383, 255
LEXEME_BYTES, POSITION_BYTES = 3, 2


class Words(dict[int, str]):
    """A table for `str.translate` from characters to words and spaces, filled as characters are met."""

    def __init__(self, language: str) -> None:
        super().__init__({code: self._ascii(chr(code)) for code in range(128)})
        self._folds = language.removeprefix("pg_catalog.") in FOLDED

    @staticmethod
    def _ascii(character: str) -> str:
        return character if character.isalnum() else " "

    def __missing__(self, code: int) -> str:
        read = self._read(chr(code))
        if len(self) < KEPT_CHARACTERS:
            self[code] = read
        return read

    def _read(self, character: str) -> str:
        if self._folds and ACCENTED.match(character):
            bare = "".join(part for part in normalize("NFD", character) if category(part) != "Mn")
            if not bare or bare.isascii() or bare == "ſ":
                return bare.lower().replace("ſ", "s")
        kind = category(character)
        if kind == "No":
            return "".join(part if part.isalnum() else " " for part in normalize("NFKC", character)).lower()
        if character.isalnum() or kind in ("Mn", "Mc", "Co"):
            return character.lower().replace("ς", "σ")
        return " "

    def indexed(self, content: str, emphasis: str) -> tuple[str, str, int]:
        """What PostgreSQL is given to index of a content and of what counts again, and BM25's length: the words of
        both, stop words too. A long text is all in the first."""
        read = [self._read_all(analyze(text)) if text else "" for text in (content, emphasis)]
        split = [word for words in read for word in words.split()]
        is_short = len(split) < MAX_POSITION and sum(map(len, read)) < SAFE_CHARACTERS
        return (read[0], read[1], len(split)) if is_short else (fitting(split), "", len(split))

    def asked(self, text: str) -> list[str]:
        """The words of a query, in order."""
        return self._read_all(text).split()

    def places(self, text: str) -> list[tuple[int, int, str]]:
        """(start, end, word) of a text's words."""
        mask = "".join(" " if self[ord(character)] == " " else "x" for character in text)
        return [(*match.span(), self._read_all(text[slice(*match.span())])) for match in WORD.finditer(mask)]

    def _read_all(self, text: str) -> str:
        if not self._folds and not text.isascii():
            text = normalize("NFC", text)
        return text.translate(self)


def fitting(words: list[str]) -> str:
    """The words of a long text, rearranged so that a tsvector keeps as many counts as it can: it has 255 positions for
    a lexeme, none beyond 16,383, and 1 MB for all. Words that repeat come first, cut to a count for which all of them
    have places; the others need none."""
    counts = Counter(words)
    most = MAX_POSITIONS
    while most > 1 and sum(min(count, most) for count in counts.values() if count > 1) > MAX_POSITION:
        most //= 2
    left = MAX_BYTES
    kept: list[str] = []
    for word, count in sorted(counts.items(), key=lambda item: -item[1]):
        times = min(count, most)
        left -= len(word.encode()) + LEXEME_BYTES + POSITION_BYTES * times
        if left < 0:
            break
        kept += [word] * times
    return " ".join(kept)
