"""Searches of table entities by their names: among others, with what filters, counts and orders them."""

import json
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.testclient import TestClient

from kameleon import ALL_TENANTS, RecordStore, SearchEngine, searchable
from kameleon.boosts import number, when
from kameleon.documents import results_document
from kameleon.entities import count_values, describe, kind_of, named
from kameleon.errors import EntityExists, InvalidFilter, InvalidInput, TenantRequired, UnknownEntity
from kameleon.evaluation import compare, evaluate
from kameleon.server import app
from kameleon.server.mcp.models import FetchArguments, ListEntitiesArguments, SearchArguments
from kameleon.server.mcp.tools import Call, fetch, list_entities
from kameleon.server.mcp.tools import search as tool_search
from kameleon.server.serving import Serving

from .conftest import Done

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


def test_the_record_store_has_no_rows_of_tables(filled: SearchEngine, engine: Engine) -> None:
    store = RecordStore(filled)
    for call in (
        lambda: store.get("books", "1"),
        lambda: store.list("books"),
        lambda: store.insert("books", [{"id": "4", "title": "x"}]),
        lambda: store.update("books", "1", {"title": "x"}),
        lambda: store.delete("books", ["1"]),
        lambda: store.create_entity("books", search=["title"]),
        lambda: store.rename_entity("Note", "books"),
    ):
        with pytest.raises(InvalidInput, match=r"books. is the table books, whose rows .* SELECT \* FROM books"):
            call()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note (id integer PRIMARY KEY, title text)"))
    with pytest.raises(EntityExists, match=r"Note. has stored records: give the table another name with --name"):
        filled.tables.define("note", ["title"], name="Note")
    assert [entity.name for entity in store.entities()] == ["Note"]


def test_queries_of_stored_entities_take_no_statement_more(
    filled: SearchEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.indexing.tenanted.READ_EVERY_S", 3600)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    for options in ({"entity": "Note"}, {"entity": "Note", "where": {"year": 1990}, "facets": ["year"]}, {}):
        filled.search("garden", **options)
        statements.clear()
        filled.search("garden", **options)
        assert statements
        assert not [one for one in statements if "kdb_table" in one or "books" in one]


def test_the_tenants_of_a_table_are_its_rows_own(search: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE deal (id integer PRIMARY KEY, title text, org text, stage text)"))
        rows = "(1, 'A merger', 'acme', 'won'), (2, 'A merger', 'globex', 'lost'), (3, 'A merger', 'acme', 'lost')"
        connection.execute(text(f"INSERT INTO deal VALUES {rows}"))
    search.tables.define("deal", ["title"], tenant="org")
    search.tables.refresh("deal")
    acme = search.for_tenant("acme")
    found = acme.search("merger", entity="deal", where={"stage": "lost"}, facets=["stage"], data=True)
    assert refs(found) == ["deal/3"]
    assert found[0].data == {"title": "A merger", "org": "acme", "stage": "lost"}
    assert acme.search("merger", facets=["stage"]).facets["stage"] == {"won": 1, "lost": 1}
    assert refs(search.search("merger", entity="deal", tenant=ALL_TENANTS, sort="-stage", limit=1)) == ["deal/1"]
    with pytest.raises(TenantRequired, match="deal"):
        search.search("merger", entity="deal")
    with engine.begin() as connection:
        connection.execute(text("UPDATE deal SET org = 'globex' WHERE id = 3"))
    assert [hit.data for hit in acme.search("merger", entity="deal", ids=["3"], data=True)] == [None]


def test_a_changed_table_is_found_by_its_texts_alone(filled: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE books RENAME COLUMN blurb TO summary"))
    found = filled.search("fox", mode="keyword", data=True)
    assert set(refs(found)) == {"books/1", "books/2", "Note/n1"}
    assert [hit.data is None for hit in found] == [hit.entity == "books" for hit in found]
    assert "the rows of books are not shown" in found.plan.note
    other = SearchEngine(engine, "static")
    assert refs(other.search("fox", entity="books", mode="keyword", data=True)) == ["books/1", "books/2"]
    with pytest.raises(InvalidInput, match=r"books has no column 'blurb'.*kameleon table add"):
        other.search("fox", entity="books", where={"year": 1990})
    assert refs(other.search("fox", where={"year": 1990}, mode="keyword")) == ["Note/n1"]


def test_a_name_is_that_of_a_class_that_is_declared_later(search: SearchEngine, engine: Engine) -> None:
    name = f"shelf_{engine.dialect.name}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {name} (id integer PRIMARY KEY, title text, year integer)"))
        connection.execute(text(f"INSERT INTO {name} VALUES (1, 'A fox', 1990), (2, 'A fox', 2001)"))
    search.tables.add(name, ["title"])
    options: dict[str, Any] = {"entity": name, "mode": "keyword"}
    assert refs(search.search("fox", where={"year": 1990}, **options)) == [f"{name}/1"]

    class Base(DeclarativeBase):
        pass

    @searchable(fields=["title"], name=name)
    class Shelf(Base):
        __tablename__ = name
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        printed: Mapped[int | None] = mapped_column("year")

    assert refs(search.search("fox", where={"printed": 1990}, **options)) == [f"{name}/1"]
    assert refs(search.search("fox", where={"printed": 1990}, mode="keyword")) == [f"{name}/1"]
    assert named(search, [name]) == [Shelf]


# by the command


@pytest.fixture
def run(engine: Engine, command: Callable[..., Done]) -> Callable[..., Done]:
    url = engine.url.render_as_string(hide_password=False)

    def call(*arguments: str, status: int = 0) -> Done:
        done = command(*arguments, environment={"KAMELEON_URL": url})
        assert done.returncode == status, done.stderr
        return done

    return call


def test_the_command_finds_rows(filled: SearchEngine, run: Callable[..., Done]) -> None:
    words = ("search", "fox", "--mode", "keyword")
    shown = run(*words, "-e", "books", "--where", '{"year": 1990}', "--field", "year", "--field", "price").stdout
    assert shown.split("\t", 1)[1] == "books\t1\t1990\t12.5\tThe red fox a quick fox\n"
    document = json.loads(run(*words, "--facet", "year", "--sort", "-year", "--json").stdout)
    assert (document["hits"][0]["entity"], document["hits"][0]["id"]) == ("books", "2")
    assert document["hits"][0]["data"]["bought"] == "2021-03-04"
    assert document["facets"]["year"] == [{"value": 1990, "count": 2}, {"value": 2001, "count": 1}]
    assert "title\tn1" not in run("search", "title:fox", "-e", "books", "--mode", "keyword").stdout
    assert "no hit has a field 'pages'" in run(*words, "--field", "pages").stderr
    assert "\tThe whale\tThe whale" in run("search", "whale", "-e", "books", "--field", "title").stdout
    assert "books\t2\t2001" in run("similar", "books", "1", "--mode", "keyword", "--field", "year").stdout
    assert run("suggest", "qui", "-e", "books").stdout == "quick\n"
    assert "unknown entity 'book'. Known: Note, books" in run("search", "x", "-e", "book", status=1).stderr
    assert "whose rows are read and written with SQL" in run("data", "list", "books", status=1).stderr


def test_the_command_compares_settings_on_rows(filled: SearchEngine, run: Callable[..., Done]) -> None:
    filled.judgements.set("red fox", [("books", "1")])
    setting = '{"where": {"year": 2001}, "mode": "keyword"}'
    compared = json.loads(run("eval", "-e", "books", "--before", setting, "--json").stdout)
    assert (compared["wins"], compared["losses"]) == (1, 0)


MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from kameleon import searchable

class Base(DeclarativeBase):
    pass

@searchable(fields=["title"])
class ENTITY(Base):
    __tablename__ = "TABLE"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    stage: Mapped[str]
    password_hash: Mapped[str]
"""


def test_imported_classes_are_searched_by_their_columns(
    engine: Engine, run: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, entity = f"imported_models_{engine.dialect.name}", f"Imported{engine.dialect.name}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(MODELS.replace("ENTITY", entity).replace("TABLE", entity.lower()))
    with engine.begin() as connection:
        columns = "id integer PRIMARY KEY, title text, stage text, password_hash text"
        connection.execute(text(f"CREATE TABLE {entity.lower()} ({columns})"))
        connection.execute(
            text(f"INSERT INTO {entity.lower()} VALUES (1, 'a fox', 'new', 'x'), (2, 'a fox', 'old', 'y')")
        )
    SearchEngine(engine)
    run("embeddings", "sync", "--import", name)
    own = ("-e", entity, "--import", name, "--mode", "keyword", "--where", '{"stage": "old"}')
    (hit,) = json.loads(run("search", "fox", *own, "--json").stdout)["hits"]
    assert (hit["id"], hit["data"]) == ("2", {"title": "a fox", "stage": "old"})
    near = run("similar", entity, "1", *own[2:], "--field", "stage").stdout
    assert near.split("\t")[1:] == [entity, "2", "old", "a fox\n"]
    assert run("suggest", "fo", "-e", entity, "--import", name).stdout == "fox\n"
