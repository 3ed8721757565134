"""Places in a text: where the words of a query stand, and where its sentences do."""

import re
from collections.abc import Iterable
from itertools import islice

from ..content import CJK_RUN, bigrams

MARKED_CHARACTERS = 20_000
MARKED_PAIRS = 1_000
MARKED_SENTENCES = 20
SENTENCE = re.compile(r"[^\s.!?。！？][^\n]*?(?:[.!?]+(?=\s)|[。！？]+|$)", re.MULTILINE)
WORD = re.compile(r"\w")


def cjk_pairs(query: str) -> list[str]:
    """What to look for of a query's Chinese, Japanese and Korean: every pair, or a character that stands alone."""
    pairs = (pair for run in CJK_RUN.findall(query) for pair in bigrams(run) if len(pair) == min(2, len(run)))
    return list(islice(pairs, MARKED_PAIRS))


def places(text: str, words: Iterable[str]) -> Iterable[tuple[int, int]]:
    for word in words:
        start = text.find(word)
        while start >= 0:
            yield start, start + len(word)
            start = text.find(word, start + 1)


def merge(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of the first sentences and lines that have a letter or digit in them."""
    found = (match.span() for match in SENTENCE.finditer(text[:MARKED_CHARACTERS]) if WORD.search(match.group()))
    return list(islice(found, MARKED_SENTENCES))
