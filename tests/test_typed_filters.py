"""Filters on values of types that JSON does not have, on stored records and on mapped columns, on each database."""

import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import DateTime, Engine, Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.errors import InvalidFilter

from .conftest import ids


class State(Enum):
    OPEN = "open"
    SHUT = "shut"


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class Event(Base):
    __tablename__ = "typed_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    on: Mapped[date]
    at: Mapped[datetime]
    zoned: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    since: Mapped[time]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    ratio: Mapped[float]
    count: Mapped[int]
    key: Mapped[uuid.UUID]
    code: Mapped[str]
    state: Mapped[State]


KEYS = [uuid.UUID(int=n) for n in range(4)]
NOON = datetime(2026, 1, 31, 12)
ROWS: list[dict[str, Any]] = [
    {
        "id": n,
        "text": f"text {n}",
        "on": NOON.date() + timedelta(days=n),
        "at": NOON + timedelta(hours=n),
        "zoned": (NOON + timedelta(hours=n)).replace(tzinfo=UTC),
        "since": time(8 + n),
        "ratio": n / 4,
        "count": n,
        "price": Decimal("0.10") * n,
        "key": KEYS[n],
        "code": str(KEYS[n]),
        "state": list(State)[n % 2],
    }
    for n in range(4)
]
CASES: list[tuple[dict[str, Any], str]] = [
    ({"on": date(2026, 2, 1)}, "1"),
    ({"on": {"$gte": date(2026, 2, 1), "$lt": date(2026, 2, 3)}}, "12"),
    ({"on": {"$in": [date(2026, 1, 31), date(2026, 2, 2), None]}}, "02"),
    ({"on": {"$ne": date(2026, 1, 31)}}, "123"),
    ({"on": {"$date": "2026-02-01"}}, "1"),
    ({"on": {"$gt": {"$date": "2026-02-01"}}}, "23"),
    ({"at": datetime(2026, 1, 31, 13)}, "1"),
    ({"at": {"$gt": datetime(2026, 1, 31, 13)}}, "23"),
    ({"at": {"$gte": date(2026, 1, 31), "$lt": date(2026, 2, 1)}}, "0123"),
    ({"zoned": datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=1)))}, "1"),
    ({"zoned": {"$nin": [datetime(2026, 1, 31, 13, tzinfo=UTC), datetime(2026, 1, 31, 12)]}}, "23"),
    ({"since": {"$gte": time(9), "$lt": time(11)}}, "12"),
    ({"price": Decimal("0.1")}, "1"),
    ({"price": {"$gt": Decimal("0.1"), "$lte": Decimal("0.30")}}, "23"),
    ({"ratio": Decimal("0.25")}, "1"),
    ({"count": {"$in": [Decimal(2), Decimal("2.5")]}}, "2"),
    ({"count": Level.HIGH}, "3"),
    ({"key": KEYS[2]}, "2"),
    ({"key": {"$in": [KEYS[0], KEYS[3]]}}, "03"),
    ({"code": KEYS[2]}, "2"),
    ({"state": State.SHUT}, "13"),
    ({"state": {"$nin": [State.SHUT]}}, "02"),
    ({"code": {"$ne": Colour.RED}}, "0123"),
]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stored(search: SearchEngine) -> SearchEngine:
    """The rows as JSON has them."""

    def plain(value: Any) -> Any:
        if isinstance(value, date | time):
            return value.isoformat()
        return float(value) if isinstance(value, Decimal) else value.value if isinstance(value, Enum) else value

    rows = [{name: plain(str(v) if isinstance(v, uuid.UUID) else v) for name, v in row.items()} for row in ROWS]
    RecordStore(search).insert("Event", rows)
    return search


def found(search: SearchEngine, where: dict[str, Any], entity: object) -> str:
    listed = "".join(ids(search.search(where=where, entity=entity)))
    assert sorted(ids(search.search("text", where=where, entity=entity, mode="keyword"))) == sorted(listed)
    return listed


def test_a_stored_record_is_compared_with_values_of_any_type(stored: SearchEngine) -> None:
    assert [(where, found(stored, where, "Event")) for where, _ in CASES] == CASES


def test_a_column_is_compared_with_values_of_any_type(search: SearchEngine, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with search.attach(sessionmaker(engine)).begin() as session:
        session.add_all(Event(**row) for row in ROWS)
    assert [(where, found(search, where, Event)) for where, _ in CASES] == CASES
    for where in ({"on": NOON}, {"on": Decimal(1)}, {"count": date(2026, 1, 1)}, {"state": Colour.RED}):
        with pytest.raises(InvalidFilter, match="compares with"):
            search.search("text", entity=Event, where=where)


def test_texts_are_moments_however_they_are_written(search: SearchEngine) -> None:
    same = ["2026-01-31T12:30Z", "2026-01-31T12:30:00.000Z", "2026-01-31 14:30:00+02:00", "2026-01-31T12:30"]
    others = ["2026-01-31", "2026-02-31T12:30Z", "12:30", "now", "2026-01-31T12:30:00.001Z", "0000-01-31", "", "2026"]
    texts = [*same, *others, 5, None, ["2026-01-31T12:30Z"], {"a": 1}]
    RecordStore(search).insert("R", [{"id": f"{n:02}", "text": "text", "at": value} for n, value in enumerate(texts)])
    noon = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    assert ids(search.search(where={"at": noon})) == ["00", "01", "02", "03", "14"]
    assert ids(search.search(where={"at": {"$lt": noon}})) == ["04"]
    assert ids(search.search(where={"at": {"$gt": noon}})) == ["08"]
    assert ids(search.search(where={"at": {"$contains": noon}})) == ["14"]
    assert search.search(where={"at": {"$ne": noon}}).total == len(texts) - 5
    for wrong in ({"$date": "soon"}, {"$date": 5}, {"$gt": {"$date": ""}}, {"$gt": Decimal("NaN")}):
        with pytest.raises(InvalidFilter):
            search.search(where={"at": wrong})


def test_ids_are_filtered_by(search: SearchEngine) -> None:
    rows = [{"id": str(n), "text": "text", "n": n} for n in range(12)]
    RecordStore(search).insert("R", [*rows, {"id": str(KEYS[1]), "text": "text", "n": 0}])
    for where, wanted in (
        ({"id": "3"}, ["3"]),
        ({"id": 3}, ["3"]),
        ({"id": {"$in": ["3", 4, 9.5, None]}}, ["3", "4"]),
        ({"id": {"$nin": list(range(11))}}, [str(KEYS[1]), "11"]),
        ({"id": KEYS[1]}, [str(KEYS[1])]),
        ({"id": {"$gte": "9"}}, ["9"]),
        ({"id": {"$contains": "0-"}}, [str(KEYS[1])]),
        ({"id": {"$exists": False}}, []),
        ({"id": None}, []),
        ({"$or": [{"id": "3"}, {"n": 5}]}, ["3", "5"]),
        ({"id": {"$ne": None}, "n": {"$lt": 1}}, ["0", str(KEYS[1])]),
    ):
        assert ids(search.search(where=where, entity="R")) == wanted, where
        assert sorted(ids(search.search("text", where=where, mode="keyword"))) == sorted(wanted), where
        assert [record.id for record in RecordStore(search).list("R", where=where)] == wanted, where


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moments=st.lists(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), min_size=1, max_size=8),
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_moments_are_ordered_to_the_millisecond(search: SearchEngine, moments: list[datetime], minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    store, name = RecordStore(search), f"E{uuid.uuid4().hex}"
    written = [at.replace(tzinfo=UTC).astimezone(zone) for at in moments]
    store.insert(name, [{"id": str(n), "text": "text", "at": at.isoformat()} for n, at in enumerate(written)])

    def rounded(at: datetime) -> int:
        return ((at - datetime(1, 1, 1)) // timedelta(microseconds=1) + 500) // 1000

    pivot = moments[0]
    for operator, holds in (("$eq", int.__eq__), ("$lt", int.__lt__), ("$gte", int.__ge__)):
        wanted = [str(n) for n, at in enumerate(moments) if holds(rounded(at), rounded(pivot))]
        assert ids(search.search(where={"at": {operator: pivot}}, entity=name)) == wanted
