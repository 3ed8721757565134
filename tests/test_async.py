"""AsyncSession on aiosqlite and psycopg: the same commits, and an event loop that is never held up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session

import kameleon
from kameleon import SearchEngine
from kameleon.errors import InvalidInput, ProviderUnavailable
from kameleon.testing import HashProvider

from .conftest import ids
from .models import Article, Author, Base, Note, assert_true, index

AsyncMaker = async_sessionmaker[AsyncSession]
Opened = Callable[..., Any]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(engine: Engine) -> Opened:
    Base.metadata.create_all(engine)
    url = engine.url.set(drivername="sqlite+aiosqlite") if engine.dialect.name == "sqlite" else engine.url

    @asynccontextmanager
    async def open_(provider: Any, **options: Any) -> AsyncIterator[tuple[SearchEngine, AsyncMaker]]:
        made = kameleon.create_async_engine(url)
        search = SearchEngine(made, provider, **options)
        try:
            yield search, search.attach(async_sessionmaker(made))
        finally:
            await made.dispose()
            search.engine.dispose()

    return open_


def note(title: str) -> Note:
    return Note(title=title, body="b")


def run(work: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_what_an_async_session_commits_is_the_index(opened: Opened, provider: HashProvider, engine: Engine) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker):
            async with maker.begin() as session:
                session.add_all([note("red fox"), note("blue whale"), Note(title="filled in")])
                session.add(Article(title="by an author", author=Author(name="Ann")))
            async with maker() as session:
                (await session.scalars(select(Author))).one().name = "Bob"
                await session.execute(update(Note).where(Note.title == "blue whale").values(title="grey whale"))
                savepoint = await session.begin_nested()
                session.add(note("gone"))
                await session.flush()
                await savepoint.rollback()
                await session.commit()
                await session.execute(delete(Note).where(Note.title == "filled in"))
                await session.rollback()
            assert_true(engine, search)
            hits = await search.asearch("whale", entity=Note, mode="keyword", where=Note.stars == 0)
            assert ids(hits) == ["2"]
            async with maker() as session:
                found = await session.scalars(await search.aselect(Note, "grey whale", limit=1))
                assert [one.title for one in found] == ["grey whale"]

    run(work())


class Waiting(HashProvider):
    """Answers once the event loop has had a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def embed_batch(self, texts: Sequence[str]) -> Any:
        self.is_asked.set()
        assert self.may_answer.wait(30), "the event loop was held up"
        return super().embed_batch(texts)

    def embed_query(self, text: str) -> Any:
        self.is_asked.set()
        assert self.may_answer.wait(30), "the event loop was held up"
        return super().embed_query(text)


async def meanwhile(work: Awaitable[Any], provider: Waiting) -> Any:
    """The work's result; the provider answers only because the loop goes on."""
    provider.is_asked.clear()
    provider.may_answer.clear()
    going = asyncio.ensure_future(work)
    while not provider.is_asked.is_set():
        await asyncio.sleep(0)
    provider.may_answer.set()
    return await going


@pytest.mark.parametrize("kind", ["before the flush", "after the flush", "a server's text"])
def test_the_loop_goes_on_while_a_commit_embeds(opened: Opened, engine: Engine, kind: str) -> None:
    provider = Waiting()

    async def work() -> None:
        async with opened(provider, cache=True) as (search, maker):
            async with maker() as session:
                session.add(Note(title="one") if kind == "a server's text" else note("one"))
                if kind == "after the flush":
                    await session.flush()
                await meanwhile(session.commit(), provider)
            assert_true(engine, search)
            assert sum(status.texts for status in search.cache_status()) == 1

    run(work())


def test_the_loop_goes_on_while_a_search_embeds_its_query(opened: Opened, engine: Engine) -> None:
    provider = Waiting()

    async def work() -> None:
        async with opened(provider) as (search, maker):
            async with maker() as session:
                session.add(note("one"))
                await meanwhile(session.commit(), provider)
            assert ids(await meanwhile(search.asearch("one"), provider)) == ["1"]

    run(work())


def test_auto_leaves_what_takes_too_long_to_a_worker(opened: Opened, engine: Engine) -> None:
    provider = Waiting()

    async def work() -> None:
        async with opened(provider, indexing="auto", budget_s=0.01) as (search, maker):
            async with maker() as session:
                session.add(note("one"))
                await session.commit()
            provider.may_answer.set()
            assert [status.pending for status in search.get_status()] == [1]

    run(work())


def test_with_raise_an_async_commit_stores_nothing(opened: Opened, engine: Engine) -> None:
    class Down(HashProvider):
        attempts = 1

        def embed_batch(self, texts: Sequence[str]) -> Any:
            raise ProviderUnavailable("down")

    async def work() -> None:
        async with opened(Down(), on_provider_error="raise") as (_search, maker), maker() as session:
            session.add(note("one"))
            with pytest.raises(ProviderUnavailable):
                await session.commit()

    run(work())
    assert index(engine) == {}


def test_scoped_async_sessions_are_heard(opened: Opened, provider: HashProvider, engine: Engine) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker):
            scoped = search.attach(async_scoped_session(maker, scopefunc=asyncio.current_task))
            scoped.add(note("one"))
            await scoped.commit()
            await scoped.remove()
            assert_true(engine, search)
            assert provider.calls == [["one\nb"]]

    run(work())


def test_records_told_by_hand_join_an_async_sessions_queue(
    opened: Opened, provider: HashProvider, engine: Engine
) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker), maker() as session:
            with pytest.raises(InvalidInput, match="run_sync"):
                search.index_record("Page", "1", "text", session=session)
            await session.run_sync(lambda inner: search.index_record("Page", "1", "text", session=inner))
            await session.commit()

    run(work())
    assert index(engine) == {("Page", "1"): "text"}


def test_a_listener_of_the_application_still_hears_its_sessions(
    opened: Opened, provider: HashProvider, engine: Engine
) -> None:
    heard: list[Session] = []

    async def work() -> None:
        async with opened(provider) as (_search, maker):
            event.listen(maker.kw["sync_session_class"], "after_commit", heard.append)
            async with maker.begin() as session:
                session.add(note("one"))

    run(work())
    assert len(heard) == 1


def test_an_async_database_in_memory_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be opened a second time"):
        SearchEngine(kameleon.create_async_engine("sqlite+aiosqlite://"))


def test_bulk_updates_and_selects_of_async_sessions(opened: Opened, provider: HashProvider, engine: Engine) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker):
            async with maker.begin() as session:
                session.add_all([note(f"fox {n}") for n in range(40)])
            async with maker.begin() as session:
                await session.execute(update(Note).values(stars=Note.stars + 1))
                await session.execute(update(Note).where(Note.id <= 20).values(title=Note.title + " changed"))
            assert_true(engine, search)
            hits = await search.asearch("fox", entity=Note, limit=40)
            statement = await search.aselect(Note, "fox", limit=40)
            async with maker() as session:
                assert [str(one.id) for one in (await session.scalars(statement)).all()] == ids(hits)
            if engine.dialect.name == "sqlite":
                async with maker.begin() as session:
                    replace = insert(Note).prefix_with("OR REPLACE")
                    await session.execute(replace.values(id=1, title="new", body="b"))
                assert_true(engine, search)

    run(work())
