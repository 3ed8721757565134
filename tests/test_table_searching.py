"""Searches of table entities by their names: among others, with what filters, counts and orders them."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from starlette.testclient import TestClient

from kameleon import RecordStore, SearchEngine
from kameleon.boosts import number, when
from kameleon.documents import results_document
from kameleon.entities import count_values, describe, kind_of, named
from kameleon.errors import InvalidFilter, UnknownEntity
from kameleon.evaluation import compare, evaluate
from kameleon.server import app
from kameleon.server.mcp.models import FetchArguments, ListEntitiesArguments, SearchArguments
from kameleon.server.mcp.tools import Call, fetch, list_entities
from kameleon.server.mcp.tools import search as tool_search
from kameleon.server.serving import Serving

BOOKS = (
    "CREATE TABLE books (isbn varchar(20) PRIMARY KEY, title text, blurb text, year integer, price numeric(6, 2), "
    "bought date, api_token text)",
    "INSERT INTO books VALUES ('1', 'The red fox', 'a quick fox', 1990, 12.50, '2020-01-02', 's'), "
    "('2', 'Lazy dogs', 'about a fox', 2001, 20, '2021-03-04', 't'), "
    "('3', 'The whale', 'no animal but one', NULL, NULL, NULL, NULL)",
)
NOTES = [
    {"id": "n1", "title": "A fox in the garden", "year": 1990, "status": "open"},
    {"id": "n2", "title": "A whale on the shore", "year": 2010, "status": "closed"},
]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def filled(search: SearchEngine, engine: Engine) -> SearchEngine:
    """With a table entity, and an entity of the record store that has a field of the same name."""
    with engine.begin() as connection:
        for statement in BOOKS:
            connection.execute(text(statement))
    search.tables.define("books", {"title": 2, "blurb": 1})
    search.tables.refresh("books")
    store = RecordStore(search)
    store.create_entity("Note", search=["title"], fields={"year": "integer"})
    store.insert("Note", NOTES)
    return search


def refs(found: Sequence[Any]) -> list[str]:
    return [f"{hit.entity}/{hit.id}" for hit in found]


def test_a_name_is_that_of_the_table(filled: SearchEngine) -> None:
    options: dict[str, Any] = {"entity": "books", "mode": "keyword"}
    assert refs(filled.search("fox", **options)) == ["books/1", "books/2"]
    assert refs(filled.search("fox", where={"year": {"$lt": 2000}}, **options)) == ["books/1"]
    assert refs(filled.search("title:fox", **options)) == ["books/1"]
    assert refs(filled.search("fox", sort="-year", **options)) == ["books/2", "books/1"]
    assert refs(filled.search("fox", boost=[number("year", weight=9, half=1)], **options)) == ["books/1", "books/2"]
    assert filled.search("fox", facets=["year"], **options).facets["year"] == {1990: 1, 2001: 1}
    assert refs(filled.similar("books", "1", mode="keyword", where={"year": 2001})) == ["books/2"]
    assert filled.suggest("gar") == ["garden"]
    assert filled.suggest("gar", entity="books") == []
    assert filled.suggest("qui", entity="books") == ["quick"]
    with pytest.raises(InvalidFilter, match="books has no column 'pages'"):
        filled.search("fox", where={"pages": 1}, **options)


def test_records_and_rows_are_searched_together(filled: SearchEngine) -> None:
    options: dict[str, Any] = {"mode": "keyword"}
    assert set(refs(filled.search("fox", **options))) == {"books/1", "books/2", "Note/n1"}
    assert set(refs(filled.search("fox", where={"year": 1990}, **options))) == {"books/1", "Note/n1"}
    assert refs(filled.search("fox", where={"status": "open"}, **options)) == ["Note/n1"]
    assert refs(filled.search("fox", where={"price": {"$gt": 15}}, **options)) == ["books/2"]
    assert set(refs(filled.search("fox", where={"status": {"$ne": "open"}}, **options))) == {"books/1", "books/2"}
    assert set(refs(filled.search("fox", where={"$not": {"status": "open"}}, **options))) == {"books/1", "books/2"}
    assert set(refs(filled.search("title:fox", **options))) == {"books/1", "Note/n1"}
    assert refs(filled.search("whale", sort="-year", **options)) == ["Note/n2", "books/3"]
    assert refs(filled.search("", sort="price")) == ["books/1", "books/2", "Note/n1", "Note/n2", "books/3"]
    found = filled.search("", facets={"year": None, "status": None, "price": [15]})
    assert found.facets["year"] == {1990: 2, 2001: 1, 2010: 1}
    assert found.facets["status"] == {"open": 1, "closed": 1}
    assert sum(found.facets["price"].values()) == 2
    assert refs(filled.search("fox", limit_by={"year": 1}, **options))[-1] == "books/2"
    with pytest.raises(InvalidFilter, match="unknown field 'pages'"):
        filled.search("fox", where={"pages": 1})


def test_boosts_count_for_records_and_rows(filled: SearchEngine) -> None:
    found = filled.search("fox", mode="keyword", boost=[when({"status": "open"}, 10.0), when({"price": 20}, 9.0)])
    assert refs(found) == ["Note/n1", "books/2", "books/1"]


def test_a_search_of_all_needs_no_stored_entity(search: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in BOOKS:
            connection.execute(text(statement))
    search.tables.define("books", ["title"])
    search.tables.refresh("books")
    found = search.search("", where={"year": {"$gte": 1990}}, sort="-year", facets=["year"])
    assert refs(found) == ["books/2", "books/1"]
    assert found.facets["year"] == {1990: 1, 2001: 1}


def test_another_process_finds_it_by_its_name(filled: SearchEngine, engine: Engine) -> None:
    other = SearchEngine(engine, "static")
    assert refs(other.search("fox", entity="books", where={"year": 2001}, mode="keyword")) == ["books/2"]
    assert kind_of(other, "books") == "table"
    filled.tables.remove("books")
    assert kind_of(filled, "books") != "table"
    with pytest.raises(UnknownEntity, match=r"unknown entity .book.\. Known: .*Note"):
        named(filled, ["book"])


def test_a_table_is_described(filled: SearchEngine) -> None:
    described = {one.name: one for one in describe(filled)}
    books = described["books"]
    assert (books.kind, books.indexed, described["Note"].kind) == ("table", 3, "records")
    types = {field.name: (field.type, field.text, field.filterable) for field in books.fields}
    assert types["title"] == ("text", True, False)
    assert types["year"] == ("integer", False, True)
    assert types["price"] == ("number", False, True)
    assert types["bought"] == ("date", False, True)
    assert types["api_token"] == ("text", False, False)
    assert count_values(filled, books)["year"] == {1990: 1, 2001: 1}


def test_hits_show_their_rows(filled: SearchEngine) -> None:
    found = filled.search("fox", mode="keyword", data=True, group_by="entity")
    data = {hit.id: hit.data for hit in found}
    assert data["1"] == {
        "title": "The red fox",
        "blurb": "a quick fox",
        "year": 1990,
        "price": Decimal("12.50"),
        "bought": date(2020, 1, 2),
    }
    assert data["n1"] == {key: value for key, value in NOTES[0].items() if key != "id"}
    assert [hit.data for hit in found.groups["books"]] == [data["1"], data["2"]]
    assert filled.search("quick", mode="keyword")[0].data is None
    assert results_document(found)["hits"][0]["data"]["price"] == 12.5


def test_a_hit_whose_row_is_gone_shows_none(filled: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM books WHERE isbn = '1'"))
    found = filled.search("fox", entity="books", mode="keyword", data=True)
    assert {hit.id: hit.data and hit.data["title"] for hit in found} == {"1": None, "2": "Lazy dogs"}


def test_the_rows_of_a_page_take_one_statement(filled: SearchEngine, engine: Engine) -> None:
    statements: list[str] = []
    filled.search("fox", data=True)
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    filled.search("fox", mode="keyword", data=True)
    assert len([one for one in statements if "FROM books" in one]) == 1


def test_texts_of_other_tables_are_shown(search: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE author (id integer PRIMARY KEY, name text)"))
        connection.execute(
            text(
                "CREATE TABLE poem (id integer PRIMARY KEY, title text, author_id integer, "
                "FOREIGN KEY (author_id) REFERENCES author (id))"
            )
        )
        connection.execute(text("INSERT INTO author VALUES (1, 'Emily')"))
        connection.execute(text("INSERT INTO poem VALUES (7, 'Hope', 1), (8, 'Hope again', NULL)"))
    search.tables.define("poem", ["title", "author.name"])
    search.tables.refresh("poem")
    found = search.search("hope", entity="poem", mode="keyword", sort="author.name", data=True)
    assert [hit.data for hit in found] == [
        {"author.name": "Emily", "title": "Hope", "author_id": 1},
        {"author.name": None, "title": "Hope again", "author_id": None},
    ]


def test_the_server_shows_rows_and_writes_none(filled: SearchEngine) -> None:
    client = TestClient(app(filled, write=True), "http://127.0.0.1")
    found = client.post("/api/search", json={"query": "fox", "entity": "books", "where": {"year": 1990}}).json()
    row = {"title": "The red fox", "blurb": "a quick fox", "year": 1990, "price": 12.5, "bought": "2020-01-02"}
    assert [hit["data"] for hit in found["hits"]] == [row]
    assert client.get("/api/records/books/1").json()["data"] == row
    both = client.post("/api/search", json={"query": "fox", "facets": ["year"], "mode": "keyword"}).json()
    assert {hit["entity"] for hit in both["hits"]} == {"books", "Note"}
    assert both["facets"]["year"] == [{"value": 1990, "count": 2}, {"value": 2001, "count": 1}]
    entities = {one["name"]: one["kind"] for one in client.get("/api/entities").json()["entities"]}
    assert entities == {"books": "table", "Note": "records"}
    refused = client.put("/api/records/books/1", json={"title": "x"})
    assert "books is a table of this database" in refused.json()["detail"]
    for options in ({"where": {"api_token": "s"}}, {"facets": ["api_token"]}):
        assert "is named as a secret" in client.post("/api/search", json=options).json()["detail"]


def test_tools_list_the_fields_and_values_of_a_table(filled: SearchEngine) -> None:
    serving = Call(Serving(filled))
    (books,) = list_entities(serving, ListEntitiesArguments(entity="books"))["entities"]
    assert (books["kind"], books["records"]) == ("table", 3)
    values = {field["name"]: field.get("values") for field in books["fields"]}
    assert values["year"] == [{"value": 1990, "count": 1}, {"value": 2001, "count": 1}]
    assert values["api_token"] is None
    fetched = fetch(serving, FetchArguments(entity="books", id="2"))
    assert fetched["data"]["title"] == "Lazy dogs"
    assert "api_token" not in fetched["data"]
    hits = tool_search(serving, SearchArguments(query="fox", entity="books"))["hits"]
    assert {hit["data"]["title"] for hit in hits} >= {"The red fox", "Lazy dogs"}


def test_rules_pins_and_judgements_name_rows(filled: SearchEngine) -> None:
    options: dict[str, Any] = {"mode": "keyword"}
    assert refs(filled.search("fox", pin=[("books", "3")], **options))[0] == "books/3"
    filled.rules.set("dogs", pin=[("books", "3")], hide=[("books", "2")])
    assert refs(filled.search("dogs", entity="books", **options)) == ["books/3"]
    filled.judgements.set("red fox", [("books", "1")])
    measured = evaluate(filled, entities=["books"])
    assert (measured.queries, measured.unknown) == (1, 0)
    compared = compare(filled, before={"where": {"year": 2001}}, entities=["books"])
    assert (compared.wins, compared.queries[0].ndcg_before) == (1, 0.0)
