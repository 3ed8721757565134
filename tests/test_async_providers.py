"""Providers with verbs for coroutines, and dimensions that are found."""

import asyncio
import pickle
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, String
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import kameleon
from kameleon import RecordStore, SearchEngine, searchable
from kameleon.embeddings import CallableProvider, EmbeddingProvider, EmbeddingService
from kameleon.errors import ProviderRefused, ProviderUnavailable
from kameleon.event_loop import calling_loop, on_a_thread_of, on_calling_loop
from kameleon.testing import HashProvider

from .conftest import Make, ids

DIMENSIONS = HashProvider().dimensions


class Base(DeclarativeBase):
    pass


@searchable(fields=["body"])
class AwaitedNote(Base):
    __tablename__ = "awaited_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String)


class Calls:
    """Functions for a provider that note their calls, and the event loop that awaits them."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.loops: set[int] = set()
        self._hashes = HashProvider()

    def documents(self, texts: Sequence[str]) -> Any:
        self.made.append("documents")
        return self._hashes.embed_batch(texts)

    def query(self, text: str) -> Any:
        self.made.append("query")
        return self._hashes.embed_query(text)

    async def adocuments(self, texts: Sequence[str]) -> Any:
        await self._awaited("adocuments")
        return self._hashes.embed_batch(texts)

    async def aquery(self, text: str) -> Any:
        await self._awaited("aquery")
        return self._hashes.embed_query(text)

    async def _awaited(self, name: str) -> None:
        self.made.append(name)
        self.loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)

    def provider(self, *names: str, **options: Any) -> CallableProvider:
        verbs = {name: getattr(self, name) for name in names}
        return CallableProvider(self.documents, model_name="noted", **verbs, **options)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture(params=("sqlite", "sqlite-memory", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on_loop(work: Any, calls: Calls) -> None:
    async def run() -> None:
        await work()
        assert calls.loops <= {id(asyncio.get_running_loop())}

    asyncio.run(run())


@pytest.mark.parametrize("query_timeout", [None, 30.0])
def test_coroutines_await_the_verbs_that_are_given(make: Make, calls: Calls, query_timeout: float | None) -> None:
    provider = calls.provider("query", "adocuments", "aquery", dimensions=DIMENSIONS, concurrency=3, batch_size=20)
    search = make(provider, query_timeout=query_timeout)
    records = RecordStore(search)

    async def work() -> None:
        await records.ainsert("Fox", [{"id": str(n), "text": f"fox {n}"} for n in range(51)])
        assert ids(await search.asearch("fox 7", mode="vector", limit=1)) == ["7"]
        await search.aindex_record("Owl", "1", "owl")

    on_loop(work, calls)
    assert set(calls.made) == {"adocuments", "aquery"}
    calls.made.clear()
    assert ids(search.search("fox 8", mode="vector", limit=1)) == ["8"]
    search.index_record("Owl", "2", "owls")
    assert calls.made == ["query", "documents"]


@pytest.mark.parametrize(
    ("names", "documents", "query"),
    [
        ((), "documents", "documents"),
        (("query",), "documents", "query"),
        (("adocuments",), "adocuments", "adocuments"),
        (("adocuments", "query"), "adocuments", "query"),
        (("aquery",), "documents", "aquery"),
    ],
)
def test_what_is_not_given_is_called_on_a_thread(
    file_engine: Engine, calls: Calls, names: tuple[str, ...], documents: str, query: str
) -> None:
    search = SearchEngine(file_engine, calls.provider(*names, dimensions=DIMENSIONS, noise=(0.0, 0.1)))

    async def work() -> None:
        await search.aindex_record("Fox", "1", "red fox")
        assert ids(await search.asearch("red fox", mode="vector")) == ["1"]

    on_loop(work, calls)
    assert calls.made == [documents, query]


def test_the_commit_of_an_async_session_awaits_them(engine: Engine, backend: str, calls: Calls) -> None:
    url = engine.url if backend == "postgresql" else engine.url.set(drivername="sqlite+aiosqlite")

    async def work() -> None:
        opened: AsyncEngine = kameleon.create_async_engine(url)
        async with opened.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with SearchEngine(opened, calls.provider("adocuments", "aquery", dimensions=DIMENSIONS)) as search:
            maker = search.attach(async_sessionmaker(opened))
            async with maker.begin() as session:
                session.add_all(AwaitedNote(body=f"red fox {n}") for n in range(51))
            async with maker() as session:
                assert len(await search.asearch("red fox", mode="vector", limit=3, session=session)) == 3
        await opened.dispose()

    on_loop(work, calls)
    assert set(calls.made) == {"adocuments", "aquery"}


def test_what_they_raise_is_what_a_function_raises(file_engine: Engine, calls: Calls) -> None:
    async def refuse(text: str) -> Any:
        raise OSError("no route")

    provider = CallableProvider(
        calls.documents, aquery=refuse, dimensions=DIMENSIONS, model_name="noted", query_timeout=9
    )
    search = SearchEngine(file_engine, provider)
    search.index_record("Fox", "1", "red fox")

    async def work() -> None:
        with pytest.raises(ProviderUnavailable, match="no route"):
            await search.asearch("fox", mode="vector")
        found = await search.asearch("fox")
        assert ids(found) == ["1"]

    on_loop(work, calls)


def test_a_query_is_waited_for_no_longer_than_its_time_out(file_engine: Engine, calls: Calls) -> None:
    release = threading.Event()

    async def hang(text: str) -> Any:
        while not release.is_set():
            await asyncio.sleep(0.01)

    provider = CallableProvider(
        calls.documents, aquery=hang, dimensions=DIMENSIONS, model_name="noted", query_timeout=0.05
    )
    search = SearchEngine(file_engine, provider)

    async def work() -> None:
        await search.aindex_record("Fox", "1", "red fox")
        with pytest.raises(ProviderUnavailable, match="no answer within"):
            await search.asearch("fox", mode="vector")
        release.set()

    on_loop(work, calls)


class Subclass(EmbeddingProvider):
    model_name = "subclass"
    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self.awaited: list[str] = []

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return HashProvider().embed_batch(texts)

    async def aembed_batch(self, texts: Sequence[str]) -> Any:
        self.awaited += texts
        return self.embed_batch(texts)

    async def aembed_query(self, text: str) -> Any:
        self.awaited.append(text)
        return self.embed_query(text)


def test_a_subclass_defines_them(file_engine: Engine, calls: Calls) -> None:
    provider = Subclass()
    search = SearchEngine(file_engine, provider)

    async def work() -> None:
        await search.aindex_record("Fox", "1", "red fox")
        assert ids(await search.asearch("red fox", mode="vector")) == ["1"]

    on_loop(work, calls)
    assert provider.awaited[0] == "red fox" == provider.awaited[-1]


# dimensions


def test_dimensions_are_those_of_the_first_vector_found_once(make: Make, calls: Calls) -> None:
    provider = calls.provider(noise=(0.0, 0.1))
    search = make(provider)
    search.index_record("Fox", "1", "red fox")
    search.index_record("Fox", "2", "grey fox")
    assert provider.dimensions == DIMENSIONS
    assert calls.made == ["documents"] * 3
    assert ids(search.search("grey fox", mode="vector", limit=1)) == ["2"]


def test_dimensions_of_the_index_cost_no_call(make: Make, calls: Calls) -> None:
    make(calls.provider()).index_record("Fox", "1", "red fox")
    again = Calls()
    provider = again.provider("query")
    search = make(provider)
    assert search.get_status()[0].pending == 0
    assert again.made == []
    assert ids(search.search("red fox", mode="vector")) == ["1"]
    assert again.made == ["query"]
    assert provider.dimensions == DIMENSIONS


def test_threads_find_dimensions_with_one_call(calls: Calls) -> None:
    provider = calls.provider()
    threads = [threading.Thread(target=lambda: provider.dimensions) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.made == ["documents"]


@pytest.mark.parametrize("answer", [[], [1.0], [[]], [None], [[[1.0]]]])
def test_an_answer_without_dimensions_is_refused(answer: Any) -> None:
    provider = CallableProvider(lambda _texts: answer, model_name="none")
    with pytest.raises(ProviderRefused, match="gave no vector for a short text"):
        _ = provider.dimensions


def test_while_dimensions_cannot_be_found_records_are_pending(make: Make, calls: Calls) -> None:
    is_down = [True]

    def embed(texts: Sequence[str]) -> Any:
        if is_down[0]:
            raise OSError("no route")
        return calls.documents(texts)

    search = make(CallableProvider(embed, model_name="noted"))
    search.index_record("Fox", "1", "red fox")
    assert ids(search.search("fox", mode="keyword")) == ["1"]
    is_down[0] = False
    search.sync()
    assert ids(search.search("red fox", mode="vector")) == ["1"]


def test_it_can_be_pickled_once_they_are_found() -> None:
    provider = CallableProvider(HashProvider().embed_batch, model_name="hashes")
    assert provider.dimensions == DIMENSIONS
    again = pickle.loads(pickle.dumps(provider))  # noqa: S301 - the test's own
    assert EmbeddingService(again).embed_query("fox").shape == (DIMENSIONS,)


def test_what_is_awaited_is_not_itself_on_a_thread_of_the_loop() -> None:
    """A plain call in it would else wait for the loop that it keeps."""

    async def verb() -> object:
        return calling_loop()

    async def run() -> object:
        loop = asyncio.get_running_loop()
        return await on_a_thread_of(lambda: on_calling_loop(loop, verb))

    assert asyncio.run(run()) is None
