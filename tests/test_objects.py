"""Hits with their mapped objects, loaded through the caller's session."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, delete, event, insert, select, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
    with_loader_criteria,
)

import kameleon
from kameleon import RecordStore, SearchEngine, searchable
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider
from stress.workloads.models import Animal, Bird, Cat, Dog
from stress.workloads.models import Base as Others

from .conftest import ids

COLOURS = ("amber", "brass", "coral", "denim", "ebony", "frost")


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "objects_author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@searchable(fields=["title"])
class Essay(Base):
    __tablename__ = "objects_essay"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("objects_author.id"))
    author: Mapped[Author] = relationship()
    notes: Mapped[list["Remark"]] = relationship()


class Remark(Base):
    __tablename__ = "objects_remark"

    id: Mapped[int] = mapped_column(primary_key=True)
    essay_id: Mapped[int] = mapped_column(ForeignKey("objects_essay.id"))


@searchable(fields=["name"])
class Part(Base):
    """A key of two columns."""

    __tablename__ = "objects_part"

    shelf: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@searchable(fields=["title"], tenant="owner")
class Letter(Base):
    __tablename__ = "objects_letter"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    title: Mapped[str]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> sessionmaker[Session]:
    Base.metadata.create_all(engine)
    Others.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        authors = [Author(name="Ann"), Author(name="Bob")]
        essays = [
            Essay(title=f"red fox {COLOURS[n]}", author=authors[n % 2], notes=[Remark(), Remark()]) for n in range(6)
        ]
        session.add_all([*essays, *(Part(shelf="a b", number=n, name=f"red wheel{n}") for n in range(3))])
    return maker


@contextmanager
def statements(engine: Engine, *tables: str) -> Iterator[list[str]]:
    """Those that read one of the tables."""
    seen: list[str] = []

    def see(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if any(f"FROM {table}" in statement or f"JOIN {table}" in statement for table in tables):
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", see)
    yield seen
    event.remove(engine, "before_cursor_execute", see)


TABLES = ("objects_essay", "objects_author", "objects_part", "objects_remark")


def test_hits_have_their_objects_by_one_statement(
    engine: Engine, search: SearchEngine, maker: sessionmaker[Session]
) -> None:
    with maker() as session:
        known = session.get(Essay, 4)
        with statements(engine, *TABLES) as seen:
            found = search.search(
                "red fox denim", entity=Essay, session=session, load=True, highlight=True, explain=True, limit=4
            )
        assert len(seen) == 1
        assert [str(hit.object.id) for hit in found] == ids(found)
        assert found[0].object is known
        assert found[0].score > found[1].score
        assert found[0].snippet is not None
        assert found[0].snippet.highlight("[", "]") == "[red] [fox] [denim]"
        assert (found.total, len(found), bool(found.cursor), bool(found[0].explanation)) == (6, 4, True, True)
        assert found.objects(Essay) == [hit.object for hit in found]
        rest = search.search("red fox denim", entity=Essay, session=session, load=True, limit=4, cursor=found.cursor)
        assert {essay.id for essay in rest.objects(Essay)} == {1, 2, 3, 4, 5, 6} - {int(hit.id) for hit in found}


@pytest.mark.parametrize("option", [selectinload(Essay.author), joinedload(Essay.notes)])
def test_loader_options_are_sqlalchemys(
    engine: Engine, search: SearchEngine, maker: sessionmaker[Session], option: Any
) -> None:
    with maker() as session:
        with statements(engine, *TABLES) as seen:
            found = search.search("fox", entity=Essay, session=session, load=[option])
        assert len(seen) == (2 if "author" in str(option.path) else 1)
        with statements(engine, *TABLES) as later:
            loaded = [len(essay.notes) for essay in found.objects(Essay)] if len(seen) == 1 else []
            loaded += [len(essay.author.name) - 1 for essay in found.objects(Essay)] if len(seen) == 2 else []
        assert (loaded, later) == ([2] * 6, [])


def test_objects_of_several_classes_and_stored_records_come_together(
    engine: Engine, search: SearchEngine, maker: sessionmaker[Session]
) -> None:
    RecordStore(search).insert("Ticket", [{"id": 1, "text": "red fox"}])
    with maker() as session:
        with statements(engine, *TABLES) as seen:
            found = search.search("red fox", session=session, load=True, limit=20)
        assert len(seen) == 2
        kinds = {hit.entity: type(hit.object) for hit in found}
        assert kinds == {"Essay": Essay, "Part": Part, "Ticket": type(None)}
        assert [hit.data for hit in found if hit.entity == "Ticket"] == [{"text": "red fox"}]
        assert {(part.shelf, part.number) for part in found.objects(Part)} == {("a b", n) for n in range(3)}
        with statements(engine, *TABLES) as seen:
            options: dict[type, Any] = {Essay: [selectinload(Essay.author)]}
            found = search.search("red", entity=[Essay, Part], session=session, load=options, group_by="entity")
        assert len(seen) == 2, "the essays, their authors, and no Part"
        assert [hit.object for hit in found.groups["Part"]] == [None] * 3
        assert [hit.object for hit in found.groups["Essay"]] == found.objects(Essay) != []


def test_a_listing_and_similar_records_have_objects(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker() as session:
        listed = search.search(entity=Essay, session=session, load=True, limit=2)
        assert [essay.id for essay in listed.objects(Essay)] == [1, 2]
        alike = search.similar(Essay, 1, session=session, load=True)
        assert {essay.id for essay in alike.objects(Essay)} == {2, 3, 4, 5, 6}


def test_a_hit_whose_row_the_session_does_not_find_is_left_out(
    engine: Engine, search: SearchEngine, maker: sessionmaker[Session]
) -> None:
    with engine.begin() as connection:
        connection.execute(delete(Remark))
        connection.execute(delete(Essay).where(Essay.id.in_([1, 2])))
    with maker() as session:
        found = search.search("fox", entity=Essay, session=session, load=True, group_by="entity")
        assert {int(hit.id) for hit in found} == {3, 4, 5, 6} == {hit.object.id for hit in found.groups["Essay"]}
        assert "left out, because the session finds no row of theirs: 2 of the page's hits" in found.plan.note
        hidden = with_loader_criteria(Essay, Essay.id > 4)
        assert {
            essay.id for essay in search.search("fox", entity=Essay, session=session, load=[hidden]).objects(Essay)
        } == {5, 6}
        assert search.search("absentword", entity=Essay, mode="keyword", session=session, load=True) == []


def test_what_the_session_has_not_flushed_stays_as_it_is(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker() as session, session.no_autoflush:
        edited = session.get_one(Essay, 1)
        edited.title = "another"
        found = search.search("amber", entity=Essay, mode="keyword", session=session, load=True)
        assert found.objects(Essay) == [edited]
        assert (edited.title, edited in session.dirty) == ("another", True)


def test_subclasses_are_loaded_as_what_they_are(
    engine: Engine, search: SearchEngine, maker: sessionmaker[Session]
) -> None:
    with maker.begin() as session:
        session.add_all(
            [
                Dog(name="red fox dog", trick="sits"),
                Cat(name="red fox cat", purr="low"),
                Animal(name="red fox"),
                Bird(name="red fox bird"),
            ]
        )
    with maker() as session:
        with statements(engine, "animal") as seen:
            found = search.search("red fox", entity=Animal, session=session, load=True)
        assert len(seen) == 1
        assert {type(hit.object) for hit in found} == {Animal, Dog, Cat}
        with statements(engine, "animal", "dog", "cat") as seen:
            (hit,) = search.search("red fox", entity=Dog, session=session, load=True)
        assert type(hit.object) is Dog
        every = search.search("red fox", session=session, load=True, limit=20)
        assert {type(hit.object) for hit in every} == {Animal, Dog, Cat, Bird, Essay, Part}
        assert {hit.entity: hit.object.name for hit in every if isinstance(hit.object, Bird)} == {
            "Bird": "red fox bird"
        }


def test_a_tenants_hits_are_its_own_objects(engine: Engine, search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker.begin() as session:
        session.add_all([Letter(owner=owner, title=f"red fox {n}") for n in range(3) for owner in ("a", "b")])
    with maker() as session:
        found = search.for_tenant("a").search("fox", entity=Letter, session=session, load=True)
        assert [letter.owner for letter in found.objects(Letter)] == ["a"] * 3
        moved = found[0].object.id
    with engine.begin() as connection:
        connection.execute(text("UPDATE objects_letter SET owner = 'b' WHERE id = :id"), {"id": moved})
    with maker() as session:
        found = search.for_tenant("a").search("fox", entity=Letter, session=session, load=True)
        assert [letter.owner for letter in found.objects(Letter)] == ["a"] * 2
        assert "1 of the page's hits" in found.plan.note


def test_what_cannot_be_loaded_is_refused(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker() as session:
        options: list[tuple[dict[str, Any], str]] = [
            ({"entity": Essay, "load": True}, "load= loads objects through a session of yours"),
            ({"session": session, "load": [selectinload(Essay.author)]}, "options are those of one class"),
            ({"session": session, "entity": [Essay, Part], "load": []}, "options are those of one class"),
            ({"session": session, "entity": Essay, "load": ["author"]}, "a list of loader options"),
            ({"session": session, "entity": Essay, "load": selectinload(Essay.author)}, "a list of loader options"),
            ({"session": session, "entity": Essay, "load": {Part: []}}, "names 'Part', and searched are Essay"),
            ({"session": session, "load": {Author: []}}, "'Author' is not searchable"),
            ({"session": session, "load": {"Essay": []}}, "names 'Essay', and searched are mapped classes"),
        ]
        for refused, message in options:
            with pytest.raises(InvalidInput, match=message):
                search.search("fox", **refused)
        with pytest.raises(ArgumentError, match="does not apply to any of the root entities"):
            search.search("wheel", entity=Part, session=session, load=[selectinload(Essay.author)])
        with pytest.raises(InvalidInput, match=r"select makes a statement.*\.options"):
            search.select(Essay, "fox", load=True)
        with pytest.raises(InvalidInput, match="no objects were loaded"):
            search.search("fox", session=session).objects(Essay)


def test_thousands_of_hits_are_one_statement(
    engine: Engine, search: SearchEngine, maker: sessionmaker[Session]
) -> None:
    with engine.begin() as connection:
        connection.execute(insert(Part), [{"shelf": "z", "number": n, "name": "blue"} for n in range(2_000)])
    search.index_records_batch([("Part", f'["z",{n}]', "blue") for n in range(2_000)])
    with maker() as session, statements(engine, "objects_part") as seen:
        found = search.search("blue", entity=Part, mode="keyword", session=session, load=True, limit=10_000)
        assert (len(found), len(seen)) == (2_000, 1)
        assert [part.number for part in found.objects(Part)] == [int(hit.id[5:-1]) for hit in found]


def test_an_async_session_loads_objects(engine: Engine, search: SearchEngine, maker: sessionmaker[Session]) -> None:
    url = engine.url.set(drivername="sqlite+aiosqlite") if engine.dialect.name == "sqlite" else engine.url

    async def load() -> None:
        made = kameleon.create_async_engine(url)
        own = SearchEngine(made, HashProvider())
        async with async_sessionmaker(made)() as session:
            known = await session.scalar(select(Essay).where(Essay.id == 2))
            found = await own.asearch(
                "brass", entity=Essay, mode="keyword", session=session, load=[selectinload(Essay.author)]
            )
            assert [hit.object is known for hit in found] == [True]
            assert found.objects(Essay)[0].author.name == "Bob"
            alike = await own.asimilar(Essay, 2, session=session, load=True)
            assert len(alike.objects(Essay)) == 5
            assert isinstance(session, AsyncSession)
        with pytest.raises(InvalidInput, match="load= loads objects through a session of yours"):
            await own.asearch("brass", entity=Essay, load=True)
        await made.dispose()
        own.engine.dispose()

    asyncio.run(load())
