"""The classes that tests of sessions map, and the index contents that their tables imply."""

import json
import uuid
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import JSON, Column, Engine, ForeignKey, Numeric, Table, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from kameleon import SearchEngine, searchable
from kameleon.stores.names import Names

NAMESPACE = "kameleon_tests_namespace"
"""The option of an engine that names the namespace of the index that is looked at."""


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


links = Table(
    "article_tag",
    Base.metadata,
    Column("article_id", ForeignKey("article.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


@searchable(
    content=lambda article: article.as_text(),
    when=lambda article: article.status != "hidden",
    depends_on=["author", "tags", "replies"],
)
class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    status: Mapped[str] = mapped_column(default="open")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship()
    tags: Mapped[list[Tag]] = relationship(secondary=links, order_by=Tag.id)
    replies: Mapped[list["Reply"]] = relationship(
        primaryjoin="Article.id == foreign(Reply.article_id)", order_by="Reply.id", viewonly=True
    )

    def as_text(self) -> str:
        by = f" by {self.author.name}" if self.author else ""
        replies = "".join(f"\n{reply.text}" for reply in self.replies)
        return f"{self.title}{by}{''.join(f' #{tag.label}' for tag in self.tags)}{replies}"


class Reply(Base):
    """Linked by its foreign key alone: no event reaches the article."""

    __tablename__ = "reply"

    id: Mapped[int] = mapped_column(primary_key=True)
    article_id: Mapped[int]
    text: Mapped[str]


@searchable(fields={"title": 2, "body": 1})
class Note(Base):
    """`body` has a server default."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str] = mapped_column(server_default=text("'empty'"))
    stars: Mapped[int] = mapped_column(default=0)


@searchable(fields=["name"])
class Place(Base):
    __tablename__ = "place"

    country: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@searchable(fields=["text"], name="Remark")
class Comment(Base):
    __tablename__ = "comment"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    text: Mapped[str]


@searchable(fields=["name"])
class Animal(Base):
    """Joined-table inheritance; a dog belongs to the entity of animals, a cat to its own."""

    __tablename__ = "animal"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]


class Dog(Animal):
    __tablename__ = "dog"
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    trick: Mapped[str] = mapped_column(default="")


@searchable(fields=["name", "purr"])
class Cat(Animal):
    """Single-table inheritance."""

    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012

    purr: Mapped[str | None]


class Bird(Animal):
    """Concrete inheritance: its keys are its own."""

    __tablename__ = "bird"
    __mapper_args__ = {"concrete": True, "polymorphic_identity": "bird"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="bird")
    name: Mapped[str]


class Shelf(Base):
    __tablename__ = "shelf"

    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship(cascade="all, delete-orphan", order_by="Book.id")


@searchable(content=lambda book: f"{book.title} by {book.author.strip()}")
class Book(Base):
    __tablename__ = "shelf_book"

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
    title: Mapped[str]
    author: Mapped[str | None] = mapped_column(default="nobody")


@searchable(fields=["amount", "data"])
class Price(Base):
    __tablename__ = "price"

    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    data: Mapped[dict[Any, str]] = mapped_column(JSON)


Contents = dict[tuple[str, str], str]
dumps = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))


def expected_contents(engine: Engine) -> Contents:
    """What the index should hold, from the tables alone."""
    with Session(engine) as session:
        animals = session.query(Animal).all()
        return {
            **{("Article", str(a.id)): a.as_text() for a in session.query(Article) if a.status != "hidden"},
            **{("Note", str(n.id)): "\n".join(filter(None, [n.title, n.body])) for n in session.query(Note)},
            **{("Place", dumps([p.country, p.number])): p.name for p in session.query(Place)},
            **{("Remark", str(c.id)): c.text for c in session.query(Comment)},
            **{("Animal", str(a.id)): a.name for a in animals if not isinstance(a, Cat)},
            **{("Cat", str(a.id)): "\n".join(filter(None, [a.name, a.purr])) for a in animals if isinstance(a, Cat)},
            **{("Bird", str(b.id)): b.name for b in session.query(Bird)},
            **{("Book", str(b.id)): f"{b.title} by {b.author}" for b in session.query(Book)},
        }


def names_of(engine: Engine) -> Names:
    """The names of the index that is looked at: an option of the engine names its namespace."""
    return Names(engine.get_execution_options().get(NAMESPACE))


def index(engine: Engine) -> Contents:
    with engine.connect() as connection:
        statement = names_of(engine)("SELECT entity_name, record_id, content FROM kdb_search")
        rows = connection.execute(text(statement))
        return {(row[0], row[1]): row[2] for row in rows}


def embedded(engine: Engine) -> set[tuple[str, str]]:
    """Records with a vector that was made from their current text."""
    by = "s.id = e.search_id" if engine.dialect.name == "sqlite" else "s.record_id = e.record_id"
    same = "" if engine.dialect.name == "sqlite" else "AND s.entity_name = e.entity_name"
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                names_of(engine)("SELECT s.entity_name, s.record_id FROM kdb_search AS s JOIN kdb_embedding_g1 AS e ")
                + f"ON {by} {same} WHERE e.content_hash = s.content_hash AND e.embedding IS NOT NULL"
            )
        )
        return {(row[0], row[1]) for row in rows}


def assert_index_matches(engine: Engine, search: SearchEngine) -> Contents:
    """The index matches the tables, each record's embedding is of its current text, and no embedding is left over."""
    expected = expected_contents(engine)
    assert index(engine) == expected
    if not search.generations():
        assert not any(expected.values())
        return expected
    assert embedded(engine) == {key for key, content in expected.items() if content.strip()}
    with engine.connect() as connection:
        count: Any = connection.scalar(text(names_of(engine)("SELECT count(*) FROM kdb_embedding_g1")))
    assert count == len(embedded(engine))
    return expected
