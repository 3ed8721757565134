"""Facets of a mapped class's columns of each type, and the filters that find what these count, on each database."""

import uuid
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    REAL,
    BigInteger,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    delete,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.errors import InvalidFilter
from kameleon.facet_counts import FacetCounts

from .conftest import ids, with_server
from .test_facets import members, values

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class Part(Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    whole: Mapped[int | None]
    large: Mapped[int | None] = mapped_column(BigInteger)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    exact: Mapped[Decimal | None] = mapped_column(Numeric(30, 12))
    ratio: Mapped[float | None] = mapped_column(Float)
    narrow: Mapped[float | None] = mapped_column(REAL)
    few: Mapped[float | None] = mapped_column(Float(20))
    flag: Mapped[bool | None]
    day: Mapped[date | None]
    at: Mapped[datetime | None]
    zoned: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    hour: Mapped[time | None]
    span: Mapped[timedelta | None]
    key: Mapped[uuid.UUID | None]
    size: Mapped[Size | None]
    code: Mapped[str | None] = mapped_column(String(20))
    padded: Mapped[str | None] = mapped_column(CHAR(4))
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    tags: Mapped[Any] = mapped_column(JSON)
    binary: Mapped[Any] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))


@searchable(fields=["text"])
class Shelf(Base):
    """PostgreSQL alone has arrays."""

    __tablename__ = "list_shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    names: Mapped[list[str | None] | None] = mapped_column(ARRAY(String))
    numbers: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    ratios: Mapped[list[list[float]] | None] = mapped_column(ARRAY(Float, dimensions=2))


SOME: dict[str, list[Any]] = {
    "whole": [0, 1, -1, 2**31 - 1, -(2**31)],
    "large": [0, 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1],
    "price": [Decimal(text) for text in ("0", "1.00", "19.99", "-0.01", "99999999.99")],
    "exact": [Decimal(text) for text in ("0", "0.1", "0.000000000001", "123.456789012345")],
    "ratio": [0.0, 1.0, 0.1, 1e300, -2.5, 1e-300],
    "narrow": [0.0, 1.0, 0.1, 2.5, 16777216.0],
    "few": [0.0, 0.1, 0.3],
    "flag": [True, False],
    "day": [date(2026, 1, 31), date(1, 1, 1), date(9999, 12, 31)],
    "at": [datetime(2026, 1, 31, 12), datetime(2026, 1, 31, 12, 0, 0, 1)],
    "zoned": [datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 13, 0, 0, 5, tzinfo=UTC)],
    "hour": [time(12), time(12, 0, 0, 1)],
    "span": [timedelta(0), timedelta(days=2, microseconds=5)],
    "key": [uuid.UUID(int=n) for n in (0, 1, 2**127)],
    "size": [*Size],
    "code": ["", "a", "A", "ä", "a ", "%", "o'clock"],
    "padded": ["ab", "abcd"],
    "data": [b"", b"\0\xff"],
}


def is_exact(value: Any) -> bool:
    """JSONB stores the digits that SQLAlchemy writes, which are not those of a large float."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(is_exact, inner)) and not (isinstance(value, float) and 1e16 < abs(value) < 2**63)


documents = values.filter(is_exact)
rows = st.fixed_dictionaries(
    {
        **{name: st.none() | st.sampled_from(some) for name, some in SOME.items()},
        "large": st.none() | st.sampled_from(SOME["large"]) | st.integers(-(2**63), 2**63 - 1),
        "code": st.none() | st.sampled_from(SOME["code"]) | st.text("aä' \"\\:", max_size=5),
        "tags": documents,
        "binary": documents,
    }
)


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def maker(engine: Engine, search: SearchEngine) -> Any:
    is_native = engine.dialect.name == "postgresql"
    Base.metadata.create_all(engine, [Part.__table__, *([Shelf.__table__] if is_native else [])])  # type: ignore[list-item]
    return search.attach(sessionmaker(engine))


def shown(search: SearchEngine, cls: type, field: str) -> dict[Any, int]:
    return search.search("thing", entity=cls, mode="keyword", facets=[field], limit=1).facets[field]  # type: ignore[return-value]


def found(search: SearchEngine, cls: type, where: Any) -> list[str]:
    return sorted(ids(search.search("thing", entity=cls, mode="keyword", where=where, limit=100)), key=int)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, phases=PHASES)
@given(st.lists(rows, min_size=1, max_size=8))
def test_a_filter_finds_as_many_rows_as_a_facet_counts(search: SearchEngine, maker: Any, parts: list[Any]) -> None:
    with maker.begin() as session:
        session.execute(delete(Part))
        session.add_all([Part(id=n, text="thing", **part) for n, part in enumerate(parts, 1)])
    every = [str(n) for n, _ in enumerate(parts, 1)]
    facets = search.search("thing", entity=Part, mode="keyword", facets=[*SOME], limit=1).facets
    facets = {
        **facets,
        **search.search("thing", entity=Part, mode="keyword", facets=["tags", "binary"], limit=1).facets,
    }
    for field, counts in facets.items():
        if field in SOME:
            wanted = Counter((False, part[field]) for part in parts if part[field] is not None)
            if field == "padded":
                counts = {value.rstrip(): count for value, count in counts.items()}
            if field in ("zoned", "narrow", "few"):
                assert sum(counts.values()) == sum(wanted.values())
            else:
                assert {(False, value): count for value, count in counts.items()} == dict(wanted), field
        else:
            wanted = Counter(member for part in parts for member in members(part[field]))
            assert {(type(value) is bool, value): count for value, count in counts.items()} == dict(wanted)
        for value, count in counts.items():
            those = found(search, Part, {field: value})
            assert len(those) == count, (field, value)
            assert found(search, Part, {field: {"$in": [value]}}) == those
            assert found(search, Part, {field: {"$ne": value}}) == [id_ for id_ in every if id_ not in those]
        blank = [id_ for id_, part in zip(every, parts, strict=True) if part[field] is None]
        assert found(search, Part, {field: None}) == blank


def test_a_path_into_a_column_of_json_is_a_field(search: SearchEngine, maker: Any) -> None:
    kinds = [
        {"kind": "a", "n": 1},
        {"kind": "b", "n": True},
        {"kind": ["a", "b"]},
        {"0": "a"},
        ["a"],
        None,
        {"kind": None},
    ]
    with maker.begin() as session:
        session.add_all([Part(id=n, text="thing", tags=data, binary=data) for n, data in enumerate(kinds, 1)])
    for column in ("tags", "binary"):
        assert shown(search, Part, f"{column}.kind") == {"a": 2, "b": 2}
        assert found(search, Part, {f"{column}.kind": "a"}) == ["1", "3"]
        assert shown(search, Part, f"{column}.n") == FacetCounts([(1, 1), (True, 1)])
        assert found(search, Part, {f"{column}.n": True}) == ["2"]
        assert shown(search, Part, f"{column}.0") == {"a": 1}
        assert found(search, Part, {f"{column}.0": "a"}) == ["4"]
        assert found(search, Part, {column: "a"}) == ["5"]
        assert found(search, Part, {column: {"n": 1, "kind": "a"}}) == ["1"]
        assert found(search, Part, {f"{column}.n": {"$gte": 1}}) == ["1"]
        assert found(search, Part, {f"{column}.kind": {"$exists": True}}) == ["1", "2", "3", "7"]
        assert found(search, Part, {column: None}) == ["6"]
        ordered = search.search("thing", entity=Part, mode="keyword", sort=f"-{column}.kind", limit=3)
        assert ids(ordered)[:2] == ["2", "1"]
    with pytest.raises(InvalidFilter, match="no relationship 'code'"):
        shown(search, Part, "code.x")


def test_an_array_counts_for_each_of_its_members(search: SearchEngine, maker: Any, engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("PostgreSQL alone has arrays")
    rows_: list[dict[str, Any]] = [
        {"names": ["a", "b", "a"], "numbers": [1, 2], "ratios": [[0.5, 1.0], [0.5, 2.0]]},
        {"names": ["b", None], "numbers": [], "ratios": []},
        {"names": None, "numbers": [2], "ratios": None},
    ]
    with maker.begin() as session:
        session.add_all([Shelf(id=n, text="thing", **row) for n, row in enumerate(rows_, 1)])
    assert shown(search, Shelf, "names") == {"b": 2, "a": 1}
    assert shown(search, Shelf, "numbers") == {2: 2, 1: 1}
    assert shown(search, Shelf, "ratios") == {0.5: 1, 1: 1, 2: 1}
    for where, wanted in (
        ({"names": "b"}, ["1", "2"]),
        ({"names": {"$contains": "a"}}, ["1"]),
        ({"names": {"$in": ["a", "z"]}}, ["1"]),
        ({"names": {"$ne": "a"}}, ["2", "3"]),
        ({"names": None}, ["3"]),
        ({"names": {"$exists": True}}, ["1", "2"]),
        ({"numbers": [2]}, ["3"]),
        ({"numbers": 2}, ["1", "3"]),
        ({"numbers": {"$nin": [1]}}, ["2", "3"]),
        ({"ratios": 0.5}, ["1"]),
    ):
        assert found(search, Shelf, where) == wanted, where
    with pytest.raises(InvalidFilter, match="which has no order"):
        found(search, Shelf, {"numbers": {"$gt": 1}})
    with pytest.raises(InvalidFilter, match="compares with numbers"):
        found(search, Shelf, {"numbers": "a"})
