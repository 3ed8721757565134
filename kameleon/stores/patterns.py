"""Patterns of texts, `%` for any characters and `_` for one, as the dialects render them; and which letters are one but
for their case. Pure. Imports `errors`.

Case is Unicode's simple case folding, of a letter to a letter: ß is ẞ and not ss, and ı is not i. The databases lower
ASCII letters alone, or as their locale does, so they are given the letters that a letter of a pattern equals.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from ..errors import InvalidFilter, seen

MAX_PATTERN = 2_000
"""Bounds the characters of a pattern: SQLite's GLOB takes 50,000 bytes, and a letter in all of its cases has up to 12
of them."""
LAST_CASED = 0x1FFFF
"""Bounds the characters that have cases, in Unicode 16: 125,251."""
WITHOUT_CASE = ("$startswith", "$like")
PATTERNS = (*WITHOUT_CASE, "$ilike", "$icontains")


class Piece(NamedTuple):
    """A character of a pattern; of one that is no wildcard, all those that it equals, itself among them."""

    character: str
    is_wildcard: bool
    same: str = ""


def check_pattern(operator: str, text: object) -> None:
    """Raises InvalidFilter."""
    if not isinstance(text, str):
        raise InvalidFilter(f"{operator} takes a text, not {seen(text)}")
    if len(text) > MAX_PATTERN:
        raise InvalidFilter(f"{operator} takes a text of {MAX_PATTERN:,} characters at most, not {len(text):,}")
    if operator in ("$like", "$ilike"):
        for _ in _read(text):
            pass


def pieces(operator: str, text: str) -> Sequence[Piece]:
    """The pattern of an operator, without a `%` that another precedes."""
    is_like = operator in ("$like", "$ilike")
    read = list(_read(text) if is_like else ((character, False) for character in text))
    before = [("%", True)] if operator == "$icontains" else []
    after = [] if is_like else [("%", True)]
    found: list[Piece] = []
    for character, is_wildcard in (*before, *read, *after):
        if is_wildcard and character == "%" and found and found[-1] == ("%", True, ""):
            continue
        is_folded = not is_wildcard and operator not in WITHOUT_CASE
        same = "" if is_wildcard else cases(character) if is_folded else character
        found.append(Piece(character, is_wildcard, same))
    return found


def _read(text: str) -> Iterator[tuple[str, bool]]:
    """The characters of a pattern, and whether each is a wildcard. Raises InvalidFilter."""
    characters = iter(text)
    for character in characters:
        if character != "\\":
            yield character, character in "%_"
        elif (escaped := next(characters, None)) is not None:
            yield escaped, False
        else:
            raise InvalidFilter(f"the pattern {seen(text)} ends with a backslash, which escapes nothing: write \\\\")


def folded(character: str) -> str:
    """A letter as all of its cases have it."""
    for made in (character.casefold(), character.lower()):
        if len(made) == 1:
            return made
    return character


def cases(character: str) -> str:
    """The characters that differ from this one by their case alone, and itself, in their order."""
    return _by_fold().get(folded(character), character)


@cache
def _by_fold() -> dict[str, str]:
    """The cases of each letter that has several, by its folded form."""
    found: dict[str, str] = {}
    for character in map(chr, range(LAST_CASED + 1)):
        if (fold := folded(character)) != character:
            found[fold] = found.get(fold, fold) + character
    return {fold: "".join(sorted(same)) for fold, same in found.items()}


def prefix(found: Sequence[Piece]) -> str:
    """What a text that matches begins with, whatever its case."""
    end = next((place for place, piece in enumerate(found) if piece.is_wildcard or len(piece.same) > 1), len(found))
    return "".join(piece.character for piece in found[:end])


def successor(text: str) -> str | None:
    """The least text, by code point, that is more than all that begin with this one; None if there is none."""
    kept = text.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
