"""`limit_by`: so many hits of each value of a field, over all pages, of stored records and of mapped classes."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from kameleon import ALL_TENANTS, RecordStore, SearchEngine, SearchResult, searchable
from kameleon.errors import InvalidFilter, InvalidInput

from .conftest import Indexes, ids, pages

LAMPS = 40
OTHERS = 12


class Base(DeclarativeBase):
    pass


class Maker(Base):
    __tablename__ = "limited_maker"

    id: Mapped[int] = mapped_column(primary_key=True)
    city: Mapped[str]


class Review(Base):
    __tablename__ = "limited_review"

    id: Mapped[int] = mapped_column(primary_key=True)
    lamp_id: Mapped[int] = mapped_column(ForeignKey("limited_lamp.id"))
    stars: Mapped[int]


@searchable(fields=["name"])
class Lamp(Base):
    __tablename__ = "limited_lamp"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    brand: Mapped[str | None]
    price: Mapped[int]
    tags: Mapped[Any] = mapped_column(JSON)
    maker_id: Mapped[int | None] = mapped_column(ForeignKey("limited_maker.id"))
    maker: Mapped[Maker | None] = relationship()
    reviews: Mapped[list[Review]] = relationship()


CITIES = ("Oslo", "Rome", "Kyiv")
BRANDS = ("Ikon", "Lum", "Nox", None)


def values(n: int) -> dict[str, Any]:
    """The fields of lamp `n`, in the forms that stored records have."""
    return {
        "name": f"desk lamp number{n} " + "bright " * (n % 5),
        "brand": BRANDS[n % 4],
        "price": n % 7,
        "tags": [["led"], ["led", "warm"], [], [n, "cold"]][n % 4],
        "maker": {"city": CITIES[n % 3]} if n % 5 else None,
        "reviews": [{"stars": stars} for stars in (5, 5, n % 6)[: n % 4]],
    }


VALUES_OF: dict[str, Callable[[dict[str, Any]], Sequence[Any]]] = {
    "brand": lambda row: [row["brand"]] if row["brand"] else [],
    "price": lambda row: [row["price"]],
    "tags": lambda row: row["tags"],
    "maker.city": lambda row: [row["maker"]["city"]] if row["maker"] else [],
    "reviews.stars": lambda row: [review["stars"] for review in row["reviews"]],
}


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill_stored(search: SearchEngine) -> None:
    RecordStore(search).insert("Lamp", [{"id": n, **values(n)} for n in range(LAMPS)])


def fill_mapped(search: SearchEngine) -> None:
    Base.metadata.create_all(search.engine)
    with search.attach(sessionmaker(search.engine)).begin() as session:
        makers = {city: Maker(city=city) for city in CITIES}
        for n in range(LAMPS):
            row = values(n)
            row["maker"] = makers[row["maker"]["city"]] if row["maker"] else None
            row["reviews"] = [Review(**review) for review in row["reviews"]]
            session.add(Lamp(id=n, **row))


Filled = tuple[SearchEngine, Any]


FILLED = {"stored": (fill_stored, "Lamp"), "mapped": (fill_mapped, Lamp)}


@pytest.fixture(params=FILLED)
def filled(indexes: Indexes, backend: str, request: pytest.FixtureRequest) -> Filled:
    """An index that tests only read, and the entity in it."""
    fill, entity = FILLED[request.param]
    return indexes(backend, fill), entity


def capped(ranked: Iterable[SearchResult], field: str, most: int) -> list[str]:
    """The ids of those that `limit_by` leaves, one by one."""
    counts: Counter[Any] = Counter()
    kept = []
    for hit in ranked:
        of_hit = set(VALUES_OF[field](values(int(hit.id))))
        if all(counts[value] < most for value in of_hit):
            counts.update(of_hit)
            kept.append(hit.id)
    return kept


@pytest.mark.parametrize(("field", "most"), [("brand", 1), ("maker.city", 2), ("tags", 1), ("price", 2)])
def test_all_pages_have_so_many_hits_of_each_value(filled: Filled, field: str, most: int) -> None:
    check_all_pages(*filled, field, most)


def test_the_values_of_several_related_rows_count_each(indexes: Indexes, backend: str) -> None:
    check_all_pages(indexes(backend, fill_mapped), Lamp, "reviews.stars", 3)


def check_all_pages(search: SearchEngine, entity: Any, field: str, most: int) -> None:
    options: dict[str, Any] = {"entity": entity, "mode": "keyword"}
    ranked = search.search("bright desk lamp", limit=LAMPS, **options)
    assert len(ranked) == LAMPS
    wanted = capped(ranked, field, most)
    assert 3 <= len(wanted) < LAMPS
    options["limit_by"] = {field: most}
    found = search.search("bright desk lamp", limit=LAMPS, **options)
    assert ids(found) == wanted
    assert (found.total, found.is_total_exact, found.exact, found.cursor) == (LAMPS, True, True, None)
    by_offset = [
        hit for at in range(0, LAMPS, 5) for hit in search.search("bright desk lamp", limit=5, offset=at, **options)
    ]
    by_cursor = [hit for page in pages(search, "bright desk lamp", limit=5, **options) for hit in page]
    assert ids(by_offset) == ids(by_cursor) == wanted


@pytest.mark.parametrize("mode", ["hybrid", "keyword", "vector"])
def test_a_page_is_filled_from_records_far_down(search: SearchEngine, mode: str) -> None:
    rows = [{"id": f"a{n}", "name": f"lamp lamp {n}", "brand": "a"} for n in range(300)]
    rows += [{"id": f"b{n}", "name": f"lamp number {n} of a long name", "brand": f"b{n}"} for n in range(OTHERS)]
    RecordStore(search).insert("Lamp", rows)
    options: dict[str, Any] = {"entity": "Lamp", "mode": mode, "limit_by": {"brand": 1}}
    assert {hit.data and hit.data["brand"] for hit in search.search("lamp", limit=100, entity="Lamp", mode=mode)} == {
        "a"
    }
    first = search.search("lamp", limit=10, **options)
    brands = [hit.data["brand"] for hit in first if hit.data]
    assert len(set(brands)) == 10
    assert brands[0] == "a"
    assert first.exact
    assert first.cursor
    found = pages(search, "lamp", limit=5, **options)
    assert [len(page) for page in found] == [5, 5, 3]
    assert [hit.id for page in found for hit in page][:10] == ids(first)
    counted = search.search("lamp", limit=3, count=True, facets=["brand"], **options)
    assert (counted.total, counted.facets["brand"]["a"]) == (300 + OTHERS, 300)


def test_where_more_candidates_might_change_the_page_it_is_not_exact(
    search: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.search.query.DEEPEST", 100)
    rows = [{"id": n, "name": f"lamp lamp {n}", "brand": "a"} for n in range(150)]
    RecordStore(search).insert("Lamp", [*rows, {"id": "b", "name": "lamp of a long name", "brand": "b"}])
    found = search.search("lamp", mode="keyword", limit_by={"brand": 1})
    assert (len(found), found.exact, found.cursor) == (1, False, None)
    assert search.search("lamp", mode="keyword", limit_by={"brand": 10}).exact


def test_a_page_by_cursor_counts_what_was_shown(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("Lamp", [{"id": n, "name": f"lamp {n}", "brand": f"brand{n % 20}"} for n in range(60)])
    options: dict[str, Any] = {"limit": 4, "limit_by": {"brand": 2}}
    found = search.search("lamp", **options)
    brands, seen = Counter(hit.data["brand"] for hit in found if hit.data), ids(found)
    for n in range(6):
        store.insert("Lamp", [{"id": f"new{n}", "name": "lamp lamp", "brand": f"brand{n}"}])
        found = search.search("lamp", cursor=found.cursor, **options)
        brands.update(hit.data["brand"] for hit in found if hit.data)
        seen += ids(found)
    assert len(seen) == len(set(seen)) == 28
    assert max(brands.values()) == 2
    with pytest.raises(InvalidInput, match="belongs to another query"):
        search.search("lamp", cursor=found.cursor, limit_by={"brand": 3})


def test_true_and_one_are_two_values_and_records_without_one_are_not_limited(search: SearchEngine) -> None:
    kinds: list[Any] = [True, 1, 1.0, False, 0, "1", None, {"a": 1}, [], [[1]]]
    rows = [{"id": n, "name": f"lamp {n}", "kind": kind} for n, kind in enumerate(kinds)]
    RecordStore(search).insert("Lamp", [*rows, {"id": 10, "name": "lamp 10"}])
    found = search.search("lamp", mode="keyword", limit=50, limit_by={"kind": 1})
    assert sorted(map(int, ids(found))) == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert search.search("lamp", entity="Lamp", limit_by={"kind": 1}, where={"kind": 1}).total == 2


def test_in_an_order_by_a_field_the_first_of_each_value_stay(filled: Filled) -> None:
    search, entity = filled
    options: dict[str, Any] = {"entity": entity, "sort": "-price,name", "limit": LAMPS, "mode": "keyword"}
    ranked = search.search("desk lamp", **options)
    found = search.search("desk lamp", limit_by={"brand": 1}, **options)
    assert ids(found) == capped(ranked, "brand", 1) != ids(ranked)
    assert found.total == LAMPS
    by_cursor = [
        hit for page in pages(search, "desk lamp", limit_by={"brand": 1}, **{**options, "limit": 3}) for hit in page
    ]
    assert ids(by_cursor) == ids(found)


def test_after_a_reranker_its_best_of_each_value_stay(filled: Filled) -> None:
    search, entity = filled

    def dullest(_query: str, texts: Sequence[str]) -> list[float]:
        return [1 / (1 + text.count("bright")) for text in texts]

    options: dict[str, Any] = {"entity": entity, "rerank": dullest, "rerank_top": LAMPS}
    ranked = search.search("desk lamp", limit=LAMPS, **options)
    found = search.search("desk lamp", limit=5, limit_by={"maker.city": 1}, **options)
    assert ids(found) == capped(ranked, "maker.city", 1)[:5]
    assert (found.exact, found.total) == (False, LAMPS)


def test_diversity_chooses_among_what_is_left(filled: Filled) -> None:
    search, entity = filled
    options: dict[str, Any] = {"entity": entity, "limit_by": {"price": 2}}
    left = search.search("desk lamp", limit=LAMPS, **options)
    found = search.search("desk lamp", limit=LAMPS, diversity=0.7, **options)
    assert sorted(ids(found)) == sorted(ids(left)) != ids(found)
    assert len(found) == 14
    by_offset = [
        hit for at in (0, 5, 10) for hit in search.search("desk lamp", limit=5, offset=at, diversity=0.7, **options)
    ]
    assert ids(by_offset) == ids(found)


def test_diversity_compares_as_many_whatever_the_page(search: SearchEngine) -> None:
    rows = [{"id": f"a{n}", "name": f"lamp lamp {n}", "brand": "a"} for n in range(220)]
    rows += [{"id": f"b{n}", "name": f"lamp lamp {n}", "brand": f"b{n}"} for n in range(30)]
    rows += [{"id": f"c{n}", "name": f"lamp tall {n} of oak wood {n}", "brand": f"c{n}"} for n in range(60)]
    RecordStore(search).insert("Lamp", rows)
    options: dict[str, Any] = {"entity": "Lamp", "mode": "vector", "diversity": 0.9, "limit_by": {"brand": 1}}
    whole = search.search("lamp lamp", limit=90, **options)
    assert any(hit.id.startswith("c") for hit in whole[:5])
    assert ids(search.search("lamp lamp", limit=5, **options)) == ids(whole)[:5]


def test_the_hits_of_several_tenants_count_together(search: SearchEngine) -> None:
    RecordStore(search).create_entity("Lamp", search=["name"], fields={"brand": "text"}, tenant_field="")
    for tenant in ("acme", "globex"):
        rows = [{"id": n, "name": f"lamp {n}", "brand": "ab"[n % 2]} for n in range(4)]
        RecordStore(search.for_tenant(tenant)).insert("Lamp", rows)
    assert len(search.for_tenant("acme").search("lamp", limit_by={"brand": 1})) == 2
    everywhere = search.search("lamp", tenant=ALL_TENANTS, limit_by={"brand": 1}, entity="Lamp")
    assert sorted(hit.data["brand"] for hit in everywhere if hit.data) == ["a", "b"]
    assert everywhere.total == 8


def test_classes_and_stored_records_are_limited_together(search: SearchEngine) -> None:
    fill_mapped(search)
    RecordStore(search).insert("Torch", [{"id": n, "name": f"lamp torch {n}", "brand": "Nox"} for n in range(5)])
    found = search.search("lamp", entities=[Lamp, "Torch"], limit=50, limit_by={"brand": 1}, mode="keyword")
    branded = [hit for hit in found if hit.entity == "Torch" or values(int(hit.id))["brand"]]
    assert len(branded) == 3
    assert len(found) == 3 + LAMPS // 4
    assert len(search.search("lamp", limit=50, limit_by={"brand": 1}, mode="keyword")) > len(found)


@pytest.mark.parametrize(
    ("limit_by", "message"),
    [
        ("brand", r"limit_by is a field and how many hits .* such as \{\"brand\": 1\}; got 'brand'"),
        ({}, "limit_by is a field and how many"),
        ({"brand": 1, "price": 1}, r"limit_by takes one field, not 2: keep one of \['brand', 'price'\]"),
        ({"brand": 0}, "limit_by takes a whole number of hits from 1 to 10,000, not 0"),
        ({"brand": True}, "not True"),
        ({"brand": "1"}, "not '1'"),
        ({1: 1}, "limit_by is a field and how many"),
    ],
)
def test_anything_else_is_refused(indexes: Indexes, backend: str, limit_by: Any, message: str) -> None:
    search = indexes(backend, fill_stored)
    with pytest.raises(InvalidInput, match=message):
        search.search("lamp", entity="Lamp", limit_by=limit_by)


def test_what_it_cannot_be_used_with_is_refused(filled: Filled) -> None:
    search, entity = filled
    with pytest.raises(InvalidInput, match="limit_by and group_by both choose the hits of a group: leave one out"):
        search.search("lamp", entity=entity, limit_by={"brand": 1}, group_by="entity")
    with pytest.raises(InvalidInput, match="limit_by chooses among ranked hits, and an empty query ranks none"):
        search.search("", entity=entity, limit_by={"brand": 1})
    with pytest.raises(InvalidFilter, match="colour"):
        search.search("lamp", entity=entity, limit_by={"colour": 1})
