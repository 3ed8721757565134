"""A tenant that is dropped is in no file of the tables in PostgreSQL, nor in the server's statistics."""

from collections.abc import Iterable

import pytest
from sqlalchemy import Engine, text

from kameleon import SearchEngine
from kameleon.stores.postgresql import hnsw as postgresql_hnsw
from kameleon.testing import HashProvider
from kameleon.values import Ref

from .test_store_parts import NOW

TENANT, ID, WORD, TERM = "acme-7f3a", "id-9c1b", "zyxomma", "quorvex"
TABLES = """
    SELECT c.oid, c.relname FROM pg_class AS c
    WHERE c.relkind IN ('r', 'i', 't') AND (
      c.relnamespace = CAST(current_schema AS regnamespace) OR c.oid IN (
        SELECT t.reltoastrelid FROM pg_class AS t
        WHERE t.relnamespace = CAST(current_schema AS regnamespace) OR t.relname = 'pg_statistic'
      ) OR c.relname = 'pg_statistic'
    )
"""
FILES = text(f"SELECT t.relname, pg_read_binary_file(pg_relation_filepath(t.oid)) FROM ({TABLES}) AS t")
VACUUMED = text(
    f"SELECT CAST(CAST(t.oid AS regclass) AS text) FROM ({TABLES}) AS t JOIN pg_class USING (oid) WHERE relkind = 'r'"
)
QUEUED = text("""
    INSERT INTO kdb_queue (tenant, entity_name, record_id, version, due_at, attempts)
    VALUES (:tenant, 'Note', :id, 'v', now(), 0)
""")
MARKED = text("INSERT INTO kdb_dirty (tenant, entity_name, record_id) VALUES (:tenant, 'Note', :id)")


@pytest.fixture
def filled(pg_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SearchEngine:
    """Two tenants with an index of their vectors each; the queue was analysed while it had rows of one alone."""
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 300)
    search = SearchEngine(pg_engine, HashProvider(16), keyword_search="server")
    for tenant, id_, word in ((TENANT, ID, WORD), ("other", "1", "fox")):
        rows = [(f"{id_}-{n}", f"{word}{n} and {word}") for n in range(400)]
        search.index_records_batch([("Note", *row) for row in rows], tenant=tenant)
        with search.index.transaction() as connection:
            stored = [(tenant, key, {"text": content}) for key, content in rows]
            search.index.store.records.add(connection, "Note", stored, NOW)
            search.index.store.embeddings.cache(connection, "model", [(tenant, f"hash of {word}", b"vector")], NOW)
    assert search.admin.index_vectors()
    with pg_engine.begin() as connection:
        connection.execute(QUEUED, {"tenant": TENANT, "id": ID})
        connection.execute(MARKED, {"tenant": TENANT, "id": ID})
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    return search


def files_with(engine: Engine, needles: Iterable[bytes]) -> dict[bytes, set[str]]:
    """The tables and indexes whose files have each of these, when what is deleted is overwritten."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in connection.execute(VACUUMED).scalars().all():
            connection.exec_driver_sql(f"VACUUM FULL {name}")
        connection.exec_driver_sql("CHECKPOINT")
        files = connection.execute(FILES).all()
    assert files
    return {needle: {name for name, content in files if needle in content} for needle in needles}


def test_nothing_of_a_dropped_tenant_is_left(filled: SearchEngine, pg_engine: Engine) -> None:
    (generation,) = filled.generations()
    with filled.index.reading() as connection:
        refs = [Ref("Note", f"{ID}-7", TENANT)]
        (vector,) = filled.index.store.embeddings.vectors_at(connection, generation, refs).values()
    needles = [TENANT.encode(), ID.encode(), WORD.encode(), vector]
    before = files_with(pg_engine, needles)
    tables = {"kdb_search", "kdb_records", "kdb_terms", "kdb_embedding_g1", "kdb_queue", "kdb_dirty"}
    assert before[TENANT.encode()] >= {*tables, "kdb_embedding_cache", "pg_statistic"}
    assert before[ID.encode()] >= {*tables, "pg_statistic"}
    assert before[WORD.encode()] >= {"kdb_search", "kdb_records", "kdb_terms", "pg_statistic"}
    assert before[vector] >= {"kdb_embedding_g1"}

    assert filled.admin.drop_tenant(TENANT) == 400
    assert files_with(pg_engine, needles) == {needle: set() for needle in needles}
    assert len(filled.search("fox", tenant="other", mode="vector")) == 10
    with pg_engine.connect() as connection:
        left = connection.exec_driver_sql("SELECT tenant, count(*) FROM kdb_search GROUP BY tenant").all()
    assert left == [("other", 400)]


def test_the_keyword_index_of_a_dropped_tenant_goes(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine)
    for tenant in (TENANT, "other"):
        search.index_records_batch([("Note", f"{ID}-{n}", f"{TERM} {n}") for n in range(600)], tenant=tenant)
        search.delete_record("Note", f"{ID}-1", tenant=tenant)
    tables = {"kdb_search", "kdb_segment", "kdb_posting", "kdb_word", "kdb_dead"}
    assert files_with(pg_engine, [TENANT.encode()])[TENANT.encode()] >= tables
    assert search.admin.drop_tenant(TENANT) == 599
    assert files_with(pg_engine, [TENANT.encode()]) == {TENANT.encode(): set()}
    assert len(search.search(TERM, tenant="other")) == 10
    assert search.admin.drop_tenant("other") == 599
    assert files_with(pg_engine, [b"other", TERM.encode()]) == {b"other": set(), TERM.encode(): set()}
