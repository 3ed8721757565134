"""Stop words by language, from stop_words.txt beside this module, which names their sources and licences. Imports
nothing of kameleon's."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path


def stop_words(language: str) -> frozenset[str]:
    """The stop words of a language; none where there is no list."""
    return _lists().get(language, frozenset())


@cache
def _lists() -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            language, words = line.split(":")
            found[language] = frozenset(words.split())
    return found
