"""`ids=`: a search among given records, on each database."""

from typing import Any

import pytest

from kameleon import ALL_TENANTS, RecordStore, SearchEngine
from kameleon.errors import InvalidInput

from .conftest import ids, with_server


@pytest.fixture(params=with_server("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("mode", ["keyword", "vector", "hybrid"])
def test_only_given_records_are_found_and_counted(search: SearchEngine, mode: str) -> None:
    rows = [{"id": str(n), "text": "same text", "n": n % 2} for n in range(60)]
    RecordStore(search).insert("R", rows)
    wanted = ["7", "41", "58"]
    found = search.search("text", ids=[7, "41", "58", "none"], mode=mode, facets=["n"], count=True)
    assert sorted(ids(found)) == sorted(wanted)
    assert (found.total, found.facets) == (3, {"n": {1: 2, 0: 1}})
    assert ids(search.search("text", ids=wanted, where={"n": 0}, mode=mode)) == ["58"]
    first = search.search("text", ids=wanted, mode=mode, limit=2)
    assert sorted(ids(first) + ids(search.search("text", ids=wanted, mode=mode, cursor=first.cursor))) == sorted(wanted)
    with pytest.raises(InvalidInput, match="another query"):
        search.search("text", ids=wanted[:2], mode=mode, cursor=first.cursor)


def test_ids_hold_in_each_searched_entity_and_tenant(search: SearchEngine) -> None:
    search.index_records_batch([(entity, n, "text") for entity in ("A", "B", "C") for n in range(3)])
    for tenant in ("acme", "globex"):
        search.for_tenant(tenant).index_records_batch([("Note", n, "text") for n in range(3)])

    def found(**options: Any) -> list[tuple[str, str, str]]:
        searched, listed = (
            [(hit.entity, hit.tenant, hit.id) for hit in search.search(query, **options)] for query in ("text", "")
        )
        assert sorted(searched) == sorted(listed)
        return listed

    assert found(ids=[1], entities=["A", "B"]) == [("A", "", "1"), ("B", "", "1")]
    assert found(ids=["2"], entity="Note", tenant="acme") == [("Note", "acme", "2")]
    assert len(found(ids=[2, 0], entity="Note", tenant=ALL_TENANTS)) == 4
    assert found(ids=[], entity="A") == []


def test_ten_thousand_ids_are_looked_up_at_once(search: SearchEngine) -> None:
    search.index_records_batch([("R", n, "text") for n in range(30)])
    found = search.search("text", ids=range(20, 10_020), limit=50, mode="keyword", count=True)
    assert (sorted(ids(found)), found.total) == ([str(n) for n in range(20, 30)], 10)
    with pytest.raises(InvalidInput, match="10,000 at most"):
        search.search("text", ids=range(10_001))
    for wrong in ("12", 12, [None], [True]):
        with pytest.raises(InvalidInput):
            search.search("text", ids=wrong)  # type: ignore[arg-type]
