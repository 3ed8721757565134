"""Contents made of related objects, with every way of loading a relationship."""

from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, object_session, relationship, sessionmaker

from kameleon import SearchEngine, searchable
from stress.workloads.models import index

from .conftest import with_citus

LAZY = ["select", "joined", "subquery", "immediate", "raise", "raise_on_sql", "dynamic", "write_only"]


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def comments_of(thread: Any) -> Any:
    if hasattr(thread.comments, "select"):
        session = object_session(thread)
        return session.scalars(thread.comments.select()) if session and thread.id else ()
    return thread.comments


def content(thread: Any) -> str:
    of = sorted(f"{comment.body} by {comment.author.name}" for comment in comments_of(thread))
    return " ".join([thread.title, *of])


def classes(lazy: Any) -> tuple[Any, Any, Any, Any]:
    class Base(DeclarativeBase):
        pass

    class Writer(Base):
        __tablename__ = "writer"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Comment(Base):
        __tablename__ = "remark"

        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        thread_id: Mapped[int] = mapped_column(ForeignKey("thread.id"))
        author_id: Mapped[int] = mapped_column(ForeignKey("writer.id"))
        author = relationship(Writer)

    @searchable(content=content, depends_on=["comments.author"], name=f"Thread{lazy}")
    class Thread(Base):
        __tablename__ = "thread"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        comments = relationship(Comment, lazy=lazy)

    return Base, Writer, Comment, Thread


@pytest.mark.parametrize("lazy", LAZY)
def test_a_relationship_of_any_kind_is_followed(search: SearchEngine, engine: Engine, lazy: Any) -> None:
    base, Writer, Comment, Thread = classes(lazy)  # noqa: N806
    base.metadata.create_all(engine)
    maker = search.attach(sessionmaker(engine))
    with maker.begin() as session:
        session.add(Writer(id=1, name="Ann"))
        session.add(Thread(id=1, title="one"))
        thread = Thread(id=2, title="two")
        (thread.comments.add if lazy == "write_only" else thread.comments.append)(Comment(id=1, body="a", author_id=1))
        session.add(thread)
    assert contents(engine) == ["one", "two a by Ann"]
    with maker.begin() as session:
        session.add(Comment(id=2, body="b", thread_id=1, author_id=1))
    assert contents(engine) == ["one b by Ann", "two a by Ann"]
    with maker.begin() as session:
        session.get_one(Comment, 2).body = "c"
        session.get_one(Thread, 1).title = "first"
    assert contents(engine) == ["first c by Ann", "two a by Ann"]
    with maker.begin() as session:
        session.execute(update(Writer).values(name="Bob"))
        session.execute(update(Thread).where(Thread.id == 2).values(title="second"))
    assert contents(engine) == ["first c by Bob", "second a by Bob"]
    with maker.begin() as session:
        session.delete(session.get_one(Comment, 1))
    assert contents(engine) == ["first c by Bob", "second"]


def contents(engine: Engine) -> list[str]:
    return [text for _, text in sorted(index(engine).items())]
