import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kameleon.embeddings import EmbeddingProvider, EmbeddingService, get_provider
from kameleon.errors import ProviderRefused, ProviderUnavailable, TextRefused
from kameleon.testing import HashProvider


class Listed(EmbeddingProvider):
    """Answers from a dictionary of text to vector, error, or anything else."""

    model_name = "listed"
    dimensions = 2

    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self.answers = answers or {}
        self.calls: list[list[str]] = []

    def embed_batch(self, texts: Any) -> Any:
        self.calls.append(list(texts))
        found = [self.answers.get(text, [3.0, 4.0]) for text in texts]
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, TextRefused):
                raise answer
        return found


def test_vectors_come_back_in_order_with_length_one() -> None:
    report = EmbeddingService(Listed({"b": [0.0, 2.0]})).embed_batch(["a", "b", "a"])
    assert [v.tolist() for v in report.embeddings if v is not None] == [
        pytest.approx([0.6, 0.8]),
        [0.0, 1.0],
        pytest.approx([0.6, 0.8]),
    ]
    assert (report.requests, list(report.reused)) == (1, [2])
    result = report.results[1]
    assert result is not None
    assert (result.text, result.model, result.dimensions) == ("b", "listed", 2)


def test_slices_are_no_longer_than_the_provider_takes_and_batch_size_only_lowers() -> None:
    provider = HashProvider(batch_size=3)
    EmbeddingService(provider, batch_size=100).embed_batch([str(n) for n in range(7)])
    assert [len(call) for call in provider.calls] == [3, 3, 1]
    provider.calls.clear()
    EmbeddingService(provider, batch_size=2).embed_batch(["a", "b", "c"])
    assert [len(call) for call in provider.calls] == [2, 1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([1.0], "wrong_dimension"),
        ([1.0, 2.0, 3.0], "wrong_dimension"),
        ([math.nan, 1.0], "not_finite"),
        ([math.inf, 1.0], "not_finite"),
        ([0.0, 0.0], "not_finite"),
        ("text", "embed_failed"),
        (TextRefused("no"), "embed_failed"),
        (None, "wrong_dimension"),
    ],
)
def test_each_vector_is_checked_in_its_own_position(answer: Any, reason: str) -> None:
    report = EmbeddingService(Listed({"bad": answer})).embed_batch(["a", "bad", "c"], on_error="collect")
    assert [v is None for v in report.embeddings] == [False, True, False]
    error = report.errors[1]
    assert isinstance(error, TextRefused)
    assert error.reason == reason
    assert report.requests == 1


def test_a_refused_slice_is_halved_until_the_poison_stands_alone() -> None:
    provider = Listed({"5": ValueError("cannot read this")})
    report = EmbeddingService(provider).embed_batch([str(n) for n in range(16)], on_error="collect")
    assert [n for n, error in enumerate(report.errors) if error] == [5]
    assert "cannot read this" in str(report.errors[5])
    assert report.requests == 1 + 2 * 4
    assert report.fallbacks == 8


def test_an_outage_stops_the_run_and_keeps_what_is_done() -> None:
    provider = Listed({"3": ConnectionError("down")})
    report = EmbeddingService(provider, batch_size=2).embed_batch([str(n) for n in range(6)], on_error="collect")
    assert [v is not None for v in report.embeddings] == [True, True, False, False, False, False]
    assert isinstance(report.outage, ProviderUnavailable)
    assert len(provider.calls) == 2


def test_every_vector_of_a_wrong_dimension_stops_the_run() -> None:
    provider = Listed({text: [1.0] for text in "abcd"})
    report = EmbeddingService(provider, batch_size=2).embed_batch(list("abcd"), on_error="collect")
    assert isinstance(report.outage, ProviderRefused)
    assert len(provider.calls) == 1


def test_a_direct_call_raises_the_first_error() -> None:
    with pytest.raises(TextRefused, match="no"):
        EmbeddingService(Listed({"b": TextRefused("no")})).embed_batch(["a", "b"])


def test_queries_are_remembered() -> None:
    class Counting(Listed):
        asked = 0

        def embed_query(self, text: str) -> Any:
            self.asked += 1
            return [1.0, 0.0]

    provider = Counting()
    service = EmbeddingService(provider)
    assert service.embed_query("a").tolist() == service.embed_query("a").tolist() == [1.0, 0.0]
    assert provider.asked == 1


@given(st.lists(st.sampled_from(["good", "fine", "bad", "worse", "zero"]), max_size=30), st.integers(1, 7))
def test_every_position_gets_its_own_vector_or_its_own_error(texts: list[str], batch_size: int) -> None:
    answers = {
        "good": [1.0, 0.0],
        "fine": [0.0, 1.0],
        "bad": ValueError("bad"),
        "worse": TextRefused("worse"),
        "zero": [0, 0],
    }
    report = EmbeddingService(Listed(answers), batch_size=batch_size).embed_batch(texts, on_error="collect")
    for text, vector, error in zip(texts, report.embeddings, report.errors, strict=True):
        assert (vector is None) != (error is None)
        if text in ("good", "fine"):
            assert vector is not None
            assert np.array_equal(vector, np.asarray(answers[text], np.float32))
        elif text in ("bad", "worse"):
            assert text in str(error)


def test_a_provider_with_one_method_has_the_others() -> None:
    class Single(EmbeddingProvider):
        model_name = "single"
        dimensions = 2

        def embed(self, text: str) -> Any:
            if text == "bad":
                raise ValueError("no")
            return [1.0, 1.0]

    report = EmbeddingService(Single()).embed_batch(["a", "bad", "c"], on_error="collect")
    assert [error is None for error in report.errors] == [True, False, True]
    assert Single().embed_query("a") == [1.0, 1.0]
    assert Listed().embed("x") == [3.0, 4.0]


def test_a_provider_with_no_method_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="Empty must define embed"):
        type("Empty", (EmbeddingProvider,), {})


def test_the_fingerprint_tells_models_apart() -> None:
    base = HashProvider()
    others = [HashProvider(32), HashProvider(model_name="other")]
    assert base.fingerprint == HashProvider().fingerprint
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_an_unknown_provider_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Unknown embedding provider 'cohere'\. Known: fastembed, openai, static"):
        get_provider("cohere")
    with pytest.raises(ValueError, match="unexpected keyword argument 'colour'"):
        get_provider("static", colour="red")
    provider = HashProvider()
    assert get_provider(provider) is provider
