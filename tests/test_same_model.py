"""An index and its model: made, moved, opened by another process, and refused with a wrong one."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from kameleon import SearchEngine
from kameleon.embeddings import EmbeddingService, OpenAIProvider, StaticProvider
from kameleon.errors import ModelMismatch, NoProvider, ProviderRefused
from kameleon.indexing import caching
from kameleon.testing import HashProvider
from stress.workloads.small_model import small_model

from .conftest import Make, ids
from .loopback import DIMENSIONS, Server, error, good, serving

ROWS = [("N", str(n), f"note number {n}") for n in range(60)]


@pytest.fixture
def loopback() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as running:
        running.always = lambda request: good({**request, "input": [f"other {text}" for text in request["input"]]})
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def provider(server: Server, **options: Any) -> OpenAIProvider:
    made = OpenAIProvider("m", dimensions=DIMENSIONS, api_key="local-key", base_url=server.url, **options)
    made.noise = (0.0, 0.1)  # no request to measure it
    return made


def paid(server: Server) -> int:
    return sum(map(len, server.inputs))


@pytest.mark.parametrize("at_once", [5_000, 7])
def test_force_embeds_past_the_cache_and_replaces_what_it_holds(
    make: Make, loopback: Server, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(caching, "FORGOTTEN_AT_ONCE", at_once)
    search = make(provider(loopback))
    search.index_records_batch(ROWS)
    assert search.search("note number 3", mode="vector", explain=True)[0].explanation[0].raw == pytest.approx(1)
    loopback.always = lambda request: good({**request, "input": [f"new {text}" for text in request["input"]]})
    before = paid(loopback)
    plan = search.reindexing.plan(force=True)
    assert (plan.rows, plan.cached) == (60, 0)
    report = search.reindex(force=True)
    assert (report.embedded, report.reused, report.switched) == (60, 0, True)
    assert paid(loopback) - before == 60
    for query in ("note number 3", "note number 4"):
        (hit, *_) = search.search(query, mode="vector", explain=True)
        assert f"note number {hit.id}" == query
        assert hit.explanation[0].raw == pytest.approx(1)
    assert search.index_record("N", "copy", "note number 3").reused == 1
    assert search.search("note number 3", mode="vector")[1].score == pytest.approx(1, abs=0.01)
    assert [part.texts for part in search.cache.status()] == [60]


def test_one_name_on_two_servers_is_two_models(make: Make, loopback: Server, other: Server) -> None:
    make(provider(loopback)).index_records_batch(ROWS)
    search = make(provider(other))
    note = search.search("note number 3").plan.note
    assert f"m (8 dimensions) at {loopback.url}" in note
    assert f"this engine's provider is m (8) at {other.url}" in note
    with pytest.raises(ModelMismatch, match=other.url):
        search.search("note number 3", mode="vector")
    assert search.index_record("N", "copy", "note number 3").reused == 0
    assert "stay pending" in search.get_status()[0].note
    assert search.reindex().switched
    assert search.search("note number 3", mode="vector", explain=True)[0].explanation[0].raw == pytest.approx(1)


def test_a_revision_joins_two_servers_and_the_registry_takes_the_new_one(
    make: Make, loopback: Server, other: Server
) -> None:
    other.always = good
    make(provider(loopback, revision="r1")).index_records_batch(ROWS)
    search = make(provider(other, revision="r1"))
    assert ids(search.search("note number 3", mode="vector"))[0] == "3"
    assert paid(other) == 1
    report = search.reindex()
    assert (report.action, paid(other)) == ("nothing", 1)
    assert other.url in report.notes[0]
    assert search.generations()[0].options["base_url"] == other.url


def test_different_weights_of_one_name_are_explained_in_the_error(make: Make) -> None:
    make(HashProvider(16)).index_records_batch(ROWS)
    changed = HashProvider(16)
    changed.passage_prefix = "p: "
    note = make(changed).search("note").plan.note
    assert "of other weights, pooling, prefixes or revision" in note


def test_a_folder_that_moved_is_the_same_model(make: Make, tmp_path: Path) -> None:
    old = small_model(tmp_path)
    make(StaticProvider(old)).index_records_batch(ROWS)
    new = tmp_path / "app" / "renamed"
    new.parent.mkdir()
    shutil.move(old, new)
    by_name = make("static")
    note = by_name.search("note").plan.note
    assert "`kameleon embeddings reindex --model FOLDER`" in note
    with pytest.raises(NoProvider, match="cannot be had here"):
        by_name.sync()
    assert make(StaticProvider(new)).search("note number 3", mode="vector").plan.note == ""
    report = by_name.reindex(model=str(new))
    assert (report.action, report.embedded) == ("nothing", 0)
    assert str(new) in report.notes[0]
    (generation,) = by_name.generations()
    assert (generation.options, generation.model_name) == ({"path": str(new)}, "renamed")
    assert len(make("static").search("note number 3", mode="vector")) == 10
    assert by_name.reindex(model=str(new)).notes == (report.notes[1],)


def test_a_folder_that_moved_takes_what_is_pending_with_it(make: Make, tmp_path: Path) -> None:
    old = small_model(tmp_path)
    make(StaticProvider(old)).index_records_batch(ROWS)
    new = tmp_path / "elsewhere"
    shutil.move(old, new)
    make().index_record("N", "late", "a late note")
    report = make("static").reindex(model=str(new))
    assert (report.action, report.embedded, report.pending) == ("filled", 1, 0)
    assert str(new) in report.notes[0]


def test_an_engine_without_the_object_embeds_as_the_object_did(
    make: Make, loopback: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    prefixed = provider(loopback, max_tokens=100, batch_size=7)
    prefixed.query_prefix, prefixed.passage_prefix = "search_query: ", "search_document: "
    make(prefixed).index_record("N", "first", "a note")
    make().index_records_batch(ROWS)
    make("static").sync()
    assert ids(make("static").search("note number 3", mode="vector"))[0] != ""
    passages = loopback.inputs[1:-1]
    assert sorted(len(texts) for texts in passages) == [4] + [7] * 8
    assert all(text.startswith("search_document: ") for texts in passages for text in texts)
    assert loopback.inputs[-1] == ["search_query: note number 3"]


def test_dimensions_are_sent_where_they_were_given_and_only_there(loopback: Server) -> None:
    provider(loopback).embed_batch(["a"])
    OpenAIProvider("m", api_key="k", base_url=loopback.url).embed_batch(["a"])
    OpenAIProvider("text-embedding-3-small", api_key="k", base_url=loopback.url).embed_batch(["a"])
    assert [request.get("dimensions") for request in loopback.requests] == [DIMENSIONS, None, 384]


@pytest.mark.parametrize("fields", [{}, {"param": "dimensions"}])
def test_a_server_that_shortens_no_vectors_is_requested_without_dimensions(
    loopback: Server, fields: dict[str, Any]
) -> None:
    def refusing(request: dict[str, Any]) -> Any:
        refused = error(400, "Model does not support matryoshka representation", **fields)
        return refused(request) if "dimensions" in request else good(request)

    loopback.always = refusing
    service = EmbeddingService(provider(loopback))
    for text in ("a", "b"):
        assert service.embed_batch([text]).errors == [None]
    assert ["dimensions" in request for request in loopback.requests] == [True, False, False]
    other_length = EmbeddingService(OpenAIProvider("m", dimensions=4, api_key="k", base_url=loopback.url))
    with pytest.raises(ProviderRefused, match="8 numbers, the model has 4"):
        other_length.embed_batch(["a"])


def test_a_model_without_given_dimensions_is_opened_without_them(
    file_engine: Engine, loopback: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    loopback.always = lambda request: good(request)
    plain = OpenAIProvider("m", api_key="k", base_url=loopback.url)
    plain.dimensions = DIMENSIONS
    assert "dimensions" not in plain.options
    report = SearchEngine(file_engine, provider(loopback)).index_record("N", "1", "a note")
    assert report.embedded == 1
    moved = SearchEngine(file_engine, "static").reindexing.plan(dimensions=4)
    assert moved.target_dimensions == 4
