"""Facets between bounds, by day, week, month and year, and over relationships: each bucket filters what it counts, on
each database."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import DateTime, Engine, ForeignKey, Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.errors import InvalidFilter, InvalidInput

from .conftest import ids, with_server


class Base(DeclarativeBase):
    pass


class Category(Base):
    __tablename__ = "bucket_category"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("bucket_category.id"))
    parent: Mapped["Category | None"] = relationship(remote_side="Category.id")


class Review(Base):
    __tablename__ = "bucket_review"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("bucket_item.id"))
    stars: Mapped[int]


@searchable(fields=["text"])
class Item(Base):
    __tablename__ = "bucket_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    on: Mapped[date | None]
    at: Mapped[datetime | None]
    zoned: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    category_id: Mapped[int | None] = mapped_column(ForeignKey("bucket_category.id"))
    category: Mapped[Category | None] = relationship()
    reviews: Mapped[list[Review]] = relationship()


PRICES = ["-1", "0", "9.99", "10", "99.5", "100", None, "50"]
DAYS = ["2025-12-29", "2025-12-31", "2026-01-01", "2026-01-04", "2026-01-05", "2026-02-28", None, "1969-12-31"]
TIMES = [day and datetime.fromisoformat(f"{day}T23:30") for day in DAYS]
MONTHS = {
    (date(1969, 12, 1), date(1970, 1, 1)): 1,
    (date(2025, 12, 1), date(2026, 1, 1)): 2,
    (date(2026, 1, 1), date(2026, 2, 1)): 3,
    (date(2026, 2, 1), date(2026, 3, 1)): 1,
}


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stored(search: SearchEngine) -> object:
    rows = [
        {
            "id": n,
            "text": f"text {n}",
            "price": price and float(price),
            "on": DAYS[n],
            "at": (at := TIMES[n]) and at.isoformat(),
            "zoned": at and f"{at.isoformat()}Z",
        }
        for n, price in enumerate(PRICES)
    ]
    RecordStore(search).insert("Item", [*rows, {"id": "list", "text": "text", "price": [5], "at": ["2026-01-01"]}])
    return "Item"


@pytest.fixture
def mapped(search: SearchEngine, engine: Engine) -> object:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        tools = Category(id=1, name="tools")
        saws, lamps = Category(id=2, name="saws", parent=tools), Category(id=3, name="lamps")
        for n, price in enumerate(PRICES):
            at = TIMES[n] or None
            item = Item(id=n, text=f"text {n}", price=price and Decimal(price), at=at, on=at and at.date())
            item.zoned = at and at.replace(tzinfo=UTC)
            item.category = (saws, saws, lamps, None)[n % 4]
            item.reviews = [Review(stars=stars) for stars in (5, 5, n)[: n % 4]]
            session.add(item)
    return Item


@pytest.fixture(params=["stored", "mapped"])
def entity(request: pytest.FixtureRequest) -> object:
    return request.getfixturevalue(request.param)


def check_filters(search: SearchEngine, entity: object, facet: Any, query: str = "") -> dict[Any, int]:
    """The counts of a facet, each of which the filter of its value finds."""
    options: dict[str, Any] = {"entity": entity, "mode": "keyword", "count": True, "limit": 50}
    ((field, counts),) = search.search(query, facets=[facet], **options).facets.items()
    assert counts
    for value, count in counts.items():
        found = search.search(query, where={field: value}, **options)
        assert (len(found), found.total) == (count, count), value
    return dict(counts)


@pytest.mark.parametrize("query", ["", "text"])
def test_bounds_make_buckets(search: SearchEngine, entity: object, query: str) -> None:
    wanted = {(None, 0): 1, (0, 10): 2, (10, 100): 3, (100, None): 1}
    assert check_filters(search, entity, {"price": [0, 10, 100]}, query) == wanted
    assert list(check_filters(search, entity, {"price": [0, 10, 100]}, query)) == list(wanted)
    exact = check_filters(search, entity, {"price": [Decimal("9.99"), Decimal("99.5"), 1000]}, query)
    assert list(exact.values()) == [2, 3, 2]
    assert check_filters(search, entity, {"on": [date(2026, 1, 1), date(2026, 1, 5)]}, query) == {
        (None, date(2026, 1, 1)): 3,
        (date(2026, 1, 1), date(2026, 1, 5)): 2,
        (date(2026, 1, 5), None): 2,
    }


@pytest.mark.parametrize("field", ["on", "at", "zoned"])
def test_dates_make_days_weeks_months_and_years(search: SearchEngine, entity: object, field: str) -> None:
    months = check_filters(search, entity, {field: "month"})
    assert (months, list(months)) == (MONTHS, list(MONTHS))
    assert list(check_filters(search, entity, {field: "year"}).values()) == [1, 2, 4]
    weeks = check_filters(search, entity, {field: "week"})
    assert weeks[date(2025, 12, 29), date(2026, 1, 5)] == 4
    assert list(weeks.values()) == [1, 4, 1, 1]
    days = check_filters(search, entity, {field: "day"})
    assert [start.isoformat() for start, _ in days] == sorted(day for day in DAYS if day)


def test_facets_of_every_kind_come_together(search: SearchEngine, entity: object) -> None:
    facets: list[Any] = ["text", {"price": [0, 10], "on": "year"}, {"at": "month"}]
    found = search.search("text", entity=entity, where={"price": {"$gte": 0}}, facets=facets)
    assert list(found.facets) == ["text", "price", "on", "at"]
    assert found.facets["price"] == {(0, 10): 2, (10, None): 4}
    assert sum(found.facets["on"].values()) == 6
    assert search.search(entity=entity, facets={"price": [0, 10], "text": None}).facets.keys() == {"price", "text"}


def test_facets_and_filters_go_over_relationships(search: SearchEngine, mapped: type) -> None:
    assert check_filters(search, mapped, "category.name") == {"saws": 4, "lamps": 2}
    assert check_filters(search, mapped, "category.parent.name", "text") == {"tools": 4}
    assert check_filters(search, mapped, "reviews.stars") == {5: 6, 3: 1, 7: 1}
    assert check_filters(search, mapped, {"reviews.stars": [4, 5, 6]}) == {(None, 4): 1, (5, 6): 6, (6, None): 1}
    for where, wanted in (
        ({"category.name": None}, "37"),
        ({"category.name": {"$ne": "saws"}}, "2367"),
        ({"category.name": {"$in": ["lamps", None]}}, "2367"),
        ({"category.name": {"$nin": ["lamps", None]}}, "0145"),
        ({"category.parent.name": {"$exists": False}}, "2367"),
        ({"reviews.stars": {"$gt": 5}}, "7"),
        ({"reviews.stars": {"$ne": 5}}, "04"),
        ({"$and": [{"category.name": "saws"}, {"$not": {"id": 1}}]}, "045"),
    ):
        assert "".join(ids(search.search(entity=mapped, where=where))) == wanted, where
        assert "".join(sorted(ids(search.search("text", entity=mapped, where=where)))) == wanted, where
    by_name = ids(search.search(entity=mapped, sort="-category.name"))
    assert by_name == [*"0145", *"26", *"37"]
    assert sorted(ids(search.search("text", entity=mapped, sort="category.name"))[:2]) == ["2", "6"]
    for wrong in ("categorie.name", "category.title", "category.parent", "category.name.x", "id.name"):
        for options in ({"facets": [wrong]}, {"where": {wrong: 1}}, {"sort": wrong}):
            with pytest.raises(InvalidFilter, match="has no "):
                search.search("text", entity=mapped, **options)
    with pytest.raises(InvalidFilter, match="several values"):
        search.search(entity=mapped, sort="reviews.stars")
    with pytest.raises(InvalidFilter, match="are of dates and times"):
        search.search(entity=mapped, facets={"price": "month"})


@pytest.mark.parametrize(
    "facets",
    [
        *([{"n": []}], [{"n": [3, 2]}], [{"n": [1, "a"]}], [{"n": [1, 1]}], [{"n": [None, 1]}], [{"n": [True]}]),
        *([{"n": "decade"}], [{"n": 5}], ["n", {"n": "month"}], [{"n": [1]}, {"n": [2]}], [{"": [1]}], [5], 5, "n"),
        *([{"n": list(range(101))}], [{"n": [float("nan")]}], [str(n) for n in range(21)]),
    ],
)
def test_a_facet_that_is_none_is_refused(search: SearchEngine, facets: Any) -> None:
    with pytest.raises(InvalidInput):
        search.search("text", facets=facets)
