"""Mapped classes that inherit: the tables that a search of each reads, where tables have keys of their own."""

from typing import Any

import pytest
from sqlalchemy import Engine, delete, text, update
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.errors import InvalidInput
from stress.workloads.models import index

from .conftest import ids, with_citus


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Doc(Base):
    __tablename__ = "doc"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    rank: Mapped[int]


class Report(Doc):
    __tablename__ = "report"
    __mapper_args__ = {"concrete": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    rank: Mapped[int]


@searchable(fields=["title"])
class Text(ConcreteBase, Base):
    """Its SELECT reads the tables of all its subclasses."""

    __tablename__ = "text"
    __mapper_args__ = {"polymorphic_identity": "text", "concrete": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    rank: Mapped[int]


class Letter(Text):
    __tablename__ = "letter"
    __mapper_args__ = {"polymorphic_identity": "letter", "concrete": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    rank: Mapped[int]


@searchable(fields=["title"])
class Page(AbstractConcreteBase, Base):
    strict_attrs = True

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    rank: Mapped[int]


class Web(Page):
    __tablename__ = "web"
    __mapper_args__ = {"polymorphic_identity": "web", "concrete": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)


class Print(Page):
    __tablename__ = "print"
    __mapper_args__ = {"polymorphic_identity": "print", "concrete": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)


configure_mappers()
PAIRS = [(Doc, Report), (Text, Letter), (Web, Print)]


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> sessionmaker[Session]:
    Base.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        for first, second in PAIRS:
            session.add_all([first(id=1, title="apple pie", rank=5), first(id=2, title="zebra stripes", rank=1)])
            session.add_all([second(id=1, title="zebra crossing", rank=7), second(id=2, title="apple tart", rank=9)])
    return maker


@pytest.mark.parametrize(
    ("cls", "title", "id_", "rank"),
    [
        (cls, title, id_, rank)
        for first, second in PAIRS
        for cls, title, id_, rank in ((first, "apple pie", "1", 5), (second, "apple tart", "2", 9))
    ],
)
def test_each_class_is_read_in_its_own_table(
    search: SearchEngine, maker: sessionmaker[Session], cls: type, title: str, id_: str, rank: int
) -> None:
    column = cls.rank  # type: ignore[attr-defined]
    with maker() as session:
        statement: Any = search.select(cls, "apple", mode="keyword")
        assert [(type(one), one.title) for one in session.scalars(statement)] == [(cls, title)]
    choices: list[Any] = [{}, {"sort": "rank"}, {"where": column == rank}, {"where": {"rank": rank}}]
    for options in choices:
        assert ids(search.search("apple", entity=cls, mode="keyword", **options)) == [id_]
    other = {1: 9, 5: 1, 9: 7}[rank]
    assert ids(search.search("apple", entity=cls, mode="keyword", where=column == other)) == []
    found = search.search("apple", entity=cls, mode="keyword", facets=["rank"], count=True)
    assert (found.facets, found.total) == ({"rank": {rank: 1}}, 1)


def test_several_classes_are_searched_together_without_their_columns(
    search: SearchEngine, maker: sessionmaker[Session]
) -> None:
    found = search.search("apple", entities=[Doc, Report], mode="keyword")
    assert sorted((hit.entity, hit.id) for hit in found) == [("Doc", "1"), ("Report", "2")]


def test_an_abstract_base_names_the_classes_that_have_tables(
    search: SearchEngine, maker: sessionmaker[Session]
) -> None:
    with pytest.raises(InvalidInput, match=r"Page has no table of its own: search entities=\[Web, Print\]"):
        search.search("apple", entity=Page)
    with pytest.raises(InvalidInput, match="'Page' is not searchable"):
        search.select(Page, "apple")


@pytest.mark.parametrize(("first", "second"), [(Doc, Report), (Web, Print)])
def test_statements_change_their_own_table(
    search: SearchEngine, maker: sessionmaker[Session], engine: Engine, first: type, second: type
) -> None:
    with maker.begin() as session:
        session.execute(update(first).where(first.id == 1).values(title="pear"))  # type: ignore[attr-defined]
        session.execute(delete(second).where(second.id == 2))  # type: ignore[attr-defined]
    names = (first.__name__, second.__name__)
    assert {key: content for key, content in index(engine).items() if key[0] in names} == {
        (first.__name__, "1"): "pear",
        (first.__name__, "2"): "zebra stripes",
        (second.__name__, "1"): "zebra crossing",
    }


def test_rows_that_the_index_lacks_are_counted_and_indexed_for_each_class(
    search: SearchEngine, maker: sessionmaker[Session], engine: Engine
) -> None:
    before = index(engine)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM kdb_search WHERE record_id = '1'"))
    names = sorted(cls.__name__ for pair in PAIRS for cls in pair)
    counted = {each.entity: each.unindexed for each in search.get_status() if each.entity in names}
    assert counted == dict.fromkeys(names, 1)
    assert search.sync().indexed == len(names)
    assert (index(engine), {each.unindexed for each in search.get_status()}) == (before, {0})
