"""An empty query lists records: their order, pages, counts and facets, on each database."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import ALL_TENANTS, RecordStore, SearchEngine, SearchResults, searchable
from kameleon.errors import InvalidInput

from .conftest import ids

PRICES = [7, 3, None, 3, 12.5, 0, 3, 12.5, 7, None, 1]


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Article(Base):
    __tablename__ = "browsed_article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    price: Mapped[float | None]
    is_published: Mapped[bool]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["stored", "mapped"])
def entity(request: pytest.FixtureRequest, search: SearchEngine, engine: Engine) -> object:
    """The same records, of the record store and of a mapped class."""
    rows = [{"title": f"article {n}", "price": price, "is_published": n % 4 > 0} for n, price in enumerate(PRICES)]
    if request.param == "stored":
        RecordStore(search).insert("Article", [{"id": str(n), **row} for n, row in enumerate(rows)])
        return "Article"
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all(Article(id=n, **row) for n, row in enumerate(rows))
    return Article


def pages(search: SearchEngine, **options: Any) -> Iterator[SearchResults]:
    page = search.search(**options)
    yield page
    while page.cursor is not None:
        page = search.search("", cursor=page.cursor, **options)
        yield page


@pytest.mark.parametrize("query", ["", " \n"])
def test_an_empty_query_lists_by_entity_and_id(search: SearchEngine, entity: object, query: str) -> None:
    found = search.search(query, entity=entity, where={"is_published": True}, facets=["price"], limit=4)
    assert ids(found) == ["1", "10", "2", "3"]
    assert (found.total, found.is_total_exact, found.exact) == (8, True, True)
    assert found.facets == {"price": {3: 3, 1: 1, 0: 1, 12.5: 1}}
    assert (found.plan.mode, {hit.score for hit in found}) == ("browse", {1.0})


@pytest.mark.parametrize("sort", [None, "price", "-price"])
def test_pages_by_cursor_are_all_records_once(search: SearchEngine, entity: object, sort: str | None) -> None:
    wanted = sorted(map(str, range(len(PRICES))))
    if sort is not None:
        sign = -1 if sort == "-price" else 1
        wanted.sort(key=lambda id_: (PRICES[int(id_)] is None, sign * (PRICES[int(id_)] or 0)))
    for limit in (1, 3, len(PRICES)):
        found = list(pages(search, entity=entity, sort=sort, limit=limit))
        assert [id_ for page in found for id_ in ids(page)] == wanted
        assert {page.total for page in found} == {len(PRICES)}
        assert len(found) == -(-len(PRICES) // limit)
    assert ids(search.search(entity=entity, sort=sort, offset=4, limit=3)) == wanted[4:7]
    beyond = search.search(entity=entity, sort=sort, offset=40)
    assert (ids(beyond), beyond.total, beyond.cursor) == ([], len(PRICES), None)


@pytest.mark.parametrize("sort", [None, "n", "-text"])
def test_what_is_written_between_two_pages_repeats_no_record(search: SearchEngine, sort: str | None) -> None:
    store = RecordStore(search)
    store.insert("R", [{"id": f"{n}", "text": f"text {n}", "n": n} for n in range(9)])
    first = search.search(sort=sort, limit=4)
    store.delete("R", [first[-1].id])
    store.insert("R", [{"id": f"{n}x", "text": f"text {n}x", "n": n + 0.5} for n in range(9)])
    rest = search.search(sort=sort, limit=50, cursor=first.cursor)
    before, after = set(ids(first)), ids(rest)
    assert not before & set(after)
    assert [id_ for id_ in after if "x" not in id_] == ([*"45678"] if sort != "-text" else [*"43210"])
    assert [id_ for id_ in ids(search.search(sort=sort, limit=50)) if id_ in after] == after
    assert rest.total == 17


def test_a_cursor_of_a_search_is_refused_by_a_listing(search: SearchEngine) -> None:
    RecordStore(search).insert("R", [{"id": f"{n}", "text": "text", "n": n} for n in range(9)])
    listed, found = search.search(limit=2), search.search("text", limit=2)
    for query, cursor in (("", found.cursor), ("text", listed.cursor), ("", "x"), ("", 3), ("", "AgAAAAAAAAAAW10")):
        with pytest.raises(InvalidInput, match="cursor"):
            search.search(query, cursor=cursor)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="another query"):
        search.search(sort="n", cursor=listed.cursor)


@pytest.mark.parametrize("sort", [None, "-n"])
def test_groups_are_the_first_of_each_entity(search: SearchEngine, sort: str | None) -> None:
    for entity in ("A", "B"):
        RecordStore(search).insert(entity, [{"id": f"{n}", "text": "text", "n": n} for n in range(5)])
    found = search.search(group_by="entity", limit=2, sort=sort)
    wanted = ["0", "1"] if sort is None else ["4", "3"]
    assert {entity: ids(hits) for entity, hits in found.groups.items()} == {"A": wanted, "B": wanted}
    assert (found.total, found.cursor) == (10, None)


def test_a_listing_calls_neither_provider_nor_reranker(search: SearchEngine) -> None:
    search.index_record("R", 1, "text")
    provider: Any = search.provider
    calls = len(provider.calls)
    found = search.search(mode="vector", min_score=0.9, rerank=lambda query, texts: [0.0 for _ in texts])
    assert (ids(found), len(provider.calls)) == (["1"], calls)
    assert "rerank is left out" in found.plan.note


def test_a_tenants_listing_is_its_own(search: SearchEngine) -> None:
    for tenant in ("acme", "globex"):
        search.for_tenant(tenant).index_records_batch([("Note", n, f"note {n} of {tenant}") for n in range(3)])
    acme = search.for_tenant("acme").search(limit=2)
    assert [(hit.tenant, hit.id, acme.total) for hit in acme] == [("acme", "0", 3), ("acme", "1", 3)]
    found = list(pages(search, entity="Note", tenant=ALL_TENANTS, limit=2))
    listed = [(hit.id, hit.tenant) for page in found for hit in page]
    assert listed == [(id_, tenant) for id_ in "012" for tenant in ("acme", "globex")]


@pytest.mark.parametrize("verb", ["select", "asearch", "aselect", "for_tenant"])
def test_every_verb_lists(search: SearchEngine, engine: Engine, verb: str) -> None:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all(Article(id=n, title="text", price=n, is_published=n > 1) for n in range(4))
    options: dict[str, Any] = {"where": {"is_published": True}, "sort": "-price"}
    if verb in ("select", "aselect"):
        with sessionmaker(engine)() as session:
            is_async = verb == "aselect"
            made = asyncio.run(search.aselect(Article, **options)) if is_async else search.select(Article, **options)
            assert [cast("Any", article).id for article in session.scalars(made)] == [3, 2]
    elif verb == "asearch":
        found = asyncio.run(search.asearch(entity=Article, facets=["price"], ids=[1, 3], **options))
        assert (ids(found), found.total, found.facets) == (["3"], 1, {"price": {3: 1}})
    else:
        acme = search.for_tenant("acme")
        RecordStore(search).create_entity("Page", search=["text"], fields={"n": "integer"}, tenant_field="")
        RecordStore(acme).insert("Page", [{"id": str(n), "text": "text", "n": n} for n in range(4)])
        found = acme.search(entity="Page", ids=[1, 2, 9], sort="-n", facets=[{"n": [2]}])
        assert (ids(found), found.facets) == (["2", "1"], {"n": {(None, 2): 1, (2, None): 1}})


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-3, 3), st.floats(-3, 3), st.sampled_from(["a", "Ä", "b"]))),
    sort=st.sampled_from([None, "n", "-n", ["m", "-n"], ["-m", "n"]]),
    limit=st.integers(1, 5),
)
def test_pages_concatenate_to_the_total(
    search: SearchEngine, values: list[Any], sort: str | list[str] | None, limit: int
) -> None:
    name, rows = f"E{uuid4().hex}", [{"id": f"{n}", "text": "x", "n": n_, "m": n % 3} for n, n_ in enumerate(values)]
    store = RecordStore(search)
    store.create_entity(name, search=["text"], fields={"n": "any", "m": "integer"})
    store.insert(name, rows)
    found = list(pages(search, entity=name, sort=sort, limit=limit))
    shown = [id_ for page in found for id_ in ids(page)]
    assert {page.total for page in found} == {len(values)}
    assert sorted(shown) == sorted(row["id"] for row in rows)
    assert shown == ids(search.search(entity=name, sort=sort, limit=100))
