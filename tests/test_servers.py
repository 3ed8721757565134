"""The OpenAI client against each server of `servers.py`, and every form of error that servers send."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kameleon.embeddings import EmbeddingService, OpenAIProvider
from kameleon.errors import InvalidInput, ProviderRefused, ProviderUnavailable, TextRefused

from .loopback import DIMENSIONS, Server, good, serving, vector
from .servers import SERVERS, UNAUTHORIZED, Played, body_of, edited, floats, plain

COUNT = 201
Opened = Callable[..., EmbeddingService]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def opened(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Services of the server; their clients are closed at the end."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made: list[OpenAIProvider] = []

    def open_service(played: Played | None = None, **options: Any) -> EmbeddingService:
        played = played or Played(good)
        url = f"{server.root}{played.path}"
        options = {"dimensions": DIMENSIONS, "api_key": played.key, "base_url": url, **played.options, **options}
        made.append(OpenAIProvider(played.model, **options))
        return EmbeddingService(made[-1], sleep=lambda _seconds: None)

    yield open_service
    for provider in made:
        if "_client" in vars(provider):
            provider._client.close()


def texts(count: int) -> list[str]:
    return [f"text {n}" for n in range(count)]


def assert_complete(report: Any, wanted: list[str]) -> None:
    assert len(report.embeddings) == len(wanted) > 0
    assert report.errors == [None] * len(wanted)
    for text, found in zip(wanted, report.embeddings, strict=True):
        assert found == pytest.approx(vector(text), abs=1e-6)


def checked(played: Played, server: Server) -> Any:
    def answered(request: dict[str, Any]) -> Any:
        headers = server.headers[-1]
        sent = {name: headers[name] for name in ("authorization", "api-key") if name in headers}
        wanted = {"authorization": f"Bearer {played.key}", "api-key": played.key}
        if sent != ({played.header: wanted[played.header]} if played.header else {}):
            return UNAUTHORIZED(request)
        return played.answer(request)

    return answered


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_embeds_all_texts(name: str, server: Server, opened: Opened) -> None:
    played = SERVERS[name]
    server.always = checked(played, server)
    service = opened(played)
    assert_complete(service.embed_batch(texts(COUNT)), texts(COUNT))
    assert set(server.paths) == {played.requested}
    before = len(server.requests)
    assert_complete(service.embed_batch(["one more"]), ["one more"])
    assert len(server.requests) == before + 1


@pytest.mark.parametrize("name", [name for name in SERVERS if name not in ("TEI", "Cohere")])
def test_a_complete_answer_is_paid_once(name: str, server: Server, opened: Opened) -> None:
    server.always = checked(SERVERS[name], server)
    report = opened(SERVERS[name]).embed_batch(texts(20))
    assert_complete(report, texts(20))
    assert report.requests <= 2
    assert len(server.requests) <= 2


INDEXES: dict[str, Callable[[int], Any]] = {
    "absent": lambda _place: ...,
    "null": lambda _place: None,
    "repeated": lambda place: place // 2,
    "zero": lambda _place: 0,
    "text": str,
    "from one": lambda place: place + 1,
    "a word": lambda _place: "first",
    "infinite": lambda _place: float("inf"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_answer_is_in_its_own_order_where_its_indexes_are_not(name: str, server: Server, opened: Opened) -> None:
    def indexed(place: int, row: dict[str, Any]) -> dict[str, Any]:
        index = INDEXES[name](place)
        return {**({} if index is ... else {"index": index}), "embedding": row["embedding"]}

    server.always = lambda request: edited(good(request), indexed)
    assert_complete(opened().embed_batch(texts(51)), texts(51))
    assert len(server.requests) == 1


def test_base64_is_read_although_floats_were_wanted(server: Server, opened: Opened) -> None:
    def answered(request: dict[str, Any]) -> Any:
        if len(server.requests) == 1:
            return plain(400, {"error": "no base64"})
        return good({**request, "encoding_format": "base64"})

    server.always = answered
    assert_complete(opened().embed_batch(texts(5)), texts(5))
    assert [request["encoding_format"] for request in server.requests] == ["base64", "float"]


def test_a_refused_text_does_not_cost_base64(server: Server, opened: Opened) -> None:
    server.always = lambda request: plain(400, {"error": "bad"}) if "text 3" in request["input"] else good(request)
    service = opened()
    report = service.embed_batch(texts(8), on_error="collect")
    assert [n for n, error in enumerate(report.errors) if error] == [3]
    service.embed_batch(["afterwards"])
    assert server.requests[-1]["encoding_format"] == "base64"


def test_a_refused_text_and_no_base64_are_distinguished(server: Server, opened: Opened) -> None:
    def answered(request: dict[str, Any]) -> Any:
        if request["encoding_format"] == "base64" or "text 0" in request["input"]:
            return plain(400, {"error": "bad request"})
        return floats(request)

    server.always = answered
    report = opened(batch_size=10).embed_batch(texts(51), on_error="collect")
    assert [n for n, error in enumerate(report.errors) if error] == [0]


def test_a_refused_text_on_a_server_without_encoding_format(server: Server, opened: Opened) -> None:
    played = SERVERS["Voyage"]

    def answered(request: dict[str, Any]) -> Any:
        answer = played.answer(request)
        is_bad = "text 0" in request["input"] and request["encoding_format"] == "base64"
        return plain(400, {"detail": "cannot be read"}) if is_bad else answer

    server.always = answered
    report = opened(played).embed_batch(texts(51), on_error="collect")
    assert [n for n, error in enumerate(report.errors) if error] == [0]


REASON = "input_type is required for this model"
SHAPES: dict[str, object] = {
    "OpenAI": {"error": {"message": REASON, "type": "invalid_request_error", "param": None, "code": None}},
    "a text": {"error": REASON},
    "a message": {"message": REASON},
    "FastAPI": {"detail": [{"loc": ["body", "input_type"], "msg": REASON, "type": "missing"}]},
    "detail": {"detail": REASON},
    "vLLM": {"object": "error", "message": REASON, "type": "BadRequestError", "code": 400},
    "nested": {"error": {"error": {"message": REASON}}},
    "several": {"errors": [{"message": REASON}, {"message": "and more"}]},
    "plain": REASON.encode(),
    "HTML": f"<html><head><title>400</title><style>p {{}}</style></head><body><p>{REASON}</p></body></html>".encode(),
    "controls": {"error": {"message": f"\x1b[31m{REASON}\x00\r\n"}},
}


@pytest.mark.parametrize("status", [400, 422, 500, 401, 429])
@pytest.mark.parametrize("name", SHAPES)
def test_the_servers_own_reason_is_in_the_error(name: str, status: int, server: Server, opened: Opened) -> None:
    server.always = lambda _request: plain(status, SHAPES[name])
    report = opened().embed_batch(texts(COUNT), on_error="collect")
    message = str(report.outage)
    assert REASON in message
    assert str(status) in message
    assert message.isprintable()
    assert "<" not in message
    assert "\\x" not in message
    assert len(server.requests) <= 3


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in ("plain", "HTML")])
def test_an_error_with_status_200_is_an_error(name: str, server: Server, opened: Opened) -> None:
    server.always = lambda _request: plain(200, SHAPES[name])
    report = opened().embed_batch(texts(COUNT), on_error="collect")
    assert isinstance(report.outage, ProviderRefused)
    assert REASON in str(report.outage)
    assert len(server.requests) <= 3


@pytest.mark.parametrize(
    ("code", "kind", "requests"), [(401, ProviderRefused, 1), (402, ProviderRefused, 1), (429, ProviderUnavailable, 3)]
)
def test_an_error_with_status_200_has_the_status_that_it_names(
    code: int, kind: type[Exception], requests: int, server: Server, opened: Opened
) -> None:
    server.always = lambda _request: plain(200, {"error": {"code": code, "message": "no credits"}})
    report = opened().embed_batch(texts(3), on_error="collect")
    assert isinstance(report.outage, kind)
    assert len(server.requests) == requests


def test_a_reason_is_cut_and_has_no_secrets(server: Server, opened: Opened) -> None:
    key = "sk-very-secret-key"
    server.always = lambda _request: plain(401, {"error": f"{key} api_key=abcdefghij0 {'x' * 5_000}"})
    report = opened(api_key=key).embed_batch(["a"], on_error="collect")
    message = str(report.outage)
    assert len(message) < 500
    assert key not in message
    assert "abcdefghij0" not in message


@pytest.mark.parametrize(
    "cut",
    [lambda body: body[: len(body) // 2], lambda body: b"", lambda body: b"\xff" + body, lambda body: b"null"],
    ids=["half", "nothing", "bytes", "null"],
)
def test_a_broken_answer_is_requested_again(cut: Any, server: Server, opened: Opened) -> None:
    server.script = [lambda request: plain(200, cut(good(request)[2]))]
    report = opened().embed_batch(texts(51))
    assert_complete(report, texts(51))
    assert len(server.requests) == 2


def test_without_a_key_a_servers_own_url_needs_none(server: Server, opened: Opened) -> None:
    assert "OPENAI_API_KEY" not in os.environ
    assert_complete(opened().embed_batch(["a"]), ["a"])
    assert server.keys == [""]


@pytest.mark.parametrize("url", ["localhost:8000/v1", "127.0.0.1:8000", "ftp://host/v1", "http://", "//host/v1", "", 3])
def test_a_base_url_that_is_none_is_refused_at_once(url: Any) -> None:
    with pytest.raises(InvalidInput, match="http://localhost:8000/v1"):
        OpenAIProvider("m", dimensions=8, base_url=url)


def test_no_secret_of_the_url_is_stored(server: Server) -> None:
    url = "http://user:pass@host/v1?api-version=2024-10-21&code=secret&api-key=secret"
    provider = OpenAIProvider("m", dimensions=8, base_url=url, concurrency=2, timeout_s=90, batch_size=8)
    stored = json.dumps(provider.options)
    assert "secret" not in stored
    assert "pass" not in stored
    again = OpenAIProvider(**provider.options)
    assert again.options == provider.options
    assert again.options["base_url"] == "http://host/v1?api-version=2024-10-21"
    assert (again.concurrency, again.batch_size) == (2, 8)


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"timeout_s": 0}, {"max_batch_tokens": -1}, {"concurrency": True}]
)
def test_limits_are_above_zero(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="above 0"):
        OpenAIProvider("m", dimensions=8, **options)


@pytest.mark.parametrize("most", [1, 7, 10, 64])
def test_a_limit_of_texts_is_found_out_once(most: int, server: Server, opened: Opened) -> None:
    def answered(request: dict[str, Any]) -> Any:
        too_many = plain(400, {"error": "batch size is invalid"})
        return good(request) if len(request["input"]) <= most else too_many

    server.always = answered
    service = opened()
    assert_complete(service.embed_batch(texts(1_001)), texts(1_001))
    refused = [len(inputs) for inputs in server.inputs if len(inputs) > most]
    assert len(refused) < 40
    server.requests.clear()
    assert_complete(service.embed_batch([f"later {n}" for n in range(201)]), [f"later {n}" for n in range(201)])
    again = [len(inputs) for inputs in server.inputs if len(inputs) > most]
    assert len({*refused, *again}) <= 7, "each size that is tried halves what is unknown of 100"
    assert len(again) <= 2 * service.limits.concurrency, "at most two more sizes, in requests sent together"


def test_a_forbidden_text_stays_pending_and_stops_nothing(server: Server, opened: Opened) -> None:
    def firewall(request: dict[str, Any]) -> Any:
        blocked = plain(403, b"<html><h1>Blocked by the firewall</h1></html>")
        return blocked if "text 7" in request["input"] else good(request)

    server.always = firewall
    report = opened(batch_size=10).embed_batch(texts(51), on_error="collect")
    (found,) = [(n, error) for n, error in enumerate(report.errors) if error]
    assert found[0] == 7
    assert isinstance(found[1], TextRefused)
    assert found[1].reason == "unavailable"
    assert "Blocked by the firewall" in str(found[1])
    assert report.outage is None


def test_bodies_of_the_table_are_json() -> None:
    assert body_of(good({"input": ["a"]}))["data"][0]["index"] == 0
