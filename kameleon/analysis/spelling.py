"""Words as people write them, for completing what is typed and correcting it. Imports nothing of kameleon's."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple
from unicodedata import category

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

JOINTS = tuple("-_.:/@&+#'")
"""What a code that is not typed to its end may end with."""
CORRECTED_FROM, SOUNDED_FROM, LONG, LONGEST = 4, 6, 8, 40
ALIKE = {ord(letter): alike[0] for alike in ("aeiouy", "bfpv", "cgjkqsxz", "dt", "mn") for letter in alike}
"""Soundex's classes of letters, and vowels as one. Of 2,000 names of six and seven letters that are in no word list, 12
are so corrected to a word of examples/tickets.jsonl, 690 to one at any distance of two, 95 to one at one."""


def parted(text: str) -> tuple[str, str]:
    """What stands before a text's last word, and that word as it is so far, lower-case; empty after a space."""
    start = len(text)
    while start and is_letter(text[start - 1]):
        start -= 1
    return text[:start], text[start:].lower()


def is_letter(character: str) -> bool:
    """Whether a word may have it: a letter, a digit, or a mark of one."""
    return character.isalnum() or category(character) in ("Mn", "Mc")


def is_correctable(word: str) -> bool:
    """Whether it is 4 to 40 letters and their marks: nobody misspells a number."""
    is_long = CORRECTED_FROM <= len(word) <= LONGEST
    return is_long and all(is_letter(character) and not character.isnumeric() for character in word)


def most_errors(word: str) -> int:
    """How many letters may be wrong."""
    return 2 if len(word) >= LONG else 1


def ends(word: str) -> tuple[str, str]:
    """What a word begins and ends with: a wrong letter or two neighbours that changed places leave one of them whole,
    but in words of four."""
    size = max(2, (len(word) - 1) // 2)
    return word[:size], word[-size:]


class Near(NamedTuple):
    """A word near to a typed one, the likeliest the least: how many letters differ; whether one was typed that it has
    not, instead of one left out or two swapped; and whether the first letter differs."""

    distance: int
    has_others: bool
    is_other: bool
    form: str


def near(word: str, candidates: Iterable[str]) -> list[Near]:
    """Those of the candidates with no more errors, likeliest first; of words of six and seven letters also those at a
    distance of two where each wrong letter sounds like the right one."""
    most = most_errors(word)
    cutoff = most if len(word) < SOUNDED_FROM else 2
    found = extract(word, list(candidates), scorer=OSA.distance, processor=None, score_cutoff=cutoff, limit=None)
    return sorted(
        Near(int(distance), bool(Counter(word) - Counter(other)), other[0] != word[0], other)
        for other, distance, _ in found
        if 0 < distance <= most or (distance and sounds(other) == sounds(word))
    )


def sounds(word: str) -> str:
    """A word with one letter for all that are alike: two words of equal sounds have equally many letters."""
    return word.translate(ALIKE)
