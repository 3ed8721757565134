"""The words of a language that are known without a model."""

import pytest

from kameleon.analysis.word_lists import is_listed
from kameleon.embeddings.static import StaticProvider, bundled_words
from kameleon.search.known_words import known_words


def test_english_is_known_by_the_bundled_models_vocabulary() -> None:
    knows = known_words("english", None)
    assert [word for word in ("wages", "monument", "salery", "refnud") if knows(word)] == ["wages", "monument"]
    assert len(bundled_words()) > 20_000


def test_a_vocabulary_knows_its_whole_words_alone() -> None:
    provider = StaticProvider()
    words = ("wages", "conan", "salery", "zz\u4e02", "")
    assert [word for word in words if provider.knows_word(word)] == ["wages", "conan"]


def test_other_languages_are_known_by_their_lists() -> None:
    pytest.importorskip("spellchecker", reason="the extra `spelling` is not installed")
    assert known_words("german", None)("gehalt")
    assert not is_listed("german", "gehatl")
    assert is_listed("english", "scam")
    assert not is_listed("klingon", "scam")
