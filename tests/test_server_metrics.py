"""/metrics of the server, as Prometheus reads it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import sessionmaker
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from kameleon import SearchEngine
from kameleon.server import app
from kameleon.server.metrics import PROCESS, REQUEST, named
from kameleon.telemetry import unobserve
from kameleon.telemetry.measures import COUNTERS, DURATIONS, RETURNED, SIZE, STEPS, TOKENS
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note

from .conftest import Make
from .forks import forked

PLACE = "http://127.0.0.1:8765"
ROOT = Path(__file__).parents[1]
SQLITE = pytest.mark.parametrize("backend", ["sqlite"])
"""Over one database, for what is the same over both."""
SHORT = [("document", "1", "red fox"), ("document", "2", "blue whale")]
SEARCHES = "gen_ai_client_operation_duration_seconds_count"
REQUESTS = "http_server_request_duration_seconds_count"


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def from_zero() -> Iterator[None]:
    """Each test counts from zero, and leaves no observer."""
    PROCESS.__dict__.pop("figures", None)
    yield
    unobserve(PROCESS)
    PROCESS.__dict__.pop("figures", None)


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def client(search: SearchEngine, **options: Any) -> TestClient:
    return TestClient(app(search, **options), PLACE)


def scraped(client: TestClient, path: str = "/metrics") -> Samples:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    assert samples
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels."""
    return sum(value for (of, has), value in samples.items() if of == name and labels.items() <= dict(has).items())


def test_searches_and_requests_are_counted_by_route_and_status(search: SearchEngine) -> None:
    search.index_records_batch(SHORT)
    web = client(search)
    for query in ("fox", "whale"):
        assert web.get("/api/search", params={"query": query}).status_code == 200
    assert web.get("/api/search", params={"mode": "no such mode"}).status_code == 400
    assert web.get("/no/such/path/1").status_code == 404
    found = scraped(web)
    assert total(found, SEARCHES, gen_ai_operation_name="retrieval", kameleon_search_legs="keyword,vector") == 2
    assert total(found, REQUESTS, http_route="/api/search", http_response_status_code="200") == 2
    assert total(found, REQUESTS, http_route="/api/search", http_response_status_code="400") == 1
    assert total(found, REQUESTS, http_route="", http_response_status_code="404") == 1
    assert total(found, "db_client_response_returned_rows_sum") == 2


def test_what_is_in_the_index_is_read_at_each_scrape(search: SearchEngine) -> None:
    web = client(search)
    assert total(scraped(web), "kameleon_index_size") == 0
    search.index_records_batch(SHORT)
    found = scraped(web)
    assert total(found, "kameleon_index_size", kameleon_entity="document", kameleon_state="indexed") == 2
    assert total(found, "kameleon_index_readable") == 1
    assert total(found, "kameleon_index_records_total", kameleon_outcome="indexed") == 2


def test_commits_of_mapped_classes_are_counted(make: Make, provider: HashProvider) -> None:
    search = make(provider)
    Base.metadata.create_all(search.engine)
    web = client(search)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add(Note(title="red fox", body="b"))
    found = scraped(web)
    assert total(found, "kameleon_commit_duration_seconds_count") == 1
    assert total(found, "kameleon_index_size", kameleon_entity="Note", kameleon_state="indexed") == 1


@SQLITE
def test_an_index_that_cannot_be_read_leaves_the_figures_of_the_process(search: SearchEngine) -> None:
    web = client(search)
    web.get("/api/search", params={"query": "fox"})
    with search.engine.begin() as connection:
        search.index.tables.metadata.drop_all(connection)
    found = scraped(web)
    assert total(found, "kameleon_index_readable") == 0
    assert total(found, SEARCHES) >= 1


def test_it_shows_no_text_no_id_and_no_tenant(search: SearchEngine) -> None:
    search.index_records_batch([("document", "key-1", "confidential fox")], tenant="acme")
    web = client(search)
    web.get("/api/search", params={"query": "confidential", "tenant": "acme"})
    web.get("/api/records/document/key-1", params={"tenant": "acme"})
    text = web.get("/metrics").text
    assert 'kameleon_index_size{kameleon_entity="document",kameleon_state="indexed"} 1.0' in text
    assert not [word for word in ("confidential", "key-1", "acme") if word in text]


def test_a_server_of_one_tenant_counts_that_ones_records(search: SearchEngine) -> None:
    search.index_records_batch(SHORT, tenant="acme")
    search.index_records_batch(SHORT[:1], tenant="globex")
    sizes = [
        total(scraped(client(search, tenant=tenant)), "kameleon_index_size", kameleon_state="indexed")
        for tenant in (None, "acme", "globex", lambda _request: "acme")
    ]
    assert sizes == [3, 2, 1, 0], "a server whose requests have tenants shows none"


@SQLITE
def test_it_requires_the_token(search: SearchEngine) -> None:
    web = client(search, token="correct-horse-battery-staple")  # noqa: S106
    assert web.get("/metrics").status_code == 401
    web.headers["authorization"] = "Bearer correct-horse-battery-staple"
    assert total(scraped(web), REQUESTS, http_response_status_code="401") == 1, "refusals are counted, too"


@SQLITE
def test_below_a_path_routes_are_those_of_the_server(search: SearchEngine) -> None:
    web = TestClient(Starlette(routes=[Mount("/find", app(search))]), PLACE)
    web.get("/find/api/suggest", params={"text": "f"})
    assert total(scraped(web, "/find/metrics"), REQUESTS, http_route="/api/suggest") == 1


@SQLITE
def test_openmetrics_is_given_to_those_who_accept_it(search: SearchEngine) -> None:
    answer = client(search).get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert [family.name for family in openmetrics(answer.text) if family.name == "kameleon_index_size"]  # type: ignore[no-untyped-call]


@SQLITE
def test_a_forked_process_counts_from_zero(search: SearchEngine) -> None:
    web = client(search)
    web.get("/api/suggest", params={"text": "f"})

    def count(_child: int = 0) -> float:
        samples = [sample for metric in PROCESS.figures.registry.collect() for sample in metric.samples]
        return sum(sample.value for sample in samples if sample.name == "kameleon_suggest_duration_seconds_count")

    assert (count(), forked(count)) == (1, [0])


def test_the_dashboard_queries_figures_and_labels_that_there_are() -> None:
    panels = json.loads((ROOT / "examples" / "grafana-dashboard.json").read_text("utf-8"))["panels"]
    queries = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    served = {metric.name for metric in PROCESS.figures.registry.collect()} | {"kameleon_index_size"}
    of_labels = {*REQUEST.labels, *SIZE.labels}
    for measure in (*DURATIONS.values(), *STEPS.values(), *COUNTERS.values(), RETURNED, TOKENS):
        of_labels.update(measure.labels)
    words = set(re.findall(r"[a-z]+_[a-z_]+", re.sub(r"\$__rate_interval|histogram_quantile", "", queries)))
    names = {re.sub(r"_(bucket|sum|count|total)$", "", word) for word in words}
    labels = {named(label) for label in of_labels}
    assert len(names & served) > 8
    assert names - served - labels == set()
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    assert [panel["title"] for panel in panels if f"| {panel['title']} |" not in page] == []


def test_the_page_has_every_measure_and_label() -> None:
    page = (ROOT / "docs" / "observability.md").read_text("utf-8").partition("## Metrics")[2]
    measures = [*DURATIONS.values(), *STEPS.values(), *COUNTERS.values(), RETURNED, TOKENS, SIZE]
    wanted = [text for measure in measures for text in (measure.name, named(measure.name), *measure.labels)]
    assert len(wanted) > 30
    assert [text for text in wanted if text not in page] == []
