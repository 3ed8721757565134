"""REPLACE on SQLite deletes rows that no DELETE names: attached sessions and triggers capture them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Index, UniqueConstraint, func, insert, select, text, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.errors import InvalidInput
from kameleon.orm.syncing import index_marked
from kameleon.stores.sqlite.triggers import UniqueIndex, parsed
from stress.workloads.models import index

from .conftest import Make


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Page(Base):
    __tablename__ = "page it's"
    __table_args__ = (UniqueConstraint("folder", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    folder: Mapped[str | None]
    number: Mapped[int | None]
    alias: Mapped[str | None] = mapped_column("select")
    title: Mapped[str]


Index("page_alias (", func.lower(Page.alias), unique=True, sqlite_where=Page.number.is_(None))


@searchable(fields=["title"])
class Kept(Base):
    """Each write of it replaces."""

    __tablename__ = "kept"
    __table_args__ = (UniqueConstraint("slug", sqlite_on_conflict="REPLACE"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str]
    title: Mapped[str]


@searchable(fields=["title"])
class Child(Base):
    __tablename__ = "child"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    kept_id: Mapped[int | None] = mapped_column(ForeignKey("kept.id", ondelete="CASCADE"))


Maker = sessionmaker[Session]


@pytest.fixture
def backend() -> str:
    return "sqlite"


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Maker:
    Base.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        session.add_all([Page(slug=f"s{n}", folder="f", number=n, title=f"page {n}") for n in range(1, 4)])
        session.add(Page(slug="s4", alias="Home", title="page 4"))
        session.add_all([Kept(slug=f"s{n}", title=f"kept {n}") for n in range(1, 4)])
    return maker


def pages(engine: Engine) -> dict[str, str]:
    return {id_: content for (entity, id_), content in index(engine).items() if entity == "Page"}


def rows(engine: Engine) -> dict[str, str]:
    with Session(engine) as session:
        return {str(page.id): page.title for page in session.scalars(select(Page))}


REPLACE: list[Callable[[Session], Any]] = [
    lambda s: s.execute(insert(Page).prefix_with("OR REPLACE").values(id=9, slug="s1", title="new")),
    lambda s: s.execute(insert(Page).prefix_with("OR REPLACE").values(slug="s1", folder="f", number=2, title="new")),
    lambda s: s.execute(sqlite.insert(Page).prefix_with("OR REPLACE"), [{"slug": "s1", "title": "new"}]),
    lambda s: s.execute(insert(Page).prefix_with("or replace").values(slug="x", alias="HOME", title="new")),
    lambda s: s.execute(
        insert(Page).prefix_with("OR REPLACE").values([{"slug": f"s{n}", "title": "n"} for n in (1, 2)])
    ),
    lambda s: s.execute(
        insert(Page).prefix_with("OR REPLACE").from_select(["slug", "title"], select(Page.slug, Page.title + " copy"))
    ),
    lambda s: s.scalars(insert(Page).prefix_with("OR REPLACE").values(slug="s1", title="new").returning(Page)).all(),
    lambda s: s.execute(update(Page).prefix_with("OR REPLACE").where(Page.id == 1).values(slug="s2")),
    lambda s: s.execute(update(Page).prefix_with("OR REPLACE").values(folder="g", number=7)),
]


@pytest.mark.parametrize("work", REPLACE)
def test_rows_that_a_session_replaces_leave_the_index(
    maker: Maker, engine: Engine, work: Callable[[Session], Any]
) -> None:
    before = rows(engine)
    with maker.begin() as session:
        work(session)
    assert pages(engine) == rows(engine)
    assert set(before) - set(rows(engine))


def test_a_replacing_statement_that_is_rolled_back_replaces_nothing(maker: Maker, engine: Engine) -> None:
    before = rows(engine)
    with maker() as session:
        session.execute(insert(Page).prefix_with("OR REPLACE").values(slug="s1", title="new"))
        session.rollback()
    assert pages(engine) == rows(engine) == before
    with maker.begin() as session:
        session.execute(insert(Page).prefix_with("OR REPLACE").values(slug="s2", title="new"))
    assert pages(engine) == rows(engine)


def test_results_of_a_replacing_insert_are_what_they_were(maker: Maker) -> None:
    session: Any
    with maker.begin() as session:
        made = session.execute(insert(Page).prefix_with("OR REPLACE").values(id=9, slug="s1", title="new"))
        assert made.inserted_primary_key == (9,)


RAW = [
    "INSERT OR REPLACE INTO \"page it's\" (id, slug, title) VALUES (9, 's1', 'new')",
    "REPLACE INTO \"page it's\" (slug, folder, number, title) VALUES ('s1', 'f', 2, 'new')",
    "REPLACE INTO \"page it's\" (slug, \"select\", title) VALUES ('x', 'hOME', 'new')",
    "REPLACE INTO \"page it's\" (slug, \"select\", number, title) VALUES ('x', 'home', 1, 'not of the partial index')",
    "UPDATE OR REPLACE \"page it's\" SET slug = 's2' WHERE id = 1",
    'UPDATE OR REPLACE "page it\'s" SET id = 2 WHERE id = 1',
    "INSERT OR IGNORE INTO \"page it's\" (slug, title) VALUES ('s1', 'not inserted')",
    "INSERT INTO \"page it's\" (slug, title) VALUES ('s1', 'n') ON CONFLICT (slug) DO UPDATE SET title = 'upserted'",
]


@pytest.mark.parametrize("statement", RAW)
def test_rows_that_raw_sql_replaces_are_marked(
    maker: Maker, search: SearchEngine, engine: Engine, statement: str
) -> None:
    search.track(Page)
    with engine.begin() as connection:
        connection.execute(text(statement))
    search.sync()
    assert pages(engine) == rows(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM kdb_dirty")) == 0
    search.untrack(Page)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'")) == 0


def test_a_constraint_that_replaces(maker: Maker, search: SearchEngine, engine: Engine) -> None:
    def kept() -> dict[str, str]:
        return {id_: content for (entity, id_), content in index(engine).items() if entity == "Kept"}

    with maker.begin() as session:
        session.execute(insert(Kept).values(slug="s1", title="by a statement"))
    assert kept() == {"2": "kept 2", "3": "kept 3", "4": "by a statement"}
    with maker.begin() as session:
        session.add(Kept(slug="s2", title="by a flush"))
    assert kept() == {"3": "kept 3", "4": "by a statement", "5": "by a flush"}
    with maker.begin() as session:
        session.bulk_insert_mappings(Kept.__mapper__, [{"id": 6, "slug": "s3", "title": "kept 3 in bulk"}])
        session.bulk_save_objects([Kept(id=3, slug="s3", title="kept 3")])
    search.track(Kept)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO kept (slug, title) VALUES ('s3', 'by raw SQL')"))
    search.sync()
    assert kept() == {"4": "by a statement", "5": "by a flush", "6": "by raw SQL"}


@pytest.mark.parametrize("statement", ["DELETE FROM kept WHERE id = 1", "REPLACE INTO kept VALUES (8, 's1', 'new')"])
def test_rows_that_a_foreign_key_deletes_are_marked(
    maker: Maker, search: SearchEngine, engine: Engine, statement: str
) -> None:
    with maker.begin() as session:
        session.add(Child(id=1, title="child", kept_id=1))
    for cls in (Kept, Child):
        search.track(cls)
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.exec_driver_sql(statement)
    search.sync()
    assert ("Child", "1") not in index(engine)
    assert ("Kept", "1") not in index(engine)


@pytest.mark.parametrize(
    ("sql", "keys", "where"),
    [
        ("CREATE UNIQUE INDEX i ON t (a)", ["a"], ""),
        ("CREATE UNIQUE INDEX \"i(\" ON 't(' (a DESC, lower(b, ',)'))", ["a", "lower(b, ',)')"], ""),
        ("CREATE UNIQUE INDEX i ON t(a COLLATE NOCASE ASC) WHERE b IN (1, 2)", ["a COLLATE NOCASE"], "b IN (1, 2)"),
    ],
)
def test_the_parts_of_an_index(sql: str, keys: list[str], where: str) -> None:
    assert parsed(sql) == UniqueIndex(keys, where)


def test_a_table_of_an_attached_database_is_not_tracked(make: Make, engine: Engine, tmp_path: Any) -> None:
    class Other(DeclarativeBase):
        pass

    @searchable(fields=["title"])
    class Far(Other):
        __tablename__ = "far"
        __table_args__ = {"schema": "aux"}  # noqa: RUF012

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    near = make(None)
    mapped = SearchEngine(engine.execution_options(schema_translate_map={"aux": None}))
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql(f"ATTACH '{tmp_path / 'aux.db'}' AS aux")
        connection.exec_driver_sql("CREATE TABLE aux.far (id INTEGER PRIMARY KEY, title TEXT)")
        connection.exec_driver_sql("CREATE TABLE main.far (id INTEGER PRIMARY KEY, title TEXT)")
    with pytest.raises(InvalidInput, match=r"aux\.far is in an attached database"):
        near.track(Far)
    mapped.track(Far)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO main.far VALUES (1, 'near')"))
        connection.execute(text("INSERT INTO aux.far VALUES (2, 'far')"))
    mapped.sync() if mapped.index.services.provider is not None else index_marked(mapped.index)
    assert index(engine) == {("Far", "1"): "near"}
