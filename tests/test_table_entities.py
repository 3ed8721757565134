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
        "author.country": [("pl", 1), ("us", 1)],
        "book_tag.tag.name": [("islands", 2), ("robots", 1)],
    }


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("writer.name", "There are: author, book, book_tag, editor, sequel"),
        ("author.surname", "author has no column 'surname'. It has: id, name, country"),
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
