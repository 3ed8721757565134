"""The embedding service: order, slices, refused texts, outages, remembered queries, and its log."""

import logging
import math
from collections import Counter
from importlib.metadata import EntryPoint
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kameleon.embeddings import CallableProvider, EmbeddingProvider, EmbeddingService, get_provider
from kameleon.embeddings.requesting import PROBE
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


def test_a_refused_slice_is_halved_until_the_bad_text_is_alone() -> None:
    provider = Listed({"5": ValueError("cannot read this")})
    report = EmbeddingService(provider).embed_batch([str(n) for n in range(16)], on_error="collect")
    assert [n for n, error in enumerate(report.errors) if error] == [5]
    assert "cannot read this" in str(report.errors[5])
    assert (report.requests, report.fallbacks, report.probes) == (1 + 1 + 2 * 4, 8, 1)


def test_an_outage_stops_the_run_and_keeps_what_is_done() -> None:
    provider = Listed({"3": ConnectionError("down"), PROBE: ConnectionError("down")})
    report = EmbeddingService(provider, batch_size=2, backoff_s=0).embed_batch(
        [str(n) for n in range(6)], on_error="collect"
    )
    assert [v is not None for v in report.embeddings] == [True, True, False, False, False, False]
    assert isinstance(report.outage, ProviderUnavailable)
    assert provider.calls == [["0", "1"], ["2", "3"], ["2", "3"], [PROBE]]
    assert (report.requests, report.retries, report.probes) == (4, 1, 1)


def test_every_vector_of_a_wrong_dimension_stops_the_run() -> None:
    provider = Listed({text: [1.0] for text in [*"abcd", PROBE]})
    report = EmbeddingService(provider, batch_size=2).embed_batch(list("abcd"), on_error="collect")
    assert isinstance(report.outage, ProviderRefused)
    assert provider.calls == [["a", "b"], [PROBE]]


def test_a_direct_call_raises_the_first_error() -> None:
    with pytest.raises(TextRefused, match="no"):
        EmbeddingService(Listed({"b": TextRefused("no")})).embed_batch(["a", "b"])


def test_queries_are_remembered() -> None:
    class Counting(Listed):
        queries = 0

        def embed_query(self, text: str) -> Any:
            self.queries += 1
            return [1.0, 0.0]

    provider = Counting()
    service = EmbeddingService(provider)
    assert service.embed_query("a").tolist() == service.embed_query("a").tolist() == [1.0, 0.0]
    assert provider.queries == 1


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


def test_the_fingerprint_distinguishes_models() -> None:
    base = HashProvider()
    others = [HashProvider(32), HashProvider(model_name="other")]
    assert base.fingerprint == HashProvider().fingerprint
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_an_unknown_provider_names_the_registered_ones() -> None:
    known = "fastembed, given, openai, static"
    with pytest.raises(ValueError, match=rf"Unknown embedding provider 'cohere'\. Known: {known}"):
        get_provider("cohere")
    with pytest.raises(ValueError, match="unexpected keyword argument 'colour'"):
        get_provider("static", colour="red")
    provider = HashProvider()
    assert get_provider(provider) is provider


class Faulty(Listed):
    """Each call has the next fault of `faults`, later ones none; "p" texts are always refused."""

    attempts = 3

    def __init__(self, faults: list[str], concurrency: int) -> None:
        super().__init__()
        self.faults = faults
        self.concurrency = concurrency
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.lock = Lock()

    def embed_batch(self, texts: Any) -> Any:
        with self.lock:
            fault = self.faults.pop(0) if self.faults else "good"
            if fault == "outage":
                raise ConnectionError("down")
            if fault == "key":
                raise ProviderRefused("no key")
            if any(text.startswith("p") for text in texts):
                self.refused.update(texts)
                raise ValueError("poison")
            if fault == "short" and len(texts) > 1:
                self.refused.update(texts)
                return [own_vector(text) for text in texts[1:]]
            self.answered.update(text for text in texts if text != PROBE)
            return [own_vector(text) for text in texts]


def own_vector(text: str) -> list[float]:
    angle = sum(text.encode()) / 500
    return [math.cos(angle), math.sin(angle)]


@given(
    st.lists(st.sampled_from([*(f"t{n}" for n in range(12)), "p1", "p2"]), max_size=25),
    st.lists(st.sampled_from(["good", "good", "outage", "short", "key"]), max_size=8),
    st.integers(1, 6),
    st.sampled_from([1, 3]),
)
@settings(max_examples=200, deadline=None)
def test_for_any_faults_each_position_has_its_own_vector_or_error_and_nothing_is_sent_twice(
    texts: list[str], faults: list[str], batch_size: int, concurrency: int
) -> None:
    provider = Faulty(list(faults), concurrency)
    service = EmbeddingService(provider, batch_size=batch_size, backoff_s=0, sleep=lambda _s: None)
    report = service.embed_batch(texts, on_error="collect")
    assert len(report.embeddings) == len(report.errors) == len(texts)
    for text, vector, error in zip(texts, report.embeddings, report.errors, strict=True):
        assert (vector is None) != (error is None)
        if vector is not None:
            assert vector == pytest.approx(own_vector(text), abs=1e-6)
        elif isinstance(error, TextRefused):
            assert (
                text.startswith("p") or error.reason == "unavailable"
            )  # the provider accepted the probe, then failed again
    assert all(count == 1 for count in provider.answered.values())
    assert (report.outage is not None) == any(
        isinstance(e, ProviderRefused | ProviderUnavailable) for e in report.errors
    )
    if not {"outage", "key"} & set(faults):
        assert report.outage is None
        assert all(text.startswith("p") or provider.answered[text] == 1 for text in texts)


def test_more_than_ten_thousand_texts_are_sent_in_chunks() -> None:
    provider = HashProvider(2, batch_size=4_000)
    report = EmbeddingService(provider).embed_batch([f"t{n}" for n in range(10_500)])
    assert (report.total_count, report.errors) == (10_500, [None] * 10_500)
    assert [len(call) for call in provider.calls] == [4000, 4000, 2000, 500]


@pytest.mark.parametrize("bad", ["", None, 3])
def test_invalid_input_is_named_by_position_before_any_request(bad: Any) -> None:
    provider = Listed()
    with pytest.raises(TextRefused, match="text 1: "):
        EmbeddingService(provider).embed_batch(["a", bad])
    assert provider.calls == []
    report = EmbeddingService(provider).embed_batch(["a", bad, "b"], on_error="collect")
    assert [error is None for error in report.errors] == [True, False, True]
    assert provider.calls == [["a", "b"]]


def giving(answer: Any) -> Any:
    return lambda _texts: answer


def test_a_provider_may_return_any_sequence_and_nothing_else() -> None:
    made = [[3.0, 4.0], [0.0, 1.0]]
    for answer in (made, tuple(made), np.array(made), iter(made)):
        provider = CallableProvider(giving(answer), dimensions=2, model_name="f")
        assert EmbeddingService(provider).embed_batch(["a", "b"]).errors == [None, None]
    for broken in (None, 3, "text", {"a": 1}):
        provider = CallableProvider(giving(broken), dimensions=2, model_name="f", batch_size=1)
        report = EmbeddingService(provider).embed_batch(["a", "b"], on_error="collect")
        assert report.requests == 1
        assert isinstance(report.outage, ProviderRefused)
    with pytest.raises(TypeError, match="unknown limit 'colour'"):
        CallableProvider(lambda _texts: [], dimensions=2, model_name="f", colour=1)


def test_one_text_with_two_vectors_ends_the_run() -> None:
    provider = CallableProvider(lambda texts: [[1.0, 0.0]] * (len(texts) + 1), dimensions=2, model_name="f")
    report = EmbeddingService(provider).embed_batch(list("abcd"), on_error="collect")
    assert isinstance(report.outage, ProviderRefused)
    assert "2 vectors for 1 texts" in str(report.outage)
    assert report.requests == 2


def test_the_log_has_counts_and_never_the_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "kameleon.embeddings")
    provider = Faulty(["outage"], 1)
    EmbeddingService(provider, sleep=lambda _s: None).embed_batch(["t1", "p2 secret"], on_error="collect")
    messages = [record.getMessage() for record in caplog.records]
    for prefix in ("enter", "provider_call", "retry", "fallback", "success"):
        assert any(line.startswith(f"embed_batch:{prefix} texts=") for line in messages)
    assert "secret" not in " ".join(messages)


def test_packages_may_add_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("hash", "kameleon.testing:HashProvider", "kameleon.providers")
    monkeypatch.setattr("kameleon.embeddings.entry_points", lambda group: [entry] if group == entry.group else [])
    assert isinstance(get_provider("hash", dimensions=3), HashProvider)
    with pytest.raises(ValueError, match="Known: fastembed, given, hash, openai, static"):
        get_provider("nonsense")


def test_the_known_share_of_a_query_is_kept_as_its_vector_is() -> None:
    class Weighed(HashProvider):
        read: ClassVar[list[str]] = []

        def known_share(self, text: str) -> float:
            self.read.append(text)
            if len(self.read) == 1:
                raise OSError("the vocabulary cannot be read")
            return 0.25

    service = EmbeddingService(Weighed())
    assert service.known_share("red fox") == 1.0, "of a failure"
    assert service.known_share("red fox") == service.known_share("red fox") == 0.25
    assert len(Weighed.read) == 2
    service.forget_queries()
    assert service.known_share("red fox") == 0.25
    assert len(Weighed.read) == 3
