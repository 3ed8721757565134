"""Words by language, of the lists of pyspellchecker (the extra `spelling`) where that is installed. Imports nothing of
kameleon's."""

from collections.abc import Collection
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
LEAST = {"english": 50}
"""Bounds from below how often a listed word occurs in the subtitles that were counted: English words at the list's
least count are names and rare ones (Breda, lias), while German nouns are at it."""


def is_listed(language: str, word: str) -> bool:
    """Whether a lower-case word is on its language's list."""
    return word in _words(language)


@cache
def _words(language: str) -> Collection[str]:
    if language not in CODES:
        return ()
    try:
        from spellchecker import SpellChecker  # 0.1 to 0.7 s, which most searches do not need
    except ImportError:
        return ()
    counted = SpellChecker(language=CODES[language], distance=1).word_frequency.items()
    return frozenset(word for word, times in counted if times > LEAST.get(language, 0))
