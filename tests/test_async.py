"""AsyncSession on aiosqlite and psycopg: the same commits, and an event loop that is never held up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

import kameleon
from kameleon import SearchEngine
from kameleon.errors import InvalidInput, ProviderUnavailable
from kameleon.testing import HashProvider

from .conftest import ids
from .models import Article, Author, Base, Note, Truth, assert_true, index, truth

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
    with pytest.raises(InvalidInput, match="cannot make a second StaticPool"):
        SearchEngine(kameleon.create_async_engine("sqlite+aiosqlite://"))


def assert_same_contents(engine: Engine, _search: SearchEngine) -> Truth:
    expected = truth(engine)
    assert index(engine) == expected
    return expected


SIZES = (1, 50, 51, 201, 1_001)


@pytest.mark.parametrize("with_provider", [True, False], ids=["vectors", "keywords"])
@pytest.mark.parametrize("level", [None, "AUTOCOMMIT", "SERIALIZABLE", "outer"])
def test_an_async_session_commits_any_number_of_objects(
    engine: Engine, level: str | None, with_provider: bool
) -> None:
    Base.metadata.create_all(engine)
    url = engine.url.set(drivername="sqlite+aiosqlite") if engine.dialect.name == "sqlite" else engine.url
    options = {} if level in (None, "outer") else {"isolation_level": level}

    async def work() -> None:
        made = kameleon.create_async_engine(url, **options)
        search = SearchEngine(made, HashProvider() if with_provider else None)
        maker = search.attach(async_sessionmaker(made))
        for size in SIZES:
            notes = [note(f"red fox {size} {n}") for n in range(size)]
            if level == "outer":
                async with made.begin() as outer, maker(bind=outer, join_transaction_mode="create_savepoint") as joined:
                    joined.add_all(notes)
                    await joined.commit()
            else:
                async with maker.begin() as session:
                    session.add_all(notes)
        check = assert_true if with_provider else assert_same_contents
        assert len(check(engine, search)) == sum(SIZES)
        async with maker.begin() as session:
            for changed in (await session.scalars(select(Note).limit(1_001))).all():
                changed.title = f"grey wolf {changed.id}"
        async with maker.begin() as session:
            await session.execute(delete(Note).where(Note.id > 1_200))
        assert len(check(engine, search)) == 1_200
        await made.dispose()

    run(work())


@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "set up"])
def test_in_autocommit_the_rows_of_the_index_are_one_transaction(engine: Engine, is_plain: bool) -> None:
    Base.metadata.create_all(engine)
    url = engine.url.set(drivername="sqlite+aiosqlite") if engine.dialect.name == "sqlite" else engine.url
    create = create_async_engine if is_plain else kameleon.create_async_engine

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO kdb_embedding_g1" in " ".join(statement.split()):
            raise RuntimeError("the embeddings could not be written")

    async def work() -> None:
        made = create(url, isolation_level="AUTOCOMMIT")
        search = SearchEngine(made, HashProvider())
        maker = search.attach(async_sessionmaker(made))
        async with maker.begin() as session:
            session.add(note("red fox"))
        event.listen(made.sync_engine, "before_cursor_execute", fail)
        with pytest.raises(RuntimeError, match="could not be written"):
            async with maker.begin() as session:
                session.add(note("blue whale"))
        event.remove(made.sync_engine, "before_cursor_execute", fail)
        assert index(engine) == {("Note", "1"): "red fox\nb"}
        async with maker.begin() as session:
            session.add(note("grey wolf"))
        assert sorted(index(engine).values()) == ["grey wolf\nb", "red fox\nb"]
        await made.dispose()

    run(work())
