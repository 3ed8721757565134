"""The bundled static model and folders of other static models."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kameleon.embeddings import EmbeddingService, StaticProvider
from kameleon.embeddings.static import BUNDLED, read_tensor
from kameleon.errors import InvalidInput, TextRefused

STATIC = StaticProvider()


def embed(*texts: str) -> np.ndarray[Any, Any]:
    return np.array(EmbeddingService(STATIC).embed_batch(texts).embeddings)


def test_the_bundled_model_is_small_and_names_its_source() -> None:
    assert (STATIC.model_name, STATIC.dimensions) == ("static-en-256", 256)
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 16_000_000
    assert "Apache-2.0" in (BUNDLED / "README.md").read_text()
    assert json.loads((BUNDLED / "config.json").read_text())["dimensions"] == 256


def test_texts_of_one_meaning_are_near_without_a_shared_word() -> None:
    question, answer, other = embed("salary not paid", "wages are overdue", "the cat sleeps on the sofa")
    assert question @ answer > question @ other + 0.2


def test_a_vector_is_the_mean_of_its_tokens() -> None:
    table = read_tensor(BUNDLED / "model.safetensors", "embeddings").astype(np.float64)
    text = "a plain mean of token vectors"
    mean = table[STATIC._tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0)
    assert embed(text)[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_a_text_s_vector_does_not_depend_on_its_companions() -> None:
    texts = ["one", "two words", "three little words " * 100]
    together = embed(*texts)
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(embed(text)[0], vector)


def test_only_the_window_counts() -> None:
    long = "river " * 256
    assert np.array_equal(embed(long)[0], embed(long + "mountain " * 500)[0])


@given(st.text(alphabet="ab \n-é漢🦊", min_size=2000, max_size=5000))
@settings(max_examples=25)
def test_cutting_long_texts_changes_nothing(text: str) -> None:
    expected = STATIC._tokenizer.encode(text, add_special_tokens=False).ids[: STATIC.max_tokens]
    assert STATIC._first_tokens([text]) == [expected]


@pytest.mark.parametrize("text", ["🦊", "[PAD]", "[UNK]", " "])
def test_a_text_without_a_token_of_the_vocabulary_is_refused_alone(text: str) -> None:
    good, bad = STATIC.embed_batch(["word", text])
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, TextRefused)


def test_a_copied_model_folder_has_its_own_name_and_the_same_fingerprint(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(BUNDLED, folder)
    mine = StaticProvider(folder)
    assert mine.model_name == "mine"
    assert mine.options == {"path": str(folder)}
    assert mine.fingerprint == STATIC.fingerprint
    assert np.array_equal(mine.embed("word"), STATIC.embed("word"))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no model\.safetensors and no tokenizer\.json"):
        StaticProvider(tmp_path)
