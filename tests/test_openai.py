"""The OpenAI client against a server on loopback that fails as servers do."""

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from kameleon import SearchEngine
from kameleon.embeddings import EmbeddingService, OpenAIProvider, get_provider
from kameleon.embeddings.requesting import PROBE
from kameleon.errors import InvalidInput, ProviderRefused, ProviderUnavailable, TextRefused

from .conftest import ids
from .loopback import DIMENSIONS, Fault, Server, answer, cut, error, good, serving, vector

KEY = "sk-very-secret"
Serve = Callable[..., EmbeddingService]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
    while made:
        if "_client" in vars(last := made.pop()):
            last._client.close()


made: list[OpenAIProvider] = []


def provider(server: Server, **options: Any) -> OpenAIProvider:
    options = {"dimensions": DIMENSIONS, "api_key": KEY, "base_url": server.url, **options}
    made.append(OpenAIProvider("text-embedding-3-small", **options))
    return made[-1]


@pytest.fixture
def serve(server: Server) -> Serve:
    def build(*, sleep: Any = lambda _seconds: None, workers: int | None = None, **options: Any) -> EmbeddingService:
        return EmbeddingService(provider(server, **options), sleep=sleep, workers=workers)

    return build


def texts(count: int) -> list[str]:
    return [f"text {n}" for n in range(count)]


def assert_good(report: Any, texts: list[str], but: tuple[int, ...] = ()) -> None:
    assert len(report.embeddings) == len(texts) > 0
    for position, (text, found) in enumerate(zip(texts, report.embeddings, strict=True)):
        if position in but:
            assert found is None
            assert report.errors[position] is not None
        else:
            assert found == pytest.approx(vector(text), abs=1e-6)
            assert report.errors[position] is None


def test_one_request_for_many_texts(serve: Serve, server: Server) -> None:
    report = serve().embed_batch(texts(16))
    assert_good(report, texts(16))
    (request,) = server.requests
    assert (request["model"], request["dimensions"], request["encoding_format"]) == (
        "text-embedding-3-small",
        8,
        "base64",
    )
    assert (report.requests, report.retries, report.fallbacks) == (1, 0, 0)
    assert serve().embed_query("text 0") == pytest.approx(vector("text 0"), abs=1e-6)


def test_requests_run_side_by_side_ten_at_most_once_one_was_answered(serve: Serve, server: Server) -> None:
    ten = threading.Barrier(10)

    def together(request: dict[str, Any]) -> Any:
        ten.wait(30)
        return good(request)

    server.script = [good] + [together] * 10
    report = serve(batch_size=10).embed_batch(texts(200))
    assert_good(report, texts(200))
    assert len(server.requests) == 20
    assert server.most_in_flight == 10
    assert report.concurrent_workers == 10
    assert 0 < report.worker_utilization <= 1
    assert report.avg_latency_ms > 0


def shuffled(request: dict[str, Any]) -> Any:
    rows = json.loads(good(request)[2])["data"]
    return answer(rows[::-1])


def without_base64(request: dict[str, Any]) -> Any:
    return good({**request, "encoding_format": "float"})


@pytest.mark.parametrize("fault", [shuffled, without_base64], ids=["shuffled indexes", "lists instead of base64"])
def test_answers_of_another_shape_are_understood(serve: Serve, server: Server, fault: Fault) -> None:
    server.script = [fault]
    assert_good(serve().embed_batch(texts(5)), texts(5))
    assert len(server.requests) == 1


def malformed(request: dict[str, Any]) -> Any:
    return answer([{"object": "embedding", "index": n, "embedding": "&&&"} for n in range(len(request["input"]))])


@pytest.mark.parametrize("fault", [malformed, error(400, "encoding_format not supported", param="encoding_format")])
def test_a_server_without_base64_gets_requests_for_floats_from_then_on(
    serve: Serve, server: Server, fault: Fault
) -> None:
    server.script = [fault]
    service = serve()
    assert_good(service.embed_batch(texts(3)), texts(3))
    assert_good(service.embed_batch(texts(4)), texts(4))
    assert [request["encoding_format"] for request in server.requests] == ["base64", "float", "float"]


@pytest.mark.parametrize("fault", [error(500), error(503), error(408), error(429, headers={"retry-after": "0"}), cut])
def test_an_outage_that_passes_costs_a_retry(serve: Serve, server: Server, fault: Fault) -> None:
    server.script = [fault]
    report = serve().embed_batch(texts(3))
    assert_good(report, texts(3))
    assert (report.requests, report.retries, report.probes) == (2, 1, 0)


@pytest.mark.parametrize("fault", [error(500), error(503), error(429), cut], ids=["500", "503", "429", "cut"])
def test_an_outage_that_passes_late_costs_a_short_text_more(serve: Serve, server: Server, fault: Fault) -> None:
    server.script = [fault, fault]
    report = serve().embed_batch(texts(3))
    assert_good(report, texts(3))
    assert (report.requests, report.retries, report.probes) == (4, 2, 1)
    assert server.inputs[2] == [PROBE]


@pytest.mark.parametrize("fault", [error(500), error(429), cut], ids=["500", "429", "cut"])
def test_a_server_that_is_down_costs_its_three_tries(serve: Serve, server: Server, fault: Fault) -> None:
    server.always = fault
    report = serve(batch_size=2).embed_batch(texts(2), on_error="collect")
    assert len(server.requests) == 3
    assert [type(e) for e in report.errors] == [ProviderUnavailable] * 2
    assert isinstance(report.outage, ProviderUnavailable)
    with pytest.raises(ProviderUnavailable):
        serve().embed_batch(["x"])


def test_a_server_that_goes_down_keeps_what_is_done(serve: Serve, server: Server) -> None:
    server.script = [good, good]
    server.always = error(503)
    report = serve(batch_size=2, workers=1).embed_batch(texts(10), on_error="collect")
    assert [v is not None for v in report.embeddings] == [True] * 4 + [False] * 6
    assert len(server.requests) == 2 + 3


def test_a_time_out_is_an_outage(serve: Serve, server: Server) -> None:
    release = threading.Event()
    server.always = lambda request: (release.wait(30) and good(request)) or good(request)
    report = serve(timeout_s=0.05).embed_batch(["x"], on_error="collect")
    release.set()
    assert isinstance(report.errors[0], ProviderUnavailable)
    assert "APITimeoutError" in str(report.errors[0])


@pytest.mark.parametrize(
    ("header", "waits"),
    [
        (lambda: {"retry-after": "7"}, 7.0),
        (lambda: {"retry-after-ms": "250"}, 0.25),
        (lambda: {"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)}, 60.0),
    ],
    ids=["seconds", "milliseconds", "a date"],
)
def test_retry_after_is_obeyed(
    serve: Serve, server: Server, header: Callable[[], dict[str, str]], waits: float
) -> None:
    slept: list[float] = []
    server.script = [lambda request: error(429, headers=header())(request)]
    assert_good(serve(sleep=slept.append).embed_batch(texts(3)), texts(3))
    assert slept
    assert slept[0] == pytest.approx(waits, abs=3)


def test_a_wait_beyond_two_minutes_is_left_for_another_time(serve: Serve, server: Server) -> None:
    server.always = error(429, headers={"retry-after": "3600"})
    report = serve().embed_batch(texts(2), on_error="collect")
    assert isinstance(report.outage, ProviderUnavailable)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        error(401, f"Incorrect API key provided: {KEY}"),
        error(404, "no such model"),
        error(429, "quota", code="insufficient_quota"),
        error(400, "no such dimensions", param="dimensions"),
    ],
    ids=["401", "404", "quota", "dimensions"],
)
def test_refused_for_all_stops_at_once(serve: Serve, server: Server, fault: Fault) -> None:
    server.script = [good]
    server.always = fault
    report = serve(batch_size=1, workers=1).embed_batch(texts(5), on_error="collect")
    assert len(server.requests) == 2
    assert [v is not None for v in report.embeddings] == [True] + [False] * 4
    assert isinstance(report.outage, ProviderRefused)
    assert KEY not in str(report.outage)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_poison_text_costs_two_requests_a_halving(serve: Serve, server: Server, status: int) -> None:
    def refuse(request: dict[str, Any]) -> Any:
        return error(status, "bad input")(request) if "text 37" in request["input"] else good(request)

    server.always = refuse
    report = serve().embed_batch(texts(64), on_error="collect")
    assert_good(report, texts(64), but=(37,))
    assert isinstance(report.errors[37], TextRefused)
    assert report.errors[37].reason == ("too_long" if status == 413 else "embed_failed")
    as_floats = 0 if status == 413 else 1
    assert len(server.requests) - report.probes == 1 + as_floats + 2 * 6
    assert report.fallbacks == 12
    assert report.probes in (1, 2)


def wrong(how: Callable[[np.ndarray[Any, Any]], Any]) -> Fault:
    def answered(request: dict[str, Any]) -> Any:
        rows = [vector(text) for text in request["input"]]
        made = [how(row) if text == "text 1" else row for text, row in zip(request["input"], rows, strict=True)]
        return answer([{"object": "embedding", "index": n, "embedding": b64(row)} for n, row in enumerate(made)])

    return answered


def b64(row: Any) -> str:
    return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda row: row * np.nan, "not_finite"),
        (lambda row: row * 0, "not_finite"),
        (lambda row: row[:3], "wrong_dimension"),
    ],
    ids=["NaN", "zero", "dimension"],
)
def test_a_vector_that_cannot_be_is_refused_in_its_own_position(
    serve: Serve, server: Server, how: Any, reason: str
) -> None:
    server.script = [wrong(how)]
    report = serve().embed_batch(texts(3), on_error="collect")
    assert_good(report, texts(3), but=(1,))
    assert isinstance(report.errors[1], TextRefused)
    assert report.errors[1].reason == reason


@pytest.mark.parametrize(
    "body",
    [
        b"<html>log in</html>",
        b"[]",
        b'{"data": [1, 2]}',
        b'{"data": [{"index": 0, "embedding": ["a"]}, {"index": 1, "embedding": {}}]}',
        b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data": ' + b"9" * 5_000 + b"}",
    ],
    ids=["html", "list", "numbers", "texts", "deep", "digits"],
)
def test_an_answer_of_no_vectors_is_an_outage_and_no_fault_of_the_texts(
    serve: Serve, server: Server, body: bytes
) -> None:
    server.always = lambda _request: (200, {}, body)
    report = serve().embed_batch(texts(2), on_error="collect")
    assert isinstance(report.outage, ProviderUnavailable)
    assert "not one of OpenAI's protocol" in str(report.outage)


def test_a_wrong_number_of_results_is_halved_and_for_one_text_ends_the_run(serve: Serve, server: Server) -> None:
    def drops(request: dict[str, Any]) -> Any:
        rows = json.loads(good(request)[2])["data"]
        return answer(rows[: 3 if len(rows) > 3 else len(rows)])

    server.always = drops
    assert_good(serve().embed_batch(texts(8)), texts(8))
    server.always = lambda request: answer([])
    report = serve(batch_size=4, workers=1).embed_batch(texts(8), on_error="collect")
    assert isinstance(report.outage, ProviderRefused)
    assert "0 vectors for 1 texts" in str(report.outage)
    assert len(server.requests) < 12


def test_a_request_holds_at_most_the_tokens_and_inputs_the_server_takes(serve: Serve, server: Server) -> None:
    long = [("word " * 8000)[:30_000] + str(n) for n in range(70)]
    report = serve(batch_size=2048).embed_batch([*long, *texts(3000)])
    assert report.errors == [None] * 3070
    assert all(len(inputs) <= 2048 for inputs in server.inputs)
    assert all(sum(len(text) for text in inputs) / 4 <= 250_000 for inputs in server.inputs)
    assert len(server.requests) == 4
    with pytest.raises(InvalidInput, match="between 1 and 2048"):
        OpenAIProvider(batch_size=4096)


def test_a_text_over_the_limit_is_cut_or_refused_before_any_request(server: Server) -> None:
    long = "wörd " * 20_000
    service = EmbeddingService(provider(server))
    service.embed_batch([long])
    assert long.startswith(server.inputs[0][0])
    assert 20_000 < len(server.inputs[0][0]) < 30_000
    strict = EmbeddingService(provider(server), truncate="error")
    with pytest.raises(TextRefused, match=r"text 1: \d+ tokens, the model takes 8192"):
        strict.embed_batch(["short", long])
    assert len(server.requests) == 1
    report = strict.embed_batch(["short", long], on_error="collect")
    assert_good(report, ["short", long], but=(1,))


def test_a_key_that_no_header_carries_is_refused_untold(server: Server) -> None:
    with pytest.raises(ProviderRefused, match="a newline at its end") as refused:
        OpenAIProvider(api_key=f"{KEY}\n", base_url=server.url, dimensions=8).embed_batch(["fox"])
    assert server.requests == []
    assert KEY not in str(refused.value)


def test_the_key_is_needed_and_never_stored_or_logged(
    server: Server, file_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ProviderRefused, match="OPENAI_API_KEY"):
        get_provider("openai").embed("x")
    url = server.url.replace("http://", "http://user:pass@")
    search = SearchEngine(file_engine, provider(server, base_url=url))
    search.index_record("A", "1", "secret words here")
    (generation,) = search.generations()
    assert generation.options == {"model": "text-embedding-3-small", "dimensions": 8, "base_url": server.url}
    messages = " ".join(r.getMessage() for r in caplog.records if r.name.startswith("kameleon"))
    assert "embed_batch:success" in messages
    for secret in (KEY, "user:pass", "secret words"):
        assert secret not in messages
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    assert ids(SearchEngine(file_engine, "static").search("secret words here", mode="vector")) == ["1"]
    assert server.keys[-1] == "Bearer sk-environment"
