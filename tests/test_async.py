"""AsyncSession on aiosqlite and psycopg: the same commits as synchronous ones, and an event loop that never blocks."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.errors import InvalidInput, ProviderUnavailable, StorageError
from kameleon.testing import HashProvider
from stress.workloads.models import (
    Article,
    Author,
    Base,
    Contents,
    Note,
    assert_index_matches,
    expected_contents,
    index,
)

from .conftest import ids

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
            assert_index_matches(engine, search)
            hits = await search.asearch("whale", entity=Note, mode="keyword", where=Note.stars == 0)
            assert ids(hits) == ["2"]
            async with maker() as session:
                found = await session.scalars(await search.aselect(Note, "grey whale", limit=1))
                assert [one.title for one in found] == ["grey whale"]

    run(work())


class Waiting(HashProvider):
    """Answers once the event loop has run other tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.was_called, self.may_answer = threading.Event(), threading.Event()

    def embed_batch(self, texts: Sequence[str]) -> Any:
        self.was_called.set()
        assert self.may_answer.wait(30), "the event loop was held up"
        return super().embed_batch(texts)

    def embed_query(self, text: str) -> Any:
        self.was_called.set()
        assert self.may_answer.wait(30), "the event loop was held up"
        return super().embed_query(text)


async def meanwhile(work: Awaitable[Any], provider: Waiting) -> Any:
    """The work's result; the provider answers only if the loop runs meanwhile."""
    provider.was_called.clear()
    provider.may_answer.clear()
    going = asyncio.ensure_future(work)
    while not provider.was_called.is_set():
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
            assert_index_matches(engine, search)
            assert sum(status.texts for status in search.cache.status()) == 1

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


def test_scoped_async_sessions_are_indexed(opened: Opened, provider: HashProvider, engine: Engine) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker):
            scoped = search.attach(async_scoped_session(maker, scopefunc=asyncio.current_task))
            scoped.add(note("one"))
            await scoped.commit()
            await scoped.remove()
            assert_index_matches(engine, search)
            assert provider.calls == [["one\nb"]]

    run(work())


def test_records_given_by_hand_are_written_when_an_async_session_commits(
    opened: Opened, provider: HashProvider, engine: Engine
) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker), maker() as session:
            await search.aindex_record("Page", "1", "text", session=session)
            await search.aindex_records_batch([("Page", "2", "more"), ("Page", "3", "most")], session=session)
            await search.adelete_record("Page", "3", session=session)
            assert index(engine) == {}
            await session.commit()
            await search.aindex_record("Page", "4", "rolled back", session=session)
            await session.rollback()

    run(work())
    assert index(engine) == {("Page", "1"): "text", ("Page", "2"): "more"}


def test_a_session_that_is_not_attached_gives_its_transaction(
    opened: Opened, provider: HashProvider, engine: Engine
) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker):
            plain = async_sessionmaker(maker.kw["bind"])
            async with plain() as session:
                report = await search.aindex_records_batch([("Page", "1", "red fox")], session=session)
                assert report.embedded == 1
                assert await search.adelete_records([("Page", "9")], session=session) == 0
                assert ids(await search.asearch("fox", session=session)) == ["1"]
                await session.rollback()
            assert index(engine) == {}
            store = RecordStore(search)
            async with plain.begin() as session:
                await store.ainsert("Ticket", [{"id": "1", "title": "wages overdue"}], session=session)
                assert (await store.aget("Ticket", "1", session=session)).data == {"title": "wages overdue"}
            assert (await store.aget("Ticket", "1")).id == "1"
            async with plain() as session:
                await store.adelete("Ticket", where={}, session=session)
                await store.ainsert("Ticket", [{"id": "2", "title": "wages paid"}], session=session)
                await store.acreate_entity("Made", search=["title"], session=session)
                assert [each.id for each in await store.aget_many("Ticket", ["1", "2"], session=session)] == ["2"]
                assert await store.acount("Ticket", where={"id": "2"}, session=session) == 1
                assert len(await store.aentities(session=session)) == 2
                await session.rollback()
            assert [each.id for each in await store.aget_many("Ticket", ["2", "1"])] == ["1"]
            assert [each.name for each in await store.aentities()] == ["Ticket"]

    run(work())


def test_each_reading_verb_sees_what_an_async_session_has_flushed(
    opened: Opened, provider: HashProvider, engine: Engine
) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker), maker() as session:
            session.add_all([note("red fox"), note("red wolf")])
            await search.aflush(session)
            assert index(engine) == {}
            assert ids(await search.asearch("fox", session=session, limit=1)) == ["1"]
            assert ids(await search.asimilar(Note, 1, session=session)) == ["2"]
            assert await search.asuggest("wol", session=session) == ["wolf"]
            found = await session.scalars(await search.aselect(Note, "wolf", session=session, limit=1))
            assert [one.title for one in found] == ["red wolf"]
            assert await search.afailures(session=session) == []
            assert (await search.admin.astate("Note", 1, session=session)) is not None
            await session.rollback()
            assert await search.admin.astate("Note", 1) is None
            assert await search.asuggest("wol") == []

    run(work())


def test_synchronous_verbs_name_what_is_for_an_async_session(opened: Opened, provider: HashProvider) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker), maker() as session:
            store = RecordStore(search)
            calls: dict[str, Callable[[], Any]] = {
                "asearch": lambda: search.search("fox", session=session),
                "asimilar": lambda: search.similar("Page", "1", session=session),
                "asuggest": lambda: search.suggest("fo", session=session),
                "aselect": lambda: search.select(Note, "fox", session=session),
                "aflush": lambda: search.flush(session),
                "afailures": lambda: search.failures(session=session),
                "astate": lambda: search.admin.state("Page", "1", session=session),
                "aindex_records_batch": lambda: search.index_record("Page", "1", "text", session=session),
                "adelete_records": lambda: search.delete_record("Page", "1", session=session),
                "aentity": lambda: store.entity("Page", session=session),
                "ainsert": lambda: store.insert("Page", [{"title": "text"}], session=session),
                "aget": lambda: store.get("Page", "1", session=session),
            }
            for name, call in calls.items():
                with pytest.raises(InvalidInput, match=rf"await {name}\("):
                    call()
            with pytest.raises(InvalidInput, match="give one of them"):
                search.search("fox", session=session.sync_session, connection=await session.run_sync(connection_of))
            with pytest.raises(InvalidInput, match="is an AsyncSession here"):
                await search.asearch("fox", session=session.sync_session)

    run(work())


def connection_of(session: Session) -> Any:
    return session.connection()


def test_the_loop_goes_on_while_a_search_in_a_session_embeds_its_query(opened: Opened) -> None:
    provider = Waiting()

    async def work() -> None:
        async with opened(provider) as (search, maker), maker() as session:
            session.add(note("one"))
            await meanwhile(search.aflush(session), provider)
            assert ids(await meanwhile(search.asearch("one", session=session), provider)) == ["1"]

    run(work())


def test_a_search_in_a_session_runs_its_statements_on_the_sessions_loop_and_the_rest_elsewhere(
    opened: Opened, provider: HashProvider
) -> None:
    threads: set[str] = set()

    def rerank(_query: str, texts: Sequence[str]) -> list[float]:
        threads.add(threading.current_thread().name)
        return [1.0] * len(texts)

    async def work() -> None:
        async with opened(provider) as (search, maker), maker() as session:
            session.add(note("one"))
            await search.aflush(session)
            assert ids(await search.asearch("one", session=session, rerank=rerank)) == ["1"]
            assert threads
            assert threading.current_thread().name not in threads

    run(work())


def test_a_cancelled_search_leaves_the_session_to_its_owner(opened: Opened) -> None:
    provider = Waiting()

    async def work() -> None:
        async with opened(provider) as (search, maker), maker() as session:
            session.add(note("one"))
            await meanwhile(search.aflush(session), provider)
            provider.was_called.clear()
            provider.may_answer.clear()
            searching = asyncio.ensure_future(search.asearch("one", session=session))
            while not provider.was_called.is_set():
                await asyncio.sleep(0)
            searching.cancel()
            provider.may_answer.set()
            with pytest.raises(asyncio.CancelledError):
                await searching
            await session.commit()
            assert ids(await search.asearch("one")) == ["1"]

    run(work())


def test_closing_closes_what_is_kameleons_own(opened: Opened, provider: HashProvider) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker):
            store = RecordStore(search)
            await search.aindex_record("Page", "1", "red fox")
            pool: Any = search.engine.pool
            assert pool.checkedin() == 1
            await search.aclose()
            search.close()
            assert pool.checkedin() == 0
            for call in (lambda: search.search("fox"), lambda: store.get("Page", "1"), search.get_status):
                with pytest.raises(StorageError, match="is closed"):
                    call()
            async with maker() as session:
                assert list(await session.scalars(select(Note))) == []
            async with SearchEngine(maker.kw["bind"], provider) as again:
                assert ids(await again.asearch("fox")) == ["1"]
            with pytest.raises(StorageError, match="is closed"):
                await again.asearch("fox")

    run(work())


def test_closing_leaves_the_applications_engine_alone(engine: Engine, provider: HashProvider) -> None:
    with SearchEngine(engine, provider) as search:
        search.index_record("Page", "1", "red fox")
    pool: Any = engine.pool
    assert pool.checkedin() == 1
    with pytest.raises(StorageError, match="is closed"):
        search.search("fox")


def test_a_listener_of_the_application_is_still_called(opened: Opened, provider: HashProvider, engine: Engine) -> None:
    notified: list[Session] = []

    async def work() -> None:
        async with opened(provider) as (_search, maker):
            event.listen(maker.kw["sync_session_class"], "after_commit", notified.append)
            async with maker.begin() as session:
                session.add(note("one"))

    run(work())
    assert len(notified) == 1


def test_an_async_database_in_memory_that_sqlalchemy_opened_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"cannot make a second StaticPool. Give kameleon.create_async_engine"):
        SearchEngine(create_async_engine("sqlite+aiosqlite://"))


def assert_same_contents(engine: Engine, _search: SearchEngine) -> Contents:
    expected = expected_contents(engine)
    assert index(engine) == expected
    return expected


SIZES = (1, 50, 51, 201, 1_001)


@pytest.mark.parametrize("with_provider", [True, False], ids=["vectors", "keywords"])
@pytest.mark.parametrize("level", [None, "AUTOCOMMIT", "SERIALIZABLE", "outer"])
def test_an_async_session_commits_any_number_of_objects(engine: Engine, level: str | None, with_provider: bool) -> None:
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
        check = assert_index_matches if with_provider else assert_same_contents
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


def test_bulk_updates_and_selects_of_async_sessions(opened: Opened, provider: HashProvider, engine: Engine) -> None:
    async def work() -> None:
        async with opened(provider) as (search, maker):
            async with maker.begin() as session:
                session.add_all([note(f"fox {n}") for n in range(40)])
            async with maker.begin() as session:
                await session.execute(update(Note).values(stars=Note.stars + 1))
                await session.execute(update(Note).where(Note.id <= 20).values(title=Note.title + " changed"))
            assert_index_matches(engine, search)
            hits = await search.asearch("fox", entity=Note, limit=40)
            statement = await search.aselect(Note, "fox", limit=40)
            async with maker() as session:
                assert [str(one.id) for one in (await session.scalars(statement)).all()] == ids(hits)
            if engine.dialect.name == "sqlite":
                async with maker.begin() as session:
                    replace = insert(Note).prefix_with("OR REPLACE")
                    await session.execute(replace.values(id=1, title="new", body="b"))
                assert_index_matches(engine, search)

    run(work())
