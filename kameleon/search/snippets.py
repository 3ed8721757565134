"""Cuts snippets: the part of a text where most words of the query are together. Pure. Imports `excerpts` and
`analysis`."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..analysis.analyser import Analyser, merged
from ..analysis.cutting import cut_after, cut_before, sentence_starts
from ..analysis.finding import WordFinder
from ..analysis.highlighting import MARKED_CHARACTERS
from ..analysis.terms import QueryWord
from ..excerpts import Snippet

BLOCK, OVERLAP, BLOCKS = 1_000, 64, 4
"""Of a text that is not analysed as a whole, the characters of a block, those that it has of the next one, and the
blocks with most words of the query that are. Chosen, not measured."""
BLANK = re.compile(r"\s")

Occurrence = tuple[int, int, int]
"""The start and end of a word in a text, and its number in the query."""
Around = tuple[bool, bool]
"""Whether a record has more text before and after a part of it."""


class Window(NamedTuple):
    """A part of a text from a word of the query to another; the best is the greatest."""

    words: int
    occurrences: int
    before: int
    """The negative start, so that of equals the first is the best."""
    end: int

    @property
    def start(self) -> int:
        return -self.before


def best_window(found: Iterable[Occurrence], length: int) -> Window | None:
    """Where in `length` characters the most distinct words are, of several such places where most occurrences are."""
    ordered = sorted(found)
    inside: Counter[int] = Counter()
    best: Window | None = None
    first = 0
    for place, (_, end, number) in enumerate(ordered):
        inside[number] += 1
        while first < place and end - ordered[first][0] > length:
            inside -= Counter((ordered[first][2],))
            first += 1
        window = Window(len(inside), place - first + 1, -ordered[first][0], end)
        best = window if best is None else max(best, window)
    return best


def occurrences_near(
    analyser: Analyser, finder: WordFinder, text: str, words: Sequence[QueryWord], length: int
) -> list[Occurrence]:
    """The occurrences around the best window of a long text, of which the blocks with most words are analysed."""
    counts = {at: len(finder.words_of(text[at : at + BLOCK + OVERLAP])) for at in range(0, len(text), BLOCK)}
    chosen = sorted((at for at in counts if counts[at]), key=lambda at: (-counts[at], at))[:BLOCKS]
    parts = [_occurrences_of_part(analyser, text, words, at - 2 * length, at + BLOCK + 2 * length) for at in chosen]
    windows = [(window, found) for found in parts if (window := best_window(found, length)) is not None]
    return max(windows, key=lambda one: one[0])[1] if windows else []


def _occurrences_of_part(
    analyser: Analyser, text: str, words: Sequence[QueryWord], start: int, end: int
) -> list[Occurrence]:
    start = cut_before(text, start, max(0, start) + OVERLAP)
    found = analyser.occurrences(text[start : cut_after(text, end, start)], words)
    return [(start + begin, start + stop, number) for begin, stop, number in found]


def all_occurrences(
    analyser: Analyser, finder: WordFinder | None, text: str, words: Sequence[QueryWord], length: int
) -> list[Occurrence]:
    """Those in the beginning of a text and, where the text is longer and there is a finder, around its best window."""
    found = analyser.occurrences(text[:MARKED_CHARACTERS], words)
    if finder is None or len(text) <= MARKED_CHARACTERS:
        return found
    return list(dict.fromkeys([*found, *occurrences_near(analyser, finder, text, words, length)]))


def make_snippet(text: str, found: Iterable[Occurrence], length: int, around: Around) -> Snippet:
    """At most `length` characters of a text around its best window."""
    found = list(found)
    start, end = _extent(text, best_window(found, length), length)
    shown = text[start:end]
    start, end = start + len(shown) - len(shown.lstrip()), start + len(shown.rstrip())
    spans = [(max(first, start), min(last, end)) for first, last in merged(place[:2] for place in found)]
    return Snippet(
        BLANK.sub(" ", text[start:end]),
        start,
        tuple((first - start, last - start) for first, last in spans if first < last),
        around[0] or bool(text[:start].strip()),
        around[1] or bool(text[end:].strip()),
    )


def _extent(text: str, window: Window | None, length: int) -> tuple[int, int]:
    """Where a snippet begins and ends: it begins with a sentence if that leaves all of the window in it, or else has
    the window in its middle."""
    if len(text) <= length:
        return 0, len(text)
    if window is None:
        return 0, cut_after(text, length, 0)
    last = len(text) - length
    sentences = sentence_starts(text, max(0, window.end - length), window.start)
    late = [start for start in sentences if start >= last]
    if sentences:
        start = late[0] if late else sentences[-1]
    else:
        middle = min((window.start + window.end - length) // 2, last)
        start = cut_before(text, middle, window.start)
    return start, cut_after(text, start + length, min(window.end, start + length))
