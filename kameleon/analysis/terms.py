"""What the analyser makes of texts and queries. Imports nothing of kameleon's."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Terms(NamedTuple):
    """The terms of a text in order, one for each occurrence, with the position of the word. `pairs` are tuples that
    begin with a term and its form, the word as written (empty for what nobody would complete). `length` is the number
    of words."""

    pairs: Sequence[tuple[Any, ...]]
    positions: Sequence[int]
    length: int

    @property
    def terms(self) -> list[str]:
        return [pair[0] for pair in self.pairs]

    @property
    def forms(self) -> list[str]:
        return [pair[1] for pair in self.pairs]


class Token(NamedTuple):
    """A term and its place in the original text."""

    term: str
    position: int
    start: int
    end: int
    form: str = ""


class QueryWord(NamedTuple):
    """A word of a query. `whole` are the ways to write it as one, which count as one term; `parts` count each by
    itself, longest first, and are what a code is made of, or the pairs of a run of characters. `surface` is the word
    as written. `phrases` are the ways to write what is several words, of which `whole` is no term of a text."""

    surface: str
    whole: tuple[str, ...]
    parts: tuple[str, ...] = ()
    phrases: tuple[tuple["PhrasePart", ...], ...] = ()

    @property
    def terms(self) -> tuple[str, ...]:
        return self.whole + self.parts


class PhrasePart(NamedTuple):
    """One of these terms must be at this position after the phrase's first."""

    terms: tuple[str, ...]
    position: int


def end_of(tokens: Mapping[tuple[str, int], Token], phrase: Sequence[PhrasePart], position: int) -> int | None:
    """Where a phrase ends in a text whose tokens these are, by term and position, if its first word is at a position of
    it; None where the text does not have it there."""
    end, start = 0, position - phrase[0].position
    for part in phrase:
        found = [token.end for term in part.terms if (token := tokens.get((term, start + part.position)))]
        if not found:
            return None
        end = max(end, *found)
    return end
