"""The cost of a bulk UPDATE: nothing for columns that no content depends on, one batch's memory otherwise."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, bindparam, event, func, insert, select, update
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker, synonym

from kameleon import SearchEngine, searchable
from kameleon.orm.pending import RECORDS_A_BATCH
from kameleon.testing import HashProvider
from stress.workloads.models import index

from .conftest import with_citus


class Base(DeclarativeBase):
    pass


@searchable(fields=["title", "text"])
class Story(Base):
    __tablename__ = "story"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "story"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str] = mapped_column("headline")
    body: Mapped[str] = mapped_column(default="b")
    text: Mapped[str] = synonym("body")
    views: Mapped[int] = mapped_column("view_count", default=0)

    @hybrid_property
    def seen(self) -> int:
        return self.views

    @seen.inplace.expression
    @classmethod
    def _seen(cls) -> Any:
        return cls.views


class Serial(Story):
    __mapper_args__ = {"polymorphic_identity": "serial"}  # noqa: RUF012

    parts: Mapped[int | None]


@searchable(content=lambda page: page.text)
class Page(Base):
    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)


@searchable(content=lambda part: part.text, fields=["text"])
class Part(Base):
    __tablename__ = "part"

    letter: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)


@searchable(fields=["text"])
class Stamped(Base):
    __tablename__ = "stamped"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(onupdate=lambda: "stamped")
    views: Mapped[int] = mapped_column(default=0)


Maker = sessionmaker[Session]


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Maker:
    Base.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        session.add_all([Story(title=title) for title in ("one", "two")])
        session.add(Serial(title="three", parts=3))
        session.add(Page(text="page"))
        session.add(Part(letter="a", number=1, text="part"))
        session.add(Stamped(text="new"))
    return maker


def statements(engine: Engine, maker: Maker, work: Callable[[Session], Any]) -> int:
    """How many statements a transaction sends."""
    sent = []

    def count(*_: Any) -> None:
        sent.append(1)

    event.listen(engine, "before_cursor_execute", count)
    with maker.begin() as session:
        work(session)
    event.remove(engine, "before_cursor_execute", count)
    return len(sent)


UNRELATED: list[Callable[[Session], Any]] = [
    lambda s: s.execute(update(Story).values(views=Story.views + 1)),
    lambda s: s.execute(update(Story).values(views=7).where(Story.title == bindparam("old")), {"old": "one"}),
    lambda s: s.execute(update(Story).values({Story.views: func.abs(Story.views)})),
    lambda s: s.execute(update(Story).values({"seen": 4})),
    lambda s: s.execute(update(Story).ordered_values((Story.views, 3))),
    lambda s: s.execute(update(Story).values(views=1), execution_options={"synchronize_session": False}),
    lambda s: s.execute(update(Story).values(views=2), execution_options={"synchronize_session": "evaluate"}),
    lambda s: s.execute(update(Story), [{"id": 1, "views": 5}, {"id": 2, "views": 6}]),
    lambda s: s.execute(update(Serial).values(parts=4)),
    lambda s: s.query(Story).filter(Story.id > 0).update({"views": 9}, synchronize_session=False),
    lambda s: s.query(Part).update({Part.views: 9}, synchronize_session=False),
    lambda s: s.bulk_update_mappings(Story.__mapper__, [{"id": 1, "views": 8}]),
]


@pytest.mark.parametrize("work", UNRELATED)
def test_an_update_of_other_columns_sends_what_a_plain_session_sends(
    maker: Maker, engine: Engine, work: Callable[[Session], Any]
) -> None:
    plain = statements(engine, sessionmaker(engine), work)
    assert statements(engine, maker, work) == plain


RELATED: list[tuple[Callable[[Session], Any], tuple[str, str], str]] = [
    (lambda s: s.execute(update(Story).values(title=Story.title + "!")), ("Story", "1"), "one!\nb"),
    (lambda s: s.execute(update(Story).values({"text": "c"})), ("Story", "1"), "one\nc"),
    (lambda s: s.execute(update(Story).values({Story.text: "c"})), ("Story", "3"), "three\nc"),
    (lambda s: s.execute(update(Story).ordered_values((Story.views, 3), (Story.body, "d"))), ("Story", "2"), "two\nd"),
    (lambda s: s.execute(update(Story), [{"id": 1, "views": 5}, {"id": 2, "title": "2"}]), ("Story", "2"), "2\nb"),
    (lambda s: s.bulk_update_mappings(Story.__mapper__, [{"id": 1, "body": "e"}]), ("Story", "1"), "one\ne"),
    (lambda s: s.execute(update(Page).values(views=1, text="changed")), ("Page", "1"), "changed"),
    (lambda s: s.execute(update(Part).values(text="changed")), ("Part", '["a",1]'), "changed"),
    (lambda s: s.execute(update(Stamped).values(views=1)), ("Stamped", "1"), "stamped"),
]


@pytest.mark.parametrize(("work", "key", "content"), RELATED)
def test_an_update_of_a_contents_columns_is_indexed(
    maker: Maker, engine: Engine, work: Callable[[Session], Any], key: tuple[str, str], content: str
) -> None:
    with maker.begin() as session:
        work(session)
    assert index(engine)[key] == content


def test_an_update_of_the_discriminator_is_indexed(search: SearchEngine, engine: Engine) -> None:
    class Other(DeclarativeBase):
        pass

    @searchable(fields=["name"])
    class Animal(Other):
        __tablename__ = "beast"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "beast"}  # noqa: RUF012

        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str]

    @searchable(fields=["name"], name="Lion")
    class Lion(Animal):
        __mapper_args__ = {"polymorphic_identity": "lion"}  # noqa: RUF012

    Other.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        session.add(Animal(name="Leo"))
    with maker.begin() as session:
        session.execute(update(Animal).values(kind="lion").execution_options(synchronize_session=False))
    assert index(engine) == {("Lion", "1"): "Leo"}


@pytest.mark.parametrize("rows", [50, 51, 201, 1_001, RECORDS_A_BATCH + 1])
def test_an_update_of_many_rows_is_indexed_in_its_commit(
    maker: Maker, engine: Engine, provider: HashProvider, rows: int
) -> None:
    with maker.begin() as session:
        session.execute(insert(Page), [{"id": n, "text": f"text {n}"} for n in range(2, rows + 1)])
    provider.calls.clear()
    with maker() as session:
        session.execute(update(Page).values(text=Page.text + " changed"))
        with engine.connect() as other:
            assert other.scalar(select(Page.text).where(Page.id == 1)) == "page"
        session.commit()
    found = index(engine)
    assert found["Page", "1"] == "page changed"
    assert len({id_ for (entity, id_), content in found.items() if content.endswith(" changed")}) == rows
    assert sum(len(call) for call in provider.calls) == rows


def test_savepoints_keep_and_forget_updates_of_many_rows(maker: Maker, engine: Engine) -> None:
    with maker.begin() as session:
        session.execute(insert(Page), [{"id": n, "text": f"text {n}"} for n in range(2, 302)])
    with maker.begin() as session:
        session.execute(update(Page).where(Page.id <= 150).values(text="first"))
        savepoint = session.begin_nested()
        session.execute(update(Page).where(Page.id > 150).values(text="never"))
        savepoint.rollback()
        with session.begin_nested():
            session.execute(update(Page).where(Page.id > 290).values(text="second"))
        session.get_one(Page, 300).text = "third"
        session.flush()
    found = {int(id_): content for (entity, id_), content in index(engine).items() if entity == "Page"}
    assert {n: found[n] for n in (1, 150, 151, 290, 291, 300, 301)} == {
        1: "first",
        150: "first",
        151: "text 151",
        290: "text 290",
        291: "second",
        300: "third",
        301: "second",
    }


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_memory_does_not_grow_with_the_rows(maker: Maker, engine: Engine) -> None:
    """Peaks beside each other, of the same contents: four times the rows take less than twice the memory."""
    words = "some words of a body " * 40

    def peak(rows: int) -> int:
        with engine.begin() as connection:
            connection.execute(update(Page).values(text="short"))
            connection.execute(insert(Page), [{"text": words} for _ in range(rows)])
        tracemalloc.start()
        with maker.begin() as session:
            session.execute(update(Page).where(Page.text == words).values(views=1))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)
    assert peak(4 * RECORDS_A_BATCH) < 2 * peak(RECORDS_A_BATCH)
