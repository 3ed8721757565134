"""/api/judgements, /api/evaluate and /api/weight, on each database."""

from collections.abc import Iterable
from typing import Any

import pytest
from starlette.testclient import TestClient

from kameleon import RecordStore, SearchEngine
from kameleon.evaluation import evaluate, evaluation_document, read_qrels, read_queries
from kameleon.server import app

SHOES = [{"id": f"s{n}", "name": f"running shoes model {n}"} for n in range(6)]
NOTES = [("Note", str(n), text) for n, text in enumerate(["red fox", "red bear", "green frog", "old bear"])]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(search: SearchEngine) -> SearchEngine:
    RecordStore(search).insert("Product", SHOES)
    search.index_records_batch(NOTES)
    return search


def serving(search: SearchEngine, **options: Any) -> TestClient:
    return TestClient(app(search, **{"write": True, **options}), base_url="http://127.0.0.1")


def judged(query: str, id: str, gain: float | None = 1.0, **others: Any) -> dict[str, Any]:
    return {"query": query, "entity": "Product", "id": id, "gain": gain, **others}


def keys(response: Any) -> list[tuple[str, str, float]]:
    assert response.status_code == 200, response.text
    return [(one["query"], one["id"], one["gain"]) for one in response.json()["judgements"]]


def detail(response: Any, status: int = 400) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["detail"])


def test_judgements_are_kept_listed_and_removed(shop: SearchEngine) -> None:
    client = serving(shop)
    assert client.put("/api/judgements", json=judged("shoes", "s1")).json() == {"kept": 1, "removed": 0}
    many = [judged("shoes", "s1", 0), judged("shoes", "s2", 2), judged("model", "s3"), judged("model", "no", None)]
    assert client.put("/api/judgements", json=many).json() == {"kept": 3, "removed": 0}
    assert keys(client.get("/api/judgements")) == [("model", "s3", 1), ("shoes", "s1", 0), ("shoes", "s2", 2)]
    assert keys(client.get("/api/judgements", params={"query": "model"})) == [("model", "s3", 1)]
    assert keys(client.get("/api/judgements", params={"entity": "Note"})) == []
    assert client.put("/api/judgements", json=judged("shoes", "s1", None)).json() == {"kept": 0, "removed": 1}
    one = {"query": "shoes", "entity": "Product", "id": "s2"}
    assert client.delete("/api/judgements", params=one).json() == {"deleted": 1}
    assert client.delete("/api/judgements", params={"query": "model"}).json() == {"deleted": 1}
    assert [len(shop.judgements.list()), keys(client.get("/api/judgements"))] == [0, []]


def test_what_cannot_be_judged_is_refused(shop: SearchEngine) -> None:
    client = serving(shop)
    bad: Iterable[Any] = (
        5,
        [5],
        {},
        judged("", "s1"),
        judged(" ", "s1"),
        judged("é" * 501, "s1"),
        judged("shoes", "s1", -1),
        judged("shoes", "s1", "1"),  # type: ignore[arg-type]
        judged("shoes", "s1", weight=1),
        judged("shoes", "x" * 2_000),
    )
    for body in bad:
        assert detail(client.put("/api/judgements", json=body))
    several = [judged("shoes", "s1"), judged("shoes", "s1", weight=1), {"query": "shoes"}]
    assert detail(client.put("/api/judgements", json=several)).startswith(
        "unknown name 'judgements[1].weight'; judgements[2].entity is missing"
    )
    assert "give both" in detail(client.delete("/api/judgements", params={"query": "shoes", "entity": "Product"}))
    assert "query" in detail(client.delete("/api/judgements"))
    assert "an entity name" in detail(client.get("/api/judgements", params={"entity": "a\0"}))
    assert "a valid number" in detail(client.put("/api/weight", json={"weight": "much"}))
    assert "less than or equal" in detail(client.put("/api/weight", json={"weight": 2}))
    assert shop.judgements.list() == []


def test_a_read_only_server_refuses_each_write_and_evaluates(shop: SearchEngine) -> None:
    client = serving(shop, write=False)
    for refused in (
        client.put("/api/judgements", json=judged("shoes", "s1")),
        client.delete("/api/judgements", params={"query": "shoes"}),
        client.put("/api/weight", json={"weight": 0.5}),
    ):
        assert "--write" in detail(refused, 403)
    given = {"judgements": [judged("model 4", "s4"), judged("model 3", "s3", None)], "entities": ["Product"]}
    assert client.post("/api/evaluate", json=given).json()["queries"] == 1
    assert shop.judgements.list() == []


def test_the_files_are_those_that_eval_reads(shop: SearchEngine) -> None:
    client = serving(shop)
    client.put("/api/judgements", json=[judged("shoes", "s1", 0.5), judged("größe 1", "s2")])
    client.put("/api/judgements", json=judged("red", "0") | {"entity": "Note"})
    files = [client.get(f"/api/judgements/{name}").text.splitlines() for name in ("queries", "qrels")]
    queries, qrels = read_queries(files[0]), read_qrels(files[1])
    assert sorted(queries.values()) == ["größe 1", "red", "shoes"]
    assert {queries[id_]: gains for id_, gains in qrels.items()} == {
        "größe 1": {"Product/s2": 1.0},
        "red": {"Note/0": 1.0},
        "shoes": {"Product/s1": 0.5},
    }
    found = evaluation_document(evaluate(shop, queries, qrels, fits=False))
    assert client.post("/api/evaluate", json={}).json() == {**found, "notes": list(found["notes"])}


def test_an_evaluation_is_of_what_is_kept_or_given_and_its_weight_is_saved(shop: SearchEngine) -> None:
    client = serving(shop)
    assert "no query is judged" in detail(client.post("/api/evaluate", json={}))
    client.put("/api/judgements", json=[judged("model 4", "s4"), judged("gone", "gone"), judged("red", "s1", 0)])
    kept = client.post("/api/evaluate", json={}).json()
    assert (kept["queries"], kept["skipped"], kept["judged"], kept["unknown"]) == (1, 2, 3, 1)
    assert (kept["weight"], kept["ndcg_by_weight"]["0.70"]) == (0.7, kept["figures"]["weighted"]["ndcg"])
    assert kept["errors_by_weight"].keys() == kept["ndcg_by_weight"].keys()
    given = client.post("/api/evaluate", json={"judgements": [judged("fox", "0") | {"entity": "Note"}]}).json()
    assert (given["queries"], given["judged"]) == (1, 1)
    assert "no query is judged" in detail(client.post("/api/evaluate", json={"entity": ["Note"]}))
    saved = client.put("/api/weight", json={"weight": 0.25}).json()
    assert saved == {"weight": 0.25, "generation": 1, "model": "hash"}
    assert shop.search("red").plan.weight == 0.25
    assert client.post("/api/evaluate", json={}).json()["weight"] == 0.25


@pytest.fixture
def tenants(search: SearchEngine) -> SearchEngine:
    for tenant in ("acme", "beta"):
        RecordStore(search).insert("Product", SHOES, tenant=tenant)
        search.judgements.set("model 4", [("Product", "s4"), ("Product", f"of {tenant}")], tenant=tenant)
    return search


def test_a_server_of_one_tenant_reads_and_writes_its_judgements_alone(tenants: SearchEngine) -> None:
    client = serving(tenants, tenant="acme")
    assert keys(client.get("/api/judgements")) == [("model 4", "of acme", 1), ("model 4", "s4", 1)]
    assert {one["tenant"] for one in client.get("/api/judgements").json()["judgements"]} == {"acme"}
    assert client.put("/api/judgements", json=judged("model 4", "s1", 0)).json()["kept"] == 1
    assert client.put("/api/judgements", json=judged("model 4", "s2", 0, tenant="acme")).json()["kept"] == 1
    mixed = [judged("model 4", "s3"), judged("model 4", "s3", tenant="beta")]
    assert "for the tenant 'acme' alone" in detail(client.put("/api/judgements", json=mixed))
    assert "alone" in detail(client.post("/api/evaluate", json={"judgements": mixed}))
    assert "alone" in detail(client.get("/api/judgements", params={"all_tenants": "true"}))
    assert "alone" in detail(client.get("/api/judgements/qrels", params={"tenant": "beta"}))
    assert "one" in detail(client.put("/api/weight", json={"weight": 0.5}))
    assert "of beta" not in client.get("/api/judgements/qrels").text
    found = client.post("/api/evaluate", json={"judgements": [judged("model 4", "s4")]}).json()
    assert (found["queries"], found["judged"], found["unknown"]) == (1, 1, 0)
    assert client.post("/api/evaluate", json={}).json()["judged"] == 4
    assert client.delete("/api/judgements", params={"query": "model 4"}).json() == {"deleted": 4}
    assert len(tenants.judgements.list(tenant="beta")) == 2


def test_a_server_of_all_tenants_lists_all_and_judges_for_each(tenants: SearchEngine) -> None:
    client = serving(tenants)
    assert len(keys(client.get("/api/judgements"))) == 4
    assert len(keys(client.get("/api/judgements", params={"tenant": "beta"}))) == 2
    several = [judged("shoes", "s1", tenant=name) for name in ("acme", "beta")]
    assert client.put("/api/judgements", json=several).json()["kept"] == 2
    assert len(keys(client.get("/api/judgements"))) == 6
    assert "has tenants" in detail(client.post("/api/evaluate", json={}))
    assert client.post("/api/evaluate", json={"tenant": "acme"}).json()["judged"] == 3
    assert client.post("/api/evaluate", json={"all_tenants": True}).json()["judged"] == 6
    removed = judged("shoes", "s1", None, tenant="beta")
    assert client.put("/api/judgements", json=removed).json() == {"kept": 0, "removed": 1}


def test_an_index_without_a_model_is_measured_by_keywords(make: Any) -> None:
    search = make(None)
    search.index_records_batch(NOTES)
    client = serving(search)
    found = client.post("/api/evaluate", json={"judgements": [judged("bear", "1") | {"entity": "Note"}]}).json()
    assert (list(found["figures"]), found["weight"], found["ndcg_by_weight"]) == (["keyword"], None, {})
    assert "no embeddings" in detail(client.put("/api/weight", json={"weight": 0.5}), 409)
