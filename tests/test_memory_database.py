"""A SQLite database in memory: one for all threads, coroutines and engines' own work, and never waited for in vain."""

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, String, event, text
from sqlalchemy.exc import SAWarning
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import StaticPool
from starlette.testclient import TestClient

import kameleon
from kameleon import RecordStore, SearchEngine, searchable
from kameleon.errors import InvalidInput, SchemaMissing, StorageError
from kameleon.server import app
from kameleon.testing import HashProvider

from .conftest import ids


class Base(DeclarativeBase):
    pass


@searchable(fields=["body"])
class MemoryNote(Base):
    __tablename__ = "memory_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String)


@pytest.fixture
def engine() -> Iterator[Engine]:
    opened = kameleon.create_engine("sqlite://", pool_timeout=20)
    yield opened
    opened.dispose()


@pytest.fixture
def search(engine: Engine) -> SearchEngine:
    return SearchEngine(engine, HashProvider())


def on_async(work: Callable[[AsyncEngine, SearchEngine], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        opened = kameleon.create_async_engine("sqlite+aiosqlite://", **{"pool_timeout": 20, **options})
        async with SearchEngine(opened, HashProvider()) as search:
            await work(opened, search)
        await opened.dispose()

    asyncio.run(run())


URLS = ("sqlite://", "sqlite:///:memory:", "sqlite+pysqlite://", "sqlite:///file::memory:?uri=true")


@pytest.mark.parametrize("url", URLS)
def test_threads_share_one_database(url: str) -> None:
    engine = kameleon.create_engine(url)
    search = SearchEngine(engine, HashProvider())

    def write(thread: int) -> None:
        for n in range(13):
            search.index_record("Note", f"{thread}-{n}", f"fox {thread} {n}")
            assert search.search("fox", limit=1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert search.get_status()[0].indexed == 104
    assert len(search.search("fox", mode="keyword", limit=200)) == 104
    engine.dispose()


@pytest.mark.parametrize("count", [51, 201, 1_001])
def test_coroutines_share_it_with_threads(search: SearchEngine, count: int) -> None:
    records = RecordStore(search)

    async def work() -> None:
        await records.ainsert("Owl", [{"id": str(n), "text": f"owl {n}"} for n in range(count)])
        found = await asyncio.gather(*(search.asearch("owl", entity="Owl", limit=1) for _ in range(20)))
        assert [len(one) for one in found] == [1] * 20
        await asyncio.gather(*(search.aindex_record("Fox", n, f"fox {n}") for n in range(20)))

    asyncio.run(work())
    assert {(one.entity, one.indexed) for one in search.get_status()} == {("Owl", count), ("Fox", 20)}


def test_sessions_of_threads_commit_with_their_entries(engine: Engine, search: SearchEngine) -> None:
    Base.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))

    def write(thread: int) -> None:
        for n in range(10):
            with maker.begin() as session:
                session.add(MemoryNote(body=f"badger {thread} {n}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert len(search.search("badger", mode="keyword", limit=100)) == 80
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM memory_note")) == 80


def test_who_keeps_the_connection_is_refused_at_once(engine: Engine, search: SearchEngine) -> None:
    search.index_record("Note", "1", "red fox")
    began = time.monotonic()
    with engine.begin() as connection:
        for call in (lambda: search.search("fox"), lambda: search.index_record("Note", "2", "x"), search.get_status):
            with pytest.raises(StorageError, match="pass connection="):
                call()
        with pytest.raises(StorageError, match="pass connection="):
            asyncio.run(search.asearch("fox"))
        with pytest.raises(PoolTimeout, match="pass connection="):
            engine.connect()
        assert ids(search.search("fox", connection=connection)) == ["1"]
    assert time.monotonic() - began < 10
    assert ids(search.search("fox")) == ["1"]


def test_a_connection_without_a_transaction_is_given_again(engine: Engine, search: SearchEngine) -> None:
    with engine.connect() as connection:
        search.index_record("Note", "1", "red fox")
        assert ids(search.search("fox")) == ["1"]
        assert connection.scalar(text("SELECT count(*) FROM kdb_search")) == 1
    assert ids(search.search("fox")) == ["1"]


def test_others_wait_for_a_transaction_to_end(engine: Engine, search: SearchEngine) -> None:
    has_begun = threading.Event()

    def read() -> list[str]:
        has_begun.wait()
        return ids(search.search("fox"))

    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as connection:
            reading = threads.submit(read)
            has_begun.set()
            search.index_record("Note", "1", "red fox", connection=connection)
        assert reading.result(30) == ["1"]


def test_a_wait_in_vain_ends_with_the_next_step() -> None:
    engine = kameleon.create_engine("sqlite://", pool_timeout=0.01)
    search = SearchEngine(engine, HashProvider())
    refused = pytest.raises(StorageError, match=r"others kept for 0.01 s\. End transactions")
    with engine.begin(), ThreadPoolExecutor(1) as threads, refused:
        threads.submit(search.search, "fox").result(30)
    assert search.search("fox") == []
    engine.dispose()


def test_an_engine_of_sqlalchemys_names_the_one_whose_threads_share() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    search = SearchEngine(engine, HashProvider())
    search.index_record("Note", "1", "red fox")
    assert ids(search.search("fox")) == ["1"]
    with pytest.raises(SchemaMissing, match=r"unless kameleon.create_engine opens it"):
        asyncio.run(search.asearch("fox"))
    engine.dispose()


@pytest.mark.parametrize("options", [{"pool_size": 5}, {"max_overflow": 1}, {"pool_size": 0}])
def test_a_pool_of_more_connections_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="another would lead to another database"):
        kameleon.create_engine("sqlite://", **options)


def test_a_pool_that_is_named_is_taken() -> None:
    arguments = {"check_same_thread": False}
    engine = kameleon.create_engine("sqlite://", poolclass=StaticPool, connect_args=arguments)
    assert type(engine.pool) is StaticPool


def test_the_api_serves_it(search: SearchEngine) -> None:
    search.index_record("Note", "1", "red fox")
    client = TestClient(app(search), "http://127.0.0.1")
    answers = [client.post("/api/search", json={"query": "fox"}) for _ in range(3)]
    assert [answer.json()["hits"][0]["id"] for answer in answers] == ["1"] * 3


def test_coroutines_of_an_async_engine_share_it_with_the_application() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        records = RecordStore(search)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE own (id INTEGER)"))

        async def write(n: int) -> None:
            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO own VALUES (:n)"), {"n": n})
                await asyncio.sleep(0)

        inserts = (records.ainsert("Owl", [{"id": str(n), "text": f"owl {n}"}]) for n in range(40))
        await asyncio.gather(*(write(n) for n in range(40)), *inserts)
        assert len(await search.asearch("owl", mode="keyword", limit=100)) == 40
        assert len(search.search("owl", mode="keyword", limit=100)) == 40, "on the loop's own thread"
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM own")) == 40

    on_async(work)


def test_async_sessions_commit_with_their_entries() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        maker = search.attach(async_sessionmaker(engine))

        async def write(n: int) -> None:
            async with maker.begin() as session:
                session.add(MemoryNote(body=f"stoat {n}"))

        await asyncio.gather(*(write(n) for n in range(30)))
        assert len(await search.asearch("stoat", mode="keyword", limit=100)) == 30
        async with maker() as session:
            session.add(MemoryNote(body="weasel"))
            await search.aflush(session)
            assert len(await search.asearch("weasel", mode="keyword", session=session)) == 1
            await session.rollback()
        assert await search.asearch("weasel", mode="keyword") == []

    on_async(work)


def test_a_coroutine_that_keeps_the_connection_is_refused_at_once() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        await search.aindex_record("Note", "1", "red fox")
        began = time.monotonic()
        async with AsyncSession(engine) as session:
            await session.execute(text("SELECT 1"))
            with pytest.raises(StorageError, match="pass connection="):
                await search.asearch("fox")
            with pytest.raises(StorageError, match="pass connection="):
                search.search("fox")
            with pytest.raises(PoolTimeout, match="pass connection="):
                await engine.connect()
            assert ids(await search.asearch("fox", session=session)) == ["1"]
        assert time.monotonic() - began < 10
        assert ids(await search.asearch("fox")) == ["1"]

    on_async(work)


def test_a_cancelled_wait_leaves_the_connection_to_others() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        async def take(has_it: asyncio.Event, release: asyncio.Event) -> None:
            async with engine.connect():
                has_it.set()
                await release.wait()

        has_it, release = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(take(has_it, release))
        await has_it.wait()
        second = asyncio.create_task(take(asyncio.Event(), release))
        await asyncio.sleep(0)
        second.cancel()
        release.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await search.asearch("fox") == []

    on_async(work)


def test_a_wait_of_a_coroutine_in_vain_ends_with_the_next_step() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        has_it, release = asyncio.Event(), asyncio.Event()

        async def take() -> None:
            async with engine.connect():
                has_it.set()
                await release.wait()

        first = asyncio.create_task(take())
        await has_it.wait()
        with pytest.raises(StorageError, match=r"others kept for 0.01 s\. End transactions"):
            await search.asearch("fox")
        release.set()
        await first
        assert await search.asearch("fox") == []

    on_async(work, pool_timeout=0.01)


def test_sessions_beside_searches_never_wait_for_a_thread() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        maker = search.attach(async_sessionmaker(engine))

        async def write(n: int) -> int:
            async with maker.begin() as session:
                session.add(MemoryNote(body=f"stoat {n}"))
            return len(await search.asearch("stoat", limit=1))

        assert await asyncio.gather(*(write(n) for n in range(40))) == [1] * 40

    on_async(work, pool_timeout=5)


def test_an_interrupt_leaves_the_database_without_what_it_had_begun(engine: Engine, search: SearchEngine) -> None:
    search.index_record("Note", "1", "red fox")
    with engine.connect() as connection:
        connection.execute(text("DELETE FROM kdb_search"))
        connection.invalidate()  # as SQLAlchemy does where an interrupt ends a statement
    assert ids(search.search("fox")) == ["1"]
    search.index_record("Note", "2", "blue fox")
    assert len(search.search("fox")) == 2


def test_a_database_in_memory_never_grows_too_old() -> None:
    engine = kameleon.create_engine("sqlite://", pool_recycle=0)
    search = SearchEngine(engine, HashProvider())
    search.index_record("Note", "1", "red fox")
    assert ids(search.search("fox")) == ["1"]
    engine.dispose()
    with pytest.raises(SchemaMissing):
        search.search("fox")


def test_a_named_database_in_memory_is_that_of_another_session() -> None:
    engine = kameleon.create_engine("sqlite:///file:shared_by_name?mode=memory&cache=shared&uri=true")
    search = SearchEngine(engine, HashProvider())
    with Session(engine) as session:
        session.execute(text("CREATE TABLE own (id INTEGER)"))
        session.commit()
    search.index_record("Note", "1", "red fox")
    assert ids(asyncio.run(search.asearch("fox"))) == ["1"]
    engine.dispose()


LONG = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000000) SELECT count(*) FROM n"


def test_a_cancelled_statement_leaves_the_database() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        await search.aindex_record("Note", "1", "red fox")

        async def wait_long() -> None:
            async with engine.begin() as connection:
                await connection.execute(text("DELETE FROM kdb_search"))
                await connection.execute(text(LONG))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_long(), 0.05)
        assert ids(await search.asearch("fox", mode="keyword")) == ["1"]

    on_async(work)


def test_a_connection_that_was_never_given_back_leaves_the_database() -> None:
    async def work(engine: AsyncEngine, search: SearchEngine) -> None:
        await search.aindex_record("Note", "1", "red fox")

        async def take() -> None:
            connection = await engine.connect()
            await connection.execute(text("DELETE FROM kdb_search"))

        await asyncio.create_task(take())
        with pytest.warns(SAWarning, match="garbage collector"):
            gc.collect()
        assert ids(await search.asearch("fox", mode="keyword")) == ["1"]

    on_async(work)


def test_an_interrupted_statement_leaves_the_database(engine: Engine, search: SearchEngine) -> None:
    search.index_record("Note", "1", "red fox")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    event.listen(engine, "do_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        search.index_record("Note", "2", "grey fox")
    event.remove(engine, "do_execute", interrupt)
    assert ids(search.search("fox", mode="keyword")) == ["1"]


def test_a_recycled_connection_leaves_the_database() -> None:
    engine = kameleon.create_engine("sqlite://", pool_recycle=0)
    search = SearchEngine(engine, HashProvider())
    search.index_record("Note", "1", "red fox")
    time.sleep(0.01)
    assert ids(search.search("fox")) == ["1"]
    engine.dispose()
    with pytest.raises(SchemaMissing):
        search.search("fox")
