"""Parts of a record's text: snippets and passages. Imports nothing of kameleon's."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Spans = Sequence[tuple[int, int]]
CUT = "…"


@dataclass(frozen=True, slots=True)
class Snippet:
    """What a result page shows of a hit: one line, begun and ended at a word.

    `text` is `matched_text` from the character `start` on, each blank and line break as one space. `spans` are the
    (start, end) places in `text` of what matched. `is_cut_before` and `is_cut_after`: the record has more text there,
    fields for keywords alone aside.
    """

    text: str
    start: int = 0
    spans: tuple[tuple[int, int], ...] = ()
    is_cut_before: bool = False
    is_cut_after: bool = False

    def __str__(self) -> str:
        """The text, with an ellipsis where it is cut."""
        return f"{CUT * self.is_cut_before}{self.text}{CUT * self.is_cut_after}"

    def highlight(self, before: str = "<mark>", after: str = "</mark>") -> str:
        """The text with marks around what matched, and an ellipsis where it is cut; as HTML, the text escaped, where a
        mark is a tag."""
        return f"{CUT * self.is_cut_before}{marked(self.text, self.spans, before, after)}{CUT * self.is_cut_after}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a record's content, from the character `start` to `end`. `score` is its evidence for the query, 0..1:
    of its own vector, and of the words of the query that it has."""

    text: str
    start: int
    end: int
    score: float


def marked(text: str, spans: Spans, before: str, after: str) -> str:
    """Put marks around spans of a text, which is escaped where a mark is a tag."""
    shown = escape if before.startswith("<") else str
    parts, end = [], 0
    for start, stop in spans:
        parts += [shown(text[end:start]), before, shown(text[start:stop]), after]
        end = stop
    return "".join([*parts, shown(text[end:])])
