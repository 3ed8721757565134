"""Words by language, of the lists of pyspellchecker (the extra `spelling`) where that is installed. Imports nothing of
kameleon's."""

from collections.abc import Mapping
from functools import cache

CODES = {
    "arabic": "ar",
    "basque": "eu",
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "persian": "fa",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
}
LEAST = 100
"""Bounds from below how often a listed word occurs in the subtitles that were counted."""


def is_listed(language: str, word: str) -> bool:
    """Whether a lower-case word is on its language's list."""
    return _counts(language).get(word, 0) >= LEAST


@cache
def _counts(language: str) -> Mapping[str, int]:
    if language not in CODES:
        return {}
    try:
        from spellchecker import SpellChecker  # 7 MB, and 0.2 s for a list, which most searches do not need
    except ImportError:
        return {}
    return SpellChecker(language=CODES[language], distance=1).word_frequency.dictionary
