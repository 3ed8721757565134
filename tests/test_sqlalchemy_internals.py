"""Private attributes of SQLAlchemy mean what `kameleon.sqlalchemy_internals` takes them for."""

from typing import Any

import pytest
from sqlalchemy import Integer, QueuePool, create_engine, event, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.schema import ForeignKey

from kameleon.sqlalchemy_internals import (
    assigned_in,
    commits_each_statement,
    deleted_objects,
    has_conflict_clause,
    has_other_binds,
    has_room,
    has_value_lists,
    prefixes,
    root_engine,
    with_expanding_binds,
)


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "internals_parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    children: Mapped[list["Child"]] = relationship(cascade="all, delete-orphan")


class Child(Base):
    __tablename__ = "internals_child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(Integer, ForeignKey("internals_parent.id"))


@pytest.mark.parametrize(("max_overflow", "wanted"), [(0, [True, False]), (1, [True, True]), (-1, [True, True])])
def test_a_pool_makes_connections_up_to_its_size_and_overflow(max_overflow: int, wanted: list[bool]) -> None:
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=max_overflow)
    assert isinstance(engine.pool, QueuePool)
    found = [has_room(engine.pool)]
    with engine.connect():
        found.append(has_room(engine.pool))
    assert found == wanted


def test_a_connection_of_an_autocommit_engine_commits_each_statement() -> None:
    for options, wanted in [({}, False), ({"isolation_level": "AUTOCOMMIT"}, True)]:
        with create_engine("sqlite://", **options).connect() as connection:
            assert commits_each_statement(connection) is wanted
            changed = connection.execution_options(isolation_level="AUTOCOMMIT")
            assert commits_each_statement(changed)


def test_listeners_of_the_root_engine_are_called_for_engines_made_of_it() -> None:
    engine = create_engine("sqlite://")
    derived = engine.execution_options(a=1).execution_options(b=2)
    assert root_engine(derived) is root_engine(engine) is engine
    commits: list[object] = []
    event.listen(engine, "commit", commits.append)
    with derived.begin() as connection:
        pass
    assert commits == [connection]


def test_a_flush_shows_the_orphans_that_it_deletes() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    deleted: list[object] = []
    with Session(engine) as session:
        event.listen(session, "after_flush", lambda _session, context: deleted.extend(deleted_objects(context)))
        orphan, child = Child(id=1), Child(id=2)
        session.add(parent := Parent(id=1, children=[orphan, child]))
        session.flush()
        assert deleted == []
        parent.children.remove(orphan)
        session.flush()
        assert deleted == [orphan]


def test_prefixes_of_a_statement() -> None:
    assert prefixes(insert(Parent)) == prefixes(select(Parent)) == ""
    assert prefixes(insert(Parent).prefix_with("OR", "REPLACE")) == "OR REPLACE"


@pytest.mark.parametrize("dialect", [sqlite, postgresql])
def test_an_insert_has_a_conflict_clause(dialect: Any) -> None:
    statement = dialect.insert(Parent).values(id=1)
    assert not has_conflict_clause(insert(Parent))
    assert not has_conflict_clause(statement)
    assert has_conflict_clause(statement.on_conflict_do_nothing())


def test_an_insert_of_several_rows_has_value_lists() -> None:
    assert not has_value_lists(insert(Parent))
    assert not has_value_lists(insert(Parent).values(id=1))
    assert has_value_lists(insert(Parent).values([{"id": 1}, {"id": 2}]))


def test_the_columns_that_an_update_sets() -> None:
    statement = update(Parent).where(Parent.id == 1)
    assert assigned_in(statement) == []
    for given in (statement.values({Parent.name: "x"}), statement.values(name="x")):
        assert [getattr(column, "name", column) for column in assigned_in(given)] == ["name"]
    ordered = assigned_in(statement.ordered_values((Parent.name, "x"), (Parent.id, 2)))
    assert [column.name for column in ordered] == ["name", "id"]


def test_lists_of_a_compiled_statement_are_named() -> None:
    compiled = select(Parent.id).where(Parent.id.in_([1, 2])).compile(dialect=sqlite.dialect(paramstyle="named"))
    (name,) = compiled.bind_names.values()
    assert has_other_binds(str(compiled))
    sql = with_expanding_binds(str(compiled), name)
    assert sql.endswith(f"IN :{name}")
    assert not has_other_binds(sql)


def test_lists_that_are_not_given_are_found() -> None:
    statement = select(Parent.id).where(tuple_(Parent.id, Parent.name).in_([(1, "a")]))
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
    assert has_other_binds(with_expanding_binds(str(compiled), "(?!)"))
