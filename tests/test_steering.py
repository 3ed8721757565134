"""Boosts, pinned and hidden records, caps, diversity and reranking in any combination, over all pages, for stored
records and mapped classes of two tenants. On each database."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, SearchResult, SearchResults, searchable
from kameleon.boosts import number, when

Ref = tuple[str, str, str]
WORDS = ("lamp", "desk", "oak", "red")
TENANTS = ("acme", "globex")
ROWS: Sequence[Mapping[str, Any]] = [
    {
        "id": n,
        "name": " ".join(WORDS[place] for place in range(4) if (n + 1) >> place & 1) or "blue",
        "brand": (None, "x", "y")[n % 3],
        "orders": (None, 0, 7, 100)[n % 4],
        "tenant": TENANTS[n % 5 % 2],
    }
    for n in range(24)
]
BRANDS = {str(row["id"]): row["brand"] for row in ROWS}
PAIRS = [(entity, str(n)) for entity in ("Lamp", "Chair") for n in range(24)]


class Base(DeclarativeBase):
    pass


@searchable(fields=["name"], tenant="tenant")
class Chair(Base):
    __tablename__ = "steered_chair"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    brand: Mapped[str | None]
    orders: Mapped[int | None]
    tenant: Mapped[str]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(search: SearchEngine, engine: Engine) -> SearchEngine:
    Base.metadata.create_all(engine)
    store = RecordStore(search)
    store.create_entity("Lamp", search=["name"], fields={"brand": "any", "orders": "any"}, tenant_field="tenant")
    store.insert("Lamp", ROWS)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all(Chair(**row) for row in ROWS)
    return search


def pairs(most: int) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(st.sampled_from(PAIRS), max_size=most, unique=True)


SCOPE = st.fixed_dictionaries(
    {
        "entity": st.sampled_from(["Lamp", Chair, ["Lamp", Chair]]),
        "tenant": st.sampled_from(["acme", TENANTS]),
        "mode": st.sampled_from(["hybrid", "keyword", "vector"]),
    },
    optional={"where": st.sampled_from([{"brand": "x"}, {"orders": {"$gte": 7}}]), "fusion": st.just("rrf")},
)
BOOSTS = [number("orders", half=10, weight=2), when({"brand": "x"}, 3), when({"brand": "y"}, 0.5)]
STEERING = st.fixed_dictionaries(
    {},
    optional={
        "boost": st.lists(st.sampled_from(BOOSTS), max_size=2, unique_by=id),
        "limit_by": st.sampled_from([{"brand": 1}, {"brand": 3}]),
        "diversity": st.sampled_from([0.3, 1.0]),
        "pin": pairs(2),
        "hide": pairs(2),
        "rerank": st.just(lambda _, texts: [len(text) / 100 for text in texts]),
    },
)


def ref(hit: SearchResult) -> Ref:
    return hit.entity, hit.id, hit.tenant


def pages(shop: SearchEngine, query: str, by: str, options: Mapping[str, Any]) -> Iterator[SearchResult]:
    """The hits of all pages of five."""
    page: SearchResults | None = None
    offset = 0
    while page is None or page.cursor:
        place = {"offset": offset} if by == "offset" else {"cursor": page.cursor if page else None}
        page = shop.search(query, limit=5, **place, **options)
        assert 0 < len(page) <= 5 or not offset
        yield from page
        offset += 5


@given(
    query=st.sampled_from(["lamp", "red oak", "desk -lamp", '"oak red"']),
    scope=SCOPE,
    steering=STEERING,
    data=st.data(),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_the_pages_are_one_order_of_the_hits_that_there_are(
    shop: SearchEngine, query: str, scope: dict[str, Any], steering: dict[str, Any], data: st.DataObject
) -> None:
    plain = {ref(hit) for hit in shop.search(query, limit=100, **scope)}
    pinned, hidden = set(steering.get("pin", ())), set(steering.get("hide", ()))
    ruled: tuple[set[tuple[str, str]], set[tuple[str, str]]] = (set(data.draw(pairs(2))), set())
    if ruled[0]:
        shop.rules.set(query.split(" -")[0].strip('"'), pin=sorted(ruled[0]), tenant="acme")
    options = {**scope, **steering}
    try:
        whole = shop.search(query, limit=50, count=True, **options)
        order = [ref(hit) for hit in whole]
        for by in ("offset", "cursor"):
            assert [ref(hit) for hit in pages(shop, query, by, options)] == order
    finally:
        if ruled[0]:
            shop.rules.remove(query.split(" -")[0].strip('"'), tenant="acme")
    first = [ref(hit) for hit in whole if hit.is_pinned]
    assert first == order[: len(first)]
    assert len(set(order)) == len(order)
    assert all(pair[:2] in pinned or (pair[:2] in ruled[0] and pair[2] == "acme") for pair in first)
    left = {one for one in plain if one[:2] not in hidden} - set(first)
    if "limit_by" not in steering:
        assert set(order) - set(first) == left
        assert whole.total == len(order)
        return
    (most,) = steering["limit_by"].values()
    counts = Counter(BRANDS[id_] for _, id_, _ in order[len(first) :])
    expected = Counter(BRANDS[id_] for _, id_, _ in left)
    assert counts == {brand: count if brand is None else min(most, count) for brand, count in expected.items()}
