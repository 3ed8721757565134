"""`kameleon table …` on databases that no ORM made, and `search --sync-first`."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, inspect, text

from kameleon import SearchEngine
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider

from .conftest import Make
from .test_cli import Run, checked, hits

SHELF = (
    "CREATE TABLE author (id integer PRIMARY KEY, name text)",
    "CREATE TABLE book (isbn varchar(20) PRIMARY KEY, title text, blurb text, year integer, "
    "author_id integer REFERENCES author (id), deleted_at timestamp)",
    "INSERT INTO author VALUES (1, 'Ann Lee'), (2, 'Bo Ek')",
    "INSERT INTO book VALUES ('1', 'The fox', 'a quick brown fox', 1990, 1, NULL), "
    "('2', 'Dogs', 'lazy dogs', 2001, 2, NULL), ('3', 'Gone fox', 'withdrawn', 2002, 2, '2020-01-01 00:00:00')",
)
ADD = ("table", "add", "book", "--text", "title:2", "--text", "blurb")
HERE = ("--where", "deleted_at IS NULL")


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if backend == "sqlite":
        return f"sqlite:///{tmp_path / 'shelf.db'}"
    found: URL = request.getfixturevalue("pg_url")
    return found.render_as_string(hide_password=False)


@pytest.fixture
def shelf(url: str) -> Iterator[Engine]:
    """The database before kameleon has seen it, by a plain connection."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in SHELF:
            connection.execute(text(statement))
    yield engine
    engine.dispose()


@pytest.fixture
def run(command: Callable[..., Any], url: str) -> Run:
    call = checked(command)
    return lambda *arguments, **options: call(*arguments, KAMELEON_URL=url, **options)


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def change(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_a_table_is_added_searched_changed_and_removed(run: Run, shelf: Engine) -> None:
    done = run(*ADD, *HERE)
    assert done.stdout == "book: 2 rows indexed, 0 unchanged; 2 embedded, 0 reused, 0 failed, 0 pending\n"
    assert "book: 2 of 3 rows" in done.stderr
    assert "entity book, id: isbn, text: title (weight 2), blurb" in done.stderr
    assert "1: The fox | a quick brown fox" in done.stderr
    assert "kameleon's tables are made in this database" in done.stderr
    assert hits(run("search", "fox", "--mode", "keyword", "--json")) == ["1"]

    change(shelf, "UPDATE book SET title = 'A fox too' WHERE isbn = '2'")
    change(shelf, "DELETE FROM book WHERE isbn = '1'")
    (status,) = json.loads(run("table", "status", "book", "--json").stdout)
    assert (status["rows"], status["indexed"], status["marked"]) == (1, 2, 2)
    run("embeddings", "sync")
    assert hits(run("search", "fox", "--mode", "keyword", "--json")) == ["2"]

    assert run("table", "list").stdout == "book\tbook\ttitle, blurb\tdeleted_at IS NULL\n"
    removed = run("table", "remove", "book", "--no-confirm")
    assert removed.stdout == "removed book from the index; its table is as it was\n"
    assert hits(run("search", "fox", "--json")) == []
    assert run("table", "list").stdout == ""
    change(shelf, "UPDATE book SET title = 'A fox again' WHERE isbn = '2'")
    assert run("embeddings", "sync").stdout == "0 embedded, 0 failed, 0 pending\n"


def test_a_worker_indexes_marked_rows_without_the_applications_classes(run: Run, shelf: Engine) -> None:
    run(*ADD)
    change(shelf, "INSERT INTO book VALUES ('4', 'Cranes', 'grey birds', 2020, 1, NULL)")
    assert run("embeddings", "worker", "--once").stdout == "1 embedded, 0 failed\n"
    assert hits(run("search", "cranes", "--mode", "keyword", "--json")) == ["4"]


def test_a_dry_run_shows_records_and_writes_nothing(run: Run, shelf: Engine, url: str, tmp_path: Path) -> None:
    before = tables(shelf)
    shelf.dispose()
    file = tmp_path / "shelf.db"
    content = file.read_bytes() if file.exists() else b""
    shown = run(*ADD, "--join", "author.name", "--dry-run", "--rate", "0.1")
    assert shown.stdout == ""
    for line in (
        "book: 3 rows",
        "1: The fox | a quick brown fox | Ann Lee",
        "no cost: the model runs here",
        "kameleon's tables would be made in this database; time: about 30 s",
        "nothing was written",
    ):
        assert line in shown.stderr
    plan = json.loads(run(*ADD, *HERE, "--dry-run", "--json").stdout)
    assert (plan["rows"], plan["rows_in_table"], plan["indexed"], plan["key"]) == (2, 3, 0, ["isbn"])
    assert plan["tokens"] > 0
    assert plan["seconds"] > 0
    assert tables(shelf) == before
    assert (file.read_bytes() if file.exists() else b"") == content


def test_what_costs_money_is_confirmed(run: Run, shelf: Engine) -> None:
    costly = (*ADD, "--provider", "openai", "--base-url", "http://127.0.0.1:9/v1", "--price-per-million", "1000000")
    asked = run(*costly, stdin="n\n", status=130, OPENAI_API_KEY="k")
    assert "cost: about" in asked.stderr
    assert "Index the rows? [y/N]" in asked.stderr
    assert not any(name.startswith("kdb_") for name in tables(shelf))


def test_the_same_command_again_embeds_nothing_and_another_is_refused(run: Run, shelf: Engine) -> None:
    run(*ADD)
    again = run(*ADD)
    assert "3 of them indexed already" in again.stderr
    assert again.stdout == "book: 0 rows indexed, 3 unchanged; 0 embedded, 0 reused, 0 failed, 0 pending\n"

    other = ("table", "add", "book", "--text", "title", "--text", "blurb")
    assert "'book' is defined otherwise (text)" in run(*other, status=1).stderr
    replaced = run(*other, "--replace").stdout
    assert replaced == "book: 3 rows indexed, 0 unchanged; 0 embedded, 0 reused, 0 failed, 0 pending\n"

    by_year = run(*other, "--id", "year", "--replace", "--json").stdout
    assert json.loads(by_year)["indexed"] == 3
    assert sorted(hits(run("search", "", "--json"))) == ["1990", "2001", "2002"]


def test_two_entities_of_one_table(run: Run, shelf: Engine) -> None:
    run(*ADD)
    run("table", "add", "book", "--text", "blurb", "--name", "Blurb")
    change(shelf, "UPDATE book SET blurb = 'cranes' WHERE isbn = '1'")
    run("embeddings", "sync")
    found = json.loads(run("search", "cranes", "--mode", "keyword", "--json").stdout)["hits"]
    assert sorted(hit["entity"] for hit in found) == ["Blurb", "book"]
    run("table", "remove", "Blurb", "--no-confirm")
    change(shelf, "UPDATE book SET blurb = 'grebes' WHERE isbn = '1'")
    run("embeddings", "sync")
    assert hits(run("search", "grebes", "--mode", "keyword", "--json")) == ["1"]


REFUSED = (
    (["bok", "--text", "title"], "there is no table 'bok' in this database. It has: author, book", 1),
    (["nowhere.book", "--text", "title"], "there is no schema 'nowhere' in this database", 1),
    (["book", "--text", "titel"], "book has no column 'titel'. It has: isbn, title, blurb", 1),
    (["book", "--text", "title", "--id", "isnb"], "book has no column 'isnb'", 1),
    (["book", "--join", "writer.name"], "book has no foreign key 'writer'", 1),
    (["book", "--join", "title"], "--join is TABLE.COLUMN", 2),
    (["kdb_meta", "--text", "key"], "'kdb_meta' is a table of kameleon's own", 1),
    (["book"], "name the columns to search: --text COLUMN", 2),
    (["book", "--text", "title:11"], "weight is a whole number from 1 to 10, not 11", 1),
    (["book", "--text", "title", "--rate", "5"], "--rate goes with --dry-run", 2),
    (["book", "--text", "title", "--where", "deleted_at IS NUL"], "is no condition on the rows of book", 1),
)


def test_what_cannot_be_added_is_refused_and_nothing_is_made(run: Run, shelf: Engine) -> None:
    for arguments, message, status in REFUSED:
        assert message in run("table", "add", *arguments, status=status).stderr
    assert tables(shelf) == {"author", "book"}


def test_a_name_that_was_not_added_is_refused_with_those_that_were(run: Run, shelf: Engine) -> None:
    run(*ADD)
    for verb in ("status", "refresh", "remove"):
        refused = run("table", verb, "shelf", status=1)
        assert refused.stderr == "Error: no table was added as 'shelf'. Added: book\n"


def test_a_view_is_indexed_again_by_a_refresh(run: Run, shelf: Engine) -> None:
    change(shelf, "CREATE VIEW shown AS SELECT isbn, title FROM book WHERE deleted_at IS NULL")
    refused = run("table", "add", "shown", "--text", "title", status=1)
    assert "shown has no primary key" in refused.stderr
    added = run("table", "add", "shown", "--text", "title", "--id", "isbn")
    assert "note: shown is a view, so no triggers mark its rows" in added.stderr
    change(shelf, "UPDATE book SET title = 'Wrens' WHERE isbn = '1'")
    change(shelf, "UPDATE book SET deleted_at = '2021-01-01 00:00:00' WHERE isbn = '2'")
    status = run("table", "status")
    assert status.stdout == "shown\t1\t2\t0\t0\t0\t0\n"
    assert "shown has no triggers: `kameleon table refresh shown`" in status.stderr
    done = run("table", "refresh", "shown")
    assert done.stdout == "shown: 1 rows indexed, 0 unchanged; 1 embedded, 0 reused, 0 failed, 0 pending\n"
    assert hits(run("search", "", "--json")) == ["1"]


def test_a_search_indexes_marked_rows_first_where_it_is_requested(run: Run, shelf: Engine) -> None:
    run(*ADD)
    change(shelf, "UPDATE book SET title = 'Herons' WHERE isbn = '2'")
    assert hits(run("search", "herons", "--mode", "keyword", "--json")) == []
    found = run("search", "herons", "--mode", "keyword", "--sync-first", "--json")
    assert found.stderr == "indexed 1 rows that were changed\n"
    assert hits(found) == ["2"]
    assert run("search", "herons", "--sync-first").stderr == ""


def test_a_search_that_is_to_index_first_is_refused_where_the_database_is_read_only(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    run = checked(command)
    engine = create_engine(f"sqlite:///{tmp_path / 'shelf.db'}")
    for statement in SHELF:
        change(engine, statement)
    run(*ADD, KAMELEON_URL=f"sqlite:///{tmp_path / 'shelf.db'}")
    change(engine, "UPDATE book SET title = 'Herons' WHERE isbn = '2'")
    engine.dispose()
    read_only = f"sqlite:///file:{tmp_path / 'shelf.db'}?mode=ro&uri=true"
    refused = run("search", "herons", "--sync-first", status=1, KAMELEON_URL=read_only)
    assert "--sync-first writes to the index, which failed" in refused.stderr
    run("search", "herons", KAMELEON_URL=read_only)


# the library


class Counting(HashProvider):
    """Counts the texts that it embeds; fails after `limit` calls."""

    texts = 0
    limit = -1

    def embed_batch(self, texts: Any) -> Any:
        if self.limit == 0:
            raise KeyboardInterrupt
        self.limit -= 1
        self.texts += len(texts)
        return super().embed_batch(texts)


def test_an_interrupted_run_is_completed_without_embedding_twice(make: Make, engine: Engine) -> None:
    for statement in SHELF[:3]:
        change(engine, statement)
    rows = ", ".join(f"('{n}', 'title {n}', NULL, {n}, 1, NULL)" for n in range(40))
    change(engine, f"INSERT INTO book VALUES {rows}")
    provider = Counting()
    provider.limit = 2
    with pytest.raises(KeyboardInterrupt):
        make(provider).tables.add("book", ["title"], batch_size=10)
    assert provider.texts == 20
    provider.limit = -1
    search = make(provider)
    assert search.tables.status("book").problem
    assert search.tables.plan("book", ["title"], rate=100.0).indexed == 20
    done: list[tuple[int, int]] = []
    report = search.tables.add("book", ["title"], batch_size=10, progress=lambda *counts: done.append(counts))
    assert (report.embedded, report.unchanged) == (20, 20)
    assert provider.texts == 40
    assert done == [(10, 40), (20, 40), (30, 40), (40, 40)]
    assert search.tables.status("book").problem == ""


def test_a_plan_counts_what_is_left_and_names_what_is_odd(make: Make, engine: Engine) -> None:
    for statement in SHELF:
        change(engine, statement)
    change(engine, "UPDATE book SET blurb = NULL WHERE isbn = '2'")
    search: SearchEngine = make(HashProvider())
    plan = search.tables.plan("book", ["blurb"], price_per_million=1e6)
    assert plan.warnings == ("1 of 3 rows that were read have no text",)
    assert plan.cost == plan.tokens
    assert [sample.id for sample in plan.samples] == ["1", "3"]
    assert not search.tables.list()
    search.tables.add("book", ["blurb"])
    left = search.tables.plan("book", ["blurb"], price_per_million=1e6)
    assert (left.indexed, left.tokens, left.cost) == (3, 0, 0)
    with pytest.raises(InvalidInput, match="defined otherwise"):
        search.tables.plan("book", ["title"])
    none = search.tables.plan("book", ["title"], where="year < 0", name="old")
    assert none.warnings == ("no row meets the condition",)


SLOW_RUN = """
import sys
from kameleon.testing import HashProvider
import kameleon

class Slow(HashProvider):
    calls = 0
    def embed_batch(self, texts):
        Slow.calls += 1
        if Slow.calls == 3:
            print("third", flush=True)
            sys.stdin.read()
        return super().embed_batch(texts)

search = kameleon.SearchEngine(kameleon.create_engine(sys.argv[1]), Slow())
search.tables.add("book", ["title"], batch_size=10)
"""


def test_a_run_that_was_killed_is_completed_by_another(make: Make, engine: Engine) -> None:
    for statement in SHELF[:3]:
        change(engine, statement)
    rows = ", ".join(f"('{n}', 'title {n}', NULL, {n}, 1, NULL)" for n in range(40))
    change(engine, f"INSERT INTO book VALUES {rows}")
    url = engine.url.render_as_string(hide_password=False)
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"third\n"
    change(engine, "UPDATE book SET title = 'changed' WHERE isbn = '0'")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    provider = Counting()
    search = make(provider)
    search.tables.add("book", ["title"], batch_size=10)
    assert provider.texts == 21
    status = search.tables.status("book")
    assert (status.rows, status.index.indexed, status.index.pending) == (40, 40, 0)
    assert shlex.quote("book") in repr(status.definition)


def test_entity_list_and_describe_have_the_columns_of_a_table_that_was_added(run: Run, shelf: Engine) -> None:
    run(*ADD, "--join", "author.name", "--no-confirm")
    assert run("entity", "list").stdout == "book\tauthor.name, title, blurb\t\n"
    described = dict(line.split("\t", 1) for line in run("entity", "describe", "book").stdout.splitlines())
    assert (described["title"], described["author.name"]) == ("text\tsearchable, weight 2", "text\tsearchable")
    assert (described["year"], described["deleted_at"]) == ("integer\t", "datetime\t")
    refused = run("search", "fox", "-e", "book", "--where", '{"yaer": 1990}', status=1)
    assert "book has no column 'yaer'. Known: author_id, blurb, " in refused.stderr
    assert ", title, year, author.COLUMN. " in refused.stderr
    assert "unknown entity 'shelf'. Known: book" in run("entity", "describe", "shelf", status=1).stderr
    with shelf.begin() as connection:
        connection.execute(text("ALTER TABLE book RENAME COLUMN blurb TO summary"))
    assert run("entity", "list").stdout == ""


def test_a_dry_run_counts_the_tokens_of_texts_that_are_replaced(run: Run, shelf: Engine) -> None:
    run(*ADD, "--no-confirm")
    planned = {}
    for text_, options in {"title:3": ("--text", "blurb"), "title": ()}.items():
        command = ("table", "add", "book", "--text", text_, *options, "--replace", "--dry-run", "--json")
        planned[text_] = json.loads(run(*command).stdout)["tokens"]
    assert planned["title:3"] == 0 < planned["title"]
