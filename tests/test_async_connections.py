"""An async engine's synchronous connections: they have every option that the application gave its engine."""

import asyncio
import gc
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiosqlite
import psycopg
import pytest
from sqlalchemy import URL, Engine, NullPool, QueuePool, StaticPool, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

import kameleon
from kameleon import SearchEngine
from kameleon.database import synchronous
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider

from .conftest import ids

Open = Callable[..., AsyncEngine]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(engine: Engine) -> URL:
    return engine.url.set(drivername="sqlite+aiosqlite") if engine.dialect.name == "sqlite" else engine.url


@pytest.fixture
def open_async(url: URL) -> Iterator[Open]:
    made: list[AsyncEngine] = []

    def open_(**options: Any) -> AsyncEngine:
        made.append(kameleon.create_async_engine(url, **options))
        return made[-1]

    yield open_

    async def dispose() -> None:
        for engine in made:
            await engine.dispose()

    asyncio.run(dispose())


def one(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT 1"))


def test_threads_use_it_and_so_does_a_running_event_loop(open_async: Open) -> None:
    search = SearchEngine(open_async(), HashProvider())
    search.index_records_batch([("A", str(n), f"red fox {n}") for n in range(60)])
    loops: list[Any] = []

    async def work() -> list[str]:
        loops.append(asyncio.get_running_loop())
        return ids(search.search("fox 7", limit=1))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: ids(search.search(f"fox {n}", limit=1)), range(40)))
    assert found == [[str(n)] for n in range(40)]
    assert asyncio.run(work()) == ["7"]


def test_the_arguments_of_the_engine_are_those_of_its_own_connections(url: URL, backend: str) -> None:
    if backend == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": 60})
        statement, kept = "PRAGMA busy_timeout", 60_000
    else:
        options = f"{url.query['options']} -c application_name=tenant7"
        engine = create_async_engine(
            url.difference_update_query(["options"]), connect_args={"options": options, "prepare_threshold": 0}
        )
        statement, kept = "SHOW application_name", "tenant7"  # type: ignore[assignment]
    search = SearchEngine(engine, HashProvider())
    for n in range(8):
        search.index_record("A", str(n), f"red fox {n}")
    assert ids(search.search("fox 3", limit=1)) == ["3"]
    with search.index.reading() as connection:
        assert connection.exec_driver_sql(statement).scalar() == kept
    asyncio.run(engine.dispose())


def test_a_creator_makes_them(url: URL, backend: str) -> None:
    made: list[str] = []

    async def create(*_: Any, **__: Any) -> Any:
        made.append(threading.current_thread().name)
        if backend == "sqlite":
            return await aiosqlite.connect(str(url.database))
        _args, options = url.get_dialect()().create_connect_args(url)
        return await psycopg.AsyncConnection.connect(**options)

    engine = create_async_engine(make_url(f"{url.drivername}://"), async_creator=create, poolclass=NullPool)
    assert one(synchronous(engine)) == 1
    assert made == ["kameleon-asyncio"]
    SearchEngine(engine, HashProvider()).index_record("A", "1", "red fox")
    assert len(made) > 1


def test_a_do_connect_listener_makes_them(open_async: Open) -> None:
    engine = open_async(poolclass=NullPool)
    changed: list[dict[str, Any]] = []
    event.listen(engine.sync_engine, "do_connect", lambda _dialect, _record, _args, options: changed.append(options))
    assert one(synchronous(engine)) == 1
    assert len(changed) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_connect_listeners_are_called_with_them(open_async: Open, when: str) -> None:
    engine = open_async(poolclass=NullPool)
    called: list[Any] = []

    def connected(dbapi: Any, _record: Any) -> None:
        cursor = dbapi.cursor()
        cursor.execute("SELECT 1")
        called.append(cursor.fetchone()[0])
        cursor.close()
        called.append(await_only(returned(dbapi.driver_connection)))
        called.append(dbapi.run_async(returned))

    async def returned(driver: Any) -> str:
        return type(driver).__name__

    own = None if when == "after" else synchronous(engine)
    event.listen(engine.sync_engine, "connect", connected)
    assert one(own or synchronous(engine)) == 1
    assert called == [1, called[1], called[1]]
    assert called[1] in ("Connection", "AsyncConnection")


def test_statements_of_theirs_are_seen_by_listeners_once(open_async: Open) -> None:
    engine = open_async()
    own = synchronous(engine)
    seen: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
    assert one(own) == 1
    assert [statement for statement in seen if statement == "SELECT 1"] == ["SELECT 1"]


def test_the_options_of_the_pool_are_those_of_theirs(open_async: Open) -> None:
    engine = open_async(pool_size=1, max_overflow=0, pool_timeout=0.01, pool_recycle=77, pool_use_lifo=True)
    pool: Any = synchronous(engine).pool
    assert isinstance(pool, QueuePool)
    assert (pool.size(), pool._max_overflow, pool._recycle, pool._pool.use_lifo) == (1, 0, 77, True)
    held = pool.connect()
    with pytest.raises(PoolTimeout):
        pool.connect()
    held.close()
    assert isinstance(synchronous(open_async(poolclass=NullPool)).pool, NullPool)


def test_a_connection_that_was_lost_is_replaced(open_async: Open, backend: str) -> None:
    own = synchronous(open_async(pool_size=1, max_overflow=0, pool_pre_ping=True))
    with own.connect() as connection:
        assert connection.connection.driver_connection is not None
        connection.connection.driver_connection.close()
    assert one(own) == 1
    with own.connect() as connection:
        connection.invalidate()
    assert one(own) == 1


def test_one_that_nobody_closed_goes_back_to_the_pool(open_async: Open) -> None:
    own = synchronous(open_async(pool_size=1, max_overflow=0, pool_timeout=0.01))
    own.connect().execute(text("SELECT 1"))
    gc.collect()
    assert one(own) == 1


def test_isolation_level_and_execution_options_hold(open_async: Open, backend: str) -> None:
    engine = open_async(isolation_level="SERIALIZABLE").execution_options(kameleon_test="x")
    own = synchronous(engine)
    with own.connect() as connection:
        assert connection.get_execution_options()["kameleon_test"] == "x"
        if backend == "postgresql":
            assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "serializable"
    assert isinstance(engine.sync_engine.pool, AsyncAdaptedQueuePool)
    assert isinstance(own.pool, QueuePool)


def test_the_servers_own_types_are_read_on_the_first_connection(open_async: Open) -> None:
    engine = open_async()
    assert one(synchronous(engine)) == 1
    assert engine.dialect.server_version_info


def test_errors_are_those_of_the_driver_and_leave_the_connection_usable(open_async: Open) -> None:
    engine = open_async(pool_size=1, max_overflow=0)
    own = synchronous(engine)
    with own.connect() as connection:
        with pytest.raises(DBAPIError, match="nowhere") as raised:
            connection.exec_driver_sql("SELECT nothing FROM nowhere")
        assert isinstance(raised.value.orig, engine.dialect.loaded_dbapi.Error)
        connection.rollback()
        assert connection.scalar(text("SELECT 1")) == 1


def test_disposing_of_the_engine_closes_theirs(open_async: Open) -> None:
    engine = open_async()
    own = synchronous(engine)
    assert one(own) == 1
    before: Any = own.pool
    assert before.checkedin() == 1
    asyncio.run(engine.dispose())
    assert before.checkedin() == 0
    assert one(own) == 1


def search_in_child(search: SearchEngine, results: Any) -> None:
    results.put(ids(search.search("fox", limit=1)))


def test_a_forked_process_opens_its_own(open_async: Open) -> None:
    search = SearchEngine(open_async(), HashProvider())
    search.index_record("A", "1", "red fox")
    forked = multiprocessing.get_context("fork")
    results = forked.Queue()
    children = [forked.Process(target=search_in_child, args=(search, results)) for _ in range(2)]
    for child in children:
        child.start()
    assert [results.get(timeout=30) for _ in children] == [["1"], ["1"]]
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert ids(search.search("fox", limit=1)) == ["1"]


@pytest.mark.parametrize("pool", [StaticPool, type("Custom", (AsyncAdaptedQueuePool,), {})])
def test_a_pool_that_cannot_be_had_twice_is_refused(open_async: Open, pool: Any) -> None:
    with pytest.raises(InvalidInput, match=f"cannot make a second {pool.__name__}.*poolclass="):
        SearchEngine(open_async(poolclass=pool))
