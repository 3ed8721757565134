"""Facets and filters agree: whatever a facet shows is found by a filter, in as many records as it counts."""

import copy
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kameleon import RecordStore, SearchEngine
from kameleon.facet_counts import FacetCounts
from kameleon.stores.filters import number

from .conftest import with_namespaces, with_server

NUMBERS = [0, 1, 2, -1, 0.0, 1.0, -0.0, 0.1, 1.5, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, 2**63, 2**63 + 1, -(2**63)]
NUMBERS += [float(2**63), -(2**63) - 1, 2**70, 2**70 + 1, 1e16, 10**16 + 1, 1e300, 5e-324, 0.30000000000000004, 1e-7]
TEXTS = ["", "1", "true", "null", "a", "A", "ä", "a\u0308", "[1]", "[", '["a"]', "{}"]
TEXTS += ["\\", '"', "o'clock", ":x", "%s", "😀"]
singles = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS)
singles |= st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = (
    singles | st.lists(singles, max_size=4) | st.lists(st.lists(singles, max_size=2), max_size=1)
)
values |= st.dictionaries(st.sampled_from("ab"), singles, max_size=2)
entities = count()


@pytest.fixture(params=with_namespaces(*with_server("sqlite", "postgresql")))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def members(value: Any) -> Iterator[tuple[bool, Any]]:
    """What a facet counts of a value, by hand: each once, true beside 1."""
    found: dict[tuple[bool, Any], None] = {}
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool | int | float | str):
            found[type(one) is bool, one if isinstance(one, bool | str) else number(one)] = None
    yield from found


def records_with(rows: Sequence[Any], wanted: Any) -> set[int]:
    return {n for n, value in enumerate(rows) if (type(wanted) is bool, wanted) in members(value)}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(values, min_size=1, max_size=12))
@example([*NUMBERS, NUMBERS, *([one, one] for one in NUMBERS)])
@example([True, 1, 1.0, [1, True], [True, 1.0], False, 0, [0, False], "1", "true", [[1]], {"a": 1}])
@example([*TEXTS, TEXTS, None, [None], []])
def test_a_filter_finds_as_many_records_as_a_facet_counts(search: SearchEngine, rows: list[Any]) -> None:
    store, entity = RecordStore(search), f"E{next(entities)}"
    fields: list[dict[str, Any]] = [{"id": str(n), "text": "thing", "v": v, "o": {"v": v}} for n, v in enumerate(rows)]
    fields.append({"id": "none", "text": "thing"})
    store.insert(entity, fields)

    def found(where: Any) -> set[str]:
        return {record.id for record in store.list(entity, where=where)}

    counts = search.search("thing", entity=entity, mode="keyword", facets=["v", "o.v"], limit=1).facets
    wanted = Counter(member for value in rows for member in members(value))
    assert {(type(value) is bool, value): n for value, n in counts["v"].items()} == dict(wanted)
    assert counts["v"] == counts["o.v"]
    assert list(counts["v"].values()) == sorted(counts["v"].values(), reverse=True)
    for value, records in counts["v"].items():
        those = {str(n) for n in records_with(rows, value)}
        assert found({"v": value}) == those, value
        assert len(those) == records
        assert found({"o.v": {"$in": [value, "no such"]}}) == those
        assert found({"v": {"$ne": value}}) == {row["id"] for row in fields} - those
        total = search.search("thing", entity=entity, where={"v": value}, mode="keyword", count=True, limit=1).total
        assert total == records
    blank = {str(n) for n, value in enumerate(rows) if value is None} | {"none"}
    assert found({"v": None}) == blank
    assert found({"v": {"$exists": False}}) == {"none"}


def test_counts_keep_true_beside_1_and_are_a_dict_to_others() -> None:
    counts = FacetCounts([(True, 2), (1, 1), ("1", 3), (1.0, 1)])
    assert (counts[True], counts[1], counts["1"], counts.get(False), len(counts)) == (2, 2, 3, None, 3)
    assert list(counts.items()) == [(True, 2), (1, 2), ("1", 3)]
    assert (1 in counts, 0 in counts, False in counts) == (True, False, False)
    assert json.dumps(counts) == '{"true": 2, "1": 2, "1": 3}'
    assert isinstance(counts, dict)
    for other in (pickle.loads(pickle.dumps(counts)), copy.deepcopy(counts)):  # noqa: S301 - our own
        assert list(other.items()) == list(counts.items())
    assert FacetCounts([("a", 1)]) == {"a": 1} != FacetCounts([("a", 2)])
    assert FacetCounts([(True, 1)]) != {1: 1}
    with pytest.raises(KeyError, match="7"):
        counts[7]
