"""Searches of mapped classes: conditions inside both legs, and objects as the result."""

import datetime
import uuid
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Float,
    ForeignKey,
    Numeric,
    String,
    Uuid,
    bindparam,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.errors import InvalidFilter, InvalidInput
from kameleon.orm.callers import sessions_of
from kameleon.orm.fitting import fitted
from kameleon.stores.filters import parse_filter
from stress.workloads.models import Animal, Cat, Dog, Note
from stress.workloads.models import Base as Others

from .conftest import Indexes, ids


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@searchable(fields=["label"])
class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    status: Mapped[str] = mapped_column(String(20))
    made: Mapped[datetime.datetime] = mapped_column(DateTime)
    code: Mapped[uuid.UUID] = mapped_column(Uuid)
    price: Mapped[int | None]
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship()


CODES = [uuid.UUID(int=n) for n in range(6)]
MADE = [datetime.datetime(2026, 1, 1 + n) for n in range(6)]


@pytest.fixture(params=["sqlite", "sqlite-vec", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(search: SearchEngine) -> sessionmaker[Session]:
    return fill(search)


@pytest.fixture
def filled(indexes: Indexes, backend: str) -> SearchEngine:
    """The same index, for tests that only read it."""
    return indexes(backend, fill)


def fill(search: SearchEngine) -> sessionmaker[Session]:
    Base.metadata.create_all(search.engine)
    Others.metadata.create_all(search.engine)
    maker = search.attach(sessionmaker(search.engine))
    with maker.begin() as session:
        owners = [Owner(name="Ann"), Owner(name="Bob")]
        session.add_all(
            [
                Item(
                    label=f"red fox number{n}",
                    status=["open", "a:b 50% 'x'"][n % 2],
                    made=MADE[n],
                    code=CODES[n],
                    price=None if n == 5 else n,
                    owner=owners[n // 3],
                )
                for n in range(6)
            ]
        )
        session.add(Note(title="red fox", body="elsewhere"))
    return maker


CONDITIONS: list[tuple[Any, list[str]]] = [
    (Item.status == "open", ["1", "3", "5"]),
    (Item.status == "a:b 50% 'x'", ["2", "4", "6"]),
    (Item.status.like("a:b 50!%%", escape="!"), ["2", "4", "6"]),
    (Item.status.contains("50%", autoescape=True), ["2", "4", "6"]),
    (Item.made >= MADE[4], ["5", "6"]),
    (Item.code.in_([CODES[0], CODES[3]]), ["1", "4"]),
    (Item.code.in_([]), []),
    (Item.price.is_(None), ["6"]),
    (Item.owner.has(Owner.name == "Bob"), ["4", "5", "6"]),
    (Item.owner_id.in_(select(Owner.id).where(Owner.name == "Ann")), ["1", "2", "3"]),
    ((Item.price > 1) & ~(Item.status == "open"), ["4"]),
    (Item.price == literal(2), ["3"]),
    (Item.price == bindparam("limit", 3), ["4"]),
    (text("item.status = 'a:b 50% ''x'''") & (Item.id > 2), ["4", "6"]),
    (func.lower(Item.label).startswith("red fox number5"), ["6"]),
    ({"status": "open", "price": {"$gte": 2}}, ["3", "5"]),
    ({"price": None}, ["6"]),
    ({"$or": [{"price": {"$in": [0, None]}}, {"id": 3}]}, ["1", "3", "6"]),
    ({"price": {"$nin": [0, 1, None]}}, ["3", "4", "5"]),
    ({"$not": {"price": {"$lt": 3}}}, ["4", "5", "6"]),
    ({"price": {"$ne": 2, "$exists": True}, "label": {"$contains": "number"}}, ["1", "2", "4", "5"]),
    ({}, ["1", "2", "3", "4", "5", "6"]),
]


def test_a_mapping_compares_columns_as_their_types_do(filled: SearchEngine) -> None:
    for where, expected in [
        ({"made": {"$gt": "2026-01-04"}}, ["5", "6"]),
        ({"made": {"$in": ["2026-01-04T00:00:00", None]}}, ["4"]),
        ({"code": str(CODES[1])}, ["2"]),
        ({"code": {"$nin": [code.hex for code in CODES[1:]]}}, ["1"]),
        ({"price": {"$lt": 2**40}}, ["1", "2", "3", "4", "5"]),
        ({"price": {"$in": [2.5, 3.0, 2**70]}}, ["4"]),
        ({"price": {"$gt": 2.5}}, ["4", "5"]),
        ({"price": {"$ne": 10**300}}, ["1", "2", "3", "4", "5", "6"]),
    ]:
        assert sorted(ids(filled.search("red fox", entity=Item, where=where))) == expected, where


@pytest.mark.parametrize("mode", ["hybrid", "keyword", "vector"])
def test_conditions_hold_inside_both_legs(filled: SearchEngine, mode: str) -> None:
    for condition, expected in CONDITIONS:
        found = filled.search("red fox", entity=Item, where=condition, mode=mode)
        assert sorted(ids(found)) == expected, str(condition)
        assert {hit.entity for hit in found} <= {"Item"}


def test_a_condition_fills_the_limit_with_records_that_meet_it(filled: SearchEngine) -> None:
    assert ids(filled.search("red fox number0", entity=Item, where=Item.made > MADE[4], limit=1)) == ["6"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"nope": 1}, "Item has no column 'nope'. Known: code, id, label"),
        ({"owner.nope": "Ann"}, "Owner has no column 'nope'"),
        ({"maker.name": "Ann"}, "Item has no relationship 'maker'"),
        ({"price": {"$contains": 3}}, r"\$contains on a column takes a text"),
        ({"price": {"$about": 3}}, "unknown operator"),
        ({"price": "3"}, r"price is Integer\(\), which compares with numbers, not '3'"),
        ({"price": True}, "compares with numbers, not True"),
        ({"status": {"$in": ["open", 3]}}, "compares with texts, not 3"),
        ({"made": {"$gt": "soon"}}, "texts such as 2026-01-31T12:30"),
        ({"made": {"$gt": "2026-01-31T12:30+01:00"}}, "with a zone"),
        ({"code": "x"}, "compares with UUIDs and their texts"),
        ({"label": {"$contains": "x" * 10_001}}, "10,000 characters at most"),
        ("open", "a condition such as Item.status == 'open'"),
    ],
)
def test_a_wrong_condition_is_named(filled: SearchEngine, where: Any, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        filled.search("fox", entity=Item, where=where)


def test_a_condition_belongs_to_one_class(filled: SearchEngine) -> None:
    for options in ({"entities": [Item, Note]}, {}, {"entity": "Item"}):
        with pytest.raises(InvalidInput, match="is searched alone"):
            filled.search("fox", where=Item.status == "open", **options)
    assert {hit.entity for hit in filled.search("fox", entities=[Item, "Note"])} == {"Item", "Note"}


def test_objects_come_best_first_and_compose(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker() as session:
        best: Any = search.select(Item, "fox number4", limit=3)
        assert session.scalars(best).all()[0].label == "red fox number4"
        hits = search.search("fox number4", entity=Item, limit=3)
        assert [str(item.id) for item in session.scalars(best)] == ids(hits)
        owned = best.join(Item.owner).where(Owner.name == "Bob").options(joinedload(Item.owner))
        items = session.scalars(owned).all()
        assert [item.owner.name for item in items] == ["Bob"] * len(items)
        assert len(items) > 0
        limited: Any = search.select(Item, "fox", limit=2, where=Item.owner.has(name="Ann"), mode="keyword")
        assert len(session.scalars(limited).all()) == 2


def test_no_hits_are_no_objects(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker() as session:
        nothing: Any = search.select(Item, "zebra", mode="keyword")
        assert session.scalars(nothing).all() == []


def test_a_class_that_is_not_searchable_is_named(filled: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match=r"'Owner' is not searchable\. Searchable: .*Item"):
        filled.select(Owner, "fox")


def test_a_base_class_finds_those_that_inherit_it(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker.begin() as session:
        session.add_all([Animal(name="red fox"), Dog(name="red dog", trick="sit"), Cat(name="red cat", purr="soft")])
    assert {hit.matched_text for hit in search.search("red", entity=Animal)} == {"red fox", "red dog", "red cat\nsoft"}
    assert [hit.matched_text for hit in search.search("red", entity=Dog)] == ["red dog"]
    assert [hit.matched_text for hit in search.search("red", entity=Cat)] == ["red cat\nsoft"]
    assert [hit.matched_text for hit in search.search("red", entity=Dog, where=Dog.trick == "roll")] == []
    with maker() as session:
        animals: Any = search.select(Animal, "red dog", limit=3)
        assert {type(animal) for animal in session.scalars(animals)} == {Animal, Dog, Cat}


def test_what_a_transaction_wrote_is_searched_in_it(search: SearchEngine, maker: sessionmaker[Session]) -> None:
    with maker() as session:
        search.index_record("Page", "1", "a page about zebras", session=session)
        session.query(Item).filter_by(id=1).one().label = "a zebra"
        search.flush(session)
        connection = session.connection()
        assert ids(search.search("zebra", entity=Item, mode="keyword", connection=connection)) == ["1"]
        session.rollback()
    assert ids(search.search("zebra", entity=Item, mode="keyword")) == []


@pytest.mark.parametrize(("type_", "expected"), [(Numeric, Decimal("0.1")), (Float, 0.1)])
def test_a_numeric_column_is_compared_exactly(type_: Any, expected: Any) -> None:
    condition: Any = parse_filter({"price": 0.1})
    value = fitted(condition, Column("price", type_())).value
    assert (type(value), value) == (type(expected), expected)


@searchable(fields=["label"])
class Shelved(Base):
    __tablename__ = "shelved"

    shelf: Mapped[str] = mapped_column(String(10), primary_key=True)
    code: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


@pytest.mark.parametrize("count", [50, 51, 201, 1_001, 10_000])
@pytest.mark.parametrize("cls", [Note, Shelved])
def test_many_hits_are_one_bind_a_column_and_in_their_order(
    search: SearchEngine, maker: Any, engine: Engine, cls: type, count: int
) -> None:
    texts = [f"kestrel {'x ' * (n % 7)}" for n in range(count)]
    with maker.begin() as session:
        if cls is Note:
            session.add_all([Note(title=text_, body="b") for text_ in texts])
        else:
            rows = [Shelved(shelf="a'\\", code=uuid.UUID(int=n), number=n, label=t) for n, t in enumerate(texts)]
            session.add_all(rows)
    hits = search.search("kestrel", entity=cls, limit=10_000, mode="keyword")
    statement: Any = search.select(cls, "kestrel", limit=10_000, mode="keyword")
    assert len(statement.compile(engine).params) <= 3 + (engine.dialect.name == "sqlite")
    with Session(engine) as session:
        found = session.scalars(statement).all()
        assert len(found) == len(hits) == count
        assert [sessions_of(search.index).mappings.of(cls).ref_of(obj).id for obj in found] == ids(hits)  # type: ignore[union-attr]
        narrowed = statement.where(cls.__mapper__.columns[0] != -1).limit(3)  # type: ignore[attr-defined]
        if cls is Note:
            assert [str(note.id) for note in session.scalars(narrowed)] == ids(hits)[:3]


def test_the_hits_of_a_subclass_come_in_their_order(search: SearchEngine, maker: Any, engine: Engine) -> None:
    with maker.begin() as session:
        session.add_all([Dog(name=f"rex {'x ' * (n % 5)}", trick="t") for n in range(60)])
        session.add_all([Cat(name=f"rex {n}", purr="p") for n in range(60)])
    for cls in (Dog, Cat, Animal):
        hits = search.search("rex", entity=cls, limit=200)
        with Session(engine) as session:
            found: Any = session.scalars(search.select(cls, "rex", limit=200)).all()
        assert [str(one.id) for one in found] == ids(hits)
        assert len(found) == (120 if cls is Animal else 60)
