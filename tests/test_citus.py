"""A Citus cluster, where KAMELEON_TEST_CITUS_URL names its coordinator. The contract suite runs there too."""

import pytest
from sqlalchemy import Engine, text

from kameleon import RecordStore, SearchEngine
from kameleon.stores.postgresql import hnsw as postgresql_hnsw
from kameleon.testing import HashProvider

from .conftest import ids

ROWS = [{"id": str(n), "text": f"fox number{n} of the river", "n": n} for n in range(1_500)]


def spread(engine: Engine) -> int:
    with engine.connect() as connection:
        mine = text(
            "SELECT count(*) FROM pg_dist_partition AS p JOIN pg_class AS c ON c.oid = p.logicalrelid "
            "WHERE c.relnamespace = CAST(current_schema AS regnamespace)"
        )
        return int(connection.scalar(mine) or 0)


def test_rows_move_along_and_twice_does_nothing_twice(citus_engine: Engine) -> None:
    search = SearchEngine(citus_engine, HashProvider(16))
    RecordStore(search).insert("R", ROWS)
    before = ids(search.search("number7 number70 river", limit=20, where={"n": {"$lt": 800}}))
    assert spread(citus_engine) == 0
    assert len(search.admin.distribute()) == 11
    assert spread(citus_engine) == 11
    assert search.admin.distribute() == []
    assert ids(search.search("number7 number70 river", limit=20, where={"n": {"$lt": 800}})) == before
    assert [(s.indexed, s.pending) for s in search.get_status()] == [(1_500, 0)]


def test_what_is_written_after_is_spread_and_indexed(citus_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 1_000)
    search = SearchEngine(citus_engine, HashProvider(16))
    assert len(search.admin.distribute()) == 10
    records = RecordStore(search)
    records.insert("R", ROWS)
    assert spread(citus_engine) == 11
    assert search.admin.index_vectors() is True
    results = search.search("fox number7 of the river", mode="vector", limit=3)
    assert (results[0].id, results.plan.vector_search) == ("7", "hnsw")
    assert len(search.search("fox river", mode="vector", limit=10, where={"n": {"$lt": 12}})) == 10
    records.update("R", "7", {"text": "grey wolf"})
    assert records.delete("R", ["8", "9"]) == 2
    assert ids(search.search("wolf", mode="keyword")) == ["7"]
    assert search.get_status()[0].indexed == 1_498
