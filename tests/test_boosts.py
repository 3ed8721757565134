"""Boosts by numbers, recency and conditions: their factors, the order, and what is exact, on each database."""

import asyncio
import json
import math
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import JSON, DateTime, Engine, ForeignKey, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from kameleon import RecordStore, SearchEngine, SearchResults, rebuild, searchable
from kameleon.boosts import MAX_BOOSTS, Boost, NumberBoost, RecencyBoost, number, read_boosts, recency, when
from kameleon.errors import InvalidFilter, InvalidInput, KameleonError, UnknownEntity
from kameleon.stores.filters import Comparison
from kameleon.stores.values import Probe, ValueAt
from kameleon.testing import HashProvider

from .conftest import Indexes
from .test_cli import Run, checked

NOW = datetime(2026, 1, 31, tzinfo=UTC)
ORDERS, CREATED = number("orders", half=100), recency("created", half_life="30d", now=NOW)
IN_STOCK = when({"in_stock": True})
BOOSTS = [ORDERS, CREATED, IN_STOCK]
ROWS: Sequence[Mapping[str, Any]] = [
    {"id": "1", "orders": 100, "created": "2026-01-01", "in_stock": True},
    {"id": "2", "orders": 300.0, "created": "2026-02-28T12:00Z", "in_stock": False},
    {"id": "3"},
    {"id": "4", "orders": -5, "created": "2025-12-02 02:00:00+02:00", "in_stock": None},
    {"id": "5", "orders": True, "created": "yesterday"},
    {"id": "6", "orders": "100", "created": 1_769_817_600, "in_stock": "true"},
    {"id": "7", "orders": [100], "created": ["2026-01-01"], "in_stock": [True]},
    {"id": "8", "orders": 0, "created": None},
]
FACTORS = {
    "1": 1.1 * 1.1 * 1.2,
    "2": 1.15 * 1.2,
    "4": 1.05,
    "7": 1.2,
    **dict.fromkeys("3568", 1.0),
}


class Base(DeclarativeBase):
    pass


class Maker(Base):
    __tablename__ = "boosted_maker"

    id: Mapped[int] = mapped_column(primary_key=True)
    rating: Mapped[Decimal]


@searchable(fields=["name"], boost=[number("orders", half=100), when(lambda cls: cls.stock > 0, 1.5)])
class Lamp(Base):
    __tablename__ = "boosted_lamp"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[float | None]
    stock: Mapped[int] = mapped_column(default=0)
    made: Mapped[datetime | None]
    written: Mapped[str | None]
    extra: Mapped[Any] = mapped_column(JSON, default=dict)
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("boosted_maker.id"))
    kind: Mapped[str] = mapped_column(default="lamp")
    maker: Mapped[Maker | None] = relationship()
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "lamp"}  # noqa: RUF012


class DeskLamp(Lamp):
    __mapper_args__ = {"polymorphic_identity": "desk"}  # noqa: RUF012


@searchable(fields=["name"])
class Chair(Base):
    __tablename__ = "boosted_chair"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[int]


class Size(Enum):
    SMALL = "small"


@searchable(fields=["name"])
class Shop(Base):
    __tablename__ = "boosted_shop"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    key: Mapped[uuid.UUID | None]
    opens: Mapped[time | None]
    lasts: Mapped[timedelta | None]
    size: Mapped[Size | None]
    is_open: Mapped[bool | None]
    opened: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(search: SearchEngine) -> None:
    declare(search, "Lamp")
    RecordStore(search).insert("Lamp", [{**row, "name": "a lamp"} for row in ROWS])


@pytest.fixture
def stored(search: SearchEngine) -> SearchEngine:
    fill(search)
    return search


@pytest.fixture
def kept(indexes: Indexes, backend: str) -> SearchEngine:
    """The same records, for tests that only read."""
    return indexes(backend, fill)


def declare(search: SearchEngine, name: str, **options: Any) -> None:
    """An entity that is searched by its name alone."""
    fields = dict.fromkeys(("orders", "created", "in_stock"), "any")
    RecordStore(search).create_entity(name, search=["name"], fields=fields, **options)


@pytest.fixture
def mapped(search: SearchEngine, engine: Engine) -> SearchEngine:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add(Maker(id=1, rating=Decimal("4.0")))
        session.flush()
        session.add(Lamp(id=1, name="a lamp", orders=300, extra={"views": 100, "seen": "2026-01-01T00:00Z"}))
        session.add(DeskLamp(id=2, name="a lamp", orders=100, stock=3, maker_id=1, made=datetime(2026, 1, 1)))
        session.add(Lamp(id=3, name="a lamp", orders=None, stock=0, made=datetime(2027, 1, 1), written="2026-01-01"))
        session.add_all(Chair(id=n, name="a lamp chair", orders=n * 100) for n in (1, 2, 3))
    return search


@pytest.fixture
def shops(search: SearchEngine, engine: Engine) -> SearchEngine:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add(Maker(id=1, rating=Decimal("4.0")))
        session.add(Shop(id=1, name="a shop", opened=NOW))
        session.add(Shop(id=2, name="a shop", opened=NOW - timedelta(days=1), opens=time(8)))
    return search


def ids(found: SearchResults) -> list[str]:
    return [hit.id for hit in found]


def factors(found: SearchResults) -> dict[str, float]:
    """The factor of each hit, as it is explained."""
    return {hit.id: math.prod(leg.score for leg in hit.explanation if leg.leg.startswith("boost:")) for hit in found}


def test_each_record_has_the_factor_of_its_values(kept: SearchEngine) -> None:
    found = kept.search("lamp", boost=BOOSTS, explain=True)
    assert factors(found) == pytest.approx(FACTORS)
    assert ids(found) == ["1", "2", "7", "4", "3", "5", "6", "8"]
    assert ids(kept.search("lamp")) == [row["id"] for row in ROWS]
    assert "boosts" in found.plan.legs
    by_name = {leg.leg: leg for leg in found[0].explanation}
    orders, created, in_stock = (
        by_name[name] for name in ("boost:orders", "boost:created", 'boost:{"in_stock": true}')
    )
    assert (orders.raw, orders.evidence, orders.weight, orders.score) == (100, 0.5, 0.2, 1.1)
    assert (created.raw, created.evidence, created.score) == (30, 0.5, 1.1)
    assert (in_stock.raw, in_stock.score, in_stock.rank) == (1, 1.2, None)
    assert [leg.leg for leg in found[4].explanation if leg.leg.startswith("boost:")] == ['boost:{"in_stock": true}']


def test_a_score_is_evidence_times_factors_and_no_more_than_the_one_before(stored: SearchEngine) -> None:
    RecordStore(stored).insert(
        "Lamp", [{"id": f"9{n}", "name": f"a lamp {'post ' * n}", "orders": n * 50} for n in range(9)]
    )
    found = stored.search("lamp post", boost=[ORDERS, when({"orders": {"$gt": 100}}, 0.5)], explain=True, limit=20)
    least, seen = 1.0, set[float]()
    for hit in found:
        evidence = sum(leg.weight * leg.evidence for leg in hit.explanation if not leg.leg.startswith("boost:"))
        factor = math.prod(leg.score for leg in hit.explanation if leg.leg.startswith("boost:"))
        least = min(least, evidence * factor)
        assert hit.score == pytest.approx(least)
        seen.add(round(factor, 3))
    assert len(seen) > 4
    assert min(seen) < 1 < max(seen)


def test_hits_counts_and_facets_are_those_without_boosts(kept: SearchEngine) -> None:
    for options in ({}, {"min_score": 0.3}, {"mode": "keyword"}, {"mode": "vector"}):
        plain = kept.search("lamp", facets=["in_stock"], **options)
        raised = kept.search("lamp", facets=["in_stock"], boost=[*BOOSTS, when({"id": "3"}, 0.1)], **options)
        assert plain
        assert (raised.total, raised.facets) == (plain.total, plain.facets)
        assert sorted(ids(raised)) == sorted(ids(plain))
        assert ids(raised)[-1] == "3"


@pytest.mark.parametrize("fusion", ["weighted", "rrf", "dbsf", "function"])
def test_pages_groups_and_every_fusion_have_the_boosted_order(kept: SearchEngine, fusion: Any) -> None:
    way: Any = (lambda legs: dict.fromkeys(legs[0].chosen, 0.5)) if fusion == "function" else fusion
    options: dict[str, Any] = {"boost": BOOSTS, "fusion": way}
    whole = ids(kept.search("lamp", **options))
    assert whole[:4] == ["1", "2", "7", "4"]
    first = kept.search("lamp", limit=3, **options)
    assert ids(first) == whole[:3]
    second = kept.search("lamp", limit=3, cursor=first.cursor, **options)
    assert ids(second) == whole[3:6] == ids(kept.search("lamp", limit=3, offset=3, **options))
    assert ids(kept.search("lamp", group_by="entity", limit=3, **options)) == whole[:3]
    with pytest.raises(InvalidInput, match="another query"):
        kept.search("lamp", limit=3, cursor=first.cursor, fusion=way, boost=[ORDERS])
    later = [ORDERS, recency("created", half_life="30d", now=NOW + timedelta(days=1)), IN_STOCK]
    assert kept.search("lamp", limit=3, cursor=first.cursor, fusion=way, boost=later), "now is not in the cursor"


def test_a_reranker_scores_are_boosted_and_its_window_is(kept: SearchEngine) -> None:
    read: list[str] = []

    def rerank(query: str, texts: Sequence[str]) -> list[float]:
        read.extend(texts)
        return [0.5] * len(texts)

    found = kept.search("lamp", boost=BOOSTS, rerank=rerank, rerank_top=3, limit=2, explain=True)
    assert ids(found) == ["1", "2"]
    assert len(read) == 3
    assert [hit.score for hit in found] == pytest.approx([0.5 * FACTORS["1"], 0.5 * FACTORS["2"]])
    assert {leg.leg for leg in found[0].explanation} >= {"rerank", "boost:orders"}
    assert not kept.search("lamp", boost=BOOSTS, rerank=rerank, min_score=0.51), "decided before boosts"


def test_an_entitys_own_boosts_are_those_of_searches_that_give_none(stored: SearchEngine) -> None:
    store = RecordStore(stored)
    changed = store.alter_entity("Lamp", boost=[ORDERS, {"where": {"in_stock": True}, "factor": 1.2}])
    assert changed.index.indexed == changed.index.unchanged == 0
    assert store.entity("Lamp").boosts == (ORDERS, IN_STOCK)
    store.create_entity("Chair", search=["name"], fields={"sold": "integer"}, boost=number("sold", half=1, weight=2))
    store.insert("Chair", [{"id": n, "name": "a lamp", "sold": n, "orders": 10**6} for n in range(3)])
    found = stored.search("lamp", explain=True, limit=20)
    assert ids(found)[:5] == ["2", "1", "1", "7", "2"]
    assert [hit.entity for hit in found][:4] == ["Chair", "Chair", "Lamp", "Lamp"]
    assert found[0].explanation[-1].leg == "boost:sold"
    assert ids(stored.search("lamp", entity="Lamp", boost=[]))[0] == "1"
    assert ids(stored.search("lamp", entity="Lamp", boost=CREATED))[0] == "2", "a query's replace the entity's"
    assert ids(stored.search("lamp", entity="Lamp", sort="-orders"))[0] == "6", "a text"
    assert {hit.score for hit in stored.search("", entity="Lamp")} == {1.0}
    assert "boosts" not in stored.similar("Lamp", "3").plan.legs
    assert ids(stored.similar("Lamp", "3", boost=ORDERS))[0] == "2"
    store.rename_entity("Lamp", "Light")
    assert ids(stored.search("lamp", entity="Light"))[0] == "1"
    assert store.alter_entity("Light", boost=()).entity.boosts == ()
    assert "boosts" not in stored.search("lamp", entity="Light").plan.legs
    store.drop_entity("Chair")
    store.insert("Chair", [{"id": n, "name": "a lamp", "sold": n} for n in range(3)])
    assert "boosts" not in stored.search("lamp", entity="Chair").plan.legs


def test_another_process_and_a_rebuild_keep_an_entitys_boosts(stored: SearchEngine, make: Any, engine: Engine) -> None:
    other = make(HashProvider())
    assert ids(other.search("lamp"))[0] == "1"
    RecordStore(stored).alter_entity("Lamp", boost=ORDERS)
    assert ids(other.search("lamp"))[0] == "2"
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE kdb_meta SET value = '1' WHERE key = 'schema_version'")
    assert rebuild(engine).is_done
    assert ids(make(HashProvider()).search("lamp"))[0] == "2"


def test_records_of_tenants_have_their_entitys_boosts(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity(
        "Note", search=["text"], fields={"stars": "integer"}, tenant_field="", boost=number("stars", half=1)
    )
    for tenant in ("acme", "globex"):
        own = RecordStore(search.for_tenant(tenant))
        own.insert("Note", [{"id": n, "text": "a lamp", "stars": n} for n in range(3)])
    assert ids(search.for_tenant("acme").search("lamp", entity="Note")) == ["2", "1", "0"]
    assert ids(search.for_tenant("acme").search("lamp", entity="Note", boost=[])) == ["0", "1", "2"]


def test_columns_relationships_and_documents_of_classes_raise(mapped: SearchEngine) -> None:
    def raised(*boosts: Boost, entity: Any = Lamp) -> dict[str, float]:
        return factors(mapped.search("lamp", entity=entity, boost=boosts, explain=True))

    assert raised(number("orders", half=100)) == pytest.approx({"1": 1.15, "2": 1.1, "3": 1})
    assert raised(recency("made", half_life="30d", now=NOW)) == pytest.approx({"1": 1, "2": 1.1, "3": 1.2})
    assert raised(recency("written", half_life="30d", now=NOW)) == pytest.approx({"1": 1, "2": 1, "3": 1.1})
    assert raised(number("extra.views", half=100)) == pytest.approx({"1": 1.1, "2": 1, "3": 1})
    assert raised(recency("extra.seen", half_life="30d", now=NOW)) == pytest.approx({"1": 1.1, "2": 1, "3": 1})
    assert raised(number("maker.rating", half=4), when({"maker.rating": 4})) == pytest.approx(
        {"1": 1, "2": 1.32, "3": 1}
    )
    assert raised(when(Lamp.stock > 0, 2)) == {"1": 1, "2": 2, "3": 1}
    assert raised(when({"stock": {"$gt": 0}}, 0.5), number("orders", half=100)) == pytest.approx(
        {"1": 1.15, "2": 0.55, "3": 1}
    )
    assert raised(number("orders", half=100), entity=DeskLamp) == {"2": 1.1}
    first = mapped.search("lamp", entity=Lamp, boost=when(Lamp.stock > 0), limit=1)
    assert ids(first) == ["2"]
    assert ids(mapped.search("lamp", entity=Lamp, boost=when(Lamp.stock > 0), cursor=first.cursor)) == ["1", "3"]
    with pytest.raises(InvalidInput, match="another query"):
        mapped.search("lamp", entity=Lamp, boost=when(Lamp.stock > 1), cursor=first.cursor)


def test_a_class_is_declared_with_its_boosts(mapped: SearchEngine) -> None:
    expected = {"1": 1.15, "2": 1.1 * 1.5, "3": 1}
    for entity in (Lamp, "Lamp"):
        assert factors(mapped.search("lamp", entity=entity, explain=True)) == pytest.approx(expected)
    assert factors(mapped.search("lamp", entity=DeskLamp, explain=True)) == pytest.approx({"2": 1.1 * 1.5})
    everywhere = mapped.search("lamp", explain=True)
    boosted = {(hit.entity, hit.id) for hit in everywhere if hit.explanation[-1].leg.startswith("boost:")}
    assert boosted == {("Lamp", "1"), ("Lamp", "2"), ("Lamp", "3")}
    assert len(everywhere) == 6
    several = mapped.search("lamp", entity=[Lamp, Chair], boost=number("orders", half=100, weight=5), explain=True)
    by_ref = {(hit.entity, hit.id): hit.explanation[-1].score for hit in several if hit.id != "3"}
    assert by_ref == pytest.approx(
        {("Lamp", "1"): 4.75, ("Lamp", "2"): 3.5, ("Chair", "1"): 3.5, ("Chair", "2"): 1 + 10 / 3}
    )
    assert "boosts" not in mapped.search("lamp", entity=Lamp, boost=[]).plan.legs
    RecordStore(mapped).insert("Page", [{"id": n, "text": "a lamp", "orders": n * 100} for n in (1, 3)])
    beside = mapped.search("lamp", entity=["Page", Chair], boost=number("orders", half=100), explain=True)
    assert [(hit.entity, hit.id) for hit in beside][:1] == [("Page", "3")]
    assert factors(beside) == pytest.approx({"1": 1.1, "2": 1 + 0.4 / 3, "3": 1.15})


REFUSED: dict[str, tuple[Any, type[KameleonError], str]] = {
    "typo": (number("order", half=1), InvalidFilter, "unknown field 'order'"),
    "typo in a condition": (when({"stock": 1}), InvalidFilter, "unknown field 'stock'"),
    "a text": ("orders", InvalidInput, "a boost is number"),
    "unknown key": ({"field": "orders", "half": 1, "wieght": 1}, InvalidInput, "a boost is number"),
    "too many": ([ORDERS] * (MAX_BOOSTS + 1), InvalidInput, "20 at most, not 21"),
    "a condition of a class": (when(Lamp.stock > 0), InvalidInput, "for one class, which is searched alone"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_boost_is_refused(kept: SearchEngine, case: str) -> None:
    boost, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        kept.search("lamp", entity="Lamp", boost=boost)
    with pytest.raises(InvalidInput):
        RecordStore(kept).alter_entity("Lamp", boost=boost)


def test_combinations_that_cannot_be_right_are_refused(stored: SearchEngine, mapped: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="boost and sort both set the order"):
        stored.search("lamp", boost=ORDERS, sort="orders")
    assert "boost is left out" in stored.search("", boost=ORDERS).plan.note
    with pytest.raises(UnknownEntity, match="columns of a mapped class"):
        mapped.search("lamp", entity="Chair", boost=ORDERS)
    for boost, message in (
        (number("price", half=1), "Chair has no column 'price'"),
        (number("name", half=1), "counts numbers alone"),
        (recency("orders", half_life="1d"), "counts dates and times alone"),
        (when({"price": 1}), "Chair has no column 'price'"),
    ):
        with pytest.raises(InvalidFilter, match=message):
            mapped.search("lamp", entity=[Chair, Lamp], boost=boost)
    with pytest.raises(InvalidInput, match="a function is the condition of"):
        mapped.search("lamp", entity=Lamp, boost=when(lambda cls: cls.stock > 0))
    store = RecordStore(stored)
    with pytest.raises(InvalidFilter, match=r"Known: name\. Declare what is boosted: fields=, or --field NAME:TYPE"):
        store.create_entity("Sofa", search=["name"], boost=ORDERS)
    with pytest.raises(InvalidInput, match="is text, and a boost by it counts numbers"):
        store.create_entity("Sofa", search=["name"], fields={"orders": "text"}, boost=ORDERS)
    for condition in (Lamp.stock > 0, {"name": math.nan}, {"name": time(8)}):
        with pytest.raises(InvalidInput, match="a condition that is kept"):
            store.create_entity("Sofa", search=["name"], boost=when(condition))


@pytest.mark.parametrize("field", ["key", "opens", "lasts", "size", "is_open"])
def test_a_column_that_no_boost_counts_is_refused(shops: SearchEngine, field: str) -> None:
    for boost in (number(field, half=1), recency(field, half_life="1d")):
        with pytest.raises(InvalidFilter, match=f"{field} is .*, and a boost by it counts"):
            shops.search("shop", entity=Shop, boost=boost)


def test_a_condition_on_another_class_is_refused_unless_it_relates_rows(shops: SearchEngine) -> None:
    with pytest.raises(InvalidFilter, match="on the columns of another table alone"):
        shops.search("shop", entity=Shop, boost=when(Maker.rating > 0))
    related = when(Shop.id.in_(select(Maker.id).where(Maker.rating > 0)), 2)
    assert factors(shops.search("shop", entity=Shop, boost=related, explain=True)) == {"1": 2, "2": 1}


def test_a_condition_of_any_value_is_named_and_its_pages_have_cursors(shops: SearchEngine) -> None:
    boost = when({"opens": time(8)}, 2)
    first = shops.search("shop", entity=Shop, boost=boost, explain=True, limit=1)
    second = shops.search("shop", entity=Shop, boost=boost, limit=1, cursor=first.cursor)
    assert ids(first) + ids(second) == ["2", "1"]
    assert first[0].explanation[-1].leg == 'boost:{"opens": "08:00:00"}'


def test_a_time_that_python_has_not_is_neutral(shops: SearchEngine, engine: Engine, backend: str) -> None:
    boost = recency("opened", half_life="1d", now=NOW)
    assert factors(shops.search("shop", entity=Shop, boost=boost, explain=True)) == pytest.approx({"1": 1.2, "2": 1.1})
    if backend == "postgresql":
        for value in ("infinity", "-infinity", "0044-03-15 BC"):
            with engine.begin() as connection:
                connection.execute(text("UPDATE boosted_shop SET opened = :value WHERE id = 1"), {"value": value})
            assert factors(shops.search("shop", entity=Shop, boost=boost, explain=True)) == pytest.approx(
                {"1": 1, "2": 1.1}
            )


@pytest.mark.parametrize(
    ("make_boost", "message"),
    [
        (lambda: number("a", half=0), "half of a boost is a number above 0"),
        (lambda: number("a", half=True), "half of a boost"),
        (lambda: number("", half=1), "names a field"),
        (lambda: number("a", half=1, weight=10.5), "from 0 to 10"),
        (lambda: recency("a", half_life="30"), "half_life is a time"),
        (lambda: recency("a", half_life=timedelta(0)), "half_life is a time"),
        (lambda: recency("a", half_life=timedelta.max), "from a second to 36525 days"),
        (lambda: number("a\0", half=1), "without a NUL"),
        (lambda: number("a" * 1_001, half=1), "of 1,000 characters at most"),
        (lambda: when({"a": 1}, 0.05), "from 0.1 to 10"),
        (lambda: when("a"), "when takes a condition"),
        (lambda: read_boosts({"field": "a", "half_life": "1d", "now": "soon"}), "now is a time"),
    ],
)
def test_a_boost_out_of_bounds_is_refused(make_boost: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_boost()


def test_a_boost_is_the_same_as_json() -> None:
    cond = when({"made": {"$gte": NOW}, "price": Decimal("1.5")}, 2)
    boosts = [ORDERS, CREATED, recency("a", half_life=timedelta(hours=36)), recency("a", half_life="90s"), IN_STOCK]
    as_json = json.loads(json.dumps([boost.as_json() for boost in boosts]))
    assert read_boosts(as_json) == tuple(boosts)
    assert as_json[2]["half_life"] == "36h"
    assert cond.as_json() == {"where": {"made": {"$gte": {"$date": NOW.isoformat()}}, "price": 1.5}, "factor": 2}
    assert read_boosts({"field": "a", "half": 1}) == (NumberBoost("a", 1, 0.2),)
    assert read_boosts({"field": "a", "half_life": "2w"}) == (RecencyBoost("a", timedelta(days=14)),)
    assert read_boosts([]) == ()


def test_not_a_number_and_infinity_count_as_they_can(mapped: SearchEngine, engine: Engine) -> None:
    assert ORDERS.factors([math.inf, 1e308, 2**1024, 0, -1], 0) == [1.2, 1.2, 1.2, 1, 1]
    assert ORDERS.factors([math.nan, None, True, Decimal("nan"), "1"], 0) == [1] * 5
    RecordStore(mapped).insert("Huge", [{"id": 1, "name": "a lamp", "orders": 10**300}, {"id": 2, "name": "a lamp"}])
    assert factors(mapped.search("lamp", entity="Huge", boost=ORDERS, explain=True)) == {"1": 1.2, "2": 1.0}


WORDS = ("lamp", "desk", "floor", "red", "blue", "old", "new", "oak")


def by_hand(search: SearchEngine, query: str, rows: Mapping[str, Mapping[str, Any]], factor: Any) -> dict[str, float]:
    """The boosted score of every hit: its fused score, of which legs are explained, what of it is above that of an
    unrelated text by its factor. A leg's score is the cosine's distance from -1, over the best one's."""
    found = search.search(query, boost=[], explain=True, limit=len(rows))
    fused = {hit.id: sum(leg.weight * leg.score for leg in hit.explanation) for hit in found}
    near = [leg for hit in found for leg in hit.explanation if leg.leg == "vector" and leg.score]
    (noise,) = [generation.noise_mean for generation in search.generations()]
    assert noise is not None
    floor = near[0].weight * (1 + noise) * near[0].score / (1 + near[0].raw) if near else 0.0
    return {
        id_: floor + max(0, score - floor) * factor(rows[id_]) - max(0, floor - score) for id_, score in fused.items()
    }


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 12))])
def test_an_exact_page_is_the_order_over_all_records(
    search: SearchEngine, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    rows = {
        str(n): {
            "id": str(n),
            "name": " ".join(chance.choices(WORDS, k=chance.randint(1, 6))),
            "orders": chance.choice([None, 0, chance.randint(1, 1000)]),
            "in_stock": chance.random() < 0.5,
        }
        for n in range(60)
    }
    RecordStore(search).insert("Lamp", list(rows.values()))
    half, weight, times = chance.choice([1, 50, 500]), chance.choice([0.05, 0.5, 10]), chance.choice([0.3, 1.05, 3])

    def factor(row: Mapping[str, Any]) -> float:
        raised = 1 + weight * ((row["orders"] or 0) / ((row["orders"] or 0) + half))
        return raised * (times if row["in_stock"] else 1)

    boosts = [number("orders", half=half, weight=weight), when({"in_stock": True}, times)]
    exact = 0
    queries = [" ".join(chance.sample(WORDS, k)) for k in (1, 2, 3, 4)]
    expected = {query: by_hand(search, query, rows, factor) for query in queries}
    for depth in (3, 6, 12, 30, 100):
        monkeypatch.setattr("kameleon.search.query.BOOSTED", depth)
        for query in queries:
            best = sorted(expected[query].values(), reverse=True)
            found = search.search(query, boost=boosts, limit=3)
            values = [expected[query][hit.id] for hit in found]
            if found.exact:
                exact += 1
                assert values == pytest.approx(best[: len(values)])
    assert exact >= len(queries), "with all records as candidates a page is exact"


def test_a_page_of_records_of_classes_alone_is_boosted_beside_an_entity(mapped: SearchEngine) -> None:
    declare(mapped, "Page")
    RecordStore(mapped).insert("Page", [{"id": 1, "name": "a sofa", "orders": 100}])
    boost = [number("orders", half=100), when({"orders": 100})]
    found = mapped.search("lamp", entity=["Page", Chair], mode="keyword", boost=boost, explain=True)
    assert factors(found) == pytest.approx({"1": 1.1 * 1.2, "2": 1 + 0.4 / 3, "3": 1.15})


def test_an_entity_of_the_name_of_a_class_without_a_table_is_searched_beside_a_class(
    search: SearchEngine, engine: Engine
) -> None:
    Base.metadata.create_all(engine, tables=[Base.metadata.tables["boosted_chair"]])
    declare(search, "Lamp")
    RecordStore(search).insert("Lamp", [{"id": 1, "name": "a lamp", "orders": 300}])
    assert ids(search.search("lamp", entity=["Lamp", Chair])) == ["1"]


def test_of_records_that_are_gone_no_boosts_are_read(stored: SearchEngine) -> None:
    condition = Comparison(("in_stock",), "$eq", True)
    probes: Sequence[Probe] = [ValueAt(("orders",)), ValueAt(("created",)), condition]
    with stored.index.reading() as connection:
        probed = stored.index.store.records.probed(connection, [10**9], probes)
    assert (list(probed.docs), len(probed.columns)) == ([], 3)


@pytest.mark.parametrize("fusion", ["weighted", "rrf", "dbsf"])
def test_a_page_is_not_exact_where_a_record_that_was_not_boosted_may_be_on_it(
    stored: SearchEngine, monkeypatch: pytest.MonkeyPatch, fusion: str
) -> None:
    options: dict[str, Any] = {"boost": when({"id": "8"}, 10), "limit": 1, "fusion": fusion}
    whole = stored.search("lamp", **options)
    assert (ids(whole), whole.exact) == (["8"], True)
    for name in ("FIRST", "BOOSTED"):
        monkeypatch.setattr(f"kameleon.search.boosting.{name}", 2)
    found = stored.search("lamp", **options)
    assert (ids(found) == ["8"], found.exact) == (False, False)


def test_coroutines_take_boosts(kept: SearchEngine) -> None:
    async def search() -> list[list[str]]:
        found = await kept.asearch("lamp", boost=BOOSTS), await kept.asimilar("Lamp", "3", boost=BOOSTS)
        return [ids(hits) for hits in found]

    found, similar = asyncio.run(search())
    assert found[:4] == similar[:4] == ["1", "2", "7", "4"]


def test_the_command_raises_keeps_and_shows_boosts(command: Any) -> None:
    run: Run = checked(command)
    fields = ["--field", "orders:number", "--field", "created:text", "--field", "in_stock:boolean"]
    run("entity", "create", "Lamp", "--search", "name", *fields, "--boost", "orders:100")
    run("data", "insert", "Lamp", stdin="\n".join(json.dumps({**row, "name": "a lamp"}) for row in ROWS[:3]))
    boosts = ["--boost", "orders:100", "--boost", "created:30d:0.5", "--boost", '{"in_stock": true}:3', "--explain"]
    assert hits(run("--json", "search", "lamp")) == ["2", "1", "3"]
    assert hits(run("--json", "search", "lamp", *boosts)) == ["1", "2", "3"]
    assert hits(run("--json", "similar", "Lamp", "3", *boosts)) == ["1", "2"]
    shown = run("search", "lamp", *boosts).stdout
    assert "boost:orders: x 1.1000 (value 100.0000)" in shown
    assert 'boost:{"in_stock": true}: x 3.0000 (holds)' in shown
    assert 'boost:{"in_stock": true}: x 1.0000 (does not hold)' in shown
    factors = [
        float(line.rpartition(" x ")[2].split()[0]) for line in shown.split("2. Lamp")[0].splitlines() if " x " in line
    ]
    assert factors[-1] == pytest.approx(factors[-4] * factors[-3] * factors[-2], abs=1e-3)
    run("entity", "update", "Lamp", "--boost", "created:12h", "--boost", '{"in_stock": false}:0.5')
    described = json.loads(run("--json", "entity", "describe", "Lamp").stdout)
    created = {"field": "created", "half_life": "12h", "weight": 0.2}
    assert described["boost"] == [created, {"where": {"in_stock": False}, "factor": 0.5}]
    assert 'created:12h:0.2, {"in_stock": false}:0.5' in run("entity", "list").stdout
    assert "created:12h:0.2" in run("entity", "describe", "Lamp").stdout
    run("entity", "update", "Lamp", "--no-boost")
    assert "boost" not in json.loads(run("--json", "entity", "describe", "Lamp").stdout)
    for wrong in ("orders", "orders:much", "{in_stock}:2", '{"in_stock": true}x2', "orders:1:x"):
        assert "--boost is FIELD:HALF" in run("search", "lamp", "--boost", wrong, status=2).stderr
    assert "unknown field" in run("search", "lamp", "--boost", "sold:1", status=1).stderr


def test_a_boost_by_a_function_has_its_name() -> None:
    def in_stock(cls: Any) -> Any:
        return cls.stock > 0

    assert when(in_stock).name == "boost:in_stock"
    assert when(lambda cls: cls.stock > 0).name == "boost:condition"


def hits(done: Any) -> list[str]:
    return [hit["id"] for hit in json.loads(done.stdout)["hits"]]
