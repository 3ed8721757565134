"""The filter language of `where`: every operator on each database, and the errors of invalid filters."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from kameleon import RecordStore, SearchEngine
from kameleon.errors import InvalidFilter, UnknownEntity
from kameleon.search import selecting
from kameleon.stores.filters import Comparison, Group, parse_filter
from kameleon.testing import HashProvider

from .conftest import Indexes, ids, with_namespaces, with_server

RECORDS: list[dict[str, Any]] = [
    {
        "id": "a",
        "text": "x y",
        "status": "open",
        "n": 3,
        "tags": ["red", "7"],
        "paid": True,
        "who": {"town": "Oslo"},
        "größe": {"ö😀": 5},
    },
    {"id": "b", "text": "x y", "status": "open", "n": 7.5, "tags": ["blue"], "paid": False, "who": {"town": "Rome"}},
    {
        "id": "c",
        "text": "x y",
        "status": "closed",
        "n": "3",
        "tags": [],
        "paid": 1,
        "who": None,
        "big": 2**70,
        "looks": '["x"]',
    },
    {"id": "d", "text": "x y", "note": "o'clock; DROP TABLE kdb_records; --", "tags": "reddish", "looks": ["x"]},
]


@pytest.fixture(params=with_namespaces(*with_server("sqlite", "sqlite-vec", "postgresql")))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(search: SearchEngine) -> None:
    RecordStore(search).insert("R", RECORDS)


@pytest.fixture
def records(indexes: Indexes, backend: str) -> RecordStore:
    return RecordStore(indexes(backend, fill))


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({}, "abcd"),
        ({"status": "open"}, "ab"),
        ({"status": {"$ne": "open"}}, "cd"),
        ({"status": None}, "d"),
        ({"n": 3}, "a"),
        ({"n": "3"}, "c"),
        ({"n": {"$gte": 3}}, "ab"),
        ({"n": {"$gt": 3, "$lt": 8}}, "b"),
        ({"n": {"$lte": "4"}}, "c"),
        ({"paid": True}, "a"),
        ({"paid": 1}, "c"),
        ({"status": {"$in": ["closed", "open"]}, "n": {"$in": [3, 7.5]}}, "ab"),
        ({"status": {"$in": []}}, ""),
        ({"status": {"$nin": ["open"]}}, "cd"),
        ({"note": {"$exists": True}}, "d"),
        ({"who": {"$exists": True}}, "abc"),
        ({"note": {"$exists": False}}, "abc"),
        ({"tags": {"$contains": "red"}}, "ad"),
        ({"tags": {"$contains": "7"}}, "a"),
        ({"tags": {"$contains": 7}}, ""),
        ({"tags": ["blue"]}, "b"),
        ({"tags": []}, "c"),
        ({"who.town": "Oslo"}, "a"),
        ({"who": {"town": "Rome"}}, "b"),
        ({"$or": [{"status": "closed"}, {"who.town": "Oslo"}]}, "ac"),
        ({"$and": [{"status": "open"}, {"n": {"$lt": 5}}]}, "a"),
        ({"$not": {"status": "open"}}, "cd"),
        ({"$not": [{"status": "open"}]}, "cd"),
        ({"$not": [{"status": "open"}, {"status": "closed"}]}, "d"),
        ({"status": {"$not": {"$in": ["closed"]}}}, "abd"),
        ({"größe": {"ö😀": 5}}, "a"),
        ({"größe.ö😀": {"$gt": 4}}, "a"),
        ({"größe": {"$exists": False}}, "bcd"),
        ({"n": {"$in": [*range(4, 5000), 7.5, "3"]}}, "bc"),
        ({"n": {"$nin": [str(n) for n in range(5000)]}}, "abd"),
        ({"big": 2**70}, "c"),
        ({"big": {"$gte": 2**64, "$lt": 2**71}}, "c"),
        ({"looks": ["x"]}, "d"),
        ({"looks": '["x"]'}, "c"),
        ({"note": "o'clock; DROP TABLE kdb_records; --"}, "d"),
    ],
)
def test_a_filter_means_the_same_in_both_legs_and_in_the_store(
    records: RecordStore, where: dict[str, Any], wanted: str
) -> None:
    assert "".join(record.id for record in records.list("R", where=where)) == wanted
    for mode in ("keyword", "vector", "hybrid"):
        assert "".join(sorted(ids(records.search.search("x", where=where, mode=mode)))) == wanted


def test_a_filter_inside_the_legs_never_starves_the_limit(search: SearchEngine) -> None:
    rows = [{"id": f"{n:04}", "text": "same text again", "is_rare": n % 100 == 0} for n in range(1000)]
    RecordStore(search).insert("R", rows)
    for mode in ("keyword", "vector", "hybrid"):
        found = search.search("same text", where={"is_rare": True}, mode=mode, limit=10)
        assert ids(found) == [f"{n:04}" for n in range(0, 1000, 100)]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"colour": "red"}, "unknown field 'colour'. Known: big, größe, looks, n, note, paid, status, tags, text, who"),
        ({"status": {"$regex": "x"}}, r"unknown operator '\$regex'. Known: \$eq"),
        ({"$nor": []}, "unknown operator"),
        ({"$or": {}}, "takes a list of filters"),
        ({"$and": []}, "takes a list of filters"),
        ({"n": {"$gt": True}}, "a number or a text"),
        ({"n": {"$gt": None}}, "a number or a text"),
        ({"n": {"$in": "abc"}}, "takes a list"),
        ({"n": {"$exists": 1}}, "true or false"),
        ({"who..town": 1}, "is no field"),
        ({'who."to\\.wn': 1}, "is no field"),
        ({"$not": "x"}, "a filter is an object"),
        ({"$not": []}, "takes a list of filters"),
        ({"who.a\\": 1}, "is no field"),
        ({"who.\ud800": 1}, "is no field"),
        ({"n": 10**400}, "finite"),
        ({"n": [float("inf")]}, "finite"),
        ({"n": {"$gt": float("nan")}}, "finite"),
        ({"n": b"x"}, "not bytes"),
        ({"n": {"$contains": {1}}}, "takes one value"),
        ({"status": "\ud800"}, "lone surrogate"),
        ({"$or": [{"n": 1}] * 300}, "For many values use"),
    ],
)
def test_an_invalid_filter_is_refused(records: RecordStore, where: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFilter, match=message):
        records.search.search("x", entity="R", where=where)
    with pytest.raises(InvalidFilter, match=message):
        records.list("R", where=where)


def test_a_filter_on_an_entity_outside_the_store_is_refused(search: SearchEngine) -> None:
    search.index_record("Loose", "1", "x")
    with pytest.raises(UnknownEntity, match="no entity 'Loose'"):
        search.search("x", entity="Loose", where={"a": 1})


def test_several_conditions_are_all_required() -> None:
    assert parse_filter({"a": 1, "b": {"$gt": 2}}) == Group(
        "$and", (Comparison(("a",), "$eq", 1), Comparison(("b",), "$gt", 2))
    )
    assert parse_filter({}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["$and", "$or", "$not", "$in", "$gt", "$contains", "$exists", "a", "a.b", "", "$", "a..b"])
filters = st.recursive(
    json_values, lambda inner: st.dictionaries(keys, inner | st.lists(inner, max_size=3), max_size=3)
)


@given(filters)
def test_any_shape_is_parsed_or_refused_with_our_error(where: Any) -> None:
    with suppress(InvalidFilter):
        parse_filter(where)


def test_a_filter_on_a_declared_field_looks_records_up(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider(8))
    store = RecordStore(search)
    store.create_entity(
        "R", search=["text"], fields={"status": "text", "n": "integer", "no name": "text", "tags": "list"}
    )
    store.insert("R", [{"id": str(n), "text": "x", "status": f"s{n}", "n": n, "no name": "y"} for n in range(30)])
    seen: list[str] = []
    file_engine.dispose()
    event.listen(file_engine, "connect", lambda driver, _: driver.set_trace_callback(seen.append))

    def plan() -> list[str]:
        (statement,) = [statement for statement in seen if "json_group_array" in statement]
        with file_engine.connect() as connection:
            return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]

    assert ids(search.search("x", where={"status": "s7", "no name": "y"})) == ["7"]
    assert any("USING INDEX kdb_records_by_status" in step for step in plan())
    seen.clear()
    assert ids(search.search("x", where={"n": {"$gte": 29}})) == ["29"]
    assert any("USING INDEX kdb_records_by_n " in step for step in plan())


@pytest.mark.parametrize("few", [0, 3, 10_000])
def test_broad_and_narrow_scopes_find_the_same(file_engine: Engine, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(selecting, "FEW", few)
    search = SearchEngine(file_engine, HashProvider(8), vector_search="numpy")
    store = RecordStore(search)
    rows = [{"id": f"{n:04}", "text": "x " + "y " * (n % 7), "kind": n % 50} for n in range(3000)]
    store.insert("R", rows)
    store.insert("Other", [{"id": "z", "text": "x", "kind": 3}])
    for mode in ("keyword", "vector", "hybrid"):
        found = search.search("x y", where={"kind": 3}, entity="R", mode=mode, limit=60)
        assert sorted(ids(found)) == [f"{n:04}" for n in range(3, 3000, 50)]
        assert ids(search.search("x", entity="Other", mode=mode)) == ["z"]
