"""The fastembed provider, with the all-MiniLM-L6-v2 folder where it is beside the project."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon import SearchEngine, create_engine
from kameleon.embeddings import EmbeddingService, FastEmbedProvider, get_provider
from kameleon.embeddings.batching import padded_slices
from kameleon.errors import InvalidInput, ProviderUnavailable, TextRefused

from .conftest import ids


@given(st.lists(st.integers(0, 600), max_size=60))
def test_slices_hold_every_text_once_within_the_padded_limit(lengths: list[int]) -> None:
    slices = list(padded_slices(lengths, total=1024))
    assert sorted(i for slice_ in slices for i in slice_) == list(range(len(lengths)))
    assert all(len(s) == 1 or len(s) * max(lengths[i] for i in s) <= 1024 for s in slices)
    assert [lengths[i] for slice_ in slices for i in slice_] == sorted(lengths, reverse=True)


def test_a_model_folder_embeds_in_order(minilm: Path) -> None:
    provider = FastEmbedProvider(str(minilm))
    assert (provider.model_name, provider.dimensions) == ("all-MiniLM-L6-v2", 384)
    texts = ["wages are overdue", "a cat on a sofa " * 30, "hello"]
    together = np.array(EmbeddingService(provider).embed_batch(texts).embeddings)
    alone = np.array([EmbeddingService(provider).embed_batch([text]).embeddings[0] for text in texts])
    assert np.abs(together - alone).max() < 1e-4
    query = EmbeddingService(provider).embed_query("salary not paid")
    assert query @ together[0] > query @ together[1]


def test_one_session_serves_a_process_and_counts_tokens(minilm: Path) -> None:
    one, two = FastEmbedProvider(str(minilm)), FastEmbedProvider(str(minilm))
    with ThreadPoolExecutor(2) as pool:
        vectors = list(pool.map(lambda provider: provider.embed("hello"), [one, two]))
    assert np.array_equal(*vectors)
    assert one._session is two._session
    assert one.count_tokens("hello world") == 4
    assert one.max_tokens is not None
    strict = EmbeddingService(one, truncate="error")
    with pytest.raises(TextRefused, match=r"text 1: \d+ tokens, the model takes"):
        strict.embed_batch(["hello", "word " * 1000])


def test_an_index_names_its_model_and_engines_opened_by_name_follow(minilm: Path, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    SearchEngine(engine, FastEmbedProvider(str(minilm))).index_records_batch([("A", "1", "wages are overdue")])
    results = SearchEngine(engine, "static").search("salary", mode="vector")
    assert ids(results) == ["1"]
    assert results.plan.model == "all-MiniLM-L6-v2"
    engine.dispose()


def test_an_unknown_model_names_supported_ones() -> None:
    with pytest.raises(InvalidInput, match=r"neither a model folder .* nor a model that fastembed knows. Known: "):
        FastEmbedProvider("no/such-model")


def test_a_hub_model_that_cannot_be_fetched_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    provider = get_provider("fastembed", cache_dir=str(tmp_path))
    assert (provider.model_name, provider.dimensions) == ("BAAI/bge-small-en-v1.5", 384)
    with pytest.raises(ProviderUnavailable, match=r"'static'.*path of a local model folder.*FASTEMBED_CACHE_PATH"):
        provider.embed_query("x")

    class Unreached:
        def __init__(self, *_args: object, **_options: object) -> None:
            raise AssertionError("called again at once")

    monkeypatch.setattr("kameleon.embeddings.fastembed.TextEmbedding", Unreached)
    with pytest.raises(ProviderUnavailable, match="could not be loaded"):
        provider.embed_query("y")
