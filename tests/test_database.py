"""Transactions: the application's and the engine's own, at each isolation level, and refused connections."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Engine, text
from sqlalchemy.pool import NullPool, StaticPool

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.errors import DatabaseLocked, InvalidInput, StorageError
from kameleon.indexing.entries import entries
from kameleon.testing import HashProvider

from .conftest import ids


@pytest.mark.parametrize("options", [{}, {"poolclass": StaticPool}], ids=["a connection a thread", "one connection"])
@pytest.mark.parametrize("create", [sqlalchemy.create_engine, kameleon.create_engine], ids=["plain", "kameleon"])
def test_an_open_transaction_on_the_only_connection_is_never_touched(create, options) -> None:  # type: ignore[no-untyped-def]
    engine = create("sqlite://", **options)
    search = SearchEngine(engine, "static")
    search.index_record("A", "1", "red fox")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note (id INTEGER)"))
        connection.execute(text("INSERT INTO note VALUES (1)"))
        for call in (lambda: search.search("fox"), lambda: search.index_record("A", "2", "x"), search.get_status):
            with pytest.raises(StorageError, match="pass connection="):
                call()
        search.index_record("A", "2", "grey wolf", connection=connection)
        assert ids(search.search("wolf", limit=1, connection=connection)) == ["2"]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM note")) == 1
    assert ids(search.search("wolf", limit=1)) == ["2"]
    engine.dispose()


def test_a_search_sees_one_state_while_others_write(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'x.db'}", connect_args={"timeout": 30})
    search = SearchEngine(engine, HashProvider())
    search.index_records_batch([("A", str(n), f"hello number {n}") for n in range(20)])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            search.delete_record("A", "5")
            search.index_record("A", "5", "hello number 5")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            counts = {
                len(search.search("hello", limit=50, mode=mode)) for mode in ("keyword", "hybrid") for _ in range(60)
            }
        finally:
            stop.set()
        writing.result()
    assert counts <= {19, 20}
    engine.dispose()


def test_writers_in_their_own_transactions_wait_for_the_lock(tmp_path: Path) -> None:
    engine = kameleon.create_engine(f"sqlite:///{tmp_path / 'x.db'}", connect_args={"timeout": 60})
    search = SearchEngine(engine, HashProvider())

    def work(worker: int) -> None:
        for n in range(15):
            with engine.begin() as connection:
                search.index_record("A", f"{worker}-{n}", "text", connection=connection)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert search.get_status()[0].indexed == 45
    engine.dispose()


def test_a_transaction_that_read_before_another_wrote_gets_an_error_to_retry(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    search.index_record("A", "1", "one")
    with file_engine.connect() as connection:
        connection.execute(text("SELECT * FROM kdb_search")).all()
        search.index_record("A", "2", "two")
        with pytest.raises(DatabaseLocked, match="Roll it back and repeat"):
            search.index_record("A", "3", "three", connection=connection)


def test_a_concurrent_upsert_leaves_data_and_index_the_same(file_engine: Engine) -> None:
    provider = HashProvider()
    search = SearchEngine(file_engine, provider)
    records = RecordStore(search)
    records.insert("T", [{"id": "1", "text": "alpha"}, {"id": "2", "text": "other"}])
    is_first = [True]

    def meanwhile(content: str) -> None:
        if content == "new" and is_first.pop():
            is_first.append(False)
            records.insert("T", [{"id": "1", "text": "beta"}], on_conflict="replace")

    provider.refuse = meanwhile
    records.insert("T", [{"id": "1", "text": "alpha"}, {"id": "2", "text": "new"}], on_conflict="replace")
    assert records.get("T", "1").data == {"text": "alpha"}
    assert ids(search.search("alpha", mode="keyword")) == ["1"]
    assert search.search("beta", mode="keyword") == []
    assert search.get_status()[0].pending == 0


@pytest.mark.parametrize("create", [kameleon.create_engine, sqlalchemy.create_engine])
@pytest.mark.parametrize("isolation_level", [None, "AUTOCOMMIT", "SERIALIZABLE"])
def test_any_isolation_level_of_the_engine_will_do(
    tmp_path: Path, isolation_level: str | None, create: Callable[..., Engine]
) -> None:
    options = {"isolation_level": isolation_level} if isolation_level else {}
    engine = create(f"sqlite:///{tmp_path / 'x.db'}", **options)
    search = SearchEngine(engine, HashProvider())
    search.index_records_batch([("A", "1", "red fox"), ("A", "2", "grey wolf")])
    search.delete_record("A", "1")
    assert ids(search.search("red fox grey wolf")) == ["2"]
    engine.dispose()
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("SELECT count(*) FROM kdb_search").fetchone() == (1,)


@pytest.mark.parametrize("create", [kameleon.create_engine, sqlalchemy.create_engine])
def test_in_autocommit_mode_each_statement_and_each_call_is_committed(
    tmp_path: Path, create: Callable[..., Engine]
) -> None:
    engine = create(f"sqlite:///{tmp_path / 'x.db'}", isolation_level="AUTOCOMMIT")
    search = SearchEngine(engine, HashProvider())
    with engine.connect() as connection:
        search.index_record("A", "1", "red fox", connection=connection)
        connection.execute(text("CREATE TABLE own AS SELECT 1 AS n"))
        connection.execute(text("INSERT INTO own VALUES (2)"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM own")).scalar_one() == 2
        assert ids(search.search("fox", connection=connection)) == ["1"]
        search.index_record("A", "2", "grey fox")
        assert set(ids(search.search("fox", mode="keyword", connection=connection))) == {"1", "2"}


def test_a_read_only_file_can_be_searched(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    SearchEngine(engine, HashProvider()).index_record("A", "1", "red fox")
    engine.dispose()
    for create in (kameleon.create_engine, sqlalchemy.create_engine):
        reader = create(f"sqlite:///file:{path}?mode=ro&uri=true")
        search = SearchEngine(reader, HashProvider())
        assert ids(search.search("fox")) == ["1"]
        with pytest.raises(StorageError, match="readonly"):
            search.index_record("A", "2", "x")
        reader.dispose()


def test_a_pool_of_one_connection_is_enough(tmp_path: Path) -> None:
    engine = kameleon.create_engine(f"sqlite:///{tmp_path / 'x.db'}", pool_size=1, max_overflow=0, pool_timeout=1)
    search = SearchEngine(engine, "static")
    search.index_record("A", "1", "red fox")
    assert ids(search.search("fox")) == ["1"]
    engine.dispose()


def test_tables_are_left_to_migrations_on_request(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, create_tables=False)
    with pytest.raises(StorageError, match="tables are not in this database"):
        search.search("x")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "foo://x",
        "sqlite+foo://",
        "mysql://h/x",
        "sqlite:///x.db?timeout=abc",
        "postgresql://u:secret@h:abc/x",
        "postgresql://u:secret/x",
        "postgresql://u:sec/ret:secret@h:abc/x",
        "foo://u:a?b@secret@h/x",
        "foo://h/x?password=secret&user=a@b",
        "foo://h/x?sslpassword=secret",
        "u:secret",
        "u:secret@h/x",
    ],
)
@pytest.mark.parametrize("create", [kameleon.create_engine, kameleon.create_async_engine])
def test_a_url_that_cannot_be_opened_is_named_without_its_password(create: Callable[[str], object], url: str) -> None:
    with pytest.raises(InvalidInput, match="no database can be opened as") as caught:
        create(url)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.__cause__)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_url_of_an_existing_file_is_suggested_for_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("app.db").touch()
    with pytest.raises(InvalidInput, match=r"it is no URL\. Try sqlite:///app\.db$"):
        kameleon.create_engine("app.db")
    with pytest.raises(InvalidInput, match=r"it is no URL\. Try sqlite:///kameleon\.db$"):
        kameleon.create_engine("other.db")


@pytest.mark.parametrize("url", [f"postgresql://u:{'secret' * 20}@h/x", "postgresql://u:secret@h/x\n"])
def test_what_is_no_engine_is_shown_without_its_password(url: str) -> None:
    not_an_engine: Any = url
    with pytest.raises(InvalidInput) as caught:
        SearchEngine(not_an_engine)
    assert "sec" not in str(caught.value)
    if not url.isprintable():
        with pytest.raises(InvalidInput, match="printable URL") as caught:
            kameleon.create_engine(url)
        assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    ("quoted", "message"),
    [
        ("to https://u:secret@h/v1 now", "to https://…@h/v1 now"),
        ("postgresql://u:a/b?secret@h/db", "postgresql://…@h/db"),
        ("api_key=secret, x=1", "api_key=…, x=1"),
        ("sqlite:///a.db?password=secret&x=1", "sqlite:///a.db?password=…&x=1"),
        ("http://127.0.0.1:9/v1 max_tokens=512", "http://127.0.0.1:9/v1 max_tokens=512"),
        ("a@b.example wrote", "a@b.example wrote"),
    ],
)
def test_no_error_shows_a_password(quoted: str, message: str) -> None:
    assert str(StorageError(quoted)) == message


def test_the_index_stays_consistent_under_savepoints(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    search.index_records_batch([("A", str(n), f"fox {n}") for n in range(5)])
    with file_engine.begin() as connection:
        search.index_record("A", "0", "wolf", connection=connection)
        savepoint = connection.begin_nested()
        search.index_record("A", "1", "bear", connection=connection)
        search.delete_record("A", "2", connection=connection)
        savepoint.rollback()
        search.delete_record("A", "3", connection=connection)
    assert sorted(ids(search.search("fox wolf bear", mode="keyword"))) == ["0", "1", "2", "4"]
    assert ids(search.search("bear", mode="keyword")) == []
    with search.index.reading() as connection:
        assert search.index.store.health.keyword_faults(connection) == []


def test_a_plan_made_before_holds_no_lock_and_is_applied_inside(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider())
    plan = search.index.plan(entries([("A", "1", "red fox")]))
    search.index_record("A", "2", "another writer")
    with file_engine.begin() as connection:
        assert search.index.apply(plan, connection).embedded == 1
    assert ids(search.search("red fox", limit=1)) == ["1"]


def test_a_connection_of_another_file_is_refused(tmp_path: Path) -> None:
    ours = kameleon.create_engine(f"sqlite:///{tmp_path / 'ours.db'}")
    search = SearchEngine(ours, HashProvider())
    for url in (f"sqlite:///{tmp_path / 'other.db'}", "sqlite://"):
        other = kameleon.create_engine(url)
        SearchEngine(other, HashProvider())
        with other.begin() as connection:
            refused: list[Callable[[], Any]] = [
                lambda: search.index_record("A", "1", "text", connection=connection),
                lambda: search.delete_record("A", "1", connection=connection),
                lambda: search.search("text", connection=connection),
                lambda: search.suggest("te", connection=connection),
                lambda: search.index.begin_writing(connection),
            ]
            for call in refused:
                with pytest.raises(InvalidInput, match=r"connection= leads to .*, this index is in .*ours\.db"):
                    call()
        other.dispose()


def test_a_connection_of_the_same_file_by_another_name_is_accepted(tmp_path: Path) -> None:
    search = SearchEngine(kameleon.create_engine(f"sqlite:///{tmp_path / 'ours.db'}"), HashProvider())
    (tmp_path / "link.db").symlink_to(tmp_path / "ours.db")
    others = [
        kameleon.create_engine(f"sqlite:///{tmp_path / 'link.db'}"),
        kameleon.create_engine("sqlite://", creator=lambda: sqlite3.connect(tmp_path / "ours.db"), poolclass=NullPool),
    ]
    for n, other in enumerate(others):
        with other.begin() as connection:
            assert search.index_record("A", n, f"text {n}", connection=connection).indexed == 1
    assert len(search.search("text")) == len(others)


def test_a_connection_of_another_database_of_the_server_is_refused(pg_engine: Engine, pg_url: URL) -> None:
    search = SearchEngine(pg_engine, HashProvider())
    other = kameleon.create_engine(pg_url.set(database="template1"))
    with other.connect() as connection, pytest.raises(InvalidInput, match="connection= leads to"):
        search.search("text", connection=connection)
    other.dispose()
    same = kameleon.create_engine(pg_url.update_query_dict({"application_name": "x", "port": "5432"}))
    with same.begin() as connection:
        assert search.index_record("A", "1", "text", connection=connection).indexed == 1
    same.dispose()


def test_a_new_connection_leaves_the_locks_of_the_others_in_place(tmp_path: Path) -> None:
    """A process that closes the file last takes the write-ahead log away; ours has it open all the time."""
    path = tmp_path / "a.db"
    engine = kameleon.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE a (b)")
        connection.commit()
        with engine.connect() as other:
            other.exec_driver_sql("SELECT 1 FROM sqlite_master")
        read = f"import sqlite3; sqlite3.connect({str(path)!r}).execute('SELECT 1 FROM sqlite_master').fetchall()"
        subprocess.run([sys.executable, "-c", read], check=True)
        assert path.with_name("a.db-wal").exists()
    engine.dispose()
