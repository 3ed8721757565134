"""The API of the server: it answers what the library does, for stored records and mapped classes, with and without
tenants, and refuses what it cannot take with a problem. On both databases."""

import asyncio
import gzip
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient

import kameleon
from kameleon import ALL_TENANTS, RecordStore, SearchEngine, searchable
from kameleon.documents import record_document, results_document
from kameleon.entities import describe
from kameleon.errors import DatabaseLocked, DatabaseUnavailable, ProviderUnavailable, StorageError
from kameleon.search.options import SearchOptions, TenantOption
from kameleon.server import app
from kameleon.server.models import PYTHON_ALONE, SearchRequest
from kameleon.server.problems import of_kameleon
from kameleon.server.reading import MAX_BODY
from kameleon.testing import HashProvider

from .conftest import Indexes, Make, end_connection

PLACE = "http://127.0.0.1"
TOKEN = "correct-horse-battery-staple"  # noqa: S105
LAMPS: list[dict[str, Any]] = [
    {"id": 1, "name": "red desk lamp", "kind": "desk", "price": 8, "made": "2026-01-31"},
    {"id": 2, "name": "red floor lamp", "kind": "floor", "price": 80, "made": "2026-02-01T10:00Z"},
    {"id": "x/3", "name": "oak desk lamp", "kind": "desk", "price": 99.5, "made": "2026-02-28"},
]
ORDERS = [{"id": n, "about": f"order of lamp {n}", "shop": "ab"[n % 2]} for n in range(4)]


class Base(DeclarativeBase):
    pass


class Finish(Enum):
    MATT = "matt finish"
    GLOSS = "gloss finish"


@searchable(fields=["name"])
class Chair(Base):
    __tablename__ = "api_chair"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    sold: Mapped[bool]
    stars: Mapped[int]
    price: Mapped[Decimal]
    width: Mapped[float]
    made: Mapped[date]
    seen: Mapped[datetime]
    finish: Mapped[Finish]
    maker: Mapped[UUID]
    extra: Mapped[dict[str, Any]] = mapped_column(JSON)


def chair(n: int) -> Chair:
    return Chair(
        id=n,
        name=f"oak chair {n}",
        sold=n % 2 == 0,
        stars=n % 3,
        price=Decimal(n) / 4,
        width=n % 2 + 0.5,
        made=date(2026, 1, 1 + n % 2),
        seen=datetime(2026, 1, 1, 10, n % 2),
        finish=list(Finish)[n % 2],
        maker=UUID(int=n % 2),
        extra={"colour": ["red", "blue"][n % 2]},
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(search: SearchEngine) -> None:
    Base.metadata.create_all(search.engine)
    store = RecordStore(search)
    store.insert("Lamp", LAMPS)
    store.create_entity("Order", search=["about"], tenant_field="shop")
    store.insert("Order", ORDERS)
    search.index_record("Poster", "1", "an oak tree beside a lamp")
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add_all(map(chair, range(6)))


@pytest.fixture
def filled(indexes: Indexes, backend: str) -> SearchEngine:
    """An index that tests only read."""
    return indexes(backend, fill)


@pytest.fixture
def client(filled: SearchEngine) -> TestClient:
    return TestClient(app(filled), PLACE)


@pytest.fixture
def writing(make: Make) -> TestClient:
    search = make(HashProvider())
    RecordStore(search).insert("Lamp", LAMPS)
    return TestClient(app(search, write=True), PLACE)


STRUCTURED = ("where", "facets", "pin", "hide", "boost", "limit_by", "vector")


def get(client: TestClient, path: str, **given: Any) -> Any:
    """The document of the answer."""
    parameters = {name: json.dumps(value) if is_json(name, value) else value for name, value in given.items()}
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def is_json(name: str, value: Any) -> bool:
    return name in STRUCTURED or not isinstance(value, str | list)


def refused(answer: Any) -> tuple[int, str, str]:
    """The status, the title and the detail of a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document.keys() == {"type", "title", "status", "detail"}
    assert document["status"] == answer.status_code
    return answer.status_code, document["title"], document["detail"]


def as_json(document: Any) -> Any:
    return json.loads(json.dumps(document, default=lambda value: value.isoformat()))


SEARCHES: list[dict[str, Any]] = [
    {"query": "red lamp", "all_tenants": True},
    {"query": "red lamp", "entity": "Lamp", "where": {"kind": "desk"}, "limit": 1},
    {"query": "lamp", "entities": ["Lamp", "Poster"], "mode": "keyword", "count": True, "offset": 1},
    {"query": "lamp", "entity": "Lamp", "facets": ["kind", {"price": [0, 10, 100]}, {"made": "month"}]},
    {"query": "lamp", "entity": "Lamp", "sort": "-price", "passages": 2},
    {"query": "lamp", "entity": "Lamp", "sort": ["kind", "-price"]},
    {"query": "lamp", "entity": "Lamp", "fusion": "rrf", "weight": 0.25, "min_score": 0.125, "synonyms": False},
    {"query": "lamp", "entity": "Lamp", "pin": ["x/3"], "hide": [["Lamp", "1"]], "rules": False},
    {"query": "lamp", "entity": "Lamp", "limit_by": {"kind": 1}, "diversity": 0.5},
    {"query": "lamp", "entity": "Lamp", "boost": [{"field": "price", "half": 10, "weight": 0.5}]},
    {"query": "lamp", "entities": ["Lamp", "Poster"], "group_by": "entity", "snippet_length": 20},
    {"entity": "Lamp", "ids": ["1", "x/3"]},
    {"query": "oak", "entity": "Chair", "where": {"sold": True, "made": {"$date": "2026-01-01"}}, "facets": ["stars"]},
    {"query": "lamp", "entity": "Lamp", "min_similarity": 0.1, "vectors": True},
    {"entity": "Lamp", "vector": [1, *[0.5] * 63], "vectors": True},
    {"query": "lamp", "entity": "Lamp", "vector": [1, *[0.5] * 63], "mode": "vector", "min_similarity": -0.5},
    {"query": "order", "entity": "Order", "tenant": "a"},
    {"query": "order", "entity": "Order", "tenant": ["a", "b"]},
]


@pytest.mark.parametrize("place", range(len(SEARCHES)))
def test_a_search_is_that_of_the_library_by_get_and_by_post(
    filled: SearchEngine, client: TestClient, place: int
) -> None:
    given = SEARCHES[place]
    entity: Any = given.get("entity")
    options = {name: value for name, value in given.items() if name not in ("query", "entity")}
    if options.pop("all_tenants", False):
        options["tenant"] = ALL_TENANTS
    entity = Chair if entity == "Chair" else entity
    results = filled.search(given.get("query", ""), entity=entity, highlight=True, data=True, **options)
    assert results
    wanted = as_json(results_document(results))
    assert get(client, "/api/search", **given) == wanted
    assert client.post("/api/search", json=given).json() == wanted


def test_the_api_takes_every_option_that_json_can_have() -> None:
    options = {*SearchOptions.__annotations__, *TenantOption.__annotations__}
    assert len(options) > 25
    assert SearchRequest.model_fields.keys() - options == {"query", "entity", "entities", "legs", "all_tenants"}
    always = {"data"}
    assert options - SearchRequest.model_fields.keys() == (set(PYTHON_ALONE) | always) - {"session", "connection"}


def test_null_is_as_if_it_were_not_given(client: TestClient) -> None:
    given = {"query": "lamp", "entity": "Lamp"}
    names = ("tenant", "cursor", "where", "ids", "weight", "boost", "sort", "limit_by", "group_by", "facets")
    wanted = client.post("/api/search", json=given).json()
    assert wanted["hits"]
    assert client.post("/api/search", json=given | dict.fromkeys(names)).json() == wanted


def test_pages_by_cursor_are_those_of_the_library(client: TestClient) -> None:
    first = get(client, "/api/search", query="lamp", entity="Lamp", limit=2)
    second = get(client, "/api/search", query="lamp", entity="Lamp", limit=2, cursor=first["cursor"])
    assert {hit["id"] for hit in first["hits"] + second["hits"]} == {"1", "2", "x/3"}
    assert second["cursor"] is None


def test_the_best_of_each_leg_stand_beside_the_fusion(filled: SearchEngine, client: TestClient) -> None:
    found = get(client, "/api/search", query="red lamp", entity="Lamp", where={"kind": "desk"}, legs=True, pin=["x/3"])
    legs = {
        mode: [hit.id for hit in filled.search("red lamp", entity="Lamp", mode=mode, where={"kind": "desk"})]
        for mode in ("keyword", "vector")
    }
    assert {mode: [hit["id"] for hit in hits] for mode, hits in found["legs"].items()} == legs
    assert legs["keyword"][0] == "1"
    assert "is_pinned" not in found["legs"]["keyword"][0]
    assert get(client, "/api/search", entity="Lamp", legs=True)["legs"] == {"keyword": [], "vector": []}


def test_the_vector_leg_is_of_the_vector_that_is_given(filled: SearchEngine, client: TestClient) -> None:
    vector = HashProvider().embed_query("lamp blue")
    for query in ("", "red lamp"):
        given = {"query": query, "entity": "Lamp", "vector": vector.tolist(), "min_similarity": 0.1, "legs": True}
        legs = client.post("/api/search", json=given).json()["legs"]
        nearest = filled.search(vector=vector, entity="Lamp", min_similarity=0.1)
        assert [hit["id"] for hit in legs["vector"]] == [hit.id for hit in nearest] != []
        assert bool(legs["keyword"]) == bool(query)


@pytest.mark.parametrize("vector", [7, "1, 2", {"a": 1}, [[1]], ["a"], True, [0] * 64, [10**400]])
def test_what_is_no_vector_is_a_problem(client: TestClient, vector: Any) -> None:
    status, _, detail = refused(client.post("/api/search", json={"vector": vector, "entity": "Lamp"}))
    assert (status, "list of numbers" in detail) == (400, True)


def test_a_leg_without_a_model_is_empty(make: Make, filled: SearchEngine) -> None:
    search = make()
    search.index_record("Poster", "1", "the red fox")
    found = get(TestClient(app(search), PLACE), "/api/search", query="fox", legs=True)
    assert [len(found["legs"][mode]) for mode in ("keyword", "vector")] == [1, 0]


def test_what_is_explained_has_legs_and_a_plan(client: TestClient) -> None:
    found = get(client, "/api/search", query="red lamp", entity="Lamp", explain=True)
    assert [leg["leg"] for leg in found["hits"][0]["explanation"]] == ["keyword", "vector"]
    assert found["plan"]["terms"] == ["red", "lamp"]
    assert found["plan"]["legs"].keys() >= {"keyword", "vector"}


def test_similar_and_suggested_are_those_of_the_library(filled: SearchEngine, client: TestClient) -> None:
    wanted = as_json(results_document(filled.similar("Lamp", "x/3", highlight=True)))
    assert wanted["hits"]
    assert get(client, "/api/similar", entity="Lamp", id="x/3") == wanted
    assert client.post("/api/similar", json={"entity": "Lamp", "id": "x/3"}).json() == wanted
    assert get(client, "/api/suggest", text="red la", entity="Lamp") == {"suggestions": ["red lamp"]}
    assert get(client, "/api/suggest", text="la", entity=["Lamp", "Poster"], limit=1) == {"suggestions": ["lamp"]}


@pytest.mark.parametrize(
    "field", ["sold", "stars", "price", "width", "made", "seen", "finish", "maker", "extra.colour"]
)
def test_a_facets_value_is_a_filter_for_as_many_of_a_class(client: TestClient, field: str) -> None:
    counts = get(client, "/api/search", entity="Chair", facets=[field])["facets"][field]
    assert sum(one["count"] for one in counts) == 6
    for one in counts:
        where = one.get("where") or {field: one["value"]}
        assert get(client, "/api/search", entity="Chair", where=where)["total"] == one["count"]


def test_entities_have_fields_counts_and_values(filled: SearchEngine, client: TestClient) -> None:
    found = {one["name"]: one for one in get(client, "/api/entities")["entities"]}
    kinds = {name: (one["kind"], one["indexed"], one["has_tenants"]) for name, one in found.items()}
    assert kinds == {
        "Chair": ("class", 6, False),
        "Lamp": ("records", 3, False),
        "Poster": ("indexed", 1, False),
        "Order": ("records", 4, True),
    }
    fields = {field["name"]: field for field in found["Chair"]["fields"]}
    types = {name: field["type"] for name, field in fields.items()}
    assert types["price"] == types["width"] == "number"
    assert types["made"] == "date"
    assert types["seen"] == "datetime"
    assert fields["name"]["text"]
    assert not fields["name"]["filterable"]
    assert fields["finish"]["filterable"]
    lamp = get(client, "/api/entities/Lamp")
    assert lamp["values"]["kind"] == [{"value": "desk", "count": 2}, {"value": "floor", "count": 1}]
    assert get(client, "/api/entities/Order", tenant="a")["values"] == {"shop": [{"value": "a", "count": 2}]}
    assert [one.name for one in describe(filled, tenant="a")] == ["Lamp", "Order"]


def test_the_status_is_that_of_the_index(filled: SearchEngine, client: TestClient) -> None:
    found = get(client, "/api/status")
    counts = {one["entity"]: one["indexed"] for one in found["entities"]}
    assert counts == {one.entity: one.indexed for one in filled.get_status()}
    assert not found["writes"]
    (generation,) = found["generations"]
    assert generation["state"] == "active"
    assert "options" not in generation
    assert found["reindex"] is None
    assert (
        get(client, "/api/doctor")["findings"] == []
        or {"cure", "severity"} <= get(client, "/api/doctor")["findings"][0].keys()
    )


def test_refused_texts_are_listed(make: Make) -> None:
    search = make(HashProvider())
    search.index_records_batch([("Poster", "1", "fine")])
    assert get(TestClient(app(search), PLACE), "/api/failures", entity="Poster") == {"failures": []}


def test_a_record_is_stored_changed_read_and_deleted(writing: TestClient) -> None:
    place = f"/api/records/Lamp/{quote('a/b c')}"
    made = writing.put(place, json={"name": "new lamp"})
    assert made.status_code == 201
    assert made.json()["data"] == {"name": "new lamp"}
    assert made.json()["id"] == "a/b c"
    assert writing.put(place, json={"id": "a/b c", "name": "newer lamp"}).status_code == 200
    assert writing.patch(place, json={"price": 3}).json()["data"] == {"name": "newer lamp", "price": 3}
    assert get(writing, place)["data"] == {"name": "newer lamp", "price": 3}
    assert [hit["id"] for hit in get(writing, "/api/search", query="newer", mode="keyword")["hits"]] == ["a/b c"]
    assert writing.delete(place).json() == {"deleted": 1}
    assert refused(writing.delete(place))[:2] == (404, "RecordMissing")
    assert refused(writing.put(place, json={"id": "b", "name": "x"}))[:2] == (400, "InvalidInput")


def test_records_are_inserted_and_replaced(writing: TestClient) -> None:
    records = [{"id": "1", "name": "blue lamp"}, {"id": "9", "name": "green lamp"}]
    report = writing.post("/api/records", json={"entity": "Lamp", "records": records}).json()
    assert (report["inserted"], report["updated"], report["index"]["indexed"]) == (1, 1, 2)
    taken = writing.post("/api/records", json={"entity": "Lamp", "records": records, "on_conflict": "error"})
    assert refused(taken)[:2] == (409, "RecordExists")
    made = writing.post("/api/records", json={"entity": "Shoe", "records": [{"name": "a shoe"}]}).json()
    assert made["created_entity"] == "Shoe"
    assert get(writing, "/api/records", entity="Shoe", id=made["ids"])["records"][0]["data"] == {"name": "a shoe"}


@pytest.mark.parametrize("path", ["/api/search", "/api/records"])
def test_a_cursor_of_anything_is_refused(client: TestClient, path: str) -> None:
    own = get(client, path, entity="Lamp", limit=1)["cursor"]
    for made in (b"", b"[]", b"{}", b'["a", null]', b"[" * 3_000, b"[" + b"9" * 5_000 + b', ""]', b"[NaN, 1]"):
        cursor = urlsafe_b64encode(made).decode() or "="
        assert refused(client.get(path, params={"entity": "Lamp", "cursor": cursor}))[:2] == (400, "InvalidInput")
    assert client.get(path, params={"entity": "Lamp", "limit": 1, "cursor": own}).status_code == 200


def test_records_are_listed_in_pages(filled: SearchEngine, client: TestClient) -> None:
    store = RecordStore(filled)
    lists: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("Lamp", {}, {}),
        ("Lamp", {"where": {"kind": "desk"}}, {"where": {"kind": "desk"}}),
        ("Order", {"all_tenants": True}, {"tenant": ALL_TENANTS}),
        ("Order", {"tenant": "a"}, {"tenant": "a"}),
    ]
    for entity, within, options in lists:
        wanted = [record_document(record) for record in store.list(entity, **options)]
        found: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = get(client, "/api/records", entity=entity, limit=1, **within, **cursor)
            found += page["records"]
            if page["cursor"] is None:
                break
            cursor = {"cursor": page["cursor"]}
        assert len(found) > 1
        assert found == as_json(wanted)


def test_records_are_read_by_their_ids_and_counted(filled: SearchEngine, client: TestClient) -> None:
    for entity, ids in (("Lamp", ["2", "none", "1"]), ("Chair", ["4", "none", "0"])):
        page = get(client, "/api/records", entity=entity, id=ids)
        assert ([record["id"] for record in page["records"]], page["cursor"]) == ([ids[0], ids[2]], None)
        (one,) = get(client, "/api/records", entity=entity, id=ids[0])["records"]
        assert one == get(client, f"/api/records/{entity}/{ids[0]}") == page["records"][0]
    for other in ({"where": '{"a": 1}'}, {"cursor": "x"}):
        assert refused(client.get("/api/records", params={"entity": "Lamp", "id": "1", **other}))[0] == 400
    many = {"entity": "Lamp", "id": [str(n) for n in range(1_001)]}
    assert refused(client.get("/api/records", params=many))[:2] == (400, "InvalidInput")
    store = RecordStore(filled)
    where = {"kind": "desk"}
    assert get(client, "/api/count", entity="Lamp", where=where) == {"count": store.count("Lamp", where=where)}
    assert get(client, "/api/count", entity="Order", all_tenants=True) == {"count": 4}
    assert get(client, "/api/count", entity="Order", tenant="a") == {"count": store.count("Order", tenant="a")}
    assert get(client, "/api/count", entity="Chair", where={"sold": True}) == {"count": 3}
    assert refused(client.get("/api/count", params={"entity": "Order"}))[:2] == (400, "TenantRequired")
    assert refused(client.get("/api/count", params={"entity": "None"}))[0] == 404


def test_of_a_class_records_are_what_the_index_has(client: TestClient) -> None:
    page = get(client, "/api/records", entity="Chair", where={"sold": True}, limit=2)
    assert [record["content"] for record in page["records"]] == ["oak chair 0", "oak chair 2"]
    following = get(client, "/api/records", entity="Chair", where={"sold": True}, cursor=page["cursor"])
    assert [record["id"] for record in following["records"]] == ["4"]
    assert get(client, "/api/records/Poster/1")["content"] == "an oak tree beside a lamp"
    assert refused(client.get("/api/records/Poster/2"))[:2] == (404, "RecordMissing")


def test_the_rows_of_a_class_are_the_applications_to_write(filled: SearchEngine) -> None:
    client = TestClient(app(filled, write=True), PLACE)
    assert refused(client.put("/api/records/Chair/1", json={"name": "x"}))[:2] == (400, "InvalidInput")
    assert refused(client.delete("/api/records/Chair/1"))[:2] == (400, "InvalidInput")


def test_without_write_nothing_is_written(client: TestClient) -> None:
    calls = [
        client.post("/api/records", json={"entity": "Lamp", "records": [{"name": "x"}]}),
        client.put("/api/records/Lamp/1", json={"name": "x"}),
        client.patch("/api/records/Lamp/1", json={"name": "x"}),
        client.delete("/api/records/Lamp/1"),
    ]
    assert {refused(call)[:2] for call in calls} == {(403, "ReadOnly")}
    assert "--write" in refused(calls[0])[2]
    assert get(client, "/api/records/Lamp/1")["data"]["name"] == "red desk lamp"


READS = [
    "/",
    "/metrics",
    "/api/search?query=lamq&entity=Lamp&legs=true&explain=true&facets=%5B%22kind%22%5D",
    "/api/similar?entity=Lamp&id=1",
    "/api/suggest?text=la&entity=Lamp",
    "/api/records?entity=Lamp",
    "/api/records/Lamp/1",
    "/api/entities",
    "/api/entities/Lamp",
    "/api/status",
    "/api/failures",
    "/api/doctor",
    "/api/judgements",
    "/api/judgements/qrels",
]


def test_on_a_connection_that_cannot_write_all_that_reads_is_answered(filled: SearchEngine, backend: str) -> None:
    engine = create_engine(filled.engine.url)
    setting = "PRAGMA query_only = ON" if backend == "sqlite" else "SET default_transaction_read_only = on"

    @event.listens_for(engine, "connect")
    def forbid(connection: Any, _record: Any) -> None:
        connection.cursor().execute(setting)
        connection.commit()

    with engine.begin() as connection, pytest.raises(DBAPIError):
        connection.execute(text("DELETE FROM kdb_meta"))
    client = TestClient(app(SearchEngine(engine, HashProvider(), create_tables=False)), PLACE)
    answers = {path: client.get(path).status_code for path in READS}
    assert answers == dict.fromkeys(READS, 200)
    judged = {"query": "lamp", "entity": "Lamp", "id": "1", "gain": 1}
    measured = client.post("/api/evaluate", json={"judgements": [judged], "entity": "Lamp"})
    assert measured.status_code == 200, measured.text
    engine.dispose()


def test_a_server_for_one_tenant_has_that_alone(filled: SearchEngine) -> None:
    client = TestClient(app(filled, tenant="a", write=True), PLACE)
    assert {hit["tenant"] for hit in get(client, "/api/search", query="order")["hits"]} == {"a"}
    assert {one["name"]: one["indexed"] for one in get(client, "/api/entities")["entities"]} == {"Lamp": 0, "Order": 2}
    assert [record["id"] for record in get(client, "/api/records", entity="Order")["records"]] == ["0", "2"]
    for call in (
        client.get("/api/search?query=order&tenant=b"),
        client.get("/api/search?query=order&all_tenants=true"),
        client.get("/api/records/Order/1?tenant=b"),
        client.put("/api/records/Order/1?tenant=b", json={"about": "x"}),
        client.get("/api/doctor"),
    ):
        assert refused(call)[:2] == (400, "InvalidInput")
    assert refused(client.get("/api/records/Order/1"))[:2] == (404, "RecordMissing")
    for moved in (
        client.patch("/api/records/Order/0", json={"shop": "b"}),
        client.put("/api/records/Order/0", json={"about": "x", "shop": "b"}),
        client.post("/api/records", json={"entity": "Order", "records": [{"about": "x", "shop": "b"}]}),
    ):
        assert refused(moved)[0] == 400
    assert refused(client.delete("/api/records/Order/1"))[:2] == (404, "RecordMissing")


class Ending(HashProvider):
    """Ends the process that calls it."""

    def embed_batch(self, texts: Sequence[str]) -> Any:
        raise KeyboardInterrupt


def test_a_server_for_one_tenant_shows_no_totals_of_a_reindex(make: Make) -> None:
    search = make(HashProvider())
    search.index_record("Order", "1", "a lamp", tenant="b")
    with pytest.raises(KeyboardInterrupt):
        search.reindex(provider=Ending(model_name="other"))
    assert get(TestClient(app(search), PLACE), "/api/status")["reindex"]["total"] == 1
    assert get(TestClient(app(search, tenant="a"), PLACE), "/api/status")["reindex"] is None


def test_what_has_tenants_is_searched_for_one(client: TestClient) -> None:
    assert refused(client.get("/api/search?query=order&entity=Order"))[:2] == (400, "TenantRequired")
    both = refused(client.get("/api/search?query=order&tenant=a&all_tenants=true"))
    assert (both[0], "exclude each other" in both[2]) == (400, True)
    assert refused(client.get("/api/records/Order/1"))[:2] == (400, "TenantRequired")


REFUSED: Mapping[str, tuple[int, str, str]] = {
    "search?limit=x": (400, "InvalidInput", "limit should be "),
    "search?limit=0": (400, "InvalidInput", "limit should be "),
    "search?limit=1&limit=2": (400, "InvalidInput", "limit is given 2 times"),
    "search?explain=yes": (400, "InvalidInput", "explain should be "),
    "search?weight=NaN": (400, "InvalidInput", "weight should be "),
    "search?where=[": (400, "InvalidInput", "where is no JSON"),
    "search?where=3": (400, "InvalidInput", "where should be "),
    'search?entity=Lamp&where={"kind":{"$no":1}}': (400, "InvalidFilter", "$no"),
    "search?mode=fast": (400, "InvalidInput", "mode should be "),
    "search?rerank=x": (400, "InvalidInput", "rerank takes an object of Python"),
    "search?load=true": (400, "InvalidInput", "load takes an object of Python"),
    "search?nothing=1": (400, "InvalidInput", "unknown name 'nothing'. Known: "),
    "search?query=x&entity=No": (404, "UnknownEntity", "Chair, Lamp, Order, Poster"),
    "search?query=x&entity=Lamp&cursor=abc": (400, "InvalidInput", "cursor"),
    "search?entity=Lamp&query=x&boost=[{}]": (400, "InvalidInput", ""),
    "similar?entity=Lamp&id=99": (404, "RecordMissing", "99"),
    "similar?entity=Lamp": (400, "InvalidInput", "id is missing"),
    "suggest": (400, "InvalidInput", "text is missing"),
    "records?entity=Lamp&cursor=abc": (400, "InvalidInput", "no cursor"),
    "records?entity=Lamp&cursor=WyJcdTAwMDAiLCIiXQ": (400, "InvalidRecord", "NUL"),
    "records/Lamp/99": (404, "RecordMissing", "99"),
    "records/No/99": (404, "UnknownEntity", "No"),
    "entities/No": (404, "UnknownEntity", "No"),
    "nothing": (404, "Not Found", ""),
}


def test_what_cannot_be_taken_is_a_problem_with_the_value(client: TestClient) -> None:
    for path, (status, title, detail) in REFUSED.items():
        found = refused(client.get(f"/api/{path}"))
        assert (*found[:2], detail in found[2]) == (status, title, True), (path, found)


def test_a_method_that_a_path_lacks_is_refused_with_those_it_has(client: TestClient) -> None:
    answer = client.delete("/api/search")
    assert refused(answer)[0] == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert client.head("/api/search?query=lamp&entity=Lamp").status_code == 200


BODIES: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"[]", 400),
    (b"{", 400),
    (b"{}x", 400),
    (b'"a"', 400),
    (b'{"query": NaN}', 400),
    (b'{"weight": 1e999}', 400),
    (b'{"weight": Infinity}', 400),
    (b'{"query": "\\ud800"}', 400),
    (b'{"query": "\xff"}', 400),
    (b'{"query": 1}', 400),
    (b'{"limit": true}', 400),
    (b'{"limit": 1.5}', 400),
    (b'{"limit": "1"}', 400),
    (b'{"limit": ' + b"9" * 5_000 + b"}", 400),
    (b'{"where": ' + b'{"$not": ' * 5_000 + b"{}" + b"}" * 5_001, 400),
    (b'{"where": ' + b"[" * 100_000, 400),
    (b'{"where": {"a": ' + b"[" * 150 + b"]" * 150 + b"}}", 400),
    (b'{"query": "' + b"a" * 60_000 + b'"}', 400),
    (b'{"facets": ["\\u0000"], "entity": "Lamp"}', 400),
    (b'{"' + b"n" * 100_000 + b'": 1}', 400),
    (b'{"ids": [[]]}', 400),
    (b'{"hide": [[1, 2, 3]]}', 400),
    (b'{"boost": {"a": 1}, "query": "x"}', 400),
    (b'{"entity": "Lamp", "query": "\\u0000 lamp"}', 200),
    (b'{"entity": "Lamp", "query": "' + '\u202e((((("-*:'.encode().replace(b'"', b'\\"') + b'"}', 200),
    (b'{"entity": "Lamp", "query": "lamp", "query": "desk"}', 200),
]


def test_hostile_bodies_are_answered_or_refused(client: TestClient) -> None:
    for body, status in BODIES:
        answer = client.post("/api/search", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, (body[:60], answer.text[:200])
        assert len(answer.content) < 5_000 if status == 400 else answer.json()["hits"] is not None


NAMES = st.sampled_from(["kind", "price", "made", "id", "name", "a.b", "sold", "seen", "finish", "maker", "extra", ""])
OPERATORS = st.sampled_from(["$eq", "$gt", "$in", "$nin", "$not", "$and", "$or", "$exists", "$contains", "$date", "$x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | OPERATORS, inner, max_size=3),
    max_leaves=6,
)
HOSTILE = st.fixed_dictionaries(
    {"entity": st.sampled_from(["Lamp", "Chair", "Poster", ["Lamp", "Chair"], ["Order"]])},
    optional={
        "query": st.text(max_size=20) | st.sampled_from(["lamp", "oak -red", '"oak chair"', "name:oak", "la*"]),
        "where": st.dictionaries(NAMES | OPERATORS, VALUES, max_size=3),
        "facets": VALUES,
        "sort": VALUES,
        "boost": VALUES,
        "limit_by": VALUES,
        "ids": VALUES,
        "pin": VALUES,
        "cursor": VALUES,
        "tenant": VALUES,
        "limit": st.integers(-1, 3),
        "offset": VALUES,
    },
)


@given(body=HOSTILE)
@settings(max_examples=15, deadline=None, suppress_health_check=[*HealthCheck])
def test_any_json_is_answered_or_refused(client: TestClient, body: Any) -> None:
    answer = client.post("/api/search", json=body)
    assert answer.status_code in (200, 400, 404), answer.text


def test_bodies_of_another_type_or_size_are_refused(writing: TestClient) -> None:
    assert refused(writing.post("/api/search", content=b"{}"))[0] == 415
    assert refused(writing.post("/api/search", data={"query": "x"}))[0] == 415
    large = b'{"entity": "Lamp", "records": [{"name": "' + b"a" * MAX_BODY + b'"}]}'
    headers = {"Content-Type": "application/json"}
    assert refused(writing.post("/api/records", content=large, headers=headers))[0] == 413
    hostile = {"entity": "Lamp", "records": [{"name": "a\0b", "n": 2**70, "deep": {"a": [[[1]]]}}]}
    assert writing.post("/api/records", json=hostile).status_code in (200, 400)


@pytest.mark.parametrize("path", ["/api/search", "/api/records", "/sign-in"])
def test_a_client_that_ends_its_request_early_is_no_error_of_the_server(filled: SearchEngine, path: str) -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    token = (b"authorization", f"Bearer {TOKEN}".encode())
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [*headers, token]}
    asyncio.run(app(filled, write=True, token=TOKEN)(scope, receive, send))
    assert sent[0]["status"] == 400


def test_an_answer_that_has_not_changed_is_not_sent_again(writing: TestClient) -> None:
    path = "/api/search?query=lamp&entity=Lamp"
    first = writing.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert first.headers["cache-control"] == "private, no-cache"
    again = writing.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert "dur=" in first.headers["server-timing"]
    assert "keyword" in first.headers["server-timing"]
    writing.patch("/api/records/Lamp/1", json={"price": 7})
    changed = writing.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_an_answer_is_packed_where_the_client_takes_it(client: TestClient) -> None:
    plain = client.get("/api/openapi.json", headers={"Accept-Encoding": "gzip;q=0"})
    with client.stream("GET", "/api/openapi.json", headers={"Accept-Encoding": "br, gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert "content-encoding" not in plain.headers
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


def test_the_document_has_every_operation_and_its_parameters(client: TestClient) -> None:
    document = get(client, "/api/openapi.json")
    assert document["openapi"] == "3.1.0"
    search = document["paths"]["/api/search"]
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if not name.isalpha()] == [], "two models have one name"
    body = schemas["SearchRequest"]["properties"]
    names = {parameter["name"] for parameter in search["get"]["parameters"]}
    assert names == body.keys()
    assert {"where", "limit", "cursor", "legs", "passages"} <= names
    where = next(parameter for parameter in search["get"]["parameters"] if parameter["name"] == "where")
    assert where["content"]["application/json"]["schema"]["type"] == "object"
    assert document["security"] == []
    assert document["servers"] == [{"url": "/"}]
    one = document["paths"]["/api/records/{entity}/{id}"]
    assert one.keys() == {"get", "put", "patch", "delete"}
    assert [p["name"] for p in one["put"]["parameters"] if p["in"] == "path"] == ["entity", "id"]


def test_below_a_prefix_the_document_names_it_and_wants_the_token(filled: SearchEngine) -> None:
    mounted = Starlette(routes=[Mount("/find", app(filled, token=TOKEN))])
    client = TestClient(mounted, PLACE, headers={"Authorization": f"Bearer {TOKEN}"})
    document = get(client, "/find/api/openapi.json")
    assert (document["servers"], document["security"]) == ([{"url": "/find"}], [{"token": []}])
    assert get(client, "/find/api/search", query="oak", entity="Chair")["total"] == 6


@pytest.mark.parametrize("backend", ["postgresql"])
def test_lost_connections_are_replaced_and_the_request_may_be_repeated(
    filled: SearchEngine, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    search = "/api/search?query=lamp&entity=Lamp"
    assert client.get(search).status_code == 200
    filled.engine.dispose()
    end_connection(filled.engine)
    lost = client.get(search)
    assert refused(lost)[:2] == (503, "DatabaseUnavailable")
    assert lost.headers["retry-after"] == "1"
    assert "terminating connection" in caplog.text
    assert "terminating connection" not in lost.text
    assert client.get(search).status_code == 200


def test_an_error_of_the_database_shows_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    request: Any = None
    shown = of_kameleon(request, StorageError("connection to server at 10.0.0.1 failed"))
    assert shown.status_code == 500
    assert b"10.0.0.1" not in bytes(shown.body)
    assert "10.0.0.1" in caplog.text
    away = of_kameleon(request, DatabaseUnavailable("connection to server at 10.0.0.2 failed"))
    assert (away.status_code, away.headers["retry-after"], b"10.0.0.2" in bytes(away.body)) == (503, "1", False)
    assert "10.0.0.2" in caplog.text
    busy = of_kameleon(request, DatabaseLocked("locked"))
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
    down = of_kameleon(request, ProviderUnavailable("down", retry_after_s=2.5))
    assert (down.status_code, down.headers["retry-after"]) == (503, "3")


def test_an_error_that_nothing_expects_shows_nothing_of_it(filled: SearchEngine) -> None:
    def tenant(_request: Request) -> str:
        raise RuntimeError("the password is 1234")

    client = TestClient(app(filled, tenant=tenant), PLACE, raise_server_exceptions=False)
    status, title, detail = refused(client.get("/api/search?query=lamp"))
    assert (status, title) == (500, "InternalError")
    assert "1234" not in detail


def test_without_a_free_connection_a_request_is_to_be_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    engine = kameleon.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    client = TestClient(app(SearchEngine(engine)), PLACE)
    with engine.connect():
        answer = client.get("/api/entities")
    assert refused(answer)[:2] == (503, "TimeoutError")
    assert answer.headers["retry-after"] == "1"
    assert get(client, "/api/entities") == {"entities": []}
    engine.dispose()
