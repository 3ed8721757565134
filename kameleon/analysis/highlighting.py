"""The sentences of a text. Imports nothing of kameleon's."""

import re
from itertools import islice

MARKED_CHARACTERS = 20_000
"""Bounds the beginning of a text in which words and sentences are marked. Chosen, not measured."""
MARKED_SENTENCES = 20
"""Bounds the sentences of a text that are compared with a query. Chosen, not measured."""
SENTENCE = re.compile(r"[^\s.!?。！？][^\n]*?(?:[.!?]+(?=\s)|[。！？]+|$)", re.MULTILINE)
WORD = re.compile(r"\w")


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of the first sentences and lines that have a letter or digit in them."""
    found = (match.span() for match in SENTENCE.finditer(text[:MARKED_CHARACTERS]) if WORD.search(match.group()))
    return list(islice(found, MARKED_SENTENCES))
