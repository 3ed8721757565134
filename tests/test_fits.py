"""Every common way to map classes and to open sessions: libraries, dataclasses, mixins, binds, schemas, keys."""

import enum
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
import sqlmodel
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import CHAR, URL, Column, Engine, ForeignKey, Integer, String, Table, Text, TypeDecorator, Uuid
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    declared_attr,
    mapped_column,
    registry,
    relationship,
    scoped_session,
    sessionmaker,
)

import kameleon
from kameleon import SearchEngine, searchable
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider, assert_indexed
from stress.workloads.models import index

from .conftest import ids, schema_on


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"])
class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    pages: Mapped[int] = mapped_column(default=0)


def created(search: SearchEngine, base: Any = Base) -> sessionmaker[Session]:
    base.metadata.create_all(search.engine)
    return search.attach(sessionmaker(search.engine))


def commit(maker: Any, *objects: Any) -> None:
    with maker() as session:
        session.add_all(objects)
        session.commit()


# libraries


@searchable(fields=["name"])
class Hero(sqlmodel.SQLModel, table=True):
    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    name: str
    age: int = 0


@pytest.fixture(params=["class", "sessionmaker"])
def heroes(request: pytest.FixtureRequest, search: SearchEngine) -> Iterator[sqlmodel.Session]:
    sqlmodel.SQLModel.metadata.create_all(search.engine)
    made: Any
    if request.param == "class":
        made = search.attach(sqlmodel.Session)(search.engine)
    else:
        made = search.attach(sessionmaker(search.engine, class_=sqlmodel.Session))()
    with made as session:
        yield session


def test_sqlmodel(heroes: sqlmodel.Session, search: SearchEngine) -> None:
    heroes.add(Hero(name="red fox"))
    heroes.add(Hero(name="blue whale", age=90))
    heroes.commit()
    assert ids(search.search("fox", entity=Hero, mode="keyword")) == ["1"]
    assert ids(search.search("fox", entity=Hero, mode="vector", where=sqlmodel.col(Hero.age) > 40)) == ["2"]
    hero = heroes.exec(sqlmodel.select(Hero).where(Hero.age == 90)).one()
    assert_indexed(hero)
    heroes.exec(sqlmodel.update(Hero).where(sqlmodel.col(Hero.age) == 90).values(name="blue fox"))
    heroes.commit()
    found: Any = heroes.scalars(search.select(Hero, "blue fox")).all()
    assert [one.name for one in found] == ["blue fox", "red fox"]
    assert index(search.engine) == {("Hero", "1"): "red fox", ("Hero", "2"): "blue fox"}


def test_flask_sqlalchemy(engine: Engine, backend: str) -> None:
    class Plain(DeclarativeBase):
        pass

    db = SQLAlchemy(model_class=Plain)
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = engine.url

    @searchable(fields=["label"])
    class Product(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        label: Mapped[str]

    db.init_app(app)
    with app.app_context():
        kameleon.set_up_engine(db.engine)
        search = SearchEngine(db.engine, HashProvider())
        search.attach(db.session)
        db.create_all()
        db.session.add(Product(label="red fox"))
        db.session.commit()
    with app.app_context():
        product: Any = db.session.execute(search.select(Product, "fox")).scalar_one()
        assert_indexed(product)
        product.label = "blue whale"
        db.session.commit()
        assert index(db.engine) == {("Product", "1"): "blue whale"}
        db.session.delete(product)
        db.session.commit()
        assert index(db.engine) == {}
        db.session.remove()
        db.engine.dispose()


# sessions


def test_a_scoped_session_that_was_not_used_yet(search: SearchEngine) -> None:
    Base.metadata.create_all(search.engine)
    scoped = scoped_session(sessionmaker(search.engine))
    assert search.attach(scoped) is scoped
    scoped.add(Book(title="red fox"))
    scoped.commit()
    scoped.remove()
    assert ids(search.search("fox")) == ["1"]


def test_a_scoped_session_that_is_open_already_is_refused(search: SearchEngine) -> None:
    Base.metadata.create_all(search.engine)
    scoped = scoped_session(sessionmaker(search.engine))
    scoped.add(Book(title="red fox"))
    with pytest.raises(InvalidInput, match=r"\.remove\(\)"):
        search.attach(scoped)
    scoped.remove()
    search.attach(scoped).add(Book(title="red fox"))
    search.attach(scoped).commit()
    scoped.remove()
    assert ids(search.search("fox")) == ["1"]


@pytest.mark.parametrize("expire_on_commit", [True, False])
def test_objects_that_expire_at_the_commit_are_indexed(search: SearchEngine, expire_on_commit: bool) -> None:
    created(search)
    with search.attach(sessionmaker(search.engine, expire_on_commit=expire_on_commit))() as session:
        book = Book(title="red fox")
        session.add(book)
        session.commit()
        book.title = "blue whale"
        session.commit()
        book.pages = 7
        session.commit()
        assert_indexed(book)
    assert index(search.engine) == {("Book", "1"): "blue whale"}


def test_merging_a_new_object_indexes_it(search: SearchEngine) -> None:
    with created(search)() as session:
        book = session.merge(Book(id=7, title="red fox"))
        session.commit()
        assert_indexed(book)


def test_merging_a_detached_object_indexes_its_current_text(search: SearchEngine) -> None:
    maker = created(search)
    book = Book(id=1, title="red fox")
    with maker(expire_on_commit=False) as session:
        session.add(book)
        session.commit()
    book.title = "blue whale"
    with maker() as session:
        session.merge(book)
        session.commit()
    assert index(search.engine) == {("Book", "1"): "blue whale"}


def test_a_detached_object_can_be_added_again(search: SearchEngine) -> None:
    maker = created(search)
    book = Book(id=1, title="red fox")
    with maker(expire_on_commit=False) as session:
        session.add(book)
        session.commit()
    book.title = "blue whale"
    commit(maker, book)
    assert index(search.engine) == {("Book", "1"): "blue whale"}


def test_merging_what_is_unchanged_calls_no_provider(search: SearchEngine, provider: HashProvider) -> None:
    maker = created(search)
    commit(maker, Book(id=1, title="red fox"))
    calls = len(provider.calls)
    with maker() as session:
        session.merge(Book(id=1, title="red fox", pages=3))
        session.commit()
    assert len(provider.calls) == calls
    assert index(search.engine) == {("Book", "1"): "red fox"}


# dataclasses and imperative mapping


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Owner(DataBase):
    __tablename__ = "owner"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]


@searchable(content=lambda pet: f"{pet.name} of {pet.owner.name}", depends_on=["owner"])
class Pet(DataBase):
    """Its objects compare by value, so they have no hash."""

    __tablename__ = "pet"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]
    owner: Mapped[Owner] = relationship()
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"), init=False)


def test_classes_mapped_as_dataclasses(search: SearchEngine) -> None:
    maker = created(search, DataBase)
    commit(maker, Pet("Rex", Owner("Ann")), Pet("Tom", Owner("Ann")))
    with maker() as session:
        session.get_one(Pet, 1).owner.name = "Bea"
        session.delete(session.get_one(Pet, 2))
        session.commit()
    assert index(search.engine) == {("Pet", "1"): "Rex of Bea"}


@pytest.mark.parametrize("is_declared_first", [True, False])
def test_a_dataclass_that_a_registry_maps(search: SearchEngine, is_declared_first: bool) -> None:
    mapped = registry()
    declare = searchable(fields=["name"])
    made = mapped.mapped_as_dataclass

    class Bike:
        __tablename__ = "bike"

        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column()

    cls: Any = made(declare(Bike)) if is_declared_first else declare(made(Bike))
    commit(created(search, mapped), cls("red fox"))
    assert index(search.engine) == {("Bike", "1"): "red fox"}


@pytest.mark.parametrize("is_declared_first", [True, False])
def test_a_plain_class_that_is_mapped_imperatively(search: SearchEngine, is_declared_first: bool) -> None:
    mapped = registry()
    table = Table("boat", mapped.metadata, Column("id", Integer, primary_key=True), Column("name", Text))

    class Boat:
        def __init__(self, name: str) -> None:
            self.name = name

    declare = searchable(fields=["name"])
    if is_declared_first:
        declare(Boat)
    mapped.map_imperatively(Boat, table)
    if not is_declared_first:
        declare(Boat)
    commit(created(search, mapped), Boat("red fox"))
    assert index(search.engine) == {("Boat", "1"): "red fox"}


def test_an_unknown_field_of_a_class_that_is_mapped_later_is_named_at_its_first_use(search: SearchEngine) -> None:
    mapped = registry()
    table = Table("boat", mapped.metadata, Column("id", Integer, primary_key=True), Column("name", Text))
    boat = searchable(fields=["nmae"])(type("Boat", (), {}))
    mapped.map_imperatively(boat, table)
    with pytest.raises(InvalidInput, match=r"Boat has no attribute 'nmae'\. It has: id, name"):
        commit(created(search, mapped), boat())


# mixins


@searchable(fields=["title"])
class Titled:
    @declared_attr
    def title(cls) -> Mapped[str]:  # noqa: N805
        return mapped_column(Text)


@searchable(fields=["title"])
class AbstractTitled(Base):
    __abstract__ = True

    title: Mapped[str]


def test_each_class_with_a_searchable_mixin_is_an_entity(search: SearchEngine) -> None:
    class Own(DeclarativeBase):
        pass

    class Film(Titled, Own):
        __tablename__ = "film"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Song(Titled, Own):
        __tablename__ = "song"
        id: Mapped[int] = mapped_column(primary_key=True)

    commit(created(search, Own), Film(title="red fox"), Song(title="blue whale"))
    assert index(search.engine) == {("Film", "1"): "red fox", ("Song", "1"): "blue whale"}


class Essay(AbstractTitled):
    __tablename__ = "essay"
    id: Mapped[int] = mapped_column(primary_key=True)


class Poem(AbstractTitled):
    __tablename__ = "poem"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_each_class_of_a_searchable_abstract_base_is_an_entity(search: SearchEngine) -> None:
    commit(created(search), Essay(title="red fox"), Poem(title="blue whale"))
    assert index(search.engine) == {("Essay", "1"): "red fox", ("Poem", "1"): "blue whale"}
    assert ids(search.search("whale", entity=Poem, where=Poem.title.contains("blue"))) == ["1"]


# several databases, and schemas


def test_each_class_is_indexed_on_its_own_bind(file_engine: Engine, pg_engine: Engine) -> None:
    searches = [SearchEngine(own, HashProvider()) for own in (file_engine, pg_engine)]
    maker = sessionmaker(binds={Essay: file_engine, Poem: pg_engine}, twophase=False)
    for search in searches:
        Base.metadata.create_all(search.engine)
        search.attach(maker)
    with maker() as session:
        essay, poem = Essay(title="red fox"), Poem(title="blue whale")
        session.add_all([essay, poem])
        session.commit()
        assert_indexed(essay)
        assert_indexed(poem)
        session.execute(sqlalchemy.update(Poem).values(title="blue fox"))
        session.commit()
    assert index(file_engine) == {("Essay", "1"): "red fox"}
    assert index(pg_engine) == {("Poem", "1"): "blue fox"}


@pytest.mark.parametrize("how", ["flush", "commit"])
def test_a_bind_that_no_attached_engine_indexes_is_refused_completely(
    file_engine: Engine, pg_engine: Engine, how: str
) -> None:
    search = SearchEngine(file_engine, HashProvider())
    for own in (file_engine, pg_engine):
        Base.metadata.create_all(own)
    maker = search.attach(sessionmaker(binds={Essay: file_engine, Poem: pg_engine}))
    with maker() as session:
        session.add_all([Essay(title="red fox"), Poem(title="blue whale")])
        with pytest.raises(InvalidInput, match=r"Poem is bound to .*no SearchEngine of that database is attached"):
            getattr(session, how)()
        session.rollback()
        assert session.query(Essay).count() == session.query(Poem).count() == 0
        session.add(Essay(title="red fox"))
        session.commit()
    assert index(file_engine) == {("Essay", "1"): "red fox"}


def test_classes_in_a_schema_of_their_own(server: URL, pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine, HashProvider())
    with schema_on(server) as schema:

        class Own(DeclarativeBase):
            pass

        @searchable(fields=["name"])
        class Town(Own):
            __tablename__ = "town"
            __table_args__ = {"schema": schema}  # noqa: RUF012

            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        maker = created(search, Own)
        commit(maker, Town(name="red fox"))
        with maker() as session:
            session.execute(sqlalchemy.update(Town).values(name="blue whale"))
            session.commit()
        assert ids(search.search("whale", entity=Town, where=Town.name == "blue whale")) == ["1"]


def tenant_of(engine: Engine, schema: str) -> Engine:
    return engine.execution_options(schema_translate_map={None: schema})


def test_a_tenants_schema_holds_its_rows_and_its_index(server: URL, pg_engine: Engine) -> None:
    with schema_on(server) as ann, schema_on(server) as bea:
        searches = [SearchEngine(tenant_of(pg_engine, tenant), HashProvider()) for tenant in (ann, bea)]
        for name, search in zip(("ann", "bea"), searches, strict=True):
            commit(created(search), Book(title=f"fox of {name}"))
        for name, search in zip(("ann", "bea"), searches, strict=True):
            hits = search.search("fox", entity=Book, where=Book.title.like("fox of %"))
            assert [hit.matched_text for hit in hits] == [f"fox of {name}"]
            with Session(search.engine) as session:
                found: Any = session.scalars(search.select(Book, "fox")).one()
                assert found.title == f"fox of {name}"
        assert sqlalchemy.inspect(pg_engine).get_table_names() == []


def test_a_tenants_engine_may_be_made_anew_for_each_session(server: URL, pg_engine: Engine) -> None:
    with schema_on(server) as tenant:
        maker = created(SearchEngine(tenant_of(pg_engine, tenant), HashProvider()))
        with maker(bind=tenant_of(pg_engine, tenant)) as session:
            book = Book(title="red fox")
            session.add(book)
            with session.begin_nested() as savepoint:
                session.add(Book(title="blue whale"))
                savepoint.rollback()
            session.commit()
            assert_indexed(book)
            session.delete(book)
            session.rollback()
            session.commit()
            assert_indexed(book)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_tenant_is_never_indexed_by_the_engine_of_another(server: URL, pg_engine: Engine, is_late: bool) -> None:
    search = SearchEngine(pg_engine, HashProvider())
    with schema_on(server) as tenant:
        own = tenant_of(search.engine, tenant)
        Base.metadata.create_all(own)
        maker = search.attach(sessionmaker(search.engine if is_late else own))
        with maker() as session:
            if is_late:
                session.connection(execution_options=dict(own.get_execution_options()))
            session.add(Book(title="red fox"))
            with pytest.raises(InvalidInput, match="with schema_translate_map"):
                session.commit()
    assert index(search.engine) == {}


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


# keys


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Prefixed(TypeDecorator[str]):
    """`7` in Python, `part-7` in the database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> str | None:
        return None if value is None else f"part-{value}"

    def process_result_value(self, value: Any, _dialect: Any) -> str | None:
        return None if value is None else str(value).removeprefix("part-")


class Short(TypeDecorator[int]):
    """A number in Python, a UUID in the database."""

    impl = Uuid
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(int=value)

    def process_result_value(self, value: Any, _dialect: Any) -> int | None:
        return None if value is None else uuid.UUID(str(value)).int


@searchable(fields=["name"])
class Coupon(Base):
    __tablename__ = "coupon"
    id: Mapped[int] = mapped_column(Short, primary_key=True)
    name: Mapped[str]


@searchable(fields=["name"])
class Ticket(Base):
    __tablename__ = "ticket"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]


@searchable(fields=["name"])
class Seat(Base):
    __tablename__ = "seat"
    hall: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]


@searchable(fields=["name"])
class Part(Base):
    __tablename__ = "part"
    id: Mapped[str] = mapped_column(Prefixed, primary_key=True)
    name: Mapped[str]


@searchable(fields=["name"])
class Paint(Base):
    __tablename__ = "paint"
    id: Mapped[Colour] = mapped_column(primary_key=True)
    name: Mapped[str]


@searchable(fields=["name"])
class Code(Base):
    __tablename__ = "code"
    id: Mapped[str] = mapped_column(CHAR(4), primary_key=True)
    name: Mapped[str]


@searchable(fields=["name"])
class Word(Base):
    __tablename__ = "word"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)
KEYS: list[tuple[Any, list[dict[str, Any]], list[str]]] = [
    (Ticket, [{"id": ONE}, {"id": TWO}], [str(ONE), str(TWO)]),
    (
        Seat,
        [{"hall": 'Ü "a"', "number": 1, "owner": ONE}, {"hall": "\\", "number": -2, "owner": TWO}],
        [f'["Ü \\"a\\"",1,"{ONE}"]', f'["\\\\",-2,"{TWO}"]'],
    ),
    (Coupon, [{"id": 1}, {"id": 2}], [str(ONE), str(TWO)]),
    (Part, [{"id": "7"}, {"id": "8"}], ["part-7", "part-8"]),
    (Paint, [{"id": Colour.RED}, {"id": Colour.BLUE}], ["RED", "BLUE"]),
    (Word, [{"id": "a b"}, {"id": "[1]"}], ["a b", "[1]"]),
]


@pytest.mark.parametrize(("cls", "keys", "expected"), KEYS, ids=lambda value: getattr(value, "__name__", ""))
def test_keys(search: SearchEngine, cls: Any, keys: list[dict[str, Any]], expected: list[str]) -> None:
    maker = created(search)
    commit(maker, cls(**keys[0], name="red fox"), cls(**keys[1], name="blue fox"))
    red, blue = ((cls.__name__, id_) for id_ in expected)
    assert index(search.engine) == {red: "red fox", blue: "blue fox"}
    for name, id_ in zip(["red fox", "blue fox"], expected, strict=True):
        assert ids(search.search("fox", entity=cls, where=cls.name == name)) == [id_]
    with maker() as session:
        found = session.scalars(search.select(cls, "blue fox")).all()
        assert [obj.name for obj in found] == ["blue fox", "red fox"]
        session.execute(sqlalchemy.update(cls).where(cls.name == "red fox").values(name="red whale"))
        session.execute(sqlalchemy.delete(cls).where(cls.name == "blue fox"))
        session.commit()
        assert_indexed(found[1])
    assert index(search.engine) == {red: "red whale"}


def test_a_key_that_the_database_pads_is_one_key(search: SearchEngine) -> None:
    maker = created(search)
    commit(maker, Code(id="a", name="red fox"))
    with maker() as session:
        session.scalars(sqlalchemy.select(Code)).one().name = "blue whale"
        session.commit()
    assert index(search.engine) == {("Code", "a"): "blue whale"}
    assert ids(search.search("whale", entity=Code, where=Code.name == "blue whale")) == ["a"]
    with maker() as session:
        session.execute(sqlalchemy.update(Code).values(name="red fox"))
        session.commit()
        session.delete(session.scalars(search.select(Code, "fox")).one())
        session.commit()
    assert index(search.engine) == {}


# declarations that cannot be


class Undeclared(Base):
    __tablename__ = "undeclared"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    book_id: Mapped[int | None] = mapped_column(ForeignKey("book.id"))
    book: Mapped[Book | None] = relationship()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"fields": ["titel"]}, "Undeclared has no attribute 'titel'. It has: book, book_id, id, title"),
        ({"fields": {"title": 0}}, "the weight of 'title' is a whole number from 1 to 10, not 0"),
        ({"fields": {"title": "many"}}, "the weight of 'title' is a whole number from 1 to 10, not 'many'"),
        ({"fields": {"title": 1.5}}, "the weight of 'title' is a whole number from 1 to 10, not 1.5"),
        ({"fields": "title"}, "fields and depends_on are lists of names"),
        ({"fields": ["title"], "depends_on": "book"}, "fields and depends_on are lists of names"),
        ({}, "one defines the text"),
        ({"fields": []}, "one defines the text"),
        ({"fields": ["title"], "depends_on": ["boook"]}, "Undeclared has no attribute 'boook'"),
    ],
    ids=str,
)
def test_a_declaration_that_cannot_be_is_refused_at_once(options: Any, why: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        searchable(**options)(Undeclared)
    assert why in str(refused.value)


def test_a_relationship_is_no_field(search: SearchEngine) -> None:
    class Own(DeclarativeBase):
        pass

    class Shelf(Own):
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)

    @searchable(fields=["shelf"])
    class Vase(Own):
        __tablename__ = "vase"
        id: Mapped[int] = mapped_column(primary_key=True)
        shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
        shelf: Mapped[Shelf] = relationship()

    with pytest.raises(InvalidInput, match=r"Vase.shelf is a relationship: .* depends_on=\['shelf'\]"):
        commit(created(search, Own), Vase(shelf=Shelf()))


def test_two_classes_of_one_name_in_one_database_are_refused(search: SearchEngine) -> None:
    def lamp(table: str) -> Any:
        class Own(DeclarativeBase):
            pass

        @searchable(fields=["name"])
        class Lamp(Own):
            __tablename__ = table
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        return Lamp

    desk, street = lamp("desk_lamp"), lamp("street_lamp")
    commit(created(search, desk), desk(name="red fox"))
    with pytest.raises(InvalidInput, match="two searchable classes are named 'Lamp'"):
        commit(created(search, street), street(name="blue whale"))


def test_what_is_searchable_is_named_even_where_two_classes_have_one_name(search: SearchEngine) -> None:
    twins = [application(), application()]
    with pytest.raises(InvalidInput, match=r"'Undeclared' is not searchable\. Searchable: .*Book, .*Essay"):
        search.select(Undeclared, "fox")
    assert len(twins) == 2
