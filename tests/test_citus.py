"""A Citus cluster, where KAMELEON_TEST_CITUS_URL names its coordinator. The contract suite runs there too."""

import pytest
from sqlalchemy import Engine, text

from kameleon import RecordStore, SearchEngine
from kameleon.errors import StorageError
from kameleon.stores.postgresql import citus
from kameleon.stores.postgresql import hnsw as postgresql_hnsw
from kameleon.stores.postgresql.templates import Templates
from kameleon.stores.tables import Tables
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
    assert len(search.admin.distribute()) == 16
    assert spread(citus_engine) == 16
    assert search.admin.distribute() == []
    with pytest.raises(StorageError, match="distributed by record_id already"):
        search.admin.distribute("tenant")
    assert ids(search.search("number7 number70 river", limit=20, where={"n": {"$lt": 800}})) == before
    assert [(s.indexed, s.pending) for s in search.get_status()] == [(1_500, 0)]


def test_what_is_written_after_is_spread_and_indexed(citus_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 1_000)
    search = SearchEngine(citus_engine, HashProvider(16))
    assert len(search.admin.distribute()) == 15
    records = RecordStore(search)
    records.insert("R", ROWS)
    assert spread(citus_engine) == 16
    assert search.admin.index_vectors() is True
    results = search.search("fox number7 of the river", mode="vector", limit=3)
    assert (results[0].id, results.plan.vector_search) == ("7", "hnsw")
    assert len(search.search("fox river", mode="vector", limit=10, where={"n": {"$lt": 12}})) == 14
    records.update("R", "7", {"text": "grey wolf"})
    assert records.delete("R", ["8", "9"]) == 2
    assert ids(search.search("wolf", mode="keyword")) == ["7"]
    assert search.get_status()[0].indexed == 1_498


def test_a_tenant_s_rows_are_on_one_server(citus_engine: Engine) -> None:
    search = SearchEngine(citus_engine, HashProvider(16))
    assert len(search.admin.distribute("tenant")) == 15
    for tenant in ("t1", "t2"):
        search.index_records_batch([("R", str(n), f"fox number{n} of {tenant}") for n in range(1_500)], tenant=tenant)
    assert spread(citus_engine) == 16
    for mode in ("keyword", "vector"):
        hits = search.search("number7", entity="R", tenant="t1", mode=mode)
        assert {hit.tenant for hit in hits} == {"t1"}


def test_tables_have_the_distribution_column_of_their_key() -> None:
    """Each primary key has it, as Citus requires; what is joined is beside the records' rows."""
    templates, tables = Templates(None, 16, 64, 100), Tables()
    keys = {name: {column.name for column in made.primary_key} for name, made in tables.metadata.tables.items()}
    common = {"kdb_meta", "kdb_generation", "kdb_entities", "kdb_tenanted", "kdb_reindex", "kdb_reindex_range"}
    common |= {"kdb_class", "kdb_table", "kdb_synonym", "kdb_query_rule", "kdb_judgement"}
    keywords = {table.name for table in tables.keywords.all}
    for by, whole in (("tenant", common), ("record_id", common | keywords)):
        places = {name: (column, beside) for name, column, beside in citus.places(by, templates.names, ["kdb_queue"])}
        assert {name for name, (column, _) in places.items() if column is None} == whole
        spread = {name: place for name, place in places.items() if place[0] is not None}
        assert set(spread) - {"kdb_search"} == set(keys) - whole - {"kdb_dirty"}
        assert {name for name, (column, _) in spread.items() if name in keys and column not in keys[name]} == set()
        assert spread["kdb_search"] == (by, "none")
        assert {beside for name, (_, beside) in spread.items() if name in ("kdb_records", "kdb_queue")} == {
            "kdb_search"
        }
    assert {column for column, _ in spread.values()} == {"record_id", "id", "text_hash"}
