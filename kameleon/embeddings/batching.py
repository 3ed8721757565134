"""Texts into slices, one a provider call. Pure: sizes in, positions out."""

import re
from collections.abc import Iterator, Sequence

TOKENS = re.compile(r"[!-~]{1,4}|[^\x00-\x7f\s]")


def slices(tokens: Sequence[int], *, texts: int, total: int | None = None) -> Iterator[list[int]]:
    """Positions in order, `texts` a slice at most and `total` tokens; a text over `total` stands alone."""
    slice_: list[int] = []
    size = 0
    for position, count in enumerate(tokens):
        if slice_ and (len(slice_) >= texts or (total is not None and size + count > total)):
            yield slice_
            slice_, size = [], 0
        slice_.append(position)
        size += count
    if slice_:
        yield slice_


def padded_slices(tokens: Sequence[int], *, total: int) -> Iterator[list[int]]:
    """Positions by like length, longest first, each slice at most `total` tokens once padded to its longest text."""
    slice_: list[int] = []
    longest = 0
    for position in sorted(range(len(tokens)), key=lambda i: (-tokens[i], i)):
        longest = longest if slice_ else max(1, tokens[position])
        if slice_ and longest * (len(slice_) + 1) > total:
            yield slice_
            slice_, longest = [], max(1, tokens[position])
        slice_.append(position)
    if slice_:
        yield slice_


def halves(slice_: list[int]) -> tuple[list[int], list[int]]:
    middle = len(slice_) // 2
    return slice_[:middle], slice_[middle:]


def estimate_tokens(text: str) -> int:
    """Tokens of a text for servers that do not tell: four ASCII characters a token, and every other character one.

    OpenAI's server estimates 0.25 a byte; a character outside ASCII has two to four bytes and often a token of its own.
    """
    if text.isascii():
        return len(text) // 4 + 1
    ascii_count = sum(map(str.isascii, text))
    return ascii_count // 4 + len(text) - ascii_count + 1


def estimate_spans(text: str) -> list[tuple[int, int]]:
    """Where the tokens of a text may stand, rather too many than too few: up to four ASCII characters of a word, and
    every other character that is no white space."""
    return [found.span() for found in TOKENS.finditer(text)]
