"""What a search waits for, and which connections and locks it holds meanwhile."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import CallableProvider, EmbeddingService, FastEmbedProvider, OpenAIProvider
from kameleon.embeddings.fastembed import FairLock
from kameleon.embeddings.queries import PAUSE_S
from kameleon.errors import InvalidInput, ProviderRefused, ProviderUnavailable, TextRefused
from kameleon.reindex.gate import Gate
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Place

from .conftest import ids
from .loopback import DIMENSIONS, Fault, Server, error, good, serving, vector

LATE = 0.2


@pytest.fixture
def loopback() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def unslept(_seconds: float) -> None:
    raise AssertionError("a query waited")


def provider(loopback: Server, **options: Any) -> OpenAIProvider:
    made = OpenAIProvider("m", dimensions=DIMENSIONS, api_key="local-key", base_url=loopback.url, **options)
    made.noise = (0.0, 0.3)  # no request to measure it
    return made


def served(loopback: Server, clock: Clock | None = None, **options: Any) -> EmbeddingService:
    return EmbeddingService(provider(loopback, **options), sleep=unslept, clock=clock or Clock())


def hanging(event: threading.Event) -> Fault:
    def answered(request: dict[str, Any]) -> Any:
        event.wait(30)
        return good(request)

    return answered


FAULTS = [error(429, headers={"retry-after": "60"}), error(503), error(401, "wrong key")]


@pytest.mark.parametrize("fault", FAULTS, ids=["429", "503", "401"])
def test_a_failed_query_is_one_try_and_remembered_for_the_next(loopback: Server, fault: Fault) -> None:
    loopback.always = fault
    service = served(loopback)
    for query in ("one", "two", "one"):
        with pytest.raises((ProviderUnavailable, ProviderRefused)):
            service.embed_query(query)
    assert len(loopback.requests) == 1


def test_a_query_waits_no_longer_than_its_time_limit(loopback: Server, released: threading.Event) -> None:
    loopback.always = hanging(released)
    service = served(loopback, query_timeout=LATE)
    for query in ("one", "one", "two"):
        with pytest.raises(ProviderUnavailable, match=r"m gave no answer within 0\.2 s"):
            service.embed_query(query)
    assert len(loopback.requests) == 1


def test_the_provider_is_tried_again_after_a_pause_by_one_query(loopback: Server) -> None:
    clock = Clock()
    service = served(loopback, clock)
    loopback.script = [error(503), error(503)]
    with pytest.raises(ProviderUnavailable):
        service.embed_query("one")
    clock.now = PAUSE_S
    with pytest.raises(ProviderUnavailable):
        service.embed_query("two")
    clock.now += PAUSE_S / 2
    with pytest.raises(ProviderUnavailable):
        service.embed_query("three")
    assert len(loopback.requests) == 2
    clock.now += PAUSE_S
    assert service.embed_query("four") == pytest.approx(vector("four"), abs=1e-6)
    assert service.embed_query("five") == pytest.approx(vector("five"), abs=1e-6)


def test_while_one_query_tries_again_the_others_do_not_wait(loopback: Server, released: threading.Event) -> None:
    clock = Clock()
    service = served(loopback, clock, query_timeout=20)
    loopback.script = [error(503)]
    with pytest.raises(ProviderUnavailable):
        service.embed_query("one")
    clock.now = PAUSE_S
    begun = threading.Event()

    def answered(request: dict[str, Any]) -> Any:
        begun.set()
        return hanging(released)(request)

    loopback.always = answered
    with ThreadPoolExecutor(1) as pool:
        trying = pool.submit(service.embed_query, "two")
        assert begun.wait(30)
        with pytest.raises(ProviderUnavailable):
            service.embed_query("three")
        released.set()
        assert trying.result(30) == pytest.approx(vector("two"), abs=1e-6)
    assert len(loopback.requests) == 2


def test_what_is_embedded_elsewhere_ends_the_pause(loopback: Server) -> None:
    service = served(loopback)
    loopback.script = [error(503)]
    with pytest.raises(ProviderUnavailable):
        service.embed_query("one")
    service.embed_batch(["a passage"])
    assert service.embed_query("one") == pytest.approx(vector("one"), abs=1e-6)


def test_an_answer_that_came_late_is_kept(loopback: Server, released: threading.Event) -> None:
    loopback.script = [hanging(released)]
    service = served(loopback, query_timeout=LATE)
    with pytest.raises(ProviderUnavailable):
        service.embed_query("one")
    released.set()
    for thread in threading.enumerate():
        if thread.name == "kameleon-query":
            thread.join(30)
    assert service.embed_query("one") == pytest.approx(vector("one"), abs=1e-6)
    assert len(loopback.requests) == 1


def test_a_query_does_not_wait_for_a_bulk_job_that_backs_off(loopback: Server) -> None:
    waiting, over = threading.Event(), threading.Event()

    def sleep(_seconds: float) -> None:
        waiting.set()
        over.wait(30)

    service = EmbeddingService(provider(loopback), sleep=sleep)
    loopback.script = [error(429, headers={"retry-after": "20"})]
    with ThreadPoolExecutor(1) as pool:
        bulk = pool.submit(service.embed_batch, ["a", "b"])
        assert waiting.wait(30)
        assert service.embed_query("one") == pytest.approx(vector("one"), abs=1e-6)
        over.set()
        assert bulk.result(30).errors == [None, None]


@pytest.mark.parametrize("is_costly", [True, False])
def test_one_query_of_many_threads_is_embedded_once(is_costly: bool, released: threading.Event) -> None:
    begun, calls = threading.Event(), list[str]()

    def embed(texts: Any) -> Any:
        calls.extend(texts)
        begun.set()
        released.wait(30)
        return [[1.0, 0.0] for _ in texts]

    service = EmbeddingService(CallableProvider(embed, dimensions=2, model_name="f", is_costly=is_costly))
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(service.embed_query, "one")
        assert begun.wait(30)
        others = [pool.submit(service.embed_query, "one") for _ in range(7)]
        released.set()
        assert [query.result(30).tolist() for query in (first, *others)] == [[1.0, 0.0]] * 8
    assert calls == ["one"]


def test_a_new_query_of_many_threads_is_sent_once_by_an_engine_that_has_just_begun(
    loopback: Server, file_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    SearchEngine(file_engine, provider(loopback)).index_record("N", "1", "a note of wages")
    every, begun = SearchEngine(file_engine, "static"), threading.Barrier(8)

    def search_once(_place: int) -> list[str]:
        begun.wait(30)
        return ids(every.search("wages", mode="vector"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(search_once, range(8))) == [["1"]] * 8
    assert loopback.inputs[1:] == [["wages"]]


def test_a_local_model_has_no_time_limit_and_no_pause() -> None:
    faults: list[Exception] = [ConnectionError("down")]

    def embed(texts: Any) -> Any:
        if faults:
            raise faults.pop()
        return [[1.0, 0.0] for _ in texts]

    service = EmbeddingService(CallableProvider(embed, dimensions=2, model_name="f"))
    with pytest.raises(ProviderUnavailable, match="down"):
        service.embed_query("one")
    assert service.embed_query("one").tolist() == [1.0, 0.0]


def test_a_refused_query_is_no_outage() -> None:
    bad = EmbeddingService(
        CallableProvider(lambda _texts: [TextRefused("no")], dimensions=2, model_name="f", is_costly=True)
    )
    for _ in range(2):
        with pytest.raises(TextRefused, match="no"):
            bad.embed_query("one")


def test_loading_is_not_counted(released: threading.Event) -> None:
    class Slow(HashProvider):
        is_costly = True
        query_timeout = LATE
        loads = 0

        def load(self) -> None:
            self.loads += 1
            assert not released.wait(2 * LATE)

    slow = Slow()
    service = EmbeddingService(slow)
    assert len(service.embed_query("one")) == slow.dimensions
    assert len(service.embed_query("two")) == slow.dimensions
    assert slow.loads == 1


def test_a_search_answers_by_keywords_while_the_provider_hangs(
    loopback: Server, file_engine: Engine, released: threading.Event
) -> None:
    SearchEngine(file_engine, provider(loopback)).index_record("N", "1", "a note of wages")
    loopback.always = hanging(released)
    search = SearchEngine(file_engine, provider(loopback), query_timeout=LATE)
    for query in ("wages", "wages note"):
        hits = search.search(query)
        assert ids(hits) == ["1"]
        assert "keywords only: m gave no answer within 0.2 s" in hits.plan.note
    assert len(loopback.requests) == 2
    with pytest.raises(ProviderUnavailable, match="no answer"):
        search.search("wages again", mode="vector")
    with pytest.raises(InvalidInput, match="query_timeout"):
        SearchEngine(file_engine, "static", query_timeout=-1)


# connections


@pytest.fixture(params=["sqlite", "postgresql"])
def small_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine whose pool has one connection."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10}
    if request.param == "sqlite":
        opened = kameleon.create_engine(f"sqlite:///{tmp_path / 'test.db'}", **options)
    else:
        opened = sqlalchemy.create_engine(request.getfixturevalue("pg_url"), **options)
    yield opened
    opened.dispose()


class Watching(HashProvider):
    """Records which of its methods are called while a connection is checked out of the pool."""

    def __init__(self, engine: Engine, dimensions: int = 16) -> None:
        super().__init__(dimensions)
        self._pool: Any = engine.pool
        self.called: set[str] = set()
        self.holding: set[str] = set()

    def note(self, name: str) -> None:
        self.called.add(name)
        if self._pool.checkedout():
            self.holding.add(name)

    def load(self) -> None:
        self.note("load")

    def embed_batch(self, texts: Any) -> Any:
        self.note("embed_batch")
        return super().embed_batch(texts)

    def embed_query(self, text: str) -> Any:
        self.note("embed_query")
        return HashProvider.embed_batch(self, [text])[0]

    def known_share(self, text: str) -> float:
        self.note("known_share")
        return 1.0

    def rerank(self, _query: str, texts: Any) -> list[float]:
        self.note("rerank")
        return [1 / (2 + place) for place, _ in enumerate(texts)]


NOTES = [("N", str(n), f"Wages of {n}. Nothing else here.") for n in range(60)]


def searches(search: SearchEngine, watching: Watching) -> dict[str, Callable[[], Any]]:
    return {
        "search": lambda: search.search("wages of 3", explain=True, count=True),
        "vector": lambda: search.search("wages of 4", mode="vector"),
        "highlight": lambda: search.search("unheard", highlight=True, mode="vector"),
        "rerank": lambda: search.search(
            "wages of 5", rerank=watching.rerank, highlight=True, count=True, min_score=0.1
        ),
        "group": lambda: search.search("wages of 6", group_by="entity"),
        "similar": lambda: search.similar("N", "7", highlight=True),
        "legs": lambda: search.admin.legs("wages of 8").legs,
        "suggest": lambda: search.suggest("wag"),
    }


@pytest.mark.parametrize("name", ["search", "vector", "highlight", "rerank", "group", "similar", "legs", "suggest"])
def test_a_search_calls_no_provider_while_it_holds_a_connection(small_pool: Engine, name: str) -> None:
    SearchEngine(small_pool, HashProvider(16)).index_records_batch(NOTES)
    watching = Watching(small_pool)
    search = SearchEngine(small_pool, watching)
    for _ in range(2):
        assert len(searches(search, watching)[name]()) > 0
    assert watching.called or name == "suggest"
    assert watching.holding == set()


def test_writing_and_moving_hold_no_connection_while_the_provider_works(small_pool: Engine) -> None:
    watching = Watching(small_pool)
    search = SearchEngine(small_pool, watching)
    search.index_records_batch(NOTES)
    SearchEngine(small_pool).index_record("N", "late", "a late note")
    search.sync()
    other = Watching(small_pool, 24)
    report = search.reindex(provider=other, gate=Gate(overlap=0.0))
    assert report.switched
    assert {"embed_batch", "embed_query"} <= other.called
    assert watching.holding == other.holding == set()


def test_a_commit_holds_a_connection_while_it_embeds_only_after_a_flush(small_pool: Engine) -> None:
    Base.metadata.create_all(small_pool)
    watching = Watching(small_pool)
    search = SearchEngine(small_pool, watching)
    sessions = search.attach(sessionmaker(small_pool))
    for count in (1, 51, 201):
        with sessions.begin() as session:
            session.add_all([Place(country=f"c{count}", number=n, name=f"wages {n}") for n in range(count)])
    assert watching.holding == set()
    with sessions.begin() as session:
        session.add(Place(country="x", number=1, name="flushed wages"))
        session.flush()
        assert len(search.search("wages", connection=session.connection(), mode="vector")) == 10
    assert [status.pending for status in search.get_status()] == [0]
    assert len(search.search("flushed", entity=Place, mode="vector")) == 10


def test_a_callers_connection_is_the_only_one_that_is_needed(small_pool: Engine) -> None:
    search = SearchEngine(small_pool, Watching(small_pool))
    search.index_records_batch(NOTES)
    fresh = SearchEngine(small_pool, watching := Watching(small_pool))
    with small_pool.connect() as connection:
        assert len(fresh.search("wages of 3", connection=connection)) > 0
        reranked = fresh.search("wages of 4", connection=connection, rerank=watching.rerank, highlight=True)
        assert len(reranked) > 0
        assert len(fresh.similar("N", "7", connection=connection)) > 0


def test_six_searches_at_once_share_a_pool_of_one(small_pool: Engine, released: threading.Event) -> None:
    together = threading.Barrier(6)

    class Together(HashProvider):
        def embed_query(self, text: str) -> Any:
            together.wait(30)
            return super().embed_query(text)

    SearchEngine(small_pool, HashProvider(16)).index_records_batch(NOTES)
    search = SearchEngine(small_pool, Together(16))
    with ThreadPoolExecutor(6) as pool:
        for wave in range(2):
            found = [pool.submit(search.search, f"wages of {wave} {n}", mode="vector") for n in range(6)]
            assert all(len(one.result(30)) == 10 for one in found)


# local models


def test_a_fair_lock_passes_to_a_thread_that_waits(released: threading.Event) -> None:
    lock, order = FairLock(), list[str]()
    begun = threading.Event()

    def bulk() -> None:
        for _ in range(3):
            with lock:
                order.append("slice")
                begun.set()
                released.wait(30)

    def one() -> None:
        with lock:
            order.append("one")

    threads = [threading.Thread(target=bulk), threading.Thread(target=one)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    while not lock._next.locked():
        assert threads[1].is_alive()
    released.set()
    for thread in threads:
        thread.join(30)
    assert order[:2] == ["slice", "one"]


def test_a_query_is_embedded_beside_a_slice_of_a_bulk_job(minilm: Path) -> None:
    model = FastEmbedProvider(str(minilm))
    model.load()
    with model._loaded.slices:
        assert len(model.embed_query("a question meanwhile")) == 384


def test_loading_one_model_blocks_no_other(minilm: Path) -> None:
    one, two = FastEmbedProvider(str(minilm)), FastEmbedProvider(str(minilm), threads=1)
    with one._loaded._loading:
        assert len(two.embed_query("a question meanwhile")) == 384


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_forked_while_its_parent_embeds_loads_its_own(minilm: Path) -> None:
    model = FastEmbedProvider(str(minilm))
    model.load()
    service = EmbeddingService(HashProvider(16))
    with model._loaded.slices, service.queries._lock:
        child = os.fork()
        if not child:
            signal.alarm(60)
            os._exit((len(service.embed_query("one")), len(model.embed_query("one"))) != (16, 384))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
