"""Spans and metrics of what the library does, as OpenTelemetry's exporters in memory get them."""

import asyncio
import json
import logging
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import db_attributes, error_attributes, gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import db_metrics, gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

import kameleon
from kameleon import RecordStore, SearchEngine, Worker
from kameleon.embeddings.openai import OpenAIProvider
from kameleon.errors import InvalidInput, ProviderUnavailable
from kameleon.server import app
from kameleon.telemetry import Observer, current, instrument, observe, operation, uninstrument, unobserve
from kameleon.telemetry.measures import COUNTERS, DURATIONS, RETURNED, STEPS, TOKENS
from kameleon.telemetry.operations import UNOBSERVED
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note

from .conftest import Make
from .loopback import DIMENSIONS, Answer, good, serving

SQLITE = pytest.mark.parametrize("backend", ["sqlite"])
"""Over one database, for what is the same over both."""


class Recorded:
    """What an application's OpenTelemetry exports, since it was asked last."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])

    def spans(self, prefix: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(prefix)]

    def one(self, prefix: str) -> ReadableSpan:
        (span,) = self.spans(prefix)
        return span

    def points(self, name: str, *labels: str) -> dict[tuple[Any, ...], Any]:
        """The values of a metric by these labels; of a histogram how many there were."""
        found: dict[tuple[Any, ...], Any] = {}
        data = self.reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        for point in [point for metric in metrics if metric.name == name for point in metric.data.data_points]:
            of = tuple((point.attributes or {}).get(label) for label in labels)
            found[of] = found.get(of, 0) + (point.value if hasattr(point, "value") else point.count)
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    recorded = Recorded()
    begin(recorded)
    yield recorded
    uninstrument()
    recorded.tracer_provider.shutdown()
    recorded.meter_provider.shutdown()


def begin(recorded: Recorded, search: SearchEngine | None = None, **options: bool) -> None:
    instrument(search, tracer_provider=recorded.tracer_provider, meter_provider=recorded.meter_provider, **options)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parents(recorded: Recorded) -> dict[str, str | None]:
    """Each span's name and that of its parent."""
    spans = recorded.spans()
    names = {span.context.span_id: span.name for span in spans if span.context}
    return {span.name: span.parent and names.get(span.parent.span_id) for span in spans}


SHORT = [("document", "1", "red fox"), ("document", "2", "blue whale")]


def test_a_search_is_a_span_of_a_retrieval_and_its_querys_embedding_is_inside(
    search: SearchEngine, recorded: Recorded
) -> None:
    search.index_records_batch(SHORT)
    recorded.exporter.clear()
    search.search("secret fox", entity="document", limit=7)
    span = recorded.one("retrieval")
    assert (span.name, span.kind, span.status.status_code) == (
        "retrieval document",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    found = attributes(span)
    assert {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "document",
        "gen_ai.request.top_k": 7,
        "db.system.name": search.engine.dialect.name,
        "kameleon.search.mode": "hybrid",
        "kameleon.search.legs": "keyword,vector",
        "db.response.returned_rows": 1,
    }.items() <= found.items()
    assert found["kameleon.step.keyword.duration"] >= 0
    assert parents(recorded) == {"retrieval document": None, "embeddings hash": "retrieval document"}
    embedding = attributes(recorded.one("embeddings"))
    assert embedding["gen_ai.operation.name"] == "embeddings"
    assert embedding["gen_ai.request.model"] == "hash"
    assert embedding["gen_ai.embeddings.dimension.count"] == 64
    assert embedding["kameleon.embedding.input"] == "query"


def test_texts_are_in_no_span_and_no_metric_unless_that_is_wanted(search: SearchEngine, recorded: Recorded) -> None:
    search.index_records_batch([("document", "key-1", "confidential fox")])
    search.search("confidential")
    search.similar("document", "key-1")
    with pytest.raises(InvalidInput):
        search.search("confidential", mode="confidential")
    exported = [span.to_json() for span in recorded.spans()]
    assert len(exported) > 4
    data = recorded.reader.get_metrics_data()
    assert data is not None
    everything = "".join([*exported, data.to_json()])
    assert "confidential" not in everything
    assert "key-1" not in everything


@SQLITE
def test_texts_and_documents_are_in_spans_where_they_are_wanted(search: SearchEngine, recorded: Recorded) -> None:
    search.index_records_batch(SHORT)
    begin(recorded, query_text=True, documents=True)
    search.search("red fox")
    found = attributes(recorded.one("retrieval"))
    assert found["gen_ai.retrieval.query.text"] == "red fox"
    documents = json.loads(found["gen_ai.retrieval.documents"])
    assert [(each["entity"], each["id"]) for each in documents] == [("document", "1")]


@SQLITE
def test_a_failed_search_has_the_name_of_its_error(search: SearchEngine, recorded: Recorded) -> None:
    with pytest.raises(InvalidInput):
        search.search("x", mode="no such mode")
    span = recorded.one("retrieval")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert attributes(span)["error.type"] == "InvalidInput"
    assert recorded.points("gen_ai.client.operation.duration", "error.type") == {("InvalidInput",): 1}


def test_searches_are_measured_by_mode_and_legs(search: SearchEngine, recorded: Recorded) -> None:
    search.index_records_batch(SHORT)
    for mode in ("hybrid", "keyword", "keyword"):
        search.search("fox", mode=mode)
    labels = ("gen_ai.operation.name", "kameleon.search.mode", "kameleon.search.legs")
    found = recorded.points("gen_ai.client.operation.duration", *labels)
    searches = {of: count for of, count in found.items() if of[0] == "retrieval"}
    assert searches == {
        ("retrieval", "hybrid", "keyword,vector"): 1,
        ("retrieval", "keyword", "keyword"): 2,
    }
    assert recorded.points("db.client.response.returned_rows", "db.system.name") == {(search.engine.dialect.name,): 3}
    assert recorded.points("kameleon.search.step.duration", "kameleon.step")[("keyword",)] == 3


@SQLITE
def test_suggestions_are_measured(search: SearchEngine, recorded: Recorded) -> None:
    search.index_records_batch(SHORT)
    assert search.suggest("wha") == ["whale"]
    assert recorded.points("kameleon.suggest.duration") == {(): 1}


def test_a_sessions_commit_has_its_embeddings_and_writes_inside(make: Make, engine: Engine, recorded: Recorded) -> None:
    Base.metadata.create_all(engine)
    search = make(HashProvider())
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        session.add_all([Note(title=f"fox {n}", body="b") for n in range(3)])
    assert {
        "kameleon.commit": None,
        "kameleon.embedding": "kameleon.commit",
        "kameleon.write": "kameleon.commit",
        "embeddings hash": "kameleon.embedding",
    }.items() <= parents(recorded).items()
    write = attributes(recorded.one("kameleon.write"))
    assert write["db.operation.batch.size"] == write["kameleon.index.records.indexed"] == 3
    assert recorded.points("kameleon.index.records", "kameleon.outcome")[("indexed",)] == 3
    assert recorded.points("kameleon.commit.duration", "db.system.name") == {(engine.dialect.name,): 1}


@SQLITE
def test_a_commit_that_changes_nothing_of_the_index_is_no_span(make: Make, engine: Engine, recorded: Recorded) -> None:
    Base.metadata.create_all(engine)
    maker: sessionmaker[Session] = make().attach(sessionmaker(engine))
    with maker.begin() as session:
        assert session.query(Note).all() == []
    assert recorded.spans("kameleon.commit") == []


def test_records_that_are_stored_changed_and_deleted_are_counted(search: SearchEngine, recorded: Recorded) -> None:
    records = RecordStore(search)
    records.insert("note", [{"id": "1", "title": "red fox"}, {"id": "2", "title": "whale"}], create=True)
    records.delete("note", ["2"])
    counts = recorded.points("kameleon.index.records", "kameleon.outcome")
    assert (counts[("indexed",)], counts[("embedded",)], counts[("deleted",)]) == (2, 2, 1)


@SQLITE
def test_texts_are_counted_by_what_became_of_them(make: Make, recorded: Recorded) -> None:
    search = make(HashProvider(), cache=True)
    search.index_records_batch([*SHORT, ("document", "3", "red fox")])
    search.index_records_batch([("other", "1", "red fox")])
    counts = recorded.points("kameleon.embedding.texts", "kameleon.outcome")
    assert counts[("reused",)] == counts[("cached",)] == 1
    assert counts[("embedded",)] >= 2


class Down(HashProvider):
    def embed_batch(self, texts: Any) -> Any:
        raise ProviderUnavailable("confidential: no answer")


@SQLITE
def test_an_outage_is_an_error_of_the_call_and_its_texts_are_pending(make: Make, recorded: Recorded) -> None:
    provider = Down()
    provider.attempts = 1
    make(provider).index_records_batch(SHORT)
    failed = [span for span in recorded.spans("embeddings") if span.status.status_code == StatusCode.ERROR]
    assert failed
    assert {attributes(span)["error.type"] for span in failed} == {"ProviderUnavailable"}
    assert not any("confidential" in span.to_json() for span in recorded.spans())
    assert recorded.points("kameleon.embedding.texts", "kameleon.outcome") == {("pending",): 2}


@SQLITE
def test_requests_on_other_threads_are_inside_the_call(make: Make, recorded: Recorded) -> None:
    provider = HashProvider()
    provider.concurrency, provider.batch_size = 2, 2
    make(provider).index_records_batch([("document", str(n), f"text {n}") for n in range(8)])
    requests = recorded.spans("embeddings")
    assert len(requests) > 2
    within = {span.context.span_id for span in recorded.spans("kameleon.embedding") if span.context}
    assert {span.parent.span_id for span in requests if span.parent} <= within
    assert all(span.parent for span in requests)


@SQLITE
def test_embeddings_within_a_budget_are_inside_the_commit(make: Make, engine: Engine, recorded: Recorded) -> None:
    Base.metadata.create_all(engine)
    search = make(HashProvider(), indexing="auto", budget_s=60)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add(Note(title="red fox", body="b"))
    assert parents(recorded)["kameleon.embedding"] == "kameleon.commit"


def test_folds_are_spans_and_a_step_that_is_not_due_is_none(search: SearchEngine, recorded: Recorded) -> None:
    search.index_records_batch(SHORT)
    search.index.keywords.maintain_all(purges=True)
    assert recorded.spans("kameleon.fold") == []
    for start in (0, 150):
        search.index_records_batch([("document", str(n), f"word{n}") for n in range(start, start + 150)])
    folds = recorded.spans("kameleon.fold")
    assert [attributes(span)["kameleon.step"] for span in folds] == ["fold"]
    assert recorded.points("kameleon.fold.duration", "kameleon.step") == {("fold",): 1}


def test_a_workers_batch_is_a_span_and_an_idle_worker_makes_none(
    make: Make, engine: Engine, recorded: Recorded
) -> None:
    Base.metadata.create_all(engine)
    search = make(HashProvider(), indexing="deferred")
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add(Note(title="red fox", body="b"))
    recorded.exporter.clear()
    Worker(search).run()
    assert attributes(recorded.one("kameleon.worker"))["kameleon.worker.task"] == "queue"
    assert parents(recorded)["kameleon.write"] == "kameleon.worker"
    recorded.exporter.clear()
    Worker(search).run()
    assert recorded.spans("kameleon.worker") == []


def test_a_reindex_is_measured_by_batch(search: SearchEngine, recorded: Recorded) -> None:
    search.index_records_batch(SHORT)
    recorded.exporter.clear()
    search.reindex(provider=HashProvider(16, model_name="other"))
    assert attributes(recorded.one("kameleon.worker"))["kameleon.worker.task"] == "reindex"


def test_the_sizes_of_an_index_are_read_when_metrics_are_collected(make: Make, recorded: Recorded) -> None:
    search = make(HashProvider())
    begin(recorded, search)
    search.index_records_batch(SHORT)
    sizes = recorded.points("kameleon.index.size", "kameleon.entity", "kameleon.state")
    assert sizes[("document", "indexed")] == 2
    assert sizes[("document", "pending")] == sizes[("document", "failed")] == 0
    uninstrument()
    assert recorded.points("kameleon.index.size") == {}


@SQLITE
def test_an_index_that_cannot_be_read_leaves_the_other_metrics(
    search: SearchEngine, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    begin(recorded, SimpleNamespace(get_status=lambda: 1 // 0))  # type: ignore[arg-type]
    search.search("x")
    with caplog.at_level(logging.WARNING, "kameleon.telemetry"):
        assert recorded.points("kameleon.search.step.duration")
    assert "ZeroDivisionError" in caplog.text


@SQLITE
def test_an_observer_that_fails_is_logged_and_stops_nothing(
    search: SearchEngine, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def begin(self, operation: object) -> None:
            raise RuntimeError

        def end(self, operation: object, begun: None) -> None: ...

    class AtTheEnd(Failing):
        def begin(self, operation: object) -> None: ...

        def end(self, operation: object, begun: None) -> None:
            raise RuntimeError

    observers: list[Observer] = [Failing(), AtTheEnd()]
    for observer in observers:
        observe(observer)
    try:
        search.index_records_batch(SHORT)
        assert len(search.search("fox")) == 1
    finally:
        for observer in observers:
            unobserve(observer)
    assert "failed at the beginning" in caplog.text
    assert "failed at the end" in caplog.text


def test_without_an_observer_there_is_one_operation_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kameleon.telemetry.operations._observers", ())
    with operation("x") as first, operation() as second:
        assert first is second is UNOBSERVED
        assert second.begin("y") is UNOBSERVED


@SQLITE
def test_instrumenting_again_replaces_the_settings(search: SearchEngine, recorded: Recorded) -> None:
    begin(recorded)
    search.search("x")
    assert len(recorded.spans("retrieval")) == 1


@SQLITE
def test_the_instrumentor_takes_its_settings_from_the_environment(
    search: SearchEngine, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAMELEON_TELEMETRY_QUERY_TEXT", "true")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    (entry,) = project["entry-points"]["opentelemetry_instrumentor"].values()
    instrumentor = EntryPoint("kameleon", entry, "opentelemetry_instrumentor").load()()
    instrumentor.instrument(tracer_provider=recorded.tracer_provider, skip_dep_check=True)
    search.search("fox")
    assert attributes(recorded.one("retrieval"))["gen_ai.retrieval.query.text"] == "fox"
    instrumentor.uninstrument()
    search.search("fox")
    assert len(recorded.spans("retrieval")) == 1


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
import kameleon
from kameleon.telemetry import instrument
try:
    instrument()
except kameleon.KameleonError as error:
    print(error)
"""


def test_without_the_extra_the_error_names_it() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "opentelemetry-api is not installed. pip install 'kameleon[otel]'"


def test_spans_of_coroutines_are_nested_as_those_of_calls(
    engine: Engine, provider: HashProvider, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    Base.metadata.create_all(engine)
    url = engine.url.set(drivername="sqlite+aiosqlite") if engine.dialect.name == "sqlite" else engine.url

    async def work() -> None:
        made = kameleon.create_async_engine(url)
        async with SearchEngine(made, provider) as search:
            async with search.attach(async_sessionmaker(made)).begin() as session:
                session.add(Note(title="red fox", body="b"))
            await asyncio.gather(*(search.asearch(f"fox {n}") for n in range(3)))
        await made.dispose()

    asyncio.run(asyncio.wait_for(work(), 60))
    nested = {
        "kameleon.embedding": "kameleon.commit",
        "kameleon.write": "kameleon.commit",
        "embeddings hash": "retrieval",
    }
    assert nested.items() <= parents(recorded).items()
    assert len(recorded.spans("retrieval")) == 3
    assert "detach" not in caplog.text


@SQLITE
def test_in_the_server_a_search_is_inside_the_request_of_the_host(search: SearchEngine, recorded: Recorded) -> None:
    tracer = recorded.tracer_provider.get_tracer("host")
    served = app(search)

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("request"):
            await served(scope, receive, send)

    answer = TestClient(host, "http://127.0.0.1:8765").get("/api/search", params={"query": "fox"})
    assert answer.status_code == 200
    assert parents(recorded)["retrieval"] == "request"


@SQLITE
def test_names_that_are_not_our_own_are_those_of_the_semantic_conventions(
    search: SearchEngine, recorded: Recorded
) -> None:
    begin(recorded, query_text=True, documents=True)
    search.index_records_batch(SHORT)
    search.search("fox", entity="document")
    with pytest.raises(InvalidInput):
        search.search("fox", mode="no such mode")
    attributes_of = [gen_ai_attributes, db_attributes, error_attributes]
    known = {value for module in attributes_of for value in vars(module).values() if isinstance(value, str)}
    used = {name for span in recorded.spans() for name in attributes(span)}
    foreign = {name for name in used if not name.startswith("kameleon.")}
    assert len(foreign) > 10
    assert foreign - known == set()
    measured = {
        measure.name for measure in (*DURATIONS.values(), *STEPS.values(), *COUNTERS.values(), RETURNED, TOKENS)
    }
    conventional = {
        value for module in (gen_ai_metrics, db_metrics) for value in vars(module).values() if str(value) in measured
    }
    assert measured - conventional == {name for name in measured if name.startswith("kameleon.")}


@SQLITE
@pytest.mark.parametrize(
    ("usage", "tokens"), [({"prompt_tokens": 9}, 9), ({"prompt_tokens": "9"}, None), ({}, None), ([], None)]
)
def test_tokens_that_a_server_counts_are_those_of_its_request(
    make: Make, recorded: Recorded, usage: object, tokens: int | None
) -> None:
    def counted(request: dict[str, Any]) -> Answer:
        status, headers, body = good(request)
        return status, headers, json.dumps({**json.loads(body), "usage": usage}).encode()

    with serving() as server:
        server.always = counted
        provider = OpenAIProvider("m", dimensions=DIMENSIONS, base_url=server.url, api_key="k")
        make(provider).index_record("document", "1", "red fox")
        provider._client.close()
    found = attributes(recorded.spans("embeddings")[0])
    assert (found["gen_ai.provider.name"], found.get("gen_ai.usage.input_tokens")) == ("openai", tokens)
    sums = recorded.points("gen_ai.client.token.usage", "gen_ai.token.type")
    assert sums.keys() == ({("input",)} if tokens else set())


def test_what_runs_outside_of_an_operation_sets_nothing() -> None:
    current().set({"x": 1})
    assert current() is UNOBSERVED
