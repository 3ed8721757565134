"""Classes that are made of tables: what of a table is searched, and how its columns and foreign keys are read."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kameleon import SearchEngine, create_engine, searchable
from kameleon.doctor import examine
from kameleon.errors import InvalidInput, TenantRequired, UnknownEntity
from kameleon.testing import HashProvider

LIBRARY = (
    "CREATE TABLE author (id integer PRIMARY KEY, name text, country varchar(2))",
    "CREATE TABLE tag (id integer PRIMARY KEY, name text)",
    "CREATE TABLE book (id integer PRIMARY KEY, title text, author_id integer REFERENCES author (id), "
    "editor_id integer REFERENCES author (id), sequel_id integer REFERENCES book (id))",
    "CREATE TABLE book_tag (book_id integer REFERENCES book (id), tag_id integer REFERENCES tag (id))",
    "INSERT INTO author VALUES (1, 'Ursula', 'us'), (2, 'Stanislaw', 'pl')",
    "INSERT INTO tag VALUES (1, 'robots'), (2, 'islands')",
    "INSERT INTO book VALUES (1, 'Earthsea', 1, 2, NULL), (2, 'Cyberiad', 2, NULL, 1), (3, 'Unknown', NULL, NULL, 2)",
    "INSERT INTO book_tag VALUES (1, 2), (2, 1), (2, 2)",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def ids(found: Sequence[Any]) -> list[str]:
    return sorted(hit.id for hit in found)


def test_texts_come_over_foreign_keys(search: SearchEngine, engine: Engine) -> None:
    run(engine, *LIBRARY)
    book = search.tables.define("book", ["title", "author.name", "book_tag.tag.name", "editor.name", "sequel.title"])
    search.tables.refresh("book")

    assert ids(search.search("robots", entity=book, mode="keyword")) == ["2"]
    assert ids(search.search("Stanislaw", entity=book, mode="keyword")) == ["1", "2"]
    assert ids(search.search("Cyberiad", entity=book, mode="keyword")) == ["2", "3"]
    assert ids(search.search("", entity=book, where={"author.country": "us"})) == ["1"]
    assert ids(search.search("", entity=book, where={"book_tag.tag.name": "islands"})) == ["1", "2"]
    found = search.search("", entity=book, facets=["author.country", "book_tag.tag.name"])
    assert found.facets == {
        "author.country": {"pl": 1, "us": 1},
        "book_tag.tag.name": {"islands": 2, "robots": 1},
    }


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("writer.name", "There are: author, book, book_tag, editor, sequel"),
        ("author.surname", "author has no column 'surname'. "),
        ("book_tag.label.name", "There are: book, tag"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_what_there_is(
    search: SearchEngine, engine: Engine, path: str, known: str
) -> None:
    run(engine, *LIBRARY)

    with pytest.raises(InvalidInput, match=known):
        search.tables.define("book", ["title", path])
    assert search.tables.list() == []


AWKWARD = {
    "sqlite": """CREATE TABLE "Odd ""Table"": 100%" (
        "the id" UUID PRIMARY KEY, "select" text, "it's" text, "100% :of" text, "größe" text, "metadata" text,
        "registry" text, "__class__" text, "_sa_instance_state" text, "a.b" text, "UPPER" text, untyped, day DATE,
        moment DATETIME, at TIME, amount NUMERIC(10, 2), flag BOOLEAN, document JSON, data BLOB, name STRING,
        long_ VARCHAR(10), "order" integer, made text GENERATED ALWAYS AS ("select" || '!') VIRTUAL)""",
    "postgresql": """CREATE TABLE "Odd ""Table"": 100%" (
        "the id" uuid PRIMARY KEY, "select" text, "it's" text, "100% :of" text, "größe" text, "metadata" text,
        "registry" text, "__class__" text, "_sa_instance_state" text, "a.b" text, "UPPER" text, untyped xid, day date,
        moment timestamptz, at timetz, amount money, flag boolean, document json, data bytea, name tsvector,
        long_ int4range, "order" integer, made text GENERATED ALWAYS AS ("select" || '!') STORED,
        ip inet, bits bit(3), parts text[], numbers integer[][], moods mood[], feeling mood, short short_text,
        many hstores, span interval, place point, embedding vector(2), ids oid, dims regclass, pair couple)""",
}
VALUES = {
    "sqlite": [
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('7f9c24e8-3b12-4fef-91e0-5d0cb1a4d1c2', 'ocelot', 'b', 'c', 'd',
        'e', 'f', 'g', 'h', 'i', 'J', 5, 'someday', 17, x'00', 'many', 'perhaps', '{broken', 'bytes', 12, 13, 'x')""",
        """INSERT INTO "Odd ""Table"": 100%" VALUES (12, 'margay', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'J', x'05',
        '2020-01-31', '2020-01-31T12:00:00Z', '12:30', 1.5, 1, '{"a": 1}', x'00', 'name', 'long', 3)""",
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('00000000-0000-0000-0000-000000000013', 'serval', 'b', 'c',
        'd', 'e', 'f', 'g', 'h', 'i', 'J', 'text',
        '2020-01-31 10:00:00', '2020-01-31 12:00:00', '12:30:00.5', 2, 0, '[1]', 5, 1.5, 'long', 4)""",
    ],
    "postgresql": [
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('7f9c24e8-3b12-4fef-91e0-5d0cb1a4d1c2', 'ocelot', 'b', 'c', 'd',
        'e', 'f', 'g', 'h', 'i', 'J', '17', 'infinity', 'infinity', '12:30+02', 1.5, true, '{"a": 1}', '\\x00', 'a b',
        '[1,3)', 12, DEFAULT, '10.0.0.1', B'101', '{a,b}', '{{1,2}}', '{glad}', 'glad', 'short', '{x}', '1 year',
        '(1,2)', '[1,2]', 5, 'pg_class', '(1,x)')""",
        """INSERT INTO "Odd ""Table"": 100%" ("the id", "select", "it's", "100% :of", "größe", "order", day) VALUES
        ('00000000-0000-0000-0000-000000000013', 'serval', 'b', 'c', 'd', 4, '2020-01-31')""",
    ],
}


def test_names_and_values_of_every_kind_are_read(search: SearchEngine, engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        run(
            engine,
            "CREATE TYPE mood AS ENUM ('glad', 'sad')",
            "CREATE DOMAIN short_text AS varchar(10)",
            "CREATE DOMAIN hstores AS text[]",
            "CREATE TYPE couple AS (one integer, other text)",
        )
    table = 'Odd "Table": 100%'
    name = engine.dialect.name
    with engine.begin() as connection:
        for statement in (AWKWARD[name], *VALUES[name]):
            connection.exec_driver_sql(statement.replace("%", "%%") if name == "postgresql" else statement)
    texts = ["select", "it's", "100% :of", "größe", "metadata", "registry", "a.b", "UPPER", "made", "untyped", "name"]
    cls = search.tables.define(table, texts)
    report = search.tables.refresh(table)

    assert report.failed == 0
    assert len(search.search("ocelot", entity=cls, mode="keyword")) == 1
    fields = [name for name in map(str, inspect(cls).column_attrs.keys()) if "." not in name]
    assert len(fields) > 20
    for field in fields:
        search.search("", entity=cls, sort=field)
        search.search("", entity=cls, facets=[field])
    found = search.search(
        "", entity=cls, where={"order": 4, "day": "2020-01-31", "größe": "d", "100% :of": "c", "it's": "b"}
    )
    assert ids(found) == ["00000000-0000-0000-0000-000000000013"]


KEYS = {
    "a composite key": ("CREATE TABLE item (a integer, b text, title text, PRIMARY KEY (a, b))", (), '[1,"x"]'),
    "a key of text": ("CREATE TABLE item (a integer, b varchar(9) PRIMARY KEY, title text)", (), "x"),
    "a named unique column": (
        "CREATE TABLE item (a integer PRIMARY KEY, b text UNIQUE NOT NULL, title text)",
        ["b"],
        "x",
    ),
    "named columns": ("CREATE TABLE item (a integer, b text, title text)", ["b", "a"], '["x",1]'),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_kind_make_ids(search: SearchEngine, engine: Engine, kind: str) -> None:
    made, key, id_ = KEYS[kind]
    run(engine, made, "INSERT INTO item VALUES (1, 'x', 'fox'), (2, 'y', 'dog')")
    item = search.tables.define("item", ["title"], key=key)
    search.tables.refresh("item")

    assert ids(search.search("fox", entity=item, mode="keyword")) == [id_]
    assert search.search("", entity=item, sort="a", facets=["b"])[0].id == id_


def test_rows_without_an_id_of_their_own_are_refused_by_name(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE item (a integer, b text, title text)")

    with pytest.raises(InvalidInput, match="item has no primary key"):
        search.tables.define("item", ["title"])
    run(engine, "INSERT INTO item VALUES (1, 'x', 'fox'), (2, 'x', 'dog'), (NULL, 'y', 'cat')")
    with pytest.raises(InvalidInput, match=r"rows of item share their b: x \(2 rows\)"):
        search.tables.define("item", ["title"], key=["b"])
    with pytest.raises(InvalidInput, match="1 rows of item have no a, so they have no id"):
        search.tables.define("item", ["title"], key=["a"])
    assert search.tables.list() == []


def test_a_row_that_gets_no_id_later_is_no_record(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE item (a integer, title text)", "INSERT INTO item VALUES (1, 'fox')")
    item = search.tables.define("item", ["title"], key=["a"])
    search.untrack(item)
    run(engine, "INSERT INTO item VALUES (NULL, 'dog'), (2, 'cat')")
    search.sync()
    search.tables.refresh("item")

    assert ids(search.search("", entity=item)) == ["1", "2"]
    assert search.get_status("item")[0].unindexed == 0


def test_rows_that_do_not_meet_the_condition_are_no_records(search: SearchEngine, engine: Engine) -> None:
    run(
        engine,
        "CREATE TABLE author (id integer PRIMARY KEY, name text, deleted_at text)",
        "CREATE TABLE item (id integer PRIMARY KEY, title text, deleted_at text, author_id integer REFERENCES author)",
        "INSERT INTO author VALUES (1, 'Ursula', '2020')",
        "INSERT INTO item VALUES (1, 'fox', NULL, 1), (2, '100%: done', NULL, 1), (3, 'dog', '2020', 1)",
    )
    where = "deleted_at IS NULL AND title NOT LIKE '%:%' -- rows that are there"
    item = search.tables.define("item", ["title", "author.name"], where=where)
    assert search.get_status("item")[0].unindexed == 1
    search.sync()

    found = search.search("", entity=item, where={"author.name": "Ursula"}, facets=["author.deleted_at"])
    assert ids(found) == ["1"]
    assert found.facets == {"author.deleted_at": {"2020": 1}}
    assert set(inspect(item).column_attrs.keys()) == {"id", "title", "deleted_at", "author_id"}
    run(engine, "UPDATE item SET title = 'cat' WHERE id = 2", "UPDATE item SET deleted_at = '2021' WHERE id = 1")
    search.sync()
    assert ids(search.search("", entity=item)) == ["2"]
    assert [finding for finding in examine(search) if finding.severity == "error"] == []


@pytest.mark.parametrize("where", ["deleted IS NULL", "title =", "count(*) > 1"])
def test_a_condition_that_is_none_is_refused(search: SearchEngine, engine: Engine, where: str) -> None:
    run(engine, "CREATE TABLE item (id integer PRIMARY KEY, title text)")

    with pytest.raises(InvalidInput, match="is no condition on the rows of item"):
        search.tables.define("item", ["title"], where=where)
    assert search.tables.list() == []


def test_a_column_divides_the_records_into_tenants(search: SearchEngine, engine: Engine) -> None:
    run(
        engine,
        'CREATE TABLE item (id integer PRIMARY KEY, title text, "org.id" integer)',
        "INSERT INTO item VALUES (1, 'fox', 7), (2, 'fox', 8)",
    )
    item = search.tables.define("item", ["title"], tenant="org.id")
    search.tables.refresh("item")

    assert ids(search.search("fox", entity=item, mode="keyword", tenant=7)) == ["1"]
    with pytest.raises(TenantRequired):
        search.search("fox", entity=item)


def test_a_declared_class_takes_the_place_of_a_table_entity(
    search: SearchEngine, engine: Engine, provider: HashProvider
) -> None:
    run(engine, "CREATE TABLE book (id integer PRIMARY KEY, title text)", "INSERT INTO book VALUES (1, 'fox')")
    made = search.tables.define("book", {"title": 2})
    search.sync()
    calls = len(provider.calls)

    class Base(DeclarativeBase):
        pass

    @searchable(fields={"title": 2}, name="book")
    class Book(Base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    report = search.sync()
    assert (report.embedded, report.indexed) == (0, 0)
    assert ids(search.search("fox", entity=Book, mode="keyword")) == ["1"]
    run(engine, "INSERT INTO book VALUES (2, 'fox')")
    search.sync()
    assert ids(search.search("fox", entity=Book, where=Book.id > 1)) == ["2"]
    assert len(provider.calls) == calls + 1
    with pytest.raises(InvalidInput, match="two searchable classes are named 'book'"):
        search.search("fox", entity=made)


def test_a_view_is_searched_by_a_key_that_is_named(search: SearchEngine, engine: Engine) -> None:
    run(engine, *LIBRARY, "CREATE VIEW shelf AS SELECT id AS number, title FROM book")
    kinds = ["shelf"]
    if engine.dialect.name == "postgresql":
        run(engine, "CREATE MATERIALIZED VIEW hall AS SELECT * FROM shelf")
        kinds.append("hall")
    for name in kinds:
        with pytest.raises(InvalidInput, match=f"{name} has no primary key"):
            search.tables.define(name, ["title"])
        shelf = search.tables.define(name, ["title"], key=["number"])
        search.tables.refresh(name)
        assert ids(search.search("Earthsea", entity=shelf, mode="keyword")) == ["1"]


def test_a_table_that_was_changed_is_found_and_breaks_no_other(search: SearchEngine, engine: Engine) -> None:
    run(engine, *LIBRARY)
    search.tables.define("book", ["title", "author.name"])
    tag = search.tables.define("tag", ["name"])
    search.sync()
    run(engine, "ALTER TABLE author RENAME COLUMN name TO surname", "UPDATE tag SET name = 'quays' WHERE id = 1")

    other = SearchEngine(engine, search.provider)
    assert ("changed-table", "book", "error") in [(one.check, one.entity, one.severity) for one in examine(other)]
    other.sync()
    assert ids(other.search("quays", entity=other.tables.get("tag"), mode="keyword")) == ["1"]
    assert "author has no column 'name'" in other.get_status()[0].note
    with pytest.raises(InvalidInput, match="kameleon table remove book"):
        other.tables.get("book")
    run(engine, "UPDATE book SET title = 'x'", "UPDATE tag SET name = 'docks' WHERE id = 1")
    search.sync()
    assert ids(search.search("docks", entity=tag, mode="keyword")) == ["1"]
    search.tables.define("book", ["title", "author.surname"], replace=True)
    search.sync()
    assert ids(search.search("Stanislaw", entity=search.tables.get("book"), mode="keyword")) == ["2"]
    run(engine, "DROP TABLE book_tag", "DROP TABLE book")
    other.tables.remove("book")
    assert [one.entity for one in other.tables.list()] == ["tag"]


JOINS = {
    "two keys to one table by their columns": (
        "CREATE TABLE match (id integer PRIMARY KEY, title text, home_id integer REFERENCES team (id), "
        "guest_id integer REFERENCES team (id))",
        "INSERT INTO match VALUES (1, 'x', 1, 2)",
        {"home.name": "crows", "guest.name": "owls"},
    ),
    "a key whose column has the table's name": (
        "CREATE TABLE match (id integer PRIMARY KEY, title text, team integer REFERENCES team (id))",
        "INSERT INTO match VALUES (1, 'x', 2)",
        {"team_by_team.name": "owls"},
    ),
    "a composite key": (
        "CREATE TABLE match (id integer PRIMARY KEY, title text, number integer, code text, "
        "FOREIGN KEY (number, code) REFERENCES team (id, code))",
        "INSERT INTO match VALUES (1, 'x', 2, 'b')",
        {"team.name": "owls"},
    ),
    "rows that reference the table's own": (
        "CREATE TABLE match (id integer PRIMARY KEY, title text, parent_id integer REFERENCES match (id))",
        "INSERT INTO match VALUES (1, 'x', NULL), (2, 'owls', 1), (3, 'crows', 2)",
        {"match.title": "owls", "match.match.title": "crows"},
    ),
    "a key of a unique column": (
        "CREATE TABLE match (id integer PRIMARY KEY, title text, team_code text REFERENCES team (code))",
        "INSERT INTO match VALUES (1, 'x', 'b')",
        {"team_by_team_code.name": "owls"},
    ),
}


@pytest.mark.parametrize("kind", JOINS)
def test_foreign_keys_of_every_kind_are_followed(search: SearchEngine, engine: Engine, kind: str) -> None:
    made, row, words = JOINS[kind]
    team = "CREATE TABLE team (id integer PRIMARY KEY, code text UNIQUE, name text, UNIQUE (id, code))"
    run(engine, team, "INSERT INTO team VALUES (1, 'a', 'crows'), (2, 'b', 'owls')", made, row)
    match = search.tables.define("match", ["title", *words])
    search.sync()

    for path, word in words.items():
        assert ids(search.search("", entity=match, where={"id": 1, path: word})) == ["1"]
        assert "1" in ids(search.search(word, entity=match, mode="keyword"))


def test_each_engine_has_its_own_table_entities(search: SearchEngine, engine: Engine, tmp_path: Path) -> None:
    other = SearchEngine(create_engine(f"sqlite:///{tmp_path / 'other.db'}"), HashProvider())
    for each, word in ((search, "fox"), (other, "dog")):
        run(
            each.engine,
            "CREATE TABLE item (id integer PRIMARY KEY, title text)",
            f"INSERT INTO item VALUES (1, '{word}')",
        )
        each.table("item", ["title"])
        each.sync()

    assert search.table("item") is not other.table("item")
    for each, word in ((search, "fox"), (other, "dog")):
        assert ids(each.search(word, entity=each.table("item"), mode="keyword")) == ["1"]
        assert [finding for finding in examine(each) if finding.severity == "error"] == []
    with pytest.raises(UnknownEntity, match="no table was added as 'books'"):
        search.table("books")


def test_a_table_of_another_schema_is_searched(pg_engine: Engine) -> None:
    other = f"other_{uuid4().hex[:8]}"
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {other}"))
        connection.execute(text(f"CREATE TABLE {other}.author (id integer PRIMARY KEY, name text)"))
        connection.execute(
            text(
                f"CREATE TABLE {other}.book (id integer PRIMARY KEY, title text, author_id integer "
                f"REFERENCES {other}.author)"
            )
        )
        connection.execute(text(f"INSERT INTO {other}.author VALUES (1, 'Ursula')"))
        connection.execute(text(f"INSERT INTO {other}.book VALUES (1, 'Earthsea', 1)"))
    try:
        engine = SearchEngine(pg_engine, HashProvider())
        book = engine.table("book", ["title", "author.name"], schema=other)
        engine.sync()
        assert ids(engine.search("Ursula", entity=book, where={"author.name": "Ursula"})) == ["1"]
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {other} CASCADE"))


@pytest.mark.parametrize("moment", ["2020-01-31 12:00:00", "2020-01-31T12:00:00Z", "2020-01-31 12:00:00.000000"])
def test_moments_that_sqlite_holds_compare_however_they_are_written(tmp_path: Path, moment: str) -> None:
    search = SearchEngine(create_engine(f"sqlite:///{tmp_path / 'test.db'}"), HashProvider())
    run(
        search.engine,
        "CREATE TABLE item (id integer PRIMARY KEY, title text, at DATETIME, day DATE)",
        f"INSERT INTO item VALUES (1, 'fox', '{moment}', '{moment}'), (2, 'dog', 'never', 'never')",
    )
    item = search.table("item", ["title"])
    search.sync()

    at = datetime(2020, 1, 31, 12)
    for condition in ({"at": at}, {"at": {"$gte": at, "$lte": at}}, {"at": {"$in": [at]}}, {"day": at.date()}):
        assert ids(search.search("", entity=item, where=condition)) == ["1"]
    assert ids(search.search("", entity=item, where={"at": {"$gt": at}})) == []
    found = search.search("", entity=item, facets=["at", "day"], sort="at")
    assert found.facets == {"at": {at: 1, "never": 1}, "day": {at.date(): 1, "never": 1}}
