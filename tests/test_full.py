"""A database that is full or read-only: no write is stored in part, errors name the next step, and searches work."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, Worker
from kameleon.doctor import examine
from kameleon.errors import StorageError
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note

from .conftest import ids

MANY = range(100, 300)
FULL = {"sqlite": r"test\.db: database or disk is full.* Make room", "postgresql": r"no space left.* Make room"}
READ_ONLY = {"sqlite": r"test\.db: attempt to write a readonly", "postgresql": r"read-only transaction.* primary"}
LAST_WRITTEN = ("kdb_embedding_g1", "kdb_embedding_cache", "kdb_queue", "kdb_generation", "kdb_reindex")
NO_SPACE = """
    CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$
"""

Calls = Mapping[str, Callable[[], Any]]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Disk:
    """Full from `fill` to `free_space`: SQLite's own limit of pages; on PostgreSQL the error of a full server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pages, self._is_shut = 2**30, False
        if engine.dialect.name == "sqlite":
            event.listen(engine, "checkout", self._limit)

    def fill(self, *, entirely: bool = False) -> None:
        """`entirely`: rows that do not grow are refused too."""
        self._pages, self._is_shut = 1, entirely
        if self._engine.dialect.name == "postgresql":
            with self._engine.begin() as connection:
                connection.execute(text(NO_SPACE))
                for table in LAST_WRITTEN:
                    made = "BEFORE INSERT OR UPDATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION no_space()"
                    connection.execute(text(f"CREATE TRIGGER full_disk {made.format(table)}"))

    def free_space(self) -> None:
        self._pages, self._is_shut = 2**30, False
        if self._engine.dialect.name == "postgresql":
            with self._engine.begin() as connection:
                connection.execute(text("DROP FUNCTION no_space CASCADE"))

    def _limit(self, connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {self._pages}")
        connection.execute(f"PRAGMA query_only = {self._is_shut}")


@pytest.fixture
def disk(engine: Engine) -> Disk:
    return Disk(engine)


@pytest.fixture
def filled(engine: Engine, disk: Disk) -> SearchEngine:
    Base.metadata.create_all(engine)
    search = SearchEngine(engine, HashProvider(), cache=True)
    search.index_records_batch([("Page", str(n), f"page number{n}") for n in range(30)])
    RecordStore(search).insert("Ticket", [{"id": str(n), "about": f"ticket number{n}"} for n in range(30)])
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all([Note(title=f"note number{n}", body="b") for n in range(30)])
    SearchEngine(engine).index_record("Page", "pending", "page without an embedding")
    return search


def state(engine: Engine) -> dict[str, list[Any]]:
    tables = ("kdb_search", "kdb_embedding_g1", "kdb_records", "kdb_queue", "kdb_generation", "note")
    with engine.connect() as connection:
        return {name: sorted(map(str, connection.execute(text(f"SELECT * FROM {name}")))) for name in tables}


def writing(search: SearchEngine, engine: Engine) -> Calls:
    """Writes that each need more space than is left; none is stored in part."""
    store = RecordStore(search)
    return {
        "index_records_batch": lambda: search.index_records_batch([("Page", str(n), long(n)) for n in MANY]),
        "insert": lambda: store.insert("Ticket", [{"id": str(n), "about": long(n)} for n in MANY]),
        "update": lambda: store.update("Ticket", "3", {"about": " ".join(map(long, MANY))}),
        "commit": lambda: commit(search, engine),
        "deferred commit": lambda: commit(search, engine, indexing="deferred"),
    }


def long(n: int) -> str:
    return f"new number{n} " * 40


def commit(search: SearchEngine, engine: Engine, **options: Any) -> None:
    """SQLite has no space for the session's own statement, PostgreSQL none for the index's."""
    with search.attach(sessionmaker(engine), **options).begin() as session:
        session.get_one(Note, 1).title = " ".join(map(long, MANY))


def test_a_full_disk_stores_nothing_of_a_write_and_all_of_it_once_there_is_space(
    filled: SearchEngine, disk: Disk, engine: Engine, backend: str
) -> None:
    before = state(engine)
    disk.fill()
    for name, call in writing(filled, engine).items():
        with pytest.raises((StorageError, DBAPIError), match=r"disk is full|no space") as raised:
            call()
        assert raised.value.__cause__ is not None, name
        assert "commit" in name or re.search(FULL[backend], str(raised.value)), name
        assert state(engine) == before, name
        assert ids(filled.search("number7", entity="Page", limit=1)) == ["7"]
    disk.free_space()
    for call in writing(filled, engine).values():
        call()
    filled.sync()
    Worker(filled).run()
    filled.reindex(force=True)
    assert [found for found in examine(filled) if found.severity != "note"] == []
    assert ids(filled.search("number299", entity="Ticket", limit=1, mode="keyword")) == ["299"]


class Filling(HashProvider):
    def __init__(self, disk: Disk) -> None:
        super().__init__(8)
        self._disk = disk

    def embed_batch(self, texts: Sequence[str]) -> Any:
        self._disk.fill(entirely=True)
        return super().embed_batch(texts)


def test_a_reindex_that_found_the_disk_full_resumes_once_there_is_space(filled: SearchEngine, disk: Disk) -> None:
    with pytest.raises(StorageError):
        filled.reindex(provider=Filling(disk))
    disk.free_space()
    assert filled.reindex(provider=HashProvider(8)).switched


def test_what_may_only_be_read_is_searched_in_every_way_and_never_written(
    filled: SearchEngine, engine: Engine, backend: str
) -> None:
    before = state(engine)
    reading = opened_for_reading(engine)
    search = SearchEngine(reading, HashProvider(), cache=True)
    store = RecordStore(search)
    for mode in ("hybrid", "keyword", "vector"):
        found = search.search("page number7", entity="Page", limit=1, mode=mode, highlight=True)
        assert ids(found) == ["7"]
    assert search.search("tickte", mode="keyword", facets=["about"], count=True).total == 30
    assert ids(search.similar("Page", "7", limit=1, entities=["Ticket"])) == ["7"]
    assert search.suggest("tick") == ["ticket"]
    assert store.get("Ticket", "7").data == store.list("Ticket", where={"about": "ticket number7"})[0].data
    assert [status.pending for status in search.get_status()] == [0, 1, 0]
    assert [search.generations(), search.failures()] == [filled.generations(), []]
    assert search.reindexing.plan().action == "filled"
    writes = {
        **writing(search, reading),
        "delete": lambda: store.delete("Ticket", ["7"]),
        "delete_record": lambda: search.delete_record("Page", "7"),
        "sync": search.sync,
        "clear_cache": search.cache.clear,
        "prune": search.reindexing.prune,
        "track": lambda: search.track(Note),
        "work": Worker(search).work,
    }
    for name, call in writes.items():
        with pytest.raises((StorageError, DBAPIError), match=r"read.?only") as raised:
            call()
        assert "commit" in name or re.search(READ_ONLY[backend], str(raised.value)), name
    assert state(engine) == before
    reading.dispose()


def opened_for_reading(engine: Engine) -> Engine:
    url = engine.url
    if engine.dialect.name == "sqlite":
        return kameleon.create_engine(f"sqlite:///file:{url.database}?mode=ro&uri=true")
    options = f"{url.query['options']} -c default_transaction_read_only=on"
    url = url.update_query_dict({"options": options})
    return kameleon.create_engine(url.render_as_string(hide_password=False))
