"""The share of a question's words that a model's vocabulary contains."""

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from kameleon.embeddings import StaticProvider
from kameleon.embeddings.vocabulary import CHARACTERS_READ, PRESUMED, known_share
from kameleon.search.fusion import reduced_weight
from kameleon.testing import HashProvider


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("What was the weather in Norway?", 0.95, 1.0),
        ("Welche Verteidigungslinie hat die wenigsten Punkte abgegeben?", 0.3, 0.75),
        ("पैंथर्स के रक्षा दल ने कितने अंक दिए?", 0.0, 0.2),
        ("黑豹队的防守丢了多少分？", 0.0, 0.5),
        ("", 1.0, 1.0),
        ("?!", 1.0, 1.0),
    ],
)
def test_the_bundled_model_has_the_words_of_english(text: str, least: float, most: float) -> None:
    assert least <= StaticProvider().known_share(text) <= most


def test_a_word_counts_by_its_pieces_and_an_unknown_one_for_nothing() -> None:
    provider = StaticProvider()
    tokens = provider._tokenizer.encode("angioplasty", add_special_tokens=False).tokens
    assert len(tokens) > 1
    presumed = provider.known_share("angioplasty")
    assert presumed == pytest.approx((PRESUMED + 1 / len(tokens)) / (PRESUMED + 1))
    assert reduced_weight(1.0, presumed) == 1.0
    assert provider.known_share("water \u4e02") == 0.5


@pytest.mark.parametrize("text", ["xqzvtr", "zzzzz qqqqq", "b2f7c9e1", "Чайковский"])
def test_what_no_language_spells_so_is_unknown(text: str) -> None:
    assert reduced_weight(1.0, StaticProvider().known_share(text)) == 0.0


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert StaticProvider().known_share("water " * CHARACTERS_READ + "\u4e02" * 9_000) == 1.0


def test_the_unknown_tokens_of_another_kind_of_tokenizer_count() -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "red": 1}, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = Whitespace()
    assert known_share(tokenizer, "red red red fox") == 0.75
    assert known_share(tokenizer, "") == 1.0


def test_a_provider_without_a_vocabulary_has_every_word() -> None:
    assert HashProvider().known_share("黑豹队") == 1.0
