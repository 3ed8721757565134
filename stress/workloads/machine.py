"""Random work of sessions; after each commit the index is compared with the tables."""

import itertools
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)
from sqlalchemy import Engine, delete, insert, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from kameleon import SearchEngine

from .models import (
    Animal,
    Article,
    Author,
    Base,
    Book,
    Cat,
    Comment,
    Dog,
    Note,
    Place,
    Reply,
    Shelf,
    Tag,
    assert_index_matches,
)

WORDS = st.sampled_from(["", "red", "fox", "blue whale", "a fox", "über", "x" * 40])
NUMBERS = st.integers(0, 5)


class SessionMachine(RuleBasedStateMachine):
    """The rules, over one engine; `machine` makes the class for it."""

    engine: ClassVar[Engine]
    search: ClassVar[SearchEngine]
    maker: ClassVar[sessionmaker[Session]]

    @initialize()
    def begin(self) -> None:
        with self.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
            rows = connection.execute(text("SELECT entity_name, record_id FROM kdb_search")).all()
            self.search.delete_records([tuple(row) for row in rows], connection=connection)
        self.session: Session = self.maker()
        self.savepoints: list[Any] = []
        self.numbers = itertools.count()

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()

    def one(self, cls: Any, number: int) -> Any:
        found = self.session.scalars(select(cls).order_by(*cls.__mapper__.primary_key)).all()
        return found[number % len(found)] if found else None

    @rule(title=WORDS, hidden=st.booleans(), author=NUMBERS, tag=NUMBERS, by_key=st.booleans())
    def add_article(self, title: str, hidden: bool, author: int, tag: int, by_key: bool) -> None:
        tags = [found] if (found := self.one(Tag, tag)) else []
        article = Article(title=title, status="hidden" if hidden else "open", tags=tags)
        written_by = self.one(Author, author)
        if not by_key:
            article.author = written_by
        elif written_by:
            article.author_id = written_by.id
        self.session.add(article)

    @rule(n=NUMBERS, title=WORDS, drops=st.booleans())
    def shelve(self, n: int, title: str, drops: bool) -> None:
        shelf = self.one(Shelf, n) or Shelf()
        self.session.add(shelf)
        if drops and shelf.books:
            shelf.books.pop()
        else:
            shelf.books.append(Book(title=title))

    @rule(name=WORDS)
    def add_others(self, name: str) -> None:
        number = next(self.numbers)
        self.session.add_all(
            [Author(name=name), Tag(label=name), Comment(text=name), Place(country="no", number=number, name=name)]
        )
        self.session.add_all([Dog(name=name, trick=name), Cat(name=name, purr=name), Animal(name=name)])

    @rule(title=WORDS, with_body=st.booleans())
    def add_note(self, title: str, with_body: bool) -> None:
        self.session.add(Note(title=title, body="text") if with_body else Note(title=title))

    @rule(n=NUMBERS, title=WORDS, status=st.sampled_from(["open", "hidden"]))
    def edit_article(self, n: int, title: str, status: str) -> None:
        if article := self.one(Article, n):
            article.title, article.status = title, status

    @rule(n=NUMBERS, title=WORDS, is_expression=st.booleans())
    def edit_note(self, n: int, title: str, is_expression: bool) -> None:
        if note := self.one(Note, n):
            note.title = Note.title + "!" if is_expression else title
            note.stars += 1

    @rule(n=NUMBERS, name=WORDS)
    def edit_dependencies(self, n: int, name: str) -> None:
        if author := self.one(Author, n):
            author.name = name
        if tag := self.one(Tag, n):
            tag.label = name

    @rule(n=NUMBERS, m=NUMBERS, by_key=st.booleans())
    def relink(self, n: int, m: int, by_key: bool) -> None:
        article, author, tag = self.one(Article, n), self.one(Author, m), self.one(Tag, m)
        if not article or not author:
            return
        if by_key:
            article.author_id = author.id
        else:
            article.author = author
        if tag in article.tags:
            article.tags.remove(tag)
        elif tag:
            article.tags.append(tag)

    @rule(n=NUMBERS, m=NUMBERS, name=WORDS)
    def reply(self, n: int, m: int, name: str) -> None:
        article, reply = self.one(Article, n), self.one(Reply, m)
        if article and reply and name != "red":
            reply.article_id = article.id
        elif article:
            self.session.add(Reply(article_id=article.id, text=name))

    @rule(n=NUMBERS, keep=st.booleans(), keep_inner=st.booleans(), title=WORDS)
    def inside_savepoints(self, n: int, keep: bool, keep_inner: bool, title: str) -> None:
        self.session.add(Note(title=f"before {title}"))
        outer = self.session.begin_nested()
        self.session.add(Note(title=f"outer {title}"))
        inner = self.session.begin_nested()
        self.edit_note(n, f"inner {title}", False)
        self.session.flush()
        for savepoint, is_kept in ((inner, keep_inner), (outer, keep)):
            if is_kept:
                savepoint.commit()
            else:
                savepoint.rollback()

    @rule(n=NUMBERS, cls=st.sampled_from([Article, Note, Comment, Place, Animal, Reply]))
    def remove(self, n: int, cls: Any) -> None:
        if obj := self.one(cls, n):
            self.session.delete(obj)

    @rule(n=NUMBERS, number=st.integers(100, 105))
    def move(self, n: int, number: int) -> None:
        place = self.one(Place, n)
        if place and not self.session.get(Place, ("se", number)):
            place.country, place.number = "se", number

    @rule(n=NUMBERS, title=WORDS)
    def merge(self, n: int, title: str) -> None:
        if note := self.one(Note, n):
            self.session.merge(Note(id=note.id, title=title, body=note.body, stars=note.stars))

    @rule(title=WORDS, n=NUMBERS)
    def bulk_update(self, title: str, n: int) -> None:
        self.session.execute(update(Note).where(Note.stars <= n).values(title=title, stars=Note.stars + 1))
        self.session.execute(update(Article).where(Article.title == title).values(status="hidden"))
        self.session.execute(update(Animal).where(Animal.name == title).values(name="bulk"))

    @rule(title=WORDS, n=NUMBERS)
    def bulk_update_without_synchronizing(self, title: str, n: int) -> None:
        statement = update(Author).where(Author.name == title).values(name=f"{title}{n}")
        self.session.execute(statement, execution_options={"synchronize_session": False})

    @rule(title=WORDS)
    def bulk_insert(self, title: str) -> None:
        self.session.execute(insert(Note), [{"title": title}, {"title": f"{title}2", "body": "b"}])
        self.session.execute(insert(Note).values(title=title))
        self.session.bulk_insert_mappings(Note.__mapper__, [{"title": title}])
        self.session.bulk_save_objects([Note(title=title)])

    @rule(title=WORDS)
    def bulk_delete(self, title: str) -> None:
        self.session.query(Note).filter(Note.title == title).delete()
        self.session.execute(delete(Comment).where(Comment.text == title))
        self.session.execute(delete(Reply).where(Reply.text == title))
        self.session.execute(update(Reply).values(article_id=Reply.article_id + 1))

    @rule()
    def flush(self) -> None:
        self.session.flush()

    @rule()
    def expire(self) -> None:
        self.session.flush()
        self.session.expire_all()

    @precondition(lambda self: len(self.savepoints) < 3)
    @rule()
    def savepoint(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    @precondition(lambda self: self.savepoints)
    @rule(keep=st.booleans())
    def end_savepoint(self, keep: bool) -> None:
        savepoint = self.savepoints.pop()
        if keep:
            savepoint.commit()
        else:
            savepoint.rollback()

    @rule()
    def commit(self) -> None:
        self.session.commit()
        self.savepoints = []
        assert_index_matches(self.engine, self.search)

    @rule()
    def roll_back(self) -> None:
        self.session.rollback()
        self.savepoints = []
        assert_index_matches(self.engine, self.search)

    @rule()
    def close(self) -> None:
        self.session.close()
        self.savepoints = []
        assert_index_matches(self.engine, self.search)


def machine(engine: Engine, search: SearchEngine) -> type[SessionMachine]:
    Base.metadata.create_all(engine)

    class Sessions(SessionMachine):
        pass

    Sessions.engine, Sessions.search = engine, search
    Sessions.maker = search.attach(sessionmaker(engine, expire_on_commit=False))
    return Sessions
