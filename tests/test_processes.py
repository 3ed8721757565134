"""Several processes at once, each with sessions of its own: no write is lost, no wait is endless."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, event, func, insert, inspect, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

import kameleon
from kameleon import SearchEngine
from kameleon.errors import DatabaseLocked, Outdated
from kameleon.indexing.entries import entries
from kameleon.stores.sqlite import connections
from kameleon.testing import HashProvider
from stress.workloads.models import Article, Author, Base, Note, assert_index_matches

from .conftest import Make

ROOT = Path(__file__).parents[1]
PROCESSES, COMMITS, SEARCHES = 3, 15, 60

WRITER = """
import random
import sys

from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker

import kameleon
from kameleon import SearchEngine, Worker
from kameleon.stores.sqlite import connections
from kameleon.testing import HashProvider
from stress.workloads.models import Article, Author, Note

url, number, commits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine = kameleon.create_engine(url)
search = SearchEngine(engine, HashProvider(), indexing="deferred" if number == 0 else "sync")
maker = search.attach(sessionmaker(engine))
chance = random.Random(number)


def edit_shared():
    with maker.begin() as session:
        shared = session.get(Note, chance.choice([1, 2, 3]))
        shared.title = f"shared by {number}"
        session.add(Note(title=f"{number} beside", body="b"))


for n in range(commits):
    with maker.begin() as session:
        session.add_all([Note(title=f"{number} own {n}", body="b"), Article(title=f"{number} article {n}")])
    with maker.begin() as session:
        session.execute(update(Note).where(Note.title == f"{number} own {n}").values(body="edited"))
        session.execute(delete(Article).where(Article.title == f"{number} article {n - 1}"))
        session.execute(update(Note).where(Note.id.in_([1, 2, 3])).values(stars=Note.stars + 1))
    while True:
        try:
            edit_shared()
            break
        except OperationalError as error:  # SQLite refuses a transaction with a stale read: the application repeats it
            assert "database is locked" in str(error)
if number == 0:
    Worker(search).run()
"""


READER = """
import sys

import kameleon
from kameleon import SearchEngine
from kameleon.testing import HashProvider

search = SearchEngine(kameleon.create_engine(sys.argv[1]), HashProvider())
newest, notes = {}, 0
for n in range(int(sys.argv[2])):
    found = search.search("article", entity="Article", mode=["keyword", "hybrid"][n % 2], limit=20)
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True)
    seen = {}
    for hit in found:
        writer, _, number = hit.matched_text.split()[:3]
        seen.setdefault(writer, []).append(int(number))
    for writer, numbers in seen.items():
        assert len(numbers) in (1, 2) and max(numbers) >= newest.get(writer, 0), (writer, numbers, newest)
        newest[writer] = max(numbers)
    assert seen.keys() >= newest.keys()
    (before, notes) = notes, next(status.indexed for status in search.get_status("Note"))
    assert notes >= before
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_processes_at_once_lose_nothing_and_find_nothing_that_is_gone(
    search: SearchEngine, engine: Engine, make: Make
) -> None:
    Base.metadata.create_all(engine)
    with search.attach(Session)(engine) as session:
        session.add_all([Note(title="shared", body="b") for _ in range(3)])
        session.add(Author(name="Ann"))
        session.commit()
    url = engine.url.render_as_string(hide_password=False)
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(number), str(COMMITS)], cwd=ROOT)
        for number in range(PROCESSES)
    ]
    running.append(subprocess.Popen([sys.executable, "-c", READER, url, str(SEARCHES)], cwd=ROOT))
    try:
        assert [process.wait(120) for process in running] == [0] * len(running)
    finally:
        for process in running:
            process.kill()
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Note)) == 3 + 2 * PROCESSES * COMMITS
        assert session.scalar(select(func.count()).select_from(Article)) == PROCESSES
        assert session.scalars(select(Note.stars).where(Note.id <= 3)).all() == [PROCESSES * COMMITS] * 3
    search.sync()
    assert_index_matches(engine, search)


class Writing:
    """Another process's transaction, which ends when the lock was requested `looks` times."""

    def __init__(self, engine: Engine, waiting: Engine, looks: int) -> None:
        self._looks = looks
        self._connection = engine.connect()
        self._connection.exec_driver_sql("DELETE FROM kdb_queue")
        event.listen(waiting, "before_cursor_execute", self._count)

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("BEGIN IMMEDIATE", "UPDATE kdb_meta")):
            self._looks -= 1
            if self._looks == 0:
                self._connection.close()


def by_itself(search: SearchEngine) -> None:
    search.index_record("Thing", "1", "text")


def in_a_transaction(search: SearchEngine) -> None:
    with search.engine.begin() as connection:
        search.index_record("Thing", "1", "text", connection=connection)


def in_a_session(search: SearchEngine) -> None:
    with search.attach(Session)(search.engine) as session:
        session.add(Note(title="shared", body="b"))
        session.commit()


def in_bulk(search: SearchEngine) -> None:
    with search.attach(Session)(search.engine) as session:
        session.bulk_insert_mappings(inspect(Note), [{"id": 1, "title": "shared", "body": "b"}])
        session.commit()


def in_one_statement(search: SearchEngine) -> None:
    with search.attach(Session)(search.engine) as session:
        session.execute(insert(Note), [{"id": 1, "title": "shared", "body": "b"}])
        session.commit()


def under_the_write_lock(search: SearchEngine) -> None:
    with search.attach(Session)(search.engine) as session:
        search.index.begin_writing(session.connection())
        assert session.scalars(select(Note)).all() == []
        session.add(Note(title="shared", body="b"))
        session.commit()


@pytest.fixture(params=[by_itself, in_a_transaction, in_a_session, in_bulk, in_one_statement, under_the_write_lock])
def write(request: pytest.FixtureRequest) -> Callable[[SearchEngine], None]:
    return request.param  # type: ignore[no-any-return]


def waiting_for(file_engine: Engine, looks: int, timeout_s: float) -> SearchEngine:
    Base.metadata.create_all(file_engine)
    SearchEngine(file_engine, HashProvider())
    waiting = kameleon.create_engine(str(file_engine.url), connect_args={"timeout": timeout_s})
    search = SearchEngine(waiting, HashProvider())
    Writing(file_engine, waiting, looks)
    return search


def test_a_wait_for_sqlites_lock_polls_often(write: Callable[[SearchEngine], None], file_engine: Engine) -> None:
    search = waiting_for(file_engine, looks=5, timeout_s=5)
    write(search)
    assert [status.indexed for status in search.get_status()] == [1]


def test_a_wait_for_sqlites_lock_lasts_as_long_as_its_timeout(
    write: Callable[[SearchEngine], None], file_engine: Engine
) -> None:
    search = waiting_for(file_engine, looks=1_000, timeout_s=0.05)
    is_ours = write in (by_itself, in_a_transaction, under_the_write_lock)
    with pytest.raises(DatabaseLocked if is_ours else OperationalError, match="database is locked"):
        write(search)
    with search.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 50


def test_a_transaction_with_a_stale_read_is_refused_without_waiting(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    with file_engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM kdb_search").all()
        search.index_record("Thing", "1", "text")
        with pytest.raises(DatabaseLocked, match="since this transaction began to read"):
            search.index_record("Thing", "2", "text", connection=connection)


def test_sqlites_log_is_shortened_when_it_is_long_and_readers_let_it(
    file_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LOG_BYTES", 100_000)
    search = SearchEngine(kameleon.create_engine(str(file_engine.url), connect_args={"timeout": 0.05}), HashProvider())
    log = Path(f"{file_engine.url.database}-wal")
    with file_engine.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM kdb_search").all()
        search.index_records_batch([("Thing", str(n), f"text {n}") for n in range(200)])
        assert log.stat().st_size > 100_000
    for n in range(10):
        search.index_records_batch([("Thing", str(n), f"text {n} again")])
        search.index_records_batch([("Other", f"{n} {m}", f"other {m}") for m in range(100)])
        if not log.stat().st_size:
            return
    pytest.fail(f"the log has {log.stat().st_size} bytes")


class Slow(HashProvider):
    """Records, as it loads, whether another process could write."""

    name = "slow"
    path: ClassVar[str]
    loads: ClassVar[list[str]] = []

    def __init__(self, model: str = "first") -> None:
        super().__init__(model_name=model)
        self._note("package")

    @property
    def options(self) -> dict[str, str]:
        return {"model": self.model_name}

    @cached_property
    def revision(self) -> str:  # type: ignore[override]
        self._note("file")
        return "1"

    def load(self) -> None:
        self._note("tokenizer")

    def _note(self, what: str) -> None:
        other = sqlite3.connect(self.path, timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            what = f"{what}: {error}"
        finally:
            other.close()
        self.loads.append(f"{self.model_name} {what}")


@pytest.fixture
def slow(file_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> type[Slow]:
    entry = EntryPoint("slow", f"{__name__}:Slow", "kameleon.providers")
    monkeypatch.setattr("kameleon.embeddings.entry_points", lambda group: [entry] if group == entry.group else [])
    monkeypatch.setattr(Slow, "path", str(file_engine.url.database), raising=False)
    monkeypatch.setattr(Slow, "loads", [])
    Base.metadata.create_all(file_engine)
    return Slow


def test_no_model_loads_under_sqlites_lock(
    write: Callable[[SearchEngine], None], file_engine: Engine, slow: type[Slow]
) -> None:
    search = SearchEngine(file_engine, "slow")
    write(search)
    assert slow.loads[:2] == ["first package", "first file"]
    assert all("locked" not in load for load in slow.loads)
    assert [status.pending for status in search.get_status()] == [0]


def test_the_model_that_a_build_is_about_to_switch_to_loads_before_the_lock_too(
    file_engine: Engine, slow: type[Slow]
) -> None:
    search, other = SearchEngine(file_engine, "slow"), SearchEngine(file_engine, "slow")
    other.index_records_batch([("Thing", str(n), f"text {n}") for n in range(3)])
    other.reindex(model="second", provider="slow", batch_size=1, max_minutes=1e-9)
    assert [generation.state for generation in search.generations()] == ["active", "building"]
    slow.loads.clear()
    in_a_transaction(search)
    assert slow.loads == [
        f"{model} {what}" for model in ("first", "second") for what in ("package", "file", "tokenizer")
    ]


def test_that_the_index_has_moved_is_seen_without_loading_the_model_it_moved_to(
    file_engine: Engine, slow: type[Slow]
) -> None:
    search, other = SearchEngine(file_engine, "slow"), SearchEngine(file_engine, "slow")
    search.index_record("Thing", "1", "text")
    plan = search.index.plan(entries([("Thing", "1", "another text")]))
    other.reindex(model="second", provider="slow")
    slow.loads.clear()
    with search.index.transaction() as connection, pytest.raises(Outdated):
        search.index.apply(plan, connection)
    assert slow.loads == []
