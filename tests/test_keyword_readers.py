"""Whoever searches, at whatever isolation level and whatever folds, merges, rollbacks and restores do meanwhile, finds
what BM25 without an index does: through `SearchEngine`, on both databases."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, Engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from kameleon import RecordStore, SearchEngine
from kameleon.errors import KameleonError
from kameleon.keywords.dialect import Partition
from kameleon.keywords.folding import Limits, Maintenance
from kameleon.testing import HashProvider
from stress.workloads.brute_force import assert_same, scores_of

from .conftest import Make, ids

NOTES = Partition("", "Note")
LIMITS = Limits(fold_from=4, pack_from=3, most_segments=2)
WORDS = ["fox", "foxes", "red", "blue", "whale", "a"]
QUERIES = ["fox", "red fox a", "blue blue whale"]
CONTENTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join)
IDS = st.integers(0, 12).map(str)
KEPT = 12
LEVELS = {
    "sqlite": ["", "AUTOCOMMIT"],
    "postgresql": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"],
}
SNAPSHOTS = ("", "REPEATABLE READ", "SERIALIZABLE")

Contents = dict[str, str]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def search(make: Make) -> SearchEngine:
    made = make(HashProvider(8))
    postings = made.index.store.postings
    postings.fold_rows, postings.step_rows = 6, 2
    return made


def maintenance(search: SearchEngine) -> Maintenance:
    """What another process does; its limits are small, so that few records make many folds and merges."""
    return Maintenance(search.engine, search.index.store.postings, search.index.store.tables.keywords, LIMITS)


def levels(engine: Engine) -> list[str]:
    return LEVELS[engine.dialect.name]


def at_level(engine: Engine, level: str) -> Engine:
    return engine.execution_options(isolation_level=level) if level else engine


def contents_of(connection: Connection) -> Contents:
    rows = connection.execute(text("SELECT record_id, content FROM kdb_search WHERE entity_name = 'Note'"))
    return {row.record_id: row.content for row in rows}


def assert_finds(search: SearchEngine, connection: Connection | None, contents: Contents) -> None:
    """Hits, scores, texts, totals, operators and completions are those of the contents, each of which has an
    embedding."""
    options: dict[str, Any] = {"mode": "keyword", "entity": "Note", "limit": 1000, "connection": connection}
    own = {("Note", id_): content for id_, content in contents.items()}
    for query in QUERIES:
        expected = scores_of(search, own, query)
        hits = search.search(query, count=True, explain=True, **options)
        assert (len(hits), hits.total, hits.exact) == (len(expected), len(expected), True), query
        assert_same({(hit.entity, hit.id): hit.explanation[0].raw for hit in hits}, expected, query)
        assert {hit.id: hit.matched_text for hit in hits} == {id_: contents[id_] for _, id_ in expected}
    hits = search.search("fox", **{**options, "mode": "vector"})
    assert {hit.id: hit.matched_text for hit in hits} == contents
    words = {id_: content.replace("foxes", "fox").split() for id_, content in contents.items()}
    for query, wanted in {
        '"red fox"': {id_ for id_, of in words.items() if " red fox " in f" {' '.join(of)} "},
        "fox -whale": {id_ for id_, of in words.items() if "fox" in of and "whale" not in of},
        "whal*": {id_ for id_, of in words.items() if "whale" in of},
    }.items():
        assert set(ids(search.search(query, **options))) == wanted, query
    forms = {word for content in contents.values() for word in content.split()} & {"fox", "foxes"}
    suggested = set(search.suggest("fo", connection=connection))
    assert forms <= suggested <= ({"fox", "foxes"} if forms else set())


def fill(search: SearchEngine) -> Maintenance:
    """Makes a tail, segments and deleted documents of both."""
    made, chance = maintenance(search), random.Random(4)
    for n in range(30):
        search.index_record("Note", str(n % 14), " ".join(chance.choices(WORDS, k=4)))
        if n % 5 == 0:
            made.step(NOTES)
    search.delete_records([("Note", "3"), ("Note", "9")])
    return made


@contextmanager
def before_each_statement(
    connection: Connection, act: Callable[[], object]
) -> Iterator[tuple[list[str], list[object]]]:
    """Calls `act` before each statement on one connection; gives the statements and what it returned."""
    statements: list[str] = []
    returned: list[object] = []
    target = connection.connection.dbapi_connection

    def before(conn: Connection, _cursor: object, statement: str, *_: object) -> None:
        if conn.connection.dbapi_connection is target:
            statements.append(statement)
            returned.append(act())

    event.listen(connection.engine, "before_cursor_execute", before)
    try:
        yield statements, returned
    finally:
        event.remove(connection.engine, "before_cursor_execute", before)


def test_a_fold_or_merge_before_any_statement_of_a_search_changes_nothing(search: SearchEngine) -> None:
    """At each isolation level, and in a transaction that began before."""
    made = fill(search)
    for level in levels(search.engine):
        with at_level(search.engine, level).connect() as connection:
            expected = contents_of(connection)
            with before_each_statement(connection, lambda: made.step(NOTES)) as (statements, steps):
                for _ in range(3):
                    assert_finds(search, connection, expected)
        assert len(statements) > 30
        assert any(steps), level
        for n in range(30):
            search.index_record("Note", f"{level}{n % 9}", f"fox {level} number{n} whale")


def test_a_segment_is_read_by_a_transaction_that_began_before_it_was_merged(search: SearchEngine) -> None:
    """Beside one that reads what it was merged to: what both remember is one cache."""
    made = fill(search)
    options = [level for level in levels(search.engine) if level in SNAPSHOTS]
    readers = [(at_level(search.engine, level).connect()) for level in options]
    expected = [contents_of(reader) for reader in readers]
    for n in range(20):
        search.index_record("Note", str(n % 7), "blue fox whale")
        made.run(NOTES, purges=n % 4 == 0)
        for reader, contents in zip(readers, expected, strict=True):
            assert_finds(search, reader, contents)
        with search.engine.connect() as now:
            assert_finds(search, now, contents_of(now))
    for reader in readers:
        reader.close()


SEARCHES: list[dict[str, Any]] = [
    {},
    {"count": True},
    {"offset": 2},
    {"group_by": "entity"},
    {"mode": "hybrid"},
    {"mode": "hybrid", "count": True},
    {"count": True, "where": {"stars": 1}},
    {"mode": "hybrid", "where": {"stars": 1}},
]


@pytest.mark.parametrize(
    ("options", "few"), [*((one, 5_000) for one in SEARCHES), *((one, 3) for one in SEARCHES[-2:])]
)
def test_a_record_that_changes_before_any_statement_of_a_search_is_found(
    make: Make, engine: Engine, options: dict[str, Any], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With filters that leave few, and with those that leave more than are looked up first."""
    monkeypatch.setattr("kameleon.search.selecting.FEW", few)
    search = make(HashProvider())
    store = RecordStore(search)
    store.insert("Note", [{"id": n, "text": f"fox {'red ' * n}", "stars": 1} for n in range(6)])
    options = {"mode": "keyword", "limit": 10, **options}
    wanted = 6 - options.get("offset", 0)
    for level in levels(engine):
        changed, number = True, 0
        while changed:
            with at_level(engine, level).connect() as connection:
                seen: list[bool] = []

                def change(at: int = number, seen: list[bool] = seen) -> None:
                    seen.append(len(seen) == at)
                    if seen[-1]:
                        changes = [{"id": n, "text": f"fox {at} now {'red ' * n}", "stars": 1} for n in (1, 4)]
                        store.insert("Note", changes, on_conflict="replace")

                with before_each_statement(connection, change):
                    hits = search.search("fox", connection=connection, **options)
                assert len(set(ids(hits))) == len(hits) == wanted, (level, number)
                assert not options.get("count") or hits.total == 6, (level, number)
            changed = any(seen)
            number += 1
        assert number > 2


class Saved:
    """Copies of kameleon's tables, as a backup has them: what was written since is gone when they are restored, and
    numbers of documents are issued again."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.is_sqlite = engine.dialect.name == "sqlite"

    def save(self) -> None:
        if self.is_sqlite:
            path = self.engine.url.database or ""
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(self.folder / "saved.db")) as copy:
                source.backup(copy)
            return
        with self.engine.begin() as connection:
            for name in self.tables():
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS saved_{name}")
                connection.exec_driver_sql(f"CREATE TABLE saved_{name} AS SELECT * FROM {name}")
            self.number = connection.exec_driver_sql(f"SELECT nextval({SEQUENCE})").scalar_one()

    def restore(self) -> None:
        if self.is_sqlite:
            self.engine.dispose()
            path = Path(self.engine.url.database or "")
            for name in ("-wal", "-shm"):
                path.with_name(path.name + name).unlink(missing_ok=True)
            shutil.copy(self.folder / "saved.db", self.folder / "restored.db")
            (self.folder / "restored.db").replace(path)
            return
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {', '.join(self.tables())}")
            for name in self.tables():
                connection.exec_driver_sql(f"INSERT INTO {name} OVERRIDING SYSTEM VALUE SELECT * FROM saved_{name}")
            connection.exec_driver_sql(f"SELECT setval({SEQUENCE}, {self.number})")

    def tables(self) -> list[str]:
        with self.engine.connect() as connection:
            schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
            return sorted(name for name in inspect(connection).get_table_names(schema) if name.startswith("kdb_"))


SEQUENCE = "pg_get_serial_sequence('kdb_search', 'doc')"


def machine(search: SearchEngine, saved: Saved) -> type[RuleBasedStateMachine]:
    """One writer, whose transaction may be long; readers in transactions of their own at every level."""
    made = maintenance(search)

    class Changes(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            with search.engine.connect() as connection:
                search.delete_records([("Note", id_) for id_ in contents_of(connection)])
            self.committed: Contents = {}
            self.contents: Contents = {}
            self.readers: list[tuple[Connection, Contents | None]] = []
            self.saved: Contents | None = None
            self.writer = search.engine.connect()

        def teardown(self) -> None:
            if hasattr(self, "writer"):
                self.close()

        def close(self) -> None:
            self.writer.close()
            for reader, _ in self.readers:
                reader.close()
            self.contents, self.readers = dict(self.committed), []

        @property
        def has_written(self) -> bool:
            return self.writer.in_transaction()

        @rule(id=IDS, content=CONTENTS)
        def put(self, id: str, content: str) -> None:
            search.index_record("Note", id, content, connection=self.writer)
            self.contents[id] = content

        @rule(contents=st.dictionaries(st.integers(100, 999).map(str), CONTENTS, min_size=1, max_size=9))
        def put_many(self, contents: Contents) -> None:
            search.index_records_batch([("Note", *item) for item in contents.items()], connection=self.writer)
            self.contents |= contents

        @rule(number=st.integers(0, 20))
        def delete(self, number: int) -> None:
            for id_ in sorted(self.contents)[number : number + 1]:
                assert search.delete_record("Note", id_, connection=self.writer)
                del self.contents[id_]

        @rule(id=IDS, content=CONTENTS, other=CONTENTS)
        def put_another_after_a_rollback(self, id: str, content: str, other: str) -> None:
            """On SQLite the second has the number of the first, which was searched."""
            savepoint = self.writer.begin_nested()
            search.index_record("Note", id, content, connection=self.writer)
            assert_finds(search, self.writer, {**self.contents, id: content})
            savepoint.rollback()
            self.put(id, other)

        @rule()
        def commit(self) -> None:
            self.writer.commit()
            self.committed = dict(self.contents)

        @rule()
        def roll_back(self) -> None:
            self.writer.rollback()
            self.contents = dict(self.committed)

        @rule(level=st.sampled_from(levels(search.engine)))
        def begin_to_read(self, level: str) -> None:
            reader = at_level(search.engine, level).connect()
            self.readers = [*self.readers, (reader, dict(self.committed) if level in SNAPSHOTS else None)]
            assert contents_of(reader) == self.committed
            if len(self.readers) > 3:
                self.readers.pop(0)[0].close()

        @rule(purges=st.booleans())
        def step(self, purges: bool) -> None:
            made.step(NOTES, purges=purges)

        @precondition(lambda self: not (saved.is_sqlite and self.has_written))
        @rule()
        def purge(self) -> None:
            search.admin.purge()

        @precondition(lambda self: not self.has_written)
        @rule()
        def save(self) -> None:
            self.close()
            saved.save()
            self.saved = dict(self.committed)
            self.writer = search.engine.connect()

        @precondition(lambda self: self.saved is not None)
        @rule()
        def restore(self) -> None:
            assert self.saved is not None
            self.close()
            saved.restore()
            self.committed, self.contents = dict(self.saved), dict(self.saved)
            self.writer = search.engine.connect()

        @rule()
        def read(self) -> None:
            """The writer what it wrote, each reader what it began with or what is committed now."""
            if self.has_written:
                assert_finds(search, self.writer, self.contents)
            for reader, contents in self.readers:
                assert_finds(search, reader, self.committed if contents is None else contents)
            assert_finds(search, None, self.committed)

    return Changes


def test_every_reader_finds_what_it_may_see(search: SearchEngine, tmp_path: Path) -> None:
    search.index_record("Note", "0", "fox")  # makes the table of embeddings, which each copy then has
    run_state_machine_as_test(
        machine(search, Saved(search.engine, tmp_path)),
        settings=settings(
            max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_readers_beside_two_writers_of_each_record_find_what_they_may_see(search: SearchEngine) -> None:
    """Each of some records is replaced again and again by two writers, a third takes others in and out, a fourth folds
    and merges. In a snapshot all is exact; without one, what is found is what is committed or was when it began."""
    search.index_records_batch([("Note", f"kept{n}", "fox") for n in range(KEPT)])
    done = Event()
    refused: list[str] = []

    def write(number: int) -> int:
        chance, commits = random.Random(number), 0
        for _ in range(25):
            with search.engine.connect() as connection:
                try:
                    for _ in range(chance.randint(1, 3)):
                        text_ = f"fox {' '.join(chance.choices(WORDS, k=3))}"
                        search.index_record("Note", f"kept{chance.randrange(KEPT)}", text_, connection=connection)
                    if number == 2:
                        search.index_record("Note", f"other{chance.randrange(5)}", "whale a", connection=connection)
                        search.delete_record("Note", f"other{chance.randrange(5)}", connection=connection)
                    if chance.random() < 0.8:
                        connection.commit()
                        commits += 1
                except (DBAPIError, KameleonError) as error:  # two writers of two records in another order
                    refused.append(str(error))
        return commits

    def read_at(level: str | None) -> int:
        reads = 0
        while not done.is_set() or not reads:
            if level is None:
                hits = search.search("fox", mode="keyword", limit=1000, count=True)
                assert (len(hits), hits.total, hits.exact) == (KEPT, KEPT, True)
            else:
                with at_level(search.engine, level).connect() as connection:
                    if level in SNAPSHOTS:
                        assert_finds(search, connection, contents_of(connection))
                    else:
                        found = search.search("fox", mode="keyword", limit=1000, connection=connection)
                        assert len(set(ids(found))) == len(found) <= KEPT
                        assert all("fox" in hit.matched_text for hit in found)
            reads += 1
        return reads

    def fold() -> int:
        steps, made = 0, maintenance(search)
        while not done.is_set():
            steps += made.step(NOTES)
        return steps

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read_at, level) for level in (None, *levels(search.engine))]
        folding = pool.submit(fold)
        writers = [pool.submit(write, number) for number in range(3)]
        try:
            commits = [writer.result() for writer in writers]
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)
        assert folding.result() > 0
    assert min(commits) > 10, refused
    search.admin.purge()
    with search.engine.connect() as connection:
        contents = contents_of(connection)
        assert {f"kept{n}" for n in range(KEPT)} <= contents.keys()
        assert_finds(search, connection, contents)


def test_an_index_that_begins_again_with_the_first_number_finds_its_own(search: SearchEngine, engine: Engine) -> None:
    """Rows of every table are deleted, numbers begin again; what was remembered of the first index stays unused."""
    for word in ("fox", "whale", "red"):
        search.index_records_batch([("Note", str(n), f"{word} number{n}") for n in range(300)])
        assert ids(search.search(f"{word} number7", mode="keyword", limit=1)) == ["7"]
        with engine.connect() as connection:
            assert_finds(search, connection, contents_of(connection))
            first = connection.execute(text("SELECT min(doc) FROM kdb_tail")).scalar()
        with engine.begin() as connection:
            for name in ("search", "tail", "dead", "segment", "word", "posting"):
                connection.exec_driver_sql(f"DELETE FROM kdb_{name}")
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT setval({SEQUENCE}, 1, false)")
            else:
                connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'kdb_search'")
        assert first is None
        assert ids(search.search("fox whale red", mode="keyword")) == []
