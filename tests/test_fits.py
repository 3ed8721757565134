"""Whatever way an application maps its classes and opens its sessions, they are indexed."""

from typing import Any

from sqlalchemy import Engine, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.testing import HashProvider

from .models import index


def application() -> Any:
    """A class `Book` of its own registry, as another application of the same process may have."""

    class Base(DeclarativeBase):
        pass

    class Writer(Base):
        __tablename__ = "writer"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    @searchable(content=lambda book: f"{book.title} by {book.writer.name}", depends_on=["writer"])
    class Book(Base):
        __tablename__ = "book"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        writer_id: Mapped[int] = mapped_column(ForeignKey("writer.id"))
        writer: Mapped[Writer] = relationship()

    Book.writer_class = Writer
    return Book


def test_classes_of_one_name_in_two_databases_do_not_meet(file_engine: Engine, pg_engine: Engine) -> None:
    for engine, book in ((file_engine, application()), (pg_engine, application())):
        book.metadata.create_all(engine)
        with SearchEngine(engine, HashProvider()).attach(sessionmaker(engine)).begin() as session:
            session.add(book(title="Hunger", writer=book.writer_class(name="Hamsun")))
    assert index(file_engine) == index(pg_engine) == {("Book", "1"): "Hunger by Hamsun"}
