"""Which words are right whether records have them or not. Imports `analysis` and `embeddings`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..analysis.word_lists import is_listed

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService


def known_words(language: str, service: "EmbeddingService | None") -> Callable[[str], bool]:
    """Returns what knows a lower-case word: the language, or the vocabulary of a service's model. So a search for
    keywords alone loads no model, and takes no word of its language for a misspelt one."""

    def knows(word: str) -> bool:
        if language == "english" and word in bundled():
            return True
        return (service is not None and service.knows_word(word)) or is_listed(language, word)

    return knows


def bundled() -> frozenset[str]:
    from ..embeddings.static import bundled_words  # loads with the first word that is not found

    return bundled_words()
