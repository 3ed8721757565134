"""Judgements that are kept with the index, on each database."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import kameleon
from kameleon import ALL_TENANTS, RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import InvalidInput
from kameleon.evaluation import (
    AnswerCache,
    compare,
    evaluate,
    judgements_of,
    qrels_lines,
    query_lines,
    read_qrels,
    read_queries,
)
from kameleon.evaluation.answers import Answer
from kameleon.evaluation.judged import judged_by
from kameleon.indexing import judgements as limits
from kameleon.judgements import Judgement
from kameleon.testing import HashProvider
from kameleon.values import Ref

from .conftest import ids
from .test_cli import Run, run

__all__ = ["run"]

SHOES = [{"id": f"s{n}", "name": f"running shoes model {n}"} for n in range(4)]


class Base(DeclarativeBase):
    pass


@searchable(fields=["name"])
class Article(Base):
    __tablename__ = "judged_article"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(search: SearchEngine) -> SearchEngine:
    RecordStore(search).insert("Product", SHOES)
    return search


def kept(search: Any, **options: Any) -> list[tuple[str, str, str, float, str]]:
    return [(one.query, one.entity, one.id, one.gain, one.tenant) for one in search.judgements.list(**options)]


def test_a_record_is_judged_by_its_key_its_ref_or_its_hit(shop: SearchEngine) -> None:
    (hit, *_) = shop.search("running shoes")
    made = shop.judgements.set("  running \n shoes ", [hit])
    assert [(one.query, one.id, one.gain) for one in made] == [("running shoes", hit.id, 1.0)]
    shop.judgements.set("running shoes", [("Product", "later"), Ref("Product", hit.id)], 2)
    shop.judgements.set("running shoes", [("Page", 7)], 0)
    assert kept(shop) == [
        ("running shoes", "Page", "7", 0.0, ""),
        ("running shoes", "Product", "later", 2.0, ""),
        ("running shoes", "Product", hit.id, 2.0, ""),
    ]
    again = {one.id: one for one in shop.judgements.list()}
    assert again[hit.id].created_at == made[0].created_at
    assert again[hit.id].updated_at != made[0].updated_at
    assert kept(shop, query="running shoes", entities=["Page"]) == [("running shoes", "Page", "7", 0.0, "")]
    assert kept(shop, query="other") == []


def test_judgements_are_removed_by_record_and_by_query(shop: SearchEngine) -> None:
    shop.judgements.set("shoes", [("Product", "s0"), ("Product", "s1"), ("Product", "s2")])
    shop.judgements.set("model", [("Product", "s0")])
    assert shop.judgements.remove("shoes", [("Product", "s0"), ("Product", "none")]) == 1
    assert [one[:3] for one in kept(shop)] == [
        ("model", "Product", "s0"),
        ("shoes", "Product", "s1"),
        ("shoes", "Product", "s2"),
    ]
    assert shop.judgements.remove("shoes") == 2
    assert shop.judgements.remove("shoes") == 0
    assert [one[0] for one in kept(shop)] == ["model"]


def test_many_are_loaded_and_the_last_of_a_key_counts(shop: SearchEngine) -> None:
    many = [Judgement(f"query {n % 7}", "Product", f"p{n}", 1.0) for n in range(1_200)]
    assert shop.judgements.load([*many, Judgement("query 0", "Product", "p0", 3)]) == 1_200
    assert len(shop.judgements.list()) == 1_200
    assert kept(shop, query="query 0")[0] == ("query 0", "Product", "p0", 3.0, "")
    assert shop.judgements.load([Judgement("query 0", "Product", "p0", 0), Judgement("a", "Product", "p0")]) == 2
    assert (kept(shop, query="query 0")[0][3], len(shop.judgements.list())) == (0.0, 1_201)


@pytest.mark.parametrize(
    ("query", "records", "gain", "message"),
    [
        (" ", [("Product", "s0")], 1, "an empty query"),
        (5, [("Product", "s0")], 1, "a query is text, not 5"),
        ("é" * 501, [("Product", "s0")], 1, "1,000 bytes at most, not 1,002"),
        ("shoes", [("Product", "s0")], -1, "a number from 0"),
        ("shoes", [("Product", "s0")], float("nan"), "a number from 0"),
        ("shoes", [("Product", "s0")], True, "a number from 0"),
        ("shoes", ["s0"], 1, "without its entity"),
        ("shoes", [("Product", "x" * 1_025)], 1, "a record id"),
    ],
)
def test_what_cannot_be_kept_is_refused(shop: SearchEngine, query: Any, records: Any, gain: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        shop.judgements.set(query, records, gain)
    assert shop.judgements.list() == []


def test_the_longest_key_is_kept(shop: SearchEngine) -> None:
    parts: dict[str, Any] = {"query": "é" * 500, "entity": "E" * 255, "id": "i" * 1_024, "tenant": "t" * 255}
    shop.judgements.load([Judgement(**parts)])
    assert [one.query for one in shop.judgements.list(tenant="t" * 255)] == ["é" * 500]


def test_too_many_are_refused(shop: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_JUDGEMENTS", 2)
    shop.judgements.set("shoes", [("Product", "s0"), ("Product", "s1")])
    with pytest.raises(InvalidInput, match="2 at most for a tenant"):
        shop.judgements.set("shoes", [("Product", "s2")])
    shop.judgements.set("shoes", [("Product", "s1")], 0)
    assert len(shop.judgements.list()) == 2


def test_they_are_of_the_callers_transaction(shop: SearchEngine, engine: Engine) -> None:
    with engine.connect() as connection:
        shop.judgements.set("shoes", [("Product", "s0")], connection=connection)
        assert len(shop.judgements.list(connection=connection)) == 1
        connection.rollback()
    sessions = shop.attach(sessionmaker(engine))
    with sessions() as session:
        shop.judgements.load([Judgement("shoes", "Product", "s0")], session=session)
        assert shop.judgements.remove("shoes", session=session) == 1
        session.rollback()
    assert shop.judgements.list() == []


def test_a_mapped_class_names_its_records(search: SearchEngine, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all([Article(id=n, name=f"lamp {n}") for n in range(3)])
    search.judgements.set("lamps", [(Article, 2)])
    search.judgements.set("lamps", search.search("lamp", entity=Article, limit=1), 0)
    assert [one[1] for one in kept(search)] == ["Article", "Article"]


def test_a_renamed_entity_keeps_its_judgements_and_a_dropped_one_leaves_them(shop: SearchEngine) -> None:
    shop.judgements.set("shoes", [("Product", "s0"), ("Page", "1")])
    shop.judgements.set("shoes", [("Item", "s0"), ("Item", "none")], 0)
    RecordStore(shop).rename_entity("Product", "Item")
    assert [one[1:4] for one in kept(shop)] == [("Item", "none", 0.0), ("Item", "s0", 1.0), ("Page", "1", 1.0)]
    RecordStore(shop).drop_entity("Item")
    assert [one[1] for one in kept(shop)] == ["Page"]


def test_a_rebuild_keeps_them(shop: SearchEngine, engine: Engine) -> None:
    shop.judgements.set("shoes", [("Product", "s0")], 2)
    before = shop.judgements.list()
    kameleon.rebuild(engine)
    assert SearchEngine(engine, HashProvider()).judgements.list() == before


@pytest.fixture
def tenants(search: SearchEngine) -> SearchEngine:
    for tenant in ("acme", "beta"):
        RecordStore(search).insert("Product", SHOES, tenant=tenant)
    return search


def test_each_tenant_has_its_own(tenants: SearchEngine) -> None:
    acme, beta = tenants.for_tenant("acme"), tenants.for_tenant("beta")
    hits = tenants.search("shoes", tenant="acme", limit=2)
    tenants.judgements.set("shoes", hits, 2)
    beta.judgements.set("shoes", [("Product", "s0")], 0)
    tenants.judgements.load([Judgement("model", "Product", "s1", tenant=name) for name in ("acme", "beta", "")])
    assert kept(tenants) == [("model", "Product", "s1", 1.0, "")]
    assert {one[4] for one in kept(acme)} == {"acme"}
    assert sorted(one[2] for one in kept(acme, query="shoes")) == sorted(ids(hits))
    assert kept(beta) == [("model", "Product", "s1", 1.0, "beta"), ("shoes", "Product", "s0", 0.0, "beta")]
    assert len(kept(tenants, tenant=ALL_TENANTS)) == 6
    assert len(kept(tenants, tenant=["acme", ""])) == 4
    both = tenants.search("shoes", tenant=ALL_TENANTS, limit=8)
    with pytest.raises(InvalidInput, match="of the tenants 'acme' and 'beta'"):
        tenants.judgements.set("shoes", both)
    with pytest.raises(InvalidInput, match="of the tenant 'acme', and these judgements are of 'beta'"):
        beta.judgements.set("shoes", hits)
    with pytest.raises(InvalidInput, match="for the tenant 'beta' alone"):
        beta.judgements.list(tenant="acme")
    assert tenants.judgements.remove("shoes", hits) == 2
    assert beta.judgements.remove("shoes") == 1


def test_a_dropped_tenant_has_none_and_an_exported_one_takes_its_own(tenants: SearchEngine, tmp_path: Path) -> None:
    for tenant in ("acme", "beta"):
        tenants.judgements.set("shoes", [("Product", "s0"), ("Product", "later")], 3, tenant=tenant)
    file = tmp_path / "acme.jsonl.gz"
    tenants.admin.export_tenant("acme", file)
    tenants.admin.drop_tenant("acme")
    assert {one[4] for one in kept(tenants, tenant=ALL_TENANTS)} == {"beta"}
    tenants.judgements.set("model", [("Product", "s1")], tenant="acme")
    tenants.admin.import_tenant(file)
    assert [one[:4] for one in kept(tenants, tenant="acme")] == [
        ("model", "Product", "s1", 1.0),
        ("shoes", "Product", "later", 3.0),
        ("shoes", "Product", "s0", 3.0),
    ]


def test_coroutines_judge_in_a_sessions_transaction(backend: str, tmp_path: Path, request: Any) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}" if backend == "sqlite" else request.getfixturevalue("pg_url")

    async def judge() -> list[str]:
        engine = kameleon.create_async_engine(url)
        search = SearchEngine(engine, HashProvider())
        sessions = search.attach(async_sessionmaker(engine))
        async with sessions() as session:
            await search.judgements.aset("shoes", [("Product", "s0")], session=session)
            assert len(await search.judgements.alist(session=session)) == 1
            await session.rollback()
        assert await search.judgements.alist() == []
        await search.judgements.aload([Judgement("shoes", "Product", "s1"), Judgement("red", "Product", "s2")])
        assert await search.judgements.aremove("red") == 1
        found = [one.id for one in await search.judgements.alist(query="shoes")]
        await search.aclose()
        await engine.dispose()
        return found

    assert asyncio.run(judge()) == ["s1"]


def test_a_judgement_as_json_names_its_tenant_where_it_has_one() -> None:
    assert json.dumps(Judgement("q", "E", "1").as_document()) == '{"query": "q", "entity": "E", "id": "1", "gain": 1.0}'
    assert Judgement("q", "E", "1", 0.0, "acme").as_document()["tenant"] == "acme"


# evaluation


def test_an_evaluation_is_of_what_is_kept_or_given(shop: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="no query is judged"):
        evaluate(shop)
    shop.judgements.set("model 2", [("Product", "s2"), ("Product", "gone")], 2)
    shop.judgements.set("model 3", [("Product", "s3"), ("Page", "1")])
    shop.judgements.set("model 1", [("Product", "s1")], 0)
    found = evaluate(shop)
    assert (found.queries, found.skipped, found.judged, found.unknown) == (2, 1, 5, 2)
    as_files = read_queries(query_lines(shop.judgements.list())), read_qrels(qrels_lines(shop.judgements.list()))
    by_files = evaluate(shop, *as_files)
    assert (by_files.figures, by_files.curve, by_files.errors) == (found.figures, found.curve, found.errors)
    assert evaluate(shop, entities=["Product"]).unknown == 1
    given = evaluate(shop, judgements=[Judgement("model 1", "Product", "s1")])
    assert (given.queries, given.judged) == (1, 1)
    assert compare(shop, before={"mode": "keyword"}, after={"mode": "vector"}).judged == 5
    with pytest.raises(InvalidInput, match="give queries and qrels, or judgements"):
        evaluate(shop, {"q": "model"}, judgements=[])


def test_the_error_of_a_weight_is_that_of_its_difference_to_the_current(shop: SearchEngine) -> None:
    shop.admin.set_weight(0.5)
    judged = [Judgement(f"model {n}", "Product", f"s{(n * n) % 4}") for n in range(4)]
    found = evaluate(shop, judgements=judged)
    each = [evaluate(shop, judgements=[one]).curve or {} for one in judged]
    assert found.errors is not None
    assert found.errors[0.5] == 0.0
    assert max(found.errors.values()) > 0
    for weight, error in found.errors.items():
        differences = [curve[weight] - curve[0.5] for curve in each]
        assert error == pytest.approx(2 * stdev(differences) / 2)
    assert found.best is not None
    assert found.noise == found.errors[found.best]


def test_a_query_is_searched_again_once_the_index_has_changed(shop: SearchEngine) -> None:
    cache, judged = AnswerCache(checked_s=0), [Judgement(f"model {n}", "Product", f"s{n}") for n in range(2)]

    def answers(judgements: list[Judgement] = judged) -> list[Answer]:
        return cache.answers(shop, judged_by(shop, None, None, judgements, [], {}), [], {})

    first = answers()
    assert [one is other for one, other in zip(first, answers(), strict=True)] == [True, True]
    more = answers([*judged, Judgement("model 3", "Product", "s3")])
    assert [one is other for one, other in zip(first, more, strict=False)] == [True, True]
    shop.admin.set_weight(0.25)
    weighted = answers()
    assert [one.legs.legs is other.legs.legs for one, other in zip(first, weighted, strict=True)] == [True, True]
    assert {one.legs.generation and one.legs.generation.weight for one in weighted} == {0.25}
    changes: list[Callable[[], Any]] = [
        lambda: shop.index_record("Product", "s9", "a model"),
        lambda: shop.index_record("Product", "s9", "another model"),
        lambda: shop.delete_record("Product", "s9"),
        lambda: shop.synonyms.add("model, version"),
        lambda: shop.rules.set("model 1", hide=[("Product", "s0")]),
        lambda: shop.reindex(force=True),
    ]
    for change in changes:
        before = answers()
        change()
        after = answers()
        assert [one.legs.legs is other.legs.legs for one, other in zip(before, after, strict=True)] == [False, False]
    with_cache, without = (evaluate(shop, judgements=judged, cache=each) for each in (cache, None))
    assert with_cache == without


def test_files_are_read_as_judgements_of_records_in_the_index(tenants: SearchEngine) -> None:
    qrels = {"1": {"s1": 1.0, "Product/s2": 0.0, "gone": 1.0}, "unknown": {"s1": 1.0}}
    found = judgements_of(tenants, {"1": "shoes", "2": "red"}, qrels, tenant="acme")
    assert found == [
        Judgement("shoes", "Product", "s1", 1.0, "acme"),
        Judgement("shoes", "Product", "s2", 0.0, "acme"),
    ]
    with pytest.raises(InvalidInput, match=r"cannot hold the record 'E/a\\tb'"):
        list(qrels_lines([Judgement("q", "E", "a\tb")]))


def test_a_query_has_the_id_that_the_page_gives_it_and_a_gain_all_its_digits() -> None:
    judged = [Judgement("order #1 (ü)!", "E", "1", 1234567), Judgement("a/b", "E", "1", 0.1234567)]
    assert [line.split("\t")[::2] for line in list(qrels_lines(judged))[1:]] == [
        ["order%20%231%20(%C3%BC)!", "1234567\n"],
        ["a%2Fb", "0.1234567\n"],
    ]


def test_the_doctor_notes_judged_records_that_are_not_there(tenants: SearchEngine) -> None:
    tenants.judgements.set("shoes", [("Product", "s0"), ("Product", "gone"), ("Page", "1")], tenant="acme")
    tenants.judgements.set("model", [("Product", "gone")], 0, tenant="acme")
    notes = [one for one in examine(tenants) if one.check == "unknown-judged"]
    assert [(one.entity, one.count, one.ids, one.severity) for one in notes] == [
        ("Page", 1, ("acme/1",), "note"),
        ("Product", 1, ("acme/gone",), "note"),
    ]
    assert "unknown-judged" not in {one.check for one in examine(tenants, tenant="beta")}


# the command


def test_the_command_keeps_judgements_that_eval_takes(run: Run, tmp_path: Path) -> None:
    run("data", "insert", "Product", stdin="".join(json.dumps(shoe) + "\n" for shoe in SHOES))
    assert "no query is judged" in run("eval", status=1).stderr
    done = run("judgements", "set", "model 2", "--relevant", "Product/s2", "--irrelevant", "Product/s1", "--gain", "2")
    assert done.stdout == "model 2: judged 2\n"
    assert "give --relevant or --irrelevant" in run("judgements", "set", "model", status=2).stderr
    assert "ENTITY/ID" in run("judgements", "set", "model", "--relevant", "s1", status=2).stderr
    run("judgements", "set", "model 3", "--relevant", "Product/s3")
    listed = "model 2\tProduct/s1\t0\t\nmodel 2\tProduct/s2\t2\t\nmodel 3\tProduct/s3\t1\t\n"
    assert run("judgements", "list").stdout == listed
    (one,) = json.loads(run("judgements", "list", "--query", "model 3", "--json").stdout)
    assert one == {"query": "model 3", "entity": "Product", "id": "s3", "gain": 1.0}
    measured = json.loads(run("eval", "--json").stdout)
    assert (measured["queries"], measured["judged"], measured["saved"]) == (2, 3, False)
    assert len(measured["errors_by_weight"]) == 21
    files = ["--queries", "q.jsonl", "--qrels", "r.tsv"]
    assert run("judgements", "export", *files).stdout == "exported 3 judgements of 2 queries\n"
    of_files = json.loads(run("eval", *files, "--json").stdout)
    assert of_files["figures"] == measured["figures"]
    assert json.loads(run("eval", "--after", '{"mode": "keyword"}', "--json").stdout)["judged"] == 3
    assert "belong together" in run("eval", "--qrels", "r.tsv", status=2).stderr
    assert run("judgements", "remove", "model 2", "--record", "Product/s2").stdout == "removed 1\n"
    assert run("judgements", "remove", "model 2").stdout == "removed 1\n"
    assert "no judgement without a tenant is of" in run("judgements", "remove", "model 2", status=1).stderr
    run("data", "delete", "Product", "s3")
    done = run("judgements", "import", *files)
    assert done.stdout == "imported 2 judgements; left out 1 of records that are not in the index\n"
    assert len(json.loads(run("judgements", "list", "--json").stdout)) == 3


def test_the_command_judges_for_a_tenant(run: Run) -> None:
    run("data", "insert", "Product", "--tenant", "acme", stdin=json.dumps(SHOES[0]))
    run("judgements", "set", "shoes", "--relevant", "Product/s0", "--tenant", "acme")
    assert run("judgements", "list").stdout == ""
    assert run("judgements", "list", "--all-tenants").stdout == "shoes\tProduct/s0\t1\tacme\n"
    assert json.loads(run("eval", "--tenant", "acme", "--json").stdout)["queries"] == 1
    assert "has tenants" in run("eval", status=1).stderr
    files = ["--queries", "q.jsonl", "--qrels", "r.tsv", "--tenant", "acme"]
    run("judgements", "export", *files)
    assert "of the tenant acme" in run("judgements", "remove", "gone", "--tenant", "acme", status=1).stderr
    run("judgements", "remove", "shoes", "--tenant", "acme")
    assert run("judgements", "import", *files).stdout == "imported 1 judgements\n"
    assert run("judgements", "list", "--tenant", "acme").stdout == "shoes\tProduct/s0\t1\tacme\n"
