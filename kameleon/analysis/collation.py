"""Orders texts as a language's readers do: by letters, then by accents, then by case. Imports this package alone.

The order is that of Unicode's default collation in short: blanks and punctuation, digits, letters; of equal letters the
one without an accent first, then the lower case. Letters that a language counts as its own (`å` in Swedish, `ñ` in
Spanish) follow the letter that its alphabet has before them. Pairs of letters (the Czech `ch`) count as two, and other
scripts than Latin and Greek are in the order of their code points.
"""

from collections.abc import Callable
from functools import cache
from unicodedata import category, digit, normalize

from .characters import KEPT_CHARACTERS, OF_LANGUAGE, Folding

PUNCTUATION = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"  # in the order of CLDR's root collation
KEYED_CHARACTERS = 1_000  # bounds how much of a text decides its place; chosen, not measured
LAST = "\U0010fffd"  # after whatever may follow the letter before
# Each an ASCII letter, and the letters that follow it as letters of their own, as CLDR's collations have them.
OWN_LETTERS = {
    "basque": "nñ",
    "czech": "cč rř sš zž",
    "danish": "zæøå",
    "esperanto": "cĉ gĝ hĥ jĵ sŝ uŭ",
    "estonian": "sšzž wõäöü",
    "finnish": "zåäö",
    "hungarian": "oöő uüű",
    "lithuanian": "cč sš zž",
    "norwegian": "zæøå",
    "polish": "aą cć eę lł nń oó sś zźż",
    "romanian": "aăâ iî sș tț",
    "serbian": "cčć dđ sš zž",
    "spanish": "nñ",
    "swedish": "zåäö",
    "turkish": "cç gğ hı oö sş uü",
}

SortKey = tuple[str, str, str]


class Letters(dict[int, str]):
    """A table for `str.translate` from the characters of a case-folded text to what they are ordered by first."""

    def __init__(self, language: str) -> None:
        super().__init__({ord(character): chr(place) for place, character in enumerate(PUNCTUATION, 1)})
        self._folding = Folding()
        for run in OWN_LETTERS.get(language, "").split():
            self |= {ord(letter): f"{run[0]}{LAST}{place}" for place, letter in enumerate(run[1:])}

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if category(character) == "Nd":
            form = str(digit(character))
        else:
            form = "" if category(character) == "Mn" else self._folding[code]
        if len(self) < KEPT_CHARACTERS:
            self[code] = form
        return form


@cache
def sort_key(language: str) -> Callable[[str], SortKey]:
    """Makes the function that gives the key of a text, by which texts are in the language's order."""
    letters = Letters(language)
    own_case = str.maketrans(dict(OF_LANGUAGE.get(language, {})))

    def key(text: str) -> SortKey:
        text = text[:KEYED_CHARACTERS]
        if text.isascii() and not own_case:
            folded = text.lower()
            return folded.translate(letters), folded, text.swapcase()
        lowered = normalize("NFKC", text.translate(own_case)).lower()
        folded = normalize("NFC", lowered.casefold())
        return folded.translate(letters), normalize("NFD", lowered), text.swapcase()

    return key
