"""Classes that are made of tables: what of a table is searched, and how its columns and foreign keys are read."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, text

from kameleon import SearchEngine
from kameleon.errors import InvalidInput

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
        ("author.surname", "author has no column 'surname'. Did you mean 'name'[?] It has: id, name, country"),
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
        ip inet, bits bit(3), parts text[], numbers integer[][], moods mood[], feeling mood, short short_text, many hstores,
        span interval, place point, embedding vector(2), ids oid, dims regclass, pair couple)""",
}
VALUES = {
    "sqlite": [
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('7f9c24e8-3b12-4fef-91e0-5d0cb1a4d1c2', 'ocelot', 'b', 'c', 'd',
        'e', 'f', 'g', 'h', 'i', 'J', 5, 'someday', 17, x'00', 'many', 'perhaps', '{broken', 'no bytes', 12, 13, 'x')""",
        """INSERT INTO "Odd ""Table"": 100%" VALUES (12, 'margay', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'J', x'05',
        '2020-01-31', '2020-01-31T12:00:00Z', '12:30', 1.5, 1, '{"a": 1}', x'00', 'name', 'long', 3)""",
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('00000000-0000-0000-0000-000000000013', 'serval', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'J', 'text',
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
    fields = [name for name in cls.__mapper__.column_attrs.keys() if "." not in name]
    for field in fields:
        search.search("", entity=cls, sort=field)
        search.search("", entity=cls, facets=[field])
    found = search.search("", entity=cls, where={"order": 4, "day": "2020-01-31", "größe": "d", "100% :of": "c", "it's": "b"})
    assert ids(found) == ["00000000-0000-0000-0000-000000000013"]
