"""The example of a database that no ORM made: from plain SQL to searching in two commands."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

MUSEUM = Path(__file__).parents[1] / "examples" / "museum.sql"
ADD = ("table", "add", "artwork", "--text", "title:2", "--text", "description", "--join", "artist.name")

Run = Callable[..., Any]


class Museum:
    """A database that the SQL of the example made, and programs that write it without kameleon."""

    def __init__(self, url: str, execute: Callable[[str], None], command: Run) -> None:
        self.url = url
        self.execute = execute
        self._command = command

    def kameleon(self, *arguments: str) -> Any:
        """What `kameleon … --json` prints."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}
        done = self._command(*arguments, "--json", environment={**inherited, "KAMELEON_URL": self.url})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def found(self, *arguments: str) -> list[str]:
        return [hit["id"] for hit in self.kameleon("search", *arguments)["hits"]]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def museum(backend: str, request: pytest.FixtureRequest, tmp_path: Path, command: Run) -> Museum:
    if backend == "sqlite":
        path = tmp_path / "museum.db"

        def execute(script: str) -> None:
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(script)

        url = f"sqlite:///{path}"
    else:
        engine: Engine = request.getfixturevalue("pg_engine")

        def execute(script: str) -> None:
            with engine.connect() as connection:
                connection.exec_driver_sql(script)
                connection.commit()

        url = engine.url.render_as_string(hide_password=False)
    execute(MUSEUM.read_text("utf-8"))
    return Museum(url, execute, command)


def test_plain_sql_is_searched_after_two_commands(museum: Museum) -> None:
    added = museum.kameleon(*ADD, "--no-confirm")
    assert added["indexed"] == 50
    assert museum.found("shipwreck", "--limit", "2") == ["M-001", "M-002"]
    assert museum.found("Marrowby harbour", "--limit", "1") == ["M-005"]


def test_rows_are_filtered_counted_and_sorted_by_columns_and_joins(museum: Museum) -> None:
    museum.kameleon(*ADD, "--no-confirm")
    where = '{"year": {"$lt": 1900}, "on_display": true, "artist.name": "Solveig Aasheim"}'
    hits = museum.kameleon("search", "-e", "artwork", "--where", where, "--sort=-year", "--facet", "medium")
    assert [hit["id"] for hit in hits["hits"]] == ["M-015", "M-012", "M-011"]
    assert hits["facets"]["medium"] == [{"value": "Oil on canvas", "count": 3}]


def test_raw_sql_is_searched_after_it_is_synced(museum: Museum) -> None:
    museum.kameleon(*ADD, "--no-confirm")
    museum.execute("UPDATE artwork SET title = 'Zeppelin above the Fjord' WHERE accession = 'M-012'")
    museum.execute("UPDATE artist SET name = 'Ilse Marrowby-Quill' WHERE id = 1")
    museum.execute("DELETE FROM artwork WHERE accession = 'M-050'")
    found = museum.found("zeppelin quill", "--sync-first", "--mode", "keyword")
    assert sorted(found) == ["M-001", "M-002", "M-003", "M-004", "M-005", "M-012"]
    (status,) = museum.kameleon("table", "status", "artwork")
    assert (status["indexed"], status["pending"]) == (49, 0)


def test_a_table_that_was_removed_is_written_and_no_entity(museum: Museum) -> None:
    museum.kameleon(*ADD, "--no-confirm")
    museum.kameleon("table", "remove", "artwork", "--no-confirm")
    museum.execute("UPDATE artwork SET title = 'Untitled' WHERE accession = 'M-012'")
    assert museum.kameleon("table", "list") == []
    assert museum.found("untitled", "--sync-first") == []
