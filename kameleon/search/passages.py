"""The passages of a hit that are the best for a query: those whose vectors are stored, or others of their size. Pure.
Imports `excerpts`, `analysis` and `stores`."""

from collections.abc import Iterable, Iterator
from itertools import islice

from ..analysis.analyser import Analyser
from ..analysis.cutting import cut_after, sentence_starts
from ..analysis.finding import WordFinder
from ..excerpts import Passage
from ..stores.values import Hit
from .fusion import total_weight
from .legs import Retrieved

PASSAGE_CHARACTERS = 1_000
"""Bounds a passage that has no vector of its own; about 256 tokens of English, the bundled model's."""
LOOKED_AT_CHARACTERS, FEW = 2_000_000, 20
"""Bound the characters of a page's hits whose words are looked at, and the passages of each hit after those: 0.16 s of
CPU."""

Part = tuple[int, int, float | None]
"""Where a passage begins and ends, and the cosine of its vector."""


class Evidence:
    """Of one query: what a passage is worth by itself, as the score of a hit is, 0..1."""

    def __init__(self, analyser: Analyser, found: Retrieved) -> None:
        self.left = LOOKED_AT_CHARACTERS
        total = total_weight(found.legs)
        self._shares = {leg.name: leg.weight / total for leg in found.legs} if total else {}
        self._scale = found.scale
        index = found.words if self._shares.get("keyword") else None
        words = [] if index is None else list(dict.fromkeys(index.matching))
        self._finder = WordFinder(analyser, words)
        self._rarity = [] if index is None else index.rarity(words)
        self._all = 0.0 if index is None else sum(index.rarity(index.words)) + index.lacking()

    def of(self, text: str, cosine: float | None) -> float:
        """Of a cosine what it is worth for a hit, of words the share that they have of the query's, rare words more."""
        near = 0.0 if cosine is None else self._scale(cosine)
        words = sum(self._rarity[number] for number in self._finder.words_of(text)) / (self._all or 1.0)
        return min(1.0, self._shares.get("vector", 0.0) * near + self._shares.get("keyword", 0.0) * words)


def best_passages(hit: Hit, evidence: Evidence, cosine: float | None, most: int) -> list[Passage]:
    """The best of a hit, of equals the first; `cosine` is the record's, where its passages have none of their own."""
    parts = list(islice(_parts(hit, cosine), FEW if len(hit.content) > evidence.left else None))
    evidence.left -= sum(end - start for start, end, _ in parts)
    made = []
    for start, end, near in _trimmed(hit.content, parts):
        words = hit.content[max(start, hit.keywords_from) : end]
        made.append(Passage(hit.content[start:end], start, end, evidence.of(words, near)))
    return sorted(made, key=lambda passage: (-passage.score, passage.start))[:most]


def first_passages(hit: Hit, most: int) -> list[Passage]:
    """The first of a record that no query ranks, each as good as any."""
    parts = _trimmed(hit.content, _parts(hit, None))
    return [Passage(hit.content[start:end], start, end, 1.0) for start, end, _ in islice(parts, most)]


def _trimmed(content: str, parts: Iterable[Part]) -> Iterator[Part]:
    """Those that have a character, without white space around."""
    for start, end, cosine in parts:
        text = content[start:end].rstrip()
        if inner := text.lstrip():
            yield start + len(text) - len(inner), start + len(text), cosine


def _parts(hit: Hit, cosine: float | None) -> Iterator[Part]:
    """The passages that have vectors, and what no vector is of."""
    size = len(hit.content)
    end = size if hit.embedded is None else hit.embedded
    if hit.passages:
        yield from ((*place, each) for place, each in zip(hit.passages, hit.cosines, strict=True))
    elif size <= PASSAGE_CHARACTERS:
        yield 0, size, cosine
        return
    else:
        yield from ((*place, cosine) for place in cut(hit.content, 0, end))
    yield from ((*place, None) for place in cut(hit.content, end, size))


def cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Parts of a text, each ended with a line, a sentence or at least a word."""
    while start < end:
        stop = end if end - start <= PASSAGE_CHARACTERS else _stop(text, start + PASSAGE_CHARACTERS)
        yield start, stop
        start = stop


def _stop(text: str, most: int) -> int:
    half = most - PASSAGE_CHARACTERS // 2
    if line := text.rfind("\n", half, most) + 1:
        return line
    sentences = sentence_starts(text, half, most)
    return sentences[-1] if sentences else cut_after(text, most, half)
