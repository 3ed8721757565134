"""Pinned and hidden records, of a search and by the rules that are kept with the index, on each database."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import ALL_TENANTS, RecordStore, SearchEngine, searchable
from kameleon.boosts import ConditionBoost
from kameleon.errors import InvalidInput
from kameleon.indexing import rules as limits
from kameleon.testing import HashProvider
from kameleon.values import Ref

from .conftest import Make, ids, with_namespaces, with_server

FACETED: dict[str, Any] = {"facets": ["color"], "count": True}
ANYWHERE = pytest.mark.parametrize("backend", with_server("sqlite", "postgresql"), indirect=True)
SHOES = [(f"s{n}", f"running shoes model {n}", "red" if n % 2 else "blue") for n in range(12)]
OTHERS = [("tent", "a tent of canvas", "green"), ("lamp", "a lamp of brass", "red"), ("sock", "wool socks", "red")]


class Base(DeclarativeBase):
    pass


@searchable(fields=["name"])
class Article(Base):
    __tablename__ = "rules_article"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int]


@pytest.fixture(params=with_namespaces("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(search: SearchEngine, tenant: str | None = None) -> None:
    store = RecordStore(search)
    if tenant in (None, "acme"):
        store.create_entity("Product", search=["name"], fields={"color": "text"})
    rows = [{"id": id_, "name": name, "color": color} for id_, name, color in (*SHOES, *OTHERS)]
    store.insert("Product", rows, tenant=tenant)


@pytest.fixture
def filled(search: SearchEngine) -> SearchEngine:
    fill(search)
    RecordStore(search).insert("Page", [{"id": "sizes", "text": "a table of sizes"}])
    return search


def all_pages(search: SearchEngine, query: str, *, by_cursor: bool, limit: int = 3, **options: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        place: dict[str, Any] = {"cursor": cursor} if by_cursor else {"offset": len(found)}
        page = search.search(query, limit=limit, **place, **options)
        found += ids(page)
        cursor = page.cursor
        if cursor is None:
            return found


@ANYWHERE
def test_pinned_records_come_first_and_hidden_ones_not_at_all(filled: SearchEngine) -> None:
    before = filled.search("running shoes", limit=50, **FACETED)
    scores = {hit.id: hit.score for hit in before}
    assert len(before) == 12
    filled.rules.set(
        "running shoes", pin=[("Page", "sizes"), ("Product", "lamp"), ("Product", "s5")], hide=[("Product", "s3")]
    )
    found = filled.search("running shoes", limit=50, explain=True, **FACETED)
    assert ids(found) == ["sizes", "lamp", "s5", *(id_ for id_ in ids(before) if id_ not in ("s3", "s5"))]
    assert [hit.id for hit in found if hit.is_pinned] == ["sizes", "lamp", "s5"]
    assert [[leg.rank for leg in hit.explanation if leg.leg == "pinned"] for hit in found[:4]] == [[1], [2], [3], []]
    assert found.total == len(found) == 13
    assert found.exact
    assert found.is_total_exact == before.is_total_exact
    assert found.facets["color"] == {"blue": 6, "red": 6}  # s3 is red and hidden, the lamp is red
    assert found[2].score == pytest.approx(scores["s5"], abs=1e-6)
    assert found[1].score < 0.2 < found[3].score
    assert len(found[3:]) == 10
    assert all(hit.score == pytest.approx(scores[hit.id], abs=0.02) for hit in found[3:])
    assert found[0].matched_text == "a table of sizes"


def evenly(legs: Sequence[Any]) -> dict[Any, float]:
    return {key: 0.5 for leg in legs for key in leg.chosen}


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "keyword"}, {"mode": "vector"}, {"fusion": "rrf"}, {"fusion": "dbsf"}, {"fusion": evenly}],
    ids=["hybrid", "keyword", "vector", "rrf", "dbsf", "function"],
)
def test_in_each_mode_and_fusion(filled: SearchEngine, options: dict[str, Any]) -> None:
    before = filled.search("running shoes", entity="Product", limit=50, **options)
    found = filled.search("running shoes", entity="Product", pin=["tent", "s9"], hide=["s3", "s4"], limit=50, **options)
    rest = [id_ for id_ in ids(before) if id_ not in ("tent", "s9", "s3", "s4")]
    assert len(rest) >= 9
    assert ids(found)[:2] == ["tent", "s9"]
    assert sorted(ids(found)[2:]) == sorted(rest)
    assert found.exact


def test_the_pages_are_the_pinned_records_and_the_rest_once_each(filled: SearchEngine) -> None:
    every = ids(filled.search("running shoes", limit=50))
    for pins in ("tent", "s11 tent lamp s0", "lamp gone sock tent s3 s1 s2"):
        filled.rules.set("running shoes", pin=[("Product", id_) for id_ in pins.split()], hide=[("Product", "s3")])
        first = [id_ for id_ in pins.split() if id_ not in ("gone", "s3")]
        expected = [*first, *(id_ for id_ in every if id_ not in ("s3", *first))]
        assert all_pages(filled, "running shoes", by_cursor=True) == expected
        assert all_pages(filled, "running shoes", by_cursor=False) == expected
        assert len(expected) == filled.search("running shoes", count=True).total >= 11


def test_pages_of_more_hits_than_a_leg_puts_forward(make: Make) -> None:
    search = make(None)
    search.index_records_batch([("Product", f"s{n}", f"running shoes {n}") for n in range(150)])
    search.index_records_batch([("Product", id_, "something else") for id_ in ("tent", "lamp", "sock")])
    search.rules.set("running shoes", pin=[("Product", id_) for id_ in ("tent", "s149", "lamp", "sock")])
    first = search.search("running shoes", limit=2, count=True)
    assert ids(first) == ["tent", "s149"]
    assert (first.total, first.exact) == (153, True)
    found = all_pages(search, "running shoes", by_cursor=True, limit=40)
    assert found[:4] == ["tent", "s149", "lamp", "sock"]
    assert len(found) == len(set(found)) == 153


def test_a_rule_that_changes_between_two_pages_repeats_no_hit(filled: SearchEngine) -> None:
    first = filled.search("running shoes", limit=4)
    filled.rules.set(
        "running shoes", pin=[("Product", first[1].id), ("Product", "tent")], hide=[("Product", first[2].id)]
    )
    second = filled.search("running shoes", limit=20, cursor=first.cursor)
    assert ids(second)[0] == "tent"
    assert not set(ids(first)) & set(ids(second))
    assert len(second) == 9
    with pytest.raises(InvalidInput, match="another query"):
        filled.search("running shoes", entity="Product", cursor=first.cursor, pin=["tent"])
    with pytest.raises(InvalidInput, match="another query"):
        filled.search("running shoes", cursor=first.cursor, hide=[("Product", "tent")])


def test_a_rule_is_for_queries_of_the_same_words(filled: SearchEngine) -> None:
    filled.rules.set("Café Zürich, wi-fi", pin=[("Product", "tent")])

    def is_meant(query: str) -> bool:
        return [hit.id for hit in filled.search(query) if hit.is_pinned] == ["tent"]

    same = ("cafés in Zürich wifi", "  CAFES   zurich Wi-Fi ", "the café of Zürich wi-fi -brass")
    others = ("zürich café wifi", "café", "café zürich", "café zürich wifi open", "café bern wifi", "running")
    assert [query for query in (*same, *others) if is_meant(query)] == list(same)


@ANYWHERE
def test_operators_narrow_what_is_pinned(filled: SearchEngine) -> None:
    filled.rules.set("running shoes", pin=[("Product", "tent"), ("Product", "s4")], hide=[("Product", "s1")])

    def pinned(query: str, **options: Any) -> list[str]:
        return [hit.id for hit in filled.search(query, limit=50, **options) if hit.is_pinned]

    assert pinned("running shoes") == ["tent", "s4"]
    assert pinned("running shoes -canvas") == ["s4"]
    assert pinned('"running shoes"') == ["s4"] == pinned('"running shoes"', mode="vector")
    assert pinned("running shoes -model") == ["tent"]
    assert "s1" not in ids(filled.search('"running shoes"', limit=50))


def test_beside_exclusions_alone_the_pinned_are_the_hits(filled: SearchEngine) -> None:
    found = filled.search("-wool", pin=[("Product", "sock"), ("Product", "lamp")], count=True, explain=True)
    assert [(hit.id, hit.score, hit.is_pinned) for hit in found] == [("lamp", 0.0, True)]
    assert (found.total, found.cursor) == (1, None)


def test_a_search_without_rules_pins_and_hides_what_it_names_alone(filled: SearchEngine) -> None:
    filled.rules.set("tent", pin=[("Product", "lamp")], hide=[("Product", "tent")])
    assert ids(filled.search("tent", mode="keyword")) == ["lamp"]
    assert ids(filled.search("tent", mode="keyword", rules=False)) == ["tent"]
    assert ids(filled.search("tent", mode="keyword", rules=False, pin=[("Product", "sock")])) == ["sock", "tent"]


def test_nothing_is_pinned_out_of_the_scope(filled: SearchEngine) -> None:
    filled.rules.set("running shoes", pin=[("Page", "sizes"), ("Product", "lamp"), ("Product", "s4")])

    def pinned(**options: Any) -> list[str]:
        found = filled.search("running shoes", **options)
        assert found
        return [hit.id for hit in found if hit.is_pinned]

    assert pinned(entity="Product") == ["lamp", "s4"]
    assert pinned(entities=["Page", "Product"]) == ["sizes", "lamp", "s4"]
    assert pinned(entity="Product", where={"color": "blue"}) == ["s4"]
    assert pinned(entity="Product", where={"color": "red"}, ids=["s1", "s4", "lamp"]) == ["lamp"]
    assert pinned(ids=["s1"]) == []
    assert pinned(min_score=0.9) == ["sizes", "lamp", "s4"]
    strict = filled.search("running shoes", min_score=0.9, count=True, limit=50)
    assert strict.total == len(strict)
    assert all(hit.is_pinned or hit.score >= 0.9 for hit in strict)


def test_where_the_order_is_a_fields_rules_hide_and_do_not_pin(filled: SearchEngine) -> None:
    filled.rules.set("running shoes", pin=[("Product", "tent")], hide=[("Product", "s1")])
    found = filled.search("running shoes", entity="Product", sort="color", limit=50, count=True)
    assert len(found) == found.total == 11
    assert "s1" not in ids(found)
    assert "tent" not in ids(found)
    hidden = filled.search("running shoes", entity="Product", sort="color", hide=["s1", "s2"], limit=50)
    assert len(hidden) == 10
    assert not {"s1", "s2"} & set(ids(hidden))
    with pytest.raises(InvalidInput, match="sort has none: leave pin out"):
        filled.search("running shoes", entity="Product", sort="color", pin=["tent"])


def test_an_empty_query_hides_what_the_call_names(filled: SearchEngine) -> None:
    every = ids(filled.search("", entity="Product", limit=50))
    found = filled.search("", entity="Product", hide=["s1", "lamp"], limit=50, **FACETED)
    assert ids(found) == [id_ for id_ in every if id_ not in ("s1", "lamp")]
    assert found.total == 13
    assert found.facets["color"] == {"blue": 6, "red": 6, "green": 1}
    assert all_pages(filled, "", by_cursor=True, entity="Product", hide=["s1", "lamp"]) == ids(found)
    with pytest.raises(InvalidInput, match="an empty query has none"):
        filled.search("", entity="Product", pin=["tent"])


def test_similar_records_leave_out_what_is_hidden(filled: SearchEngine) -> None:
    filled.rules.set("running shoes model 1", pin=[("Product", "tent")])
    found = filled.similar("Product", "s1", hide=["s2"], limit=50, count=True)
    assert len(found) == found.total == 10
    assert not {"s1", "s2"} & set(ids(found))
    with pytest.raises(InvalidInput, match="similar has none: leave pin out"):
        filled.similar("Product", "s1", pin=["tent"])


def test_in_groups_the_pinned_are_first_in_theirs(filled: SearchEngine) -> None:
    RecordStore(filled).insert("Page", [{"id": f"p{n}", "text": f"running shoes page {n}"} for n in range(4)])
    filled.rules.set("running shoes", pin=[("Product", "tent"), ("Page", "p3")], hide=[("Page", "p0")])
    groups = filled.search("running shoes", group_by="entity", limit=3).groups
    assert {entity: ids(hits)[0] for entity, hits in groups.items()} == {"Product": "tent", "Page": "p3"}
    assert sorted(ids(groups["Page"])) == ["p1", "p2", "p3"]
    assert len(groups["Product"]) == 3


def test_a_reranker_leaves_the_pinned_first(filled: SearchEngine) -> None:
    filled.rules.set("running shoes", pin=[("Product", "tent"), ("Product", "s0")])

    def by_number(_query: str, texts: Sequence[str]) -> list[float]:
        return [int(one.split()[-1]) / 20 if one[-1].isdigit() else 0.0 for one in texts]

    found = filled.search("running shoes", rerank=by_number, min_score=0.3, limit=5)
    assert ids(found) == ["tent", "s0", "s11", "s10", "s9"]
    assert [hit.score for hit in found[2:]] == [0.55, 0.5, 0.45]
    assert found[0].score < 0.2 < found[1].score  # their own


@pytest.mark.parametrize(
    "options",
    [{"diversity": 0.4}, {"limit_by": {"color": 2}}, {"boost": [ConditionBoost({"color": "red"}, 0.5)]}],
    ids=["diversity", "limit_by", "boost"],
)
def test_what_orders_and_chooses_hits_leaves_the_pinned_as_they_are(
    filled: SearchEngine, options: dict[str, Any]
) -> None:
    pins = ["tent", "s1", "s3", "lamp"]
    before = filled.search("running shoes", entity="Product", limit=50, **options)
    found = filled.search("running shoes", entity="Product", pin=pins, limit=50, count=True, **options)
    assert ids(found)[:4] == pins
    assert len(found) >= 6
    assert not set(ids(found)[4:]) & set(pins)
    pages = all_pages(filled, "running shoes", by_cursor=True, entity="Product", pin=pins, limit=3, **options)
    assert pages == ids(found)
    if "boost" in options:
        assert ids(found)[4:] == [id_ for id_ in ids(before) if id_ not in pins]


def test_the_searchs_own_pins_precede_the_rules(filled: SearchEngine) -> None:
    filled.rules.set("running shoes", pin=[("Product", "tent"), ("Product", "lamp")], hide=[("Product", "s1")])
    hit = filled.search("socks", entity="Product", limit=1)[0]
    options: dict[str, Any] = {"pin": [hit, Ref("Product", "lamp"), ("Product", "s1")], "hide": [("Product", "s2")]}
    found = filled.search("running shoes", limit=50, **options)
    assert ids(found)[:3] == ["sock", "lamp", "tent"]
    assert not {"s1", "s2"} & set(ids(found))
    assert len(ids(found)) == 13
    assert ids(filled.search("running shoes", entity="Product", pin=["tent"], hide=["tent"], limit=50))[0] == "lamp"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lamp", "pin is a list of records"),
        (["lamp"], "without its entity"),
        ([("Product", "lamp", "more")], "as \\(entity, id\\)"),
        ([None], "as \\(entity, id\\)"),
        ([("Product", str(n)) for n in range(101)], "pin takes 100 records at most, not 101"),
    ],
)
def test_what_names_no_records_is_refused(filled: SearchEngine, given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        filled.search("running shoes", pin=given)


def test_rules_are_kept_replaced_listed_and_removed(filled: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    made = filled.rules.set("Running shoe", pin=[("Product", "tent"), ("Product", "later")])
    assert made.missing == (("Product", "later"),)
    again = filled.rules.set("the running SHOES", hide=[("Product", "s1")])
    (listed,) = filled.rules.list()
    assert listed == again
    assert listed.query == "the running SHOES"
    assert listed.pinned == ()
    assert listed.created_at == made.created_at < listed.updated_at  # type: ignore[operator]
    filled.rules.set("lamp", pin=[("Product", "later")])
    assert not filled.search("lamp")[0].is_pinned
    filled.index_record("Product", "later", "a new product")
    assert [rule.missing for rule in filled.rules.list()] == [(), ()]
    assert filled.search("lamp")[0].id == "later"
    assert filled.rules.remove("Lamps")
    assert not filled.rules.remove("lamp")
    assert [rule.query for rule in filled.rules.list()] == ["the running SHOES"]
    with pytest.raises(InvalidInput, match="pins or hides a record at least"):
        filled.rules.set("lamp")
    for query, message in (("", "has no word"), ("lamp -brass", "excludes"), ("x " * 600, "1,000 characters")):
        with pytest.raises(InvalidInput, match=message):
            filled.rules.set(query, hide=[("Product", "s1")])
    monkeypatch.setattr(limits, "MAX_RULES", 1)
    with pytest.raises(InvalidInput, match="this makes 2"):
        filled.rules.set("lamp", hide=[("Product", "s1")])
    assert len(filled.rules.list()) == 1


def test_another_engine_has_a_change_with_its_next_search(
    filled: SearchEngine, make: Make, provider: HashProvider
) -> None:
    other = make(provider)
    assert other.search("running shoes")[0].id != "tent"
    filled.rules.set("running shoes", pin=[("Product", "tent")])
    assert other.search("running shoes")[0].id == "tent"
    filled.rules.remove("running shoes")
    assert other.search("running shoes")[0].id != "tent"


def test_a_rule_is_written_in_the_transaction_of_the_caller(filled: SearchEngine, engine: Engine) -> None:
    with Session(engine) as session:
        filled.rules.set("running shoes", pin=[("Product", "tent")], session=session)
        assert filled.search("running shoes", session=session)[0].id == "tent"
        assert len(filled.rules.list(session=session)) == 1
        session.rollback()
    assert filled.rules.list() == []
    assert filled.search("running shoes")[0].id != "tent"


def test_a_renamed_entity_keeps_its_rules_and_a_dropped_one_leaves_them(filled: SearchEngine) -> None:
    filled.rules.set("running shoes", pin=[("Product", "tent"), ("Page", "sizes")])
    filled.rules.set("lamp", hide=[("Product", "lamp")])
    store = RecordStore(filled)
    store.rename_entity("Product", "Item")
    assert filled.search("running shoes")[0].entity == "Item"
    assert [rule.pinned for rule in filled.rules.list()] == [(), (("Item", "tent"), ("Page", "sizes"))]
    store.drop_entity("Item")
    assert [(rule.query, rule.pinned) for rule in filled.rules.list()] == [("running shoes", (("Page", "sizes"),))]
    assert ids(filled.search("running shoes")) == ["sizes"]


def test_a_rebuild_keeps_rules(filled: SearchEngine, engine: Engine) -> None:
    filled.rules.set("running shoes", pin=[("Product", "tent")])
    kameleon.rebuild(engine, namespace=filled.namespace)
    assert SearchEngine(engine, namespace=filled.namespace).search("running shoes")[0].id == "tent"


def test_a_tenants_own_rule_is_taken_before_that_of_all(search: SearchEngine, tmp_path: Path) -> None:
    for tenant in ("acme", "beta"):
        fill(search, tenant=tenant)
    acme, beta = search.for_tenant("acme"), search.for_tenant("beta")
    search.rules.set("running shoes", pin=[("Product", "tent")], hide=[("Product", "s1")])
    acme.rules.set("running shoes", pin=[("Product", "lamp")])

    def pinned(found: Sequence[Any]) -> list[tuple[str, str]]:
        return [(hit.tenant, hit.id) for hit in found if hit.is_pinned]

    assert pinned(acme.search("running shoes")) == [("acme", "lamp")]
    assert pinned(beta.search("running shoes")) == [("beta", "tent")]
    both = search.search("running shoes", tenant=ALL_TENANTS, limit=50)
    assert sorted(pinned(both)) == [("acme", "lamp"), ("beta", "tent")] == sorted(pinned(both[:2]))
    assert [hit.tenant for hit in both if hit.id == "s1"] == ["acme"]
    assert [rule.tenant for rule in search.rules.list(tenant=ALL_TENANTS)] == ["", "acme"]
    assert [rule.tenant for rule in acme.rules.list()] == ["acme"]
    with pytest.raises(InvalidInput, match="alone: tenant= is not given"):
        acme.rules.list(tenant="beta")
    assert beta.rules.list() == []
    hit = next(hit for hit in both if hit.tenant == "acme" and hit.id == "s2")
    own = search.search("running shoes", tenant=ALL_TENANTS, pin=[hit], hide=[("Product", "s3")], limit=50)
    assert pinned(own)[0] == ("acme", "s2")
    assert "s3" not in ids(own)
    with pytest.raises(InvalidInput, match="give its tenant as tenant="):
        search.rules.set("running shoes", pin=[hit])
    search.admin.export_tenant("acme", tmp_path / "acme.gz")
    search.admin.drop_tenant("acme")
    assert [rule.tenant for rule in search.rules.list(tenant=ALL_TENANTS)] == [""]
    search.admin.import_tenant(tmp_path / "acme.gz")
    assert [(rule.query, rule.pinned) for rule in acme.rules.list()] == [("running shoes", (("Product", "lamp"),))]
    assert pinned(acme.search("running shoes")) == [("acme", "lamp")]


def test_a_dropped_tenants_rules_are_forgotten_by_other_engines(
    search: SearchEngine, make: Make, provider: HashProvider
) -> None:
    fill(search, tenant="acme")
    search.for_tenant("acme").rules.set("running shoes", pin=[("Product", "tent")])
    other = make(provider)
    assert other.search("running shoes", tenant="acme")[0].id == "tent"
    search.admin.drop_tenant("acme")
    fill(search, tenant="beta")
    RecordStore(search).insert("Product", [{"id": "tent", "name": "tent", "color": "x"}], tenant="acme")
    assert other.search("running shoes", tenant="acme", limit=3) == []


def test_records_of_a_mapped_class_are_pinned_by_the_class(search: SearchEngine, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all(Article(id=n, name=f"running shoes {n}", stock=n % 3) for n in range(8))
        session.add_all([Article(id=8, name="a tent", stock=5), Article(id=9, name="a lamp", stock=0)])
    search.rules.set("running shoes", pin=[(Article, 9), (Article, 8)], hide=[(Article, 1)])
    found = search.search("running shoes", entity=Article, limit=20, count=True)
    assert ids(found)[:2] == ["9", "8"]
    assert found.total == len(found) == 9
    stocked = search.search("running shoes", entity=Article, where=Article.stock > 0, limit=20, count=True)
    assert ids(stocked)[0] == "8"
    assert len(stocked) == stocked.total == 5
    assert not {"9", "1"} & set(ids(stocked))
    assert ids(search.search("lamps", entity=Article, pin=[8], hide=[9])) == ["8"]
    with Session(engine) as session:
        chosen: list[Any] = [*session.scalars(search.select(Article, "running shoes", limit=3))]
        assert [article.id for article in chosen[:2]] == [9, 8]


def test_a_row_that_row_security_hides_is_not_pinned(schema: str, pg_engine: Engine, provider: HashProvider) -> None:
    search = SearchEngine(pg_engine, provider)
    Base.metadata.create_all(pg_engine)
    with search.attach(sessionmaker(pg_engine)).begin() as session:
        session.add_all(Article(id=n, name=f"running shoes {n}", stock=n) for n in range(4))
    search.rules.set("running shoes", pin=[(Article, 3), (Article, 1)])
    statements = (
        "ALTER TABLE rules_article ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE rules_article FORCE ROW LEVEL SECURITY",
        "CREATE POLICY low ON rules_article USING (stock < 3)",
        "CREATE ROLE {schema}_reader NOSUPERUSER NOBYPASSRLS",
        "GRANT USAGE, CREATE ON SCHEMA {schema} TO {schema}_reader",
        "GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {schema}_reader",
    )
    with pg_engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement.format(schema=schema)))
    reader = SearchEngine(pg_engine, provider)
    try:
        with pg_engine.begin() as connection:
            connection.execute(text(f"SET LOCAL ROLE {schema}_reader"))
            found = reader.search("running shoes", entity=Article, connection=connection, count=True)
        assert ids(found)[0] == "1"
        assert found.total == 3
        assert "3" not in ids(found)
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {schema}_reader"))
            connection.execute(text(f"DROP ROLE {schema}_reader"))


@pytest.mark.parametrize("driver", ["aiosqlite", "psycopg"])
def test_the_verbs_for_coroutines_write_in_an_async_session(
    driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}" if driver == "aiosqlite" else request.getfixturevalue("pg_url")

    async def run() -> None:
        engine = kameleon.create_async_engine(url)
        search = SearchEngine(engine, HashProvider())
        for id_, name, _ in (*SHOES, *OTHERS):
            search.index_record("Product", id_, name)
        async with async_sessionmaker(engine)() as session:
            await search.rules.aset("running shoes", pin=[("Product", "tent")], session=session)
            assert (await search.asearch("running shoes", session=session))[0].id == "tent"
            assert await search.rules.alist() == []
            await session.commit()
        assert len(await search.rules.alist()) == 1
        assert (await search.asearch("running shoes", hide=[("Product", "tent")]))[0].id != "tent"
        assert await search.rules.aremove("running shoes")
        await search.aclose()
        await engine.dispose()

    asyncio.run(run())


def test_the_command_sets_lists_and_removes_rules(command: Callable[..., Any]) -> None:
    def run(*arguments: str, status: int = 0) -> str:
        done = command(*arguments, environment={"COLUMNS": "100"})
        assert done.returncode == status, done.stderr
        return str(done.stdout if not status else done.stderr)

    for id_, name, color in (*SHOES[:3], *OTHERS):
        run("data", "insert", "Product", json.dumps({"id": id_, "name": name, "color": color}))
    made = run("rules", "set", "running shoes", "--pin", "Product/lamp", "--pin", "Product/a/b", "--hide", "Product/s1")
    assert made == "running shoes: pinned 2, hidden 1; not in the index: Product/a/b\n"
    assert run("rules", "list") == "running shoes\tProduct/lamp Product/a/b\tProduct/s1\tProduct/a/b\t\n"
    hits = json.loads(run("search", "running shoes", "--json"))["hits"]
    assert [hit["id"] for hit in hits][:3] == ["lamp", "s0", "s2"]
    assert hits[0]["is_pinned"]
    assert "is_pinned" not in hits[1]
    shown = run("search", "running shoes", "--pin", "Product/tent", "--hide", "Product/s0", "--explain")
    assert [line.split("\t")[2] for line in shown.splitlines()[:3]] == ["tent", "lamp", "s2"]
    assert "   pinned\n" in shown
    done = command("search", "running shoes", "--pin", "Product/tent", environment={})
    assert "pinned, whatever the score: Product/tent, Product/lamp\n" in done.stderr
    assert "unknown entity 'Produkt'. Known: Product" in run("search", "shoes", "--pin", "Produkt/tent", status=1)
    assert "tent" not in run("similar", "Product", "s0", "--hide", "Product/tent", "--mode", "vector")
    assert "tent" in run("similar", "Product", "s0", "--mode", "vector")
    (rule,) = json.loads(run("rules", "list", "--json"))
    assert rule["pinned"] == [["Product", "lamp"], ["Product", "a/b"]]
    assert rule["missing"] == [["Product", "a/b"]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.?\d*\+00:00", rule["created_at"])
    run("rules", "set", "running shoes", "--pin", "Product/sock", "--tenant", "acme")
    assert len(run("rules", "list", "--all-tenants").splitlines()) == 2
    assert run("rules", "remove", "running shoe") == "removed: running shoe\n"
    assert run("rules", "list") == ""
    assert "kameleon rules list" in run("rules", "remove", "running shoe", status=1)
    assert "ENTITY/ID such as" in run("rules", "set", "lamp", "--pin", "lamp", status=2)
    assert "--pin or --hide, or remove the rule: `kameleon rules remove 'a lamp'`" in run(
        "rules", "set", "a lamp", status=2
    )


def test_rules_without_a_tenant_are_in_memory_once_for_all(filled: SearchEngine) -> None:
    filled.rules.set("shoes", pin=[("Product", "p-1")])
    index = filled.index
    with index.reading() as connection:
        version = index.catalog.registry(connection).curation
        acme, other = (index.curation.read(connection, version, (tenant,)) for tenant in ("acme", "other"))
    assert acme.rules is other.rules
    assert acme.rules.of("shoes")[""].pinned == (("Product", "p-1"),)
