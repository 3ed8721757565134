"""Servers that load the application and then fork: no hang, no shared connection, no wrong answer."""

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine, NullPool, QueuePool, StaticPool, text
from sqlalchemy.orm import sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, Worker, forking
from kameleon.embeddings import EmbeddingService, FastEmbedProvider, OpenAIProvider, StaticProvider
from kameleon.embeddings.fastembed import _models
from kameleon.indexing.time_limits import BudgetedCalls
from kameleon.stores.sqlite.mirror import Mirror
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note
from stress.workloads.threads import busy

from .conftest import ids
from .forks import forked, holding
from .loopback import DIMENSIONS, Server, serving

ROOT = Path(__file__).parents[1]
CHILDREN, REQUESTS, RECORDS = 4, 50, 201

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def openai_server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def any_provider(name: str, request: pytest.FixtureRequest) -> Any:
    if name == "static":
        return StaticProvider()
    if name == "fastembed":
        return FastEmbedProvider(str(request.getfixturevalue("minilm")))
    server = request.getfixturevalue("openai_server")
    return OpenAIProvider("m", dimensions=DIMENSIONS, api_key="k", base_url=server.url)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    made: sqlalchemy.URL = request.getfixturevalue("pg_url")
    return made.render_as_string(hide_password=False)


def fill(url: str, provider: Any) -> None:
    """By an engine that is not the application's."""
    engine = kameleon.create_engine(url)
    records = [("Page", n, f"page number {n}") for n in range(RECORDS)]
    SearchEngine(engine, provider).index_records_batch(records)
    engine.dispose()


def requests_of(search: SearchEngine, child: int) -> list[str]:
    """The faults in the answers to a worker's requests, of which every tenth writes."""
    wrong = []
    for n in range(REQUESTS):
        number = (child * REQUESTS + n) % RECORDS
        found = ids(search.search(f"page number {number}", entity="Page", limit=1))
        if found != [str(number)]:
            wrong.append(f"{number}: {found}")
        if n % 10 == 0:
            search.index_record("Answer", f"{child}-{n}", f"answer {child} {n} of a child")
    return wrong


Work = Callable[[int], Any]


def at_work(kind: str, search: SearchEngine) -> AbstractContextManager[None]:
    provider: Any = search.provider
    works: dict[str, Work] = {
        "embeds": lambda n: provider.embed_batch([f"text {n} {m} of several words" for m in range(51)]),
        "searches": lambda n: search.search(f"number {n % RECORDS}", limit=5),
        "writes": lambda n: search.index_records_batch([("Busy", m, f"busy {m} {n}") for m in range(51)]),
        "commits": lambda n: committed(search, n),
    }
    return busy(works[kind]) if kind else nullcontext()


def committed(search: SearchEngine, n: int) -> None:
    with search.attach(sessionmaker(search.engine)).begin() as session:
        session.add_all([Note(title=f"committed {n} {m}", body="b") for m in range(51)])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[("static", kind) for kind in ("", "embeds", "searches", "writes", "commits")],
        *[("fastembed", "embeds"), ("openai", "embeds")],
    ],
)
def test_forked_workers_answer(url: str, any_provider: Any, kind: str) -> None:
    fill(url, any_provider)
    engine = kameleon.create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    search = SearchEngine(engine, any_provider)

    def work(child: int) -> list[str]:
        if kind:  # the parent's pool has connections in it, so SQLAlchemy requires this
            engine.dispose(close=False)
        return requests_of(search, child)

    assert forked(work, CHILDREN, at_work(kind, search)) == [[]] * CHILDREN
    written = {status.entity: status.indexed for status in search.get_status()}
    engine.dispose()
    assert written["Answer"] == CHILDREN * REQUESTS // 10


def test_no_socket_is_used_by_two_processes(openai_server: Server) -> None:
    provider = OpenAIProvider("m", dimensions=DIMENSIONS, api_key="k", base_url=openai_server.url)
    provider.embed("0 in the parent")

    def work(child: int) -> None:
        for _ in range(10):
            provider.embed(f"{child + 1} in a child")

    forked(work, CHILDREN, busy(lambda _: provider.embed("0 in the parent")))
    users: dict[int, set[str]] = {}
    for port, (text_,) in zip(openai_server.ports, openai_server.inputs, strict=True):
        users.setdefault(port, set()).add(text_.split()[0])
    assert {user for each in users.values() for user in each} == {"0", "1", "2", "3", "4"}
    assert [each for each in users.values() if len(each) > 1] == []


@pytest.mark.skipif(find_spec("kameleon.async_connections") is None, reason="async engines open a second pool here")
def test_forked_workers_of_an_async_engine_answer(url: str) -> None:
    driver = {"sqlite": "sqlite+aiosqlite", "postgresql+psycopg": "postgresql+psycopg"}
    made = sqlalchemy.make_url(url)
    engine = kameleon.create_async_engine(made.set(drivername=driver[made.drivername]))
    search = SearchEngine(engine, "static")
    search.index_records_batch([("Page", n, f"page number {n}") for n in range(RECORDS)])
    search.search("page number 5", mode="keyword")

    async def serve(child: int) -> list[str]:
        await engine.dispose(close=False)
        wrong = []
        for n in range(REQUESTS):
            number = (child * REQUESTS + n) % RECORDS
            found = ids(await search.asearch(f"page number {number}", mode="keyword", limit=1))
            if found != [str(number)]:
                wrong.append(f"{number}: {found}")
        return wrong

    assert forked(lambda child: asyncio.run(serve(child)), CHILDREN) == [[]] * CHILDREN
    asyncio.run(engine.dispose())


# locks


class Service:
    """Counts calls."""


def used_up(service: Service) -> BudgetedCalls:
    """All its permits are held, as by calls of other threads."""
    made = BudgetedCalls()
    made.within(60, lambda: None, service, 1)
    assert made._places[service].acquire(blocking=False)
    return made


def test_a_child_embeds_a_query_while_a_thread_of_its_parent_does() -> None:
    service = EmbeddingService(HashProvider())
    expected = service.embed_query("oak").tolist()
    with holding(service.queries._lock), holding(service._in_flight._lock), holding(service.pace._lock):
        assert forked(lambda _: service.embed_query("oak").tolist()) == [expected]


def test_a_child_has_a_budget_while_a_thread_of_its_parent_uses_it_up() -> None:
    service = Service()
    made = used_up(service)
    with holding(made._lock):
        assert forked(lambda _: made.within(60, lambda: 1, service, 1)) == [1]


def test_a_child_runs_a_model_while_a_thread_of_its_parent_does(minilm: Path) -> None:
    provider = FastEmbedProvider(str(minilm))
    expected = np.asarray(provider.embed("oak")).tolist()
    (model,) = [made for key, made in _models.loaded.items() if key == provider._key]
    with holding(_models.lock), holding(model.slices._next), holding(model.queries._held):
        (found,) = forked(lambda _: np.asarray(provider.embed("oak")).tolist())
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_change_of_the_embeddings_in_memory_that_a_fork_cut_short_is_made_anew(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider(), vector_search="numpy")
    search.index_records_batch([("Note", n, f"note {n}") for n in range(51)])
    before = ids(search.search("note 5", mode="vector"))
    (mirror,) = search.index.store.vectors._mirrors._mirrors.values()  # type: ignore[attr-defined]
    assert isinstance(mirror, Mirror)
    file_engine.dispose()
    mirror._is_changing = True
    mirror._ids = mirror._ids[::-1].copy()
    with holding(mirror._lock), holding(search.index.store.vectors._mirrors._lock):  # type: ignore[attr-defined]
        assert forked(lambda _: ids(search.search("note 5", mode="vector"))) == [before]


def test_no_property_has_a_lock_of_its_class() -> None:
    class Slow:
        @forking.lazy
        def value(self) -> int:
            if self is slow:
                begun.set()
                ended.wait()
            return 1

    begun, ended = threading.Event(), threading.Event()
    slow, quick = Slow(), Slow()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    begun.wait()
    try:
        assert forked(lambda _: quick.value) == [1]
    finally:
        ended.set()
        thread.join()
    sources = [*(ROOT / "kameleon").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    assert len(sources) > 50
    assert [path.name for path in sources if "import cached_property" in path.read_text()] == []


def test_threads_that_make_an_attribute_at_once_get_the_same() -> None:
    class Made:
        @forking.per_process
        def lock(self) -> object:
            both.wait()
            return object()

    both = threading.Barrier(2)
    made, got = Made(), list[object]()
    threads = [threading.Thread(target=lambda: got.append(made.lock)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [made.lock, made.lock]


def test_a_worker_has_a_name_of_its_own_in_each_process(file_engine: Engine) -> None:
    worker = Worker(SearchEngine(file_engine))
    names = [worker.name, *forked(lambda _: worker.name, 2)]
    assert worker.name == names[0]
    assert len(set(names)) == 3


# what a fork waits for


def until_a_fork_waits() -> None:
    threads = forking._threads
    with threads.changed:
        while not threads.is_forking:
            threads.changed.wait(0.01)


def test_a_fork_waits_for_what_is_not_to_be_cut() -> None:
    done, begun = list[int](), threading.Event()

    def run() -> None:
        with forking.fork_waits():
            begun.set()
            until_a_fork_waits()
            with forking.fork_waits():
                done.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    assert forked(lambda _: list(done)) == [[1]]
    thread.join()


def test_a_fork_waits_for_transactions_of_other_threads(file_engine: Engine) -> None:
    """SQLite would count their locks as the child's own: it could not write, and would read without a lock."""
    search = SearchEngine(file_engine)
    begun = threading.Event()

    def run() -> None:
        with file_engine.begin() as connection:
            search.index_record("Note", 1, "written before the fork", connection=connection)
            begun.set()
            until_a_fork_waits()

    def work(_child: int) -> list[str]:
        file_engine.dispose(close=False)
        search.index_record("Note", 2, "written after it")
        return sorted(ids(search.search("written")))

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    assert forked(work) == [["1", "2"]]
    thread.join()


def test_a_fork_does_not_wait_for_a_thread_that_never_ends(
    file_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    SearchEngine(file_engine)
    monkeypatch.setattr(forking, "FORK_WAITS_S", 0.05)
    begun, ended = threading.Event(), threading.Event()

    def run() -> None:
        with file_engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            begun.set()
            ended.wait()

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    with caplog.at_level(logging.WARNING, "kameleon"):
        assert forked(lambda child: child, 3) == [0, 1, 2]
    ended.set()
    thread.join()
    assert [record.message for record in caplog.records] == ["fork:threads_busy count=1 waited_s=0.05"]
    assert forking._threads.busy == {}


def test_a_fork_does_not_wait_for_a_transaction_of_its_own(
    file_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    search = SearchEngine(file_engine)
    with file_engine.begin() as connection:
        search.index_record("Note", 1, "oak", connection=connection)
        with caplog.at_level(logging.WARNING, "kameleon"):
            assert forked(lambda child: child) == [0]
    assert caplog.records == []


# the constructor


def test_the_constructor_leaves_no_connection_and_no_thread(url: str) -> None:
    engine = kameleon.create_engine(url)
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    for _ in range(2):
        threads = threading.enumerate()
        search = SearchEngine(engine, "static")
        search.attach(sessionmaker(engine))
        RecordStore(search)
        Worker(search)
        assert threading.enumerate() == threads
        assert isinstance(engine.pool, QueuePool)
        assert (engine.pool.checkedin(), engine.pool.checkedout()) == (0, 0)
    search.get_status()
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedin() == 1
    engine.dispose()


def test_the_constructor_leaves_the_applications_connections_alone(url: str) -> None:
    engine = kameleon.create_engine(url, pool_size=1)
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE own (id INTEGER)"))
    pool = engine.pool
    SearchEngine(engine, "static")
    assert engine.pool is pool
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM own")) == 0
    engine.dispose()


MEMORY: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("sqlite://", {}),
    "static": ("sqlite://", {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}),
    "shared": ("sqlite:///file:{name}?mode=memory&cache=shared&uri=true", {"poolclass": QueuePool}),
    "creator": ("sqlite:///never.db", {"poolclass": QueuePool, "creator": None}),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_a_database_in_memory_outlives_the_constructor(kind: str, tmp_path: Path) -> None:
    address, options = MEMORY[kind]
    name = f"file:{tmp_path.name}?mode=memory&cache=shared"
    if "creator" in options:
        options = {**options, "creator": lambda: sqlite3.connect(name, uri=True, check_same_thread=False)}
    engine = kameleon.create_engine(address.format(name=tmp_path.name), **options)
    search = SearchEngine(engine, HashProvider())
    search.index_record("Note", 1, "oak")
    assert ids(search.search("oak")) == ["1"]
    engine.dispose()


@pytest.mark.parametrize("poolclass", [StaticPool, None])
def test_a_child_has_its_parents_database_in_memory(poolclass: type[StaticPool] | None) -> None:
    options: dict[str, Any] = {"connect_args": {"check_same_thread": False}} if poolclass else {}
    engine = kameleon.create_engine("sqlite://", poolclass=poolclass, **options)
    search = SearchEngine(engine, HashProvider())
    search.index_record("Note", 1, "oak")

    def work(child: int) -> list[str]:
        search.index_record("Note", 2 + child, "oak lamps")
        return sorted(ids(search.search("oak")))

    assert forked(work, 2) == [["1", "2"], ["1", "3"]]
    assert ids(search.search("oak")) == ["1"]
    engine.dispose()


@pytest.mark.parametrize("options", [{"poolclass": NullPool}, {"pool_size": 1, "max_overflow": 0}])
def test_pools_of_every_size_are_left_empty(url: str, options: dict[str, Any]) -> None:
    opened = 0

    def count(_driver: Any, _record: Any) -> None:
        nonlocal opened
        opened += 1

    engine = kameleon.create_engine(url, **options)
    closed = list[Connection]()
    sqlalchemy.event.listen(engine, "connect", count)
    sqlalchemy.event.listen(engine, "close", lambda driver, _record: closed.append(driver))
    SearchEngine(engine, "static")
    assert opened == len(closed) > 0
    engine.dispose()


# the end of a child

ENDING = """
import os
import sys

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import FastEmbedProvider, OpenAIProvider

model, server, path, what = sys.argv[1:]
engine = kameleon.create_engine(f"sqlite:///{path}")
local, remote = FastEmbedProvider(model), OpenAIProvider("m", dimensions=8, api_key="k", base_url=server)
search = SearchEngine(engine, local)
search.index_records_batch([("Note", n, f"note {n}") for n in range(51)])
search.search("note 5")
remote.embed("oak")
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        if what == "works":
            engine.dispose(close=False)
            assert search.search("note 5", limit=1)[0].id == "5"
            remote.embed("lamp")
        sys.exit(3)
    children.append(pid)
statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert statuses == [3, 3], statuses
print("ended")
"""


@pytest.mark.parametrize("what", ["works", "does nothing"])
def test_a_child_ends_as_any_process_does(what: str, minilm: Path, openai_server: Server, tmp_path: Path) -> None:
    """A model's session waits for its threads as it is destroyed, and a child has none of its parent's."""
    command = [sys.executable, "-c", ENDING, str(minilm), openai_server.url, str(tmp_path / "test.db"), what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr
