"""Finds out whether refused texts are too long: each is sent in two halves, and these in halves. Chooses what to send
next, sends nothing. Imports `errors`."""

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ProviderError
from .provider import Vector

SHORT_TEXT = 400
"""Characters that every model reads: a shorter text is not refused for its length. Chosen, not measured."""


class Piece(NamedTuple):
    """Part of a text that was too long, in characters."""

    start: int
    end: int
    vector: Vector


class Halves(NamedTuple):
    """The positions of a text's two halves; the second begins at the character `middle`."""

    middle: int
    first: int
    second: int


Outcomes = Mapping[int, Vector | ProviderError]


class Halving:
    """`texts` are those of a run, by position; halves are appended to them. `of` gives the halves of a position,
    `whole` the position that a half belongs to."""

    def __init__(self, texts: list[str]) -> None:
        self.texts: list[str] = texts
        self.of: dict[int, Halves] = {}
        self.whole: dict[int, int] = {}

    def split(self, position: int) -> int | None:
        """Cut a refused text in two. Returns the position of the first half, None for a short text."""
        text = self.texts[position]
        if len(text) < SHORT_TEXT:
            return None
        middle, first = middle_of(text), len(self.texts)
        self.texts += [text[:middle], text[middle:]]
        self.of[position] = Halves(middle, first, first + 1)
        self.whole |= {first: position, first + 1: position}
        return first

    def after(self, position: int) -> int | None:
        """The half to send once the one at `position` was taken, if there is one."""
        while (whole := self.whole.get(position)) is not None:
            if position == self.of[whole].first:
                return self.of[whole].second
            position = whole
        return None

    def pieces(self, position: int, outcomes: Outcomes, start: int = 0) -> list[Piece] | None:
        """The parts of a text with their vectors, None if not all of them were taken."""
        if (halves := self.of.get(position)) is not None:
            first = self.pieces(halves.first, outcomes, start)
            second = self.pieces(halves.second, outcomes, start + halves.middle) if first else None
            return [*first, *second] if first and second else None
        outcome = outcomes.get(position)
        if outcome is None or isinstance(outcome, ProviderError):
            return None
        return [Piece(start, start + len(self.texts[position]), outcome)]

    def is_undecided(self, position: int, outcomes: Outcomes) -> bool:
        """Whether the run ended before it was found out if a text is too long."""
        halves = self.of.get(position)
        if halves is None:
            return position not in outcomes
        is_refused = halves.first not in self.of and isinstance(outcomes.get(halves.first), ProviderError)
        return self.is_undecided(halves.first, outcomes) or (
            not is_refused and self.is_undecided(halves.second, outcomes)
        )


def middle_of(text: str) -> int:
    """Where to cut a text in two, after a white space if there is one near the middle."""
    middle = len(text) // 2
    return max(text.rfind(space, middle // 2, middle) for space in (" ", "\n")) + 1 or middle
