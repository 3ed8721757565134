"""PostgreSQL alone: privileges, schemas, languages, bulk writes, vectors, and deployments."""

import json
import math
import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, Engine, NullPool, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import (
    DatabaseLocked,
    InvalidInput,
    SchemaMissing,
    StorageError,
    TransactionConflict,
    VectorsUnavailable,
)
from kameleon.stores.postgresql import copy as pgwire
from kameleon.stores.postgresql import errors as postgresql_errors
from kameleon.stores.postgresql import hnsw as postgresql_hnsw
from kameleon.stores.postgresql import statements as postgresql_sql
from kameleon.stores.postgresql import vectors as postgresql_vectors
from kameleon.stores.values import IndexProgress
from kameleon.testing import HashProvider

from .conftest import ids

FOXES = [("A", str(n), f"fox number{n} of the river") for n in range(30)]


@pytest.fixture
def search(pg_engine: Engine) -> SearchEngine:
    return SearchEngine(pg_engine, HashProvider())


def opened(url: URL, **options: Any) -> Engine:
    return sqlalchemy.create_engine(url, poolclass=NullPool, **options)


def with_options(url: URL, more: str) -> URL:
    return url.update_query_dict({"options": f"{url.query['options']} {more}"})


@pytest.fixture
def bare_database(server: URL) -> Iterator[URL]:
    """A database without pgvector, and a role whose only privilege in it is to create tables."""
    admin = opened(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        if not connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
            pytest.skip("the server's role may not make databases and roles")
        connection.exec_driver_sql("CREATE DATABASE kdb_bare")
        connection.exec_driver_sql("CREATE ROLE kdb_app LOGIN")
    bare = server.set(database="kdb_bare")
    with opened(bare, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("GRANT ALL ON SCHEMA public TO kdb_app")
    yield bare
    with admin.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE kdb_bare WITH (FORCE)")
        connection.exec_driver_sql("DROP ROLE kdb_app")


# creation


def test_engines_that_start_together_make_the_tables_once(pg_url: URL) -> None:
    ready = threading.Barrier(6)

    def start(_: int) -> int:
        engine = opened(pg_url)
        ready.wait()
        search = SearchEngine(engine, HashProvider())
        return search.index_record("A", str(threading.get_ident()), "red fox").indexed

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(start, range(6))) == [1] * 6
    assert [g.number for g in SearchEngine(opened(pg_url)).generations()] == [1]


def test_tables_are_in_the_named_schema(pg_engine: Engine, schema: str) -> None:
    other = f"{schema} Other"
    search = SearchEngine(pg_engine, HashProvider(), schema=other, cache=True)
    records = RecordStore(search)
    records.insert("R", [{"id": str(n), "text": "red fox", "n": n} for n in range(5)])
    records.update("R", "1", {"text": "grey wolf"})
    records.delete("R", ["2"])
    assert ids(search.search("fox", where={"n": {"$gt": 1}})) == ["3", "4"]
    assert search.search("fox", highlight=True)[0].highlight("[", "]") == "red [fox]"
    assert [r.id for r in records.list("R", where={"text": "grey wolf"})] == ["1"]
    assert search.cache.status()[0].texts == 2
    assert [s.indexed for s in search.get_status()] == [4]
    with pg_engine.connect() as connection:
        where = connection.execute(text("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'kdb\\_%'"))
        assert set(where.scalars()) & {schema, other} == {other}
        connection.execute(text(f'DROP SCHEMA "{other}" CASCADE'))
        connection.commit()
    with pytest.raises(SchemaMissing, match="with schema= and namespace= those"):
        search.search("fox")


def test_missing_tables_are_reported(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine, HashProvider(), create_tables=False)
    with pytest.raises(SchemaMissing, match="SearchEngine"):
        search.search("fox")
    with pytest.raises(SchemaMissing):
        search.index_record("A", "1", "fox")


def test_a_role_that_may_not_add_pgvector_gets_the_statement_that_does(bare_database: URL) -> None:
    engine = opened(bare_database.set(username="kdb_app"))
    with pytest.raises(VectorsUnavailable, match=r"kdb_app may not .* kdb_bare.*: CREATE EXTENSION vector;"):
        SearchEngine(engine, HashProvider())
    keywords = SearchEngine(engine)
    keywords.index_record("A", "1", "red fox")
    assert ids(keywords.search("fox")) == ["1"]
    with opened(bare_database).begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION vector")
    search = SearchEngine(engine, HashProvider())
    assert search.sync().embedded == 1
    assert ids(search.search("fox", mode="vector")) == ["1"]


def test_without_pgvector_keywords_work_and_one_warning_is_logged(bare_database: URL) -> None:
    with opened(bare_database).connect() as connection:
        if connection.dialect.server_version_info < (18,):  # type: ignore[operator]
            pytest.skip("only PostgreSQL 18 can look for extensions elsewhere")
    engine = opened(bare_database.update_query_dict({"options": "-c extension_control_path=/nowhere"}))
    search = SearchEngine(engine, HashProvider())
    search.index_record("A", "1", "red fox")
    assert "has no pgvector here" in search.get_status()[0].note
    search.index_record("A", "2", "red wolf")
    results = search.search("fox")
    assert ids(results) == ["1"]
    assert "CREATE EXTENSION vector" in results.plan.note
    assert search.get_status()[0].pending == 2
    for call in (lambda: search.search("fox", mode="vector"), search.sync):
        with pytest.raises(VectorsUnavailable, match="CREATE EXTENSION vector"):
            call()


def test_a_lone_role_without_temporary_tables_writes_as_well(bare_database: URL) -> None:
    with opened(bare_database).begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION vector")
        connection.exec_driver_sql("REVOKE TEMPORARY ON DATABASE kdb_bare FROM PUBLIC")
    search = SearchEngine(opened(bare_database.set(username="kdb_app")), HashProvider(8))
    rows = [("A", str(n), f"text {n}") for n in range(2_500)]
    assert search.index_records_batch(rows).embedded == 2_500
    assert search.get_status()[0].indexed == 2_500


# languages


def test_a_language_belongs_to_the_index(pg_engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"no language 'klingon'. It has: .*english, .*simple"):
        SearchEngine(pg_engine, language="klingon")
    german = SearchEngine(pg_engine, language="german")
    german.index_records_batch([("A", "1", "Die Häuser am Fluss"), ("A", "2", "ein Haus"), ("A", "3", "Ha\u0308usern")])
    assert sorted(ids(german.search("Haus"))) == ["1", "2", "3"]
    assert sorted(ids(SearchEngine(pg_engine).search("HÄUSERN"))) == ["1", "2", "3"]
    with pytest.raises(InvalidInput, match="reads texts as 'german'; language='english'"):
        SearchEngine(pg_engine, language="english")


def test_a_text_search_configuration_is_no_language(pg_engine: Engine, schema: str) -> None:
    with pg_engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TEXT SEARCH CONFIGURATION {schema}.mine (COPY = simple)")
    with pytest.raises(InvalidInput, match=f"no language '{schema}.mine'. It has: .*english, .*simple"):
        SearchEngine(pg_engine, language=f"{schema}.mine")


def test_simple_has_no_stems(pg_engine: Engine, schema: str) -> None:
    rows = [("A", "1", "The Who"), ("A", "2", "running")]
    for language in ("simple", "english"):
        search = SearchEngine(pg_engine, schema=f"{schema}_{language}", language=language)
        search.index_records_batch(rows)
        assert ids(search.search("the who")) == ["1"]
        assert ids(search.search("run")) == ([] if language == "simple" else ["2"])
        with pg_engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema}_{language} CASCADE")


@pytest.mark.parametrize("query", ["Москва", "МОСКВА", "москва", "ÉCLAIR", "eclair", "e\u0301clair"])
def test_case_and_accents_do_not_depend_on_the_locale(search: SearchEngine, query: str) -> None:
    search.index_records_batch([("A", "1", "Москва, Éclair"), ("A", "2", "other")])
    assert ids(search.search(query, mode="keyword")) == ["1"]


@pytest.mark.parametrize(("text", "query"), [("½ cup", "½"), ("x² + y", "x²"), ("① one", "①"), ("ΟΔΟΣ", "οδος")])
def test_numbers_in_circles_and_final_sigmas_are_found(search: SearchEngine, text: str, query: str) -> None:
    search.index_records_batch([("A", "1", text), ("A", "2", "other")])
    assert ids(search.search(query, mode="keyword")) == ["1"]


@pytest.mark.parametrize("query", ["example", "path", "com", "358", "bold", "user", "mail", "1e5"])
def test_postgresqls_parser_hides_no_word(search: SearchEngine, query: str) -> None:
    search.index_record("A", "1", "http://example.com/path/x.html POL-358 <b>bold</b> user@mail.org 1e5 &amp; -358")
    search.index_record("A", "2", "nothing of it")
    assert ids(search.search(query, mode="keyword")) == ["1"]


# texts


def test_a_text_of_megabytes_is_indexed(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine)
    words = [f"w{n:x}ord" for n in range(300_000)]
    search.index_records_batch(
        [("A", "1", " ".join(words)), ("A", "2", "many " * 400_000), ("A", "3", "x" * 3_000_000)]
    )
    assert ids(search.search(words[100], mode="keyword")) == ["1"]
    assert ids(search.search("many", mode="keyword")) == ["2"]
    assert search.get_status()[0].indexed == 3


def bm25(texts: dict[str, list[str]], query: list[str]) -> dict[str, float]:
    """BM25 as published, for words that no stemmer changes."""
    average = sum(map(len, texts.values())) / len(texts)
    scores: dict[str, float] = {}
    for word in set(query):
        having = sum(word in words for words in texts.values())
        idf = max(1e-6, math.log((len(texts) - having + 0.5) / (having + 0.5)))
        for id_, words in texts.items():
            if n := words.count(word):
                weight = 2 * query.count(word) / (1 + query.count(word))
                part = weight * idf * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * len(words) / average))
                scores[id_] = scores.get(id_, 0.0) + part
    return scores


drawn = st.lists(st.sampled_from(["w0", "w1", "w2", "w3", "w4", "w5"]), max_size=300)


@given(st.lists(drawn.filter(bool), min_size=1, max_size=12), drawn.filter(bool))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_bm25_is_bm25(search: SearchEngine, texts: list[list[str]], query: list[str]) -> None:
    search.delete_records([("A", str(n)) for n in range(12)])
    search.index_records_batch([("A", str(n), " ".join(words)) for n, words in enumerate(texts)])
    wanted = bm25({str(n): words for n, words in enumerate(texts)}, query)
    found = {
        hit.id: hit.explanation[0].raw for hit in search.search(" ".join(query), mode="keyword", limit=20, explain=True)
    }
    assert found == pytest.approx(wanted, rel=1e-6)


def test_the_two_databases_score_alike(pg_engine: Engine) -> None:
    chance = random.Random(5)
    words = [f"word{n}" for n in range(200)]
    rows = [("A", str(n), " ".join(chance.choices(words, k=chance.randint(1, 60)))) for n in range(500)]
    stores = [SearchEngine(pg_engine), SearchEngine(kameleon.create_engine("sqlite://"))]
    for store in stores:
        store.index_records_batch(rows)
    for _ in range(20):
        query = " ".join(chance.choices(words, k=4))
        here, there = (
            {h.id: h.explanation[0].raw for h in s.search(query, mode="keyword", explain=True)} for s in stores
        )
        assert here == pytest.approx(there, rel=1e-6)


# bulk writes


def stored(engine: Engine, table: str, columns: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY 1, 2")).all())


def test_copy_and_values_store_the_same(pg_engine: Engine, schema: str) -> None:
    rows = [("A", f"{n:05}", f"täxt {n} C++ {'long ' * (n % 7)}") for n in range(2_600)]
    provider = HashProvider(
        8, refuse=lambda content: ValueError("no\n\\N\t") if content.startswith("täxt 77 ") else None
    )
    found = []
    for name, size in ((f"{schema}_copy", 2_600), (f"{schema}_values", 200)):
        search = SearchEngine(pg_engine, provider, schema=name)
        for start in range(0, len(rows), size):
            search.index_records_batch(rows[start : start + size])
        found.append(
            [
                stored(pg_engine, f"{name}.kdb_search", "entity_name, record_id, content, content_hash"),
                stored(
                    pg_engine,
                    f"{name}.kdb_embedding_g1",
                    "entity_name, record_id, passage, content_hash, reason, message, attempts, embedding",
                ),
            ]
        )
        with pg_engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    (rows_copied, copied), (rows_given, given_) = found
    assert len(rows_copied) == len(copied) == 2_600
    assert rows_copied == rows_given
    assert [row[:-1] for row in copied] == [row[:-1] for row in given_]
    assert copied[77].embedding is None
    for one, other in zip(copied, given_, strict=True):
        if one.embedding:
            assert json.loads(one.embedding) == pytest.approx(json.loads(other.embedding), abs=1e-6)


def test_a_large_update_replaces_rows_terms_and_embeddings(search: SearchEngine) -> None:
    search.index_records_batch([("A", str(n), f"old{n} fox") for n in range(3_000)])
    report = search.index_records_batch([("A", str(n), f"new{n} wolf") for n in range(500, 2_500)])
    assert (report.indexed, report.embedded) == (2_000, 2_000)
    assert ids(search.search('"old1000"', mode="keyword")) == []
    assert ids(search.search('"new1000"', mode="keyword")) == ["1000"]
    assert [(s.indexed, s.pending) for s in search.get_status()] == [(3_000, 0)]
    assert search.search("new1000 wolf", mode="vector", limit=1)[0].id == "1000"


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8), min_size=1, max_size=5))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_vectors_come_back_as_they_were(pg_engine: Engine, vectors: list[list[float]]) -> None:
    raw = [np.asarray(vector, "<f4").tobytes() for vector in vectors]
    *packed, nothing = pgwire.vectors([*raw, None], 8, is_half=False)
    assert nothing is None
    with pg_engine.connect() as connection:
        pgwire.adapt(connection)
        for data, vector in zip(packed, vectors, strict=True):
            as_text = text("SELECT CAST(CAST(:v AS vector) AS text)")
            back = connection.scalar(as_text, {"v": pgwire.Packed(data or b"")})
            assert json.loads(back) == pytest.approx(vector, rel=1e-5, abs=1e-9)


# vectors


def test_wide_models_are_kept_as_halfvec_and_wider_ones_refused_before_anything_is_made(pg_engine: Engine) -> None:
    too_wide = SearchEngine(pg_engine, HashProvider(4_001))
    with pytest.raises(VectorsUnavailable, match="4,001 dimensions, pgvector indexes 4,000 at most"):
        too_wide.index_record("A", "1", "red fox")
    assert (too_wide.generations(), too_wide.get_status()) == ([], [])
    search = SearchEngine(pg_engine, HashProvider(3_000))
    search.index_records_batch(FOXES)
    with pg_engine.connect() as connection:
        kind = text(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(:t) AND "
            "attname = 'embedding'"
        )
        assert connection.scalar(kind, {"t": "kdb_embedding_g1"}) == "halfvec(3000)"
    (hit,) = search.search("fox number7 of the river", mode="vector", limit=1, explain=True)
    assert hit.id == "7"
    assert hit.explanation[0].raw == pytest.approx(1.0, abs=1e-3)


@pytest.fixture
def indexed(pg_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SearchEngine:
    """3,000 records of three entities and an HNSW index, which small tables use when sequential scans are off."""
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 1_000)
    monkeypatch.setattr(postgresql_vectors, "NARROW", 50)
    search = SearchEngine(pg_engine, HashProvider(16), ef_search=40)
    records = RecordStore(search)
    chance = random.Random(1)
    words = [f"word{n}" for n in range(300)]
    for entity, rows in (("Big", 2_900), ("Small", 95), ("Tiny", 5)):
        data = [
            {"id": str(n), "text": " ".join(chance.choices(words, k=6)), "tenth": n % 10, "is_rare": n % 100 == 0}
            for n in range(rows)
        ]
        records.insert(entity, data)
    assert search.admin.vector_index(search.generations()[0]) == "exact"
    assert search.admin.index_vectors() is True
    assert search.admin.index_vectors() is False
    assert search.admin.vector_index(search.generations()[0]) == "hnsw"

    @event.listens_for(pg_engine, "connect")
    def no_sequential_scans(driver: Any, _record: Any) -> None:
        driver.execute("SET enable_seqscan = off")
        driver.execute("SET enable_sort = off")
        driver.commit()

    pg_engine.dispose()
    return search


def test_hnsw_answers_and_the_plan_names_it(indexed: SearchEngine) -> None:
    results = indexed.search("word1 word2 word3", mode="vector", entity="Big")
    assert (len(results), results.plan.vector_search, results.exact) == (10, "hnsw", False)


@pytest.mark.parametrize(
    ("options", "matching"),
    [
        ({"entity": "Small"}, 95),
        ({"entity": "Tiny"}, 5),
        ({"where": {"is_rare": True}}, 31),
        ({"where": {"tenth": 3}}, 300),
        ({"entity": "Small", "where": {"tenth": 3}}, 10),
        ({"entity": "Big", "where": {"is_rare": True, "tenth": 3}}, 0),
        ({}, 3_000),
    ],
)
def test_filters_never_starve_the_limit(indexed: SearchEngine, options: dict[str, Any], matching: int) -> None:
    for limit in (10, 200):
        results = indexed.search("word1 word2 word3", mode="vector", limit=limit, **options)
        assert len(results) == min(limit, matching)
        assert results.total >= min(limit, matching)


def test_a_broken_index_is_seen_and_built_anew(indexed: SearchEngine, pg_engine: Engine) -> None:
    (generation,) = indexed.generations()
    with pg_engine.begin() as connection:
        breaking = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('kdb_embedding_g1_hnsw')"
        connection.exec_driver_sql(breaking)
    assert indexed.admin.vector_index(generation) == "hnsw is broken: `kameleon embeddings sync` rebuilds it"
    assert indexed.search("word1 word2", mode="vector").plan.vector_search == "exact"
    indexed.sync()
    assert indexed.admin.vector_index(generation) == "hnsw"


def test_of_many_builders_one_builds(pg_url: URL, search: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 1_000)
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(3_000)])
    ready = threading.Barrier(5)

    def build(_: int) -> bool:
        engine = SearchEngine(opened(pg_url), HashProvider())
        ready.wait()
        return engine.admin.index_vectors()

    with ThreadPoolExecutor(5) as pool:
        built = list(pool.map(build, range(5)))
    assert sum(built) == 1
    assert search.admin.vector_index(search.generations()[0]) == "hnsw"


def test_a_stale_embedding_is_never_a_hit(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch(FOXES)
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("UPDATE kdb_search SET content = 'x', content_hash = 'x' WHERE record_id = '7'")
        connection.exec_driver_sql("DELETE FROM kdb_search WHERE record_id = '8'")
    found = ids(search.search("fox number7 number8", mode="vector", limit=30))
    assert len(found) == 28
    assert not {"7", "8"} & set(found)


# building the HNSW index


@pytest.fixture
def unindexed(pg_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SearchEngine:
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 1_000)
    monkeypatch.setattr(postgresql_hnsw, "POLL_S", 0.01)
    search = SearchEngine(pg_engine, HashProvider(16))
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(1_500)])
    return search


def build(search: SearchEngine, **how: Any) -> bool:
    (generation,) = search.generations()
    with search.index.store.connections.translating():
        return search.index.store.vectors.build_index(generation, **how)


@contextmanager
def writer_in_the_way(engine: Engine) -> Iterator[sqlalchemy.Connection]:
    """A transaction that has written to the generation, which a build waits for."""
    with engine.connect() as connection:
        connection.exec_driver_sql("UPDATE kdb_embedding_g1 SET attempts = attempts WHERE record_id = '7'")
        yield connection


def pid_of(connection: sqlalchemy.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


@pytest.mark.parametrize("concurrently", [True, False])
@pytest.mark.parametrize("is_watched", [True, False])
def test_a_build_analyzes_the_table_and_is_not_repeated(
    unindexed: SearchEngine, pg_engine: Engine, concurrently: bool, is_watched: bool
) -> None:
    progress = (lambda _: None) if is_watched else None
    assert build(unindexed, concurrently=concurrently, progress=progress) is True
    with pg_engine.connect() as connection:
        analyzed = "SELECT reltuples FROM pg_class WHERE oid = to_regclass('kdb_embedding_g1')"
        assert connection.exec_driver_sql(analyzed).scalar() == 1_500
    assert build(unindexed, concurrently=concurrently) is False


@pytest.mark.parametrize("most_kb", [1_024, 1_048_576])
def test_a_build_has_memory_for_its_graph_up_to_a_limit(
    unindexed: SearchEngine, pg_engine: Engine, caplog: Any, monkeypatch: pytest.MonkeyPatch, most_kb: int
) -> None:
    @event.listens_for(pg_engine, "connect")
    def little(driver: Any, *_: Any) -> None:
        driver.execute("SET maintenance_work_mem = '1MB'")
        driver.execute("SET max_parallel_maintenance_workers = 0")
        driver.commit()

    pg_engine.dispose()
    monkeypatch.setattr(postgresql_hnsw, "MOST_MEMORY_KB", most_kb)
    unindexed.index_records_batch([("A", str(n), f"text {n}") for n in range(8_000)])
    assert build(unindexed) is True
    assert ("no longer fits" in caplog.text) is (most_kb == 1_024)
    with ExitStack() as stack:
        connections = [stack.enter_context(pg_engine.connect()) for _ in range(3)]
        assert {connection.scalar(text("SHOW maintenance_work_mem")) for connection in connections} == {"1MB"}


@pytest.mark.parametrize("concurrently", [True, False])
def test_a_build_that_fails_is_repeated(unindexed: SearchEngine, pg_engine: Engine, concurrently: bool) -> None:
    event.listen(pg_engine, "checkout", lambda driver, *_: driver.execute("SET lock_timeout = 50") and driver.commit())
    with writer_in_the_way(pg_engine), pytest.raises(DatabaseLocked, match="lock timeout"):
        build(unindexed, concurrently=concurrently)
    leftover = "hnsw is broken: `kameleon embeddings sync` rebuilds it" if concurrently else "exact"
    assert unindexed.admin.vector_index(unindexed.generations()[0]) == leftover
    assert build(unindexed) is True


@pytest.mark.parametrize("concurrently", [True, False])
def test_progress_reports_phases_counts_and_blocking_sessions(
    pg_engine: Engine, monkeypatch: pytest.MonkeyPatch, concurrently: bool
) -> None:
    monkeypatch.setattr(postgresql_hnsw, "POLL_S", 0.01)
    search = SearchEngine(pg_engine, HashProvider(16))
    search.index_records_batch([("A", str(n), f"text {n}") for n in range(10_000)])
    seen: list[IndexProgress] = []
    with writer_in_the_way(pg_engine) as writer:
        pid = pid_of(writer)
        if not concurrently:
            writer.rollback()

        def note(at: IndexProgress) -> None:
            seen.append(at)
            if at.waits_for == pid:
                writer.rollback()

        assert build(search, concurrently=concurrently, progress=note) is True
    assert all(0 <= at.done <= at.total for at in seen if at.total)
    assert any(at.phase.startswith("building index") and at.total for at in seen)
    assert any(at.waits_for == pid for at in seen) == concurrently


def test_an_interrupt_cancels_the_build_and_the_next_replaces_what_is_left(
    unindexed: SearchEngine, pg_engine: Engine
) -> None:
    (generation,) = unindexed.generations()

    def interrupt(_at: IndexProgress) -> None:
        raise KeyboardInterrupt

    with writer_in_the_way(pg_engine) as writer:
        with pytest.raises(KeyboardInterrupt):
            build(unindexed, progress=interrupt)
        building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE relid = to_regclass('kdb_embedding_g1')"
        assert writer.exec_driver_sql(building).scalar() == 0
    assert unindexed.admin.vector_index(generation).startswith("hnsw is broken")
    assert build(unindexed, concurrently=False) is True
    assert unindexed.admin.vector_index(generation) == "hnsw"


def test_without_a_third_connection_it_is_built_unwatched(unindexed: SearchEngine, pg_url: URL) -> None:
    engine = sqlalchemy.create_engine(pg_url, pool_size=2, max_overflow=0)
    seen: list[IndexProgress] = []
    assert build(SearchEngine(engine, HashProvider(16)), progress=seen.append) is True
    assert seen == []
    engine.dispose()


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"])
def test_an_index_is_built_whatever_the_engines_isolation(unindexed: SearchEngine, pg_url: URL, level: str) -> None:
    """The lock's own transaction must have no snapshot, which the build would wait for."""
    engine = opened(with_options(pg_url, "-c lock_timeout=2000"), isolation_level=level)
    assert build(SearchEngine(engine, HashProvider(16))) is True


# deployment


def test_an_autocommit_engine_has_transactions_of_its_own(pg_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(pg_url, isolation_level="AUTOCOMMIT")
    search = SearchEngine(engine, HashProvider())
    search.index_records_batch(FOXES)
    assert search.search("number7", limit=1)[0].id == "7"

    def fail(*_: Any) -> None:
        raise RuntimeError("half way")

    monkeypatch.setattr(search.index.store.embeddings, "write", fail)
    with pytest.raises(RuntimeError):
        search.index_record("A", "new", "grey wolf")
    with engine.connect() as connection:
        with pytest.raises(RuntimeError):
            search.index_record("A", "new", "grey wolf", connection=connection)
        monkeypatch.undo()
        assert search.search("wolf", mode="keyword", connection=connection) == []
        search.index_record("A", "new", "grey wolf", connection=connection)
        assert ids(search.search("wolf", mode="keyword", connection=connection)) == ["new"]
    assert ids(search.search("wolf", mode="keyword")) == ["new"]


def count_statements(engine: Engine) -> list[str]:
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    return seen


@pytest.mark.parametrize("limit", [1, 25])
def test_a_search_is_five_statements_at_most(search: SearchEngine, pg_engine: Engine, limit: int) -> None:
    RecordStore(search).insert("R", [{"id": str(n), "text": f"fox number{n}", "n": n} for n in range(30)])
    search.search("fox")
    seen = count_statements(pg_engine)
    assert len(search.search("fox number7", limit=limit, where={"n": {"$gte": 0}}, highlight=True)) == limit
    assert 0 < len([statement for statement in seen if not statement.startswith("SET LOCAL")]) <= 5


def settings_of(connection: Any) -> list[str]:
    names = ("jit", "plan_cache_mode", "hnsw.ef_search", "hnsw.iterative_scan")
    return [str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names]


def test_a_search_leaves_no_state_behind(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch(FOXES)
    with pg_engine.connect() as connection:
        search.search("fox", connection=connection)
        before = settings_of(connection)
        for _ in range(8):
            search.search("fox", connection=connection)
        assert settings_of(connection) == before
        connection.rollback()
        driver: Any = connection.connection.driver_connection
        threshold = driver.prepare_threshold
    for _ in range(8):
        search.search("fox")
        search.index_record("A", "x", f"text {_}")
    with pg_engine.connect() as connection:
        assert settings_of(connection) == before
        ours = text("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%kdb_search%'")
        assert list(connection.execute(ours).scalars()) == []
        assert connection.connection.driver_connection.prepare_threshold == threshold  # type: ignore[union-attr]


def test_a_search_that_fails_leaves_the_callers_transaction_alive(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch(FOXES)
    with pg_engine.begin() as connection:
        search.index_record("A", "mine", "grey wolf", connection=connection)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 1")
        long = " ".join(f"word{n}" for n in range(1_000))
        with pytest.raises(StorageError, match=r"statement_timeout was reached.* narrow the query"):
            search.search(f"fox {long}", connection=connection)
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        assert ids(search.search("wolf", mode="keyword", connection=connection)) == ["mine"]
    assert ids(search.search("wolf", mode="keyword")) == ["mine"]


def test_a_replica_is_searched_and_not_written(search: SearchEngine, pg_url: URL) -> None:
    search.index_records_batch(FOXES)
    replica = opened(with_options(pg_url, "-c default_transaction_read_only=on"))
    reading = SearchEngine(replica, HashProvider(), cache=True)
    assert ids(reading.search("fox number7", limit=1, highlight=True)) == ["7"]
    assert reading.get_status()[0].indexed == 30
    with pytest.raises(StorageError, match=r"read-only transaction.*writing goes to the primary"):
        reading.index_record("A", "1", "grey wolf")


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_writers_that_meet_are_repeated_and_never_fail(pg_url: URL, level: str) -> None:
    engine = sqlalchemy.create_engine(pg_url, isolation_level=level)
    SearchEngine(engine, HashProvider(8))

    def work(worker: int) -> int:
        search = SearchEngine(engine, HashProvider(8))
        chance = random.Random(worker)
        for round_ in range(6):
            picked = chance.sample(range(30), 12)
            search.index_records_batch([("A", str(n), f"text {n} of {worker} {round_}") for n in picked])
            search.delete_records([("A", str(n)) for n in chance.sample(range(30), 2)])
        return 1

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 4
    search = SearchEngine(engine, HashProvider(8))
    (status,) = search.get_status()
    assert status.pending == 0
    for hit in search.search("text", mode="keyword", limit=30):
        (found,) = [h for h in search.search(hit.matched_text, mode="vector", limit=30, explain=True) if h.id == hit.id]
        assert found.explanation[0].raw == pytest.approx(1.0, abs=1e-4)
    engine.dispose()


def test_records_and_their_index_never_part(pg_engine: Engine) -> None:
    RecordStore(SearchEngine(pg_engine, HashProvider(8))).insert("R", [{"id": "0", "text": "zero"}])

    def work(worker: int) -> None:
        records = RecordStore(SearchEngine(pg_engine, HashProvider(8)))
        chance = random.Random(worker)
        for round_ in range(8):
            rows = [
                {"id": str(n), "text": f"worker{worker} turn{round_}", f"by{worker}": round_}
                for n in chance.sample(range(12), 5)
            ]
            records.insert("R", rows, on_conflict=chance.choice(["replace", "ignore", "merge"]))
            if chance.random() < 0.5:
                records.delete("R", [str(chance.randrange(12))])
            try:
                records.update("R", str(chance.randrange(12)), {"text": f"updated{worker} {round_}"})
            except LookupError:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    records = RecordStore(SearchEngine(pg_engine, HashProvider(8)))
    stored = {record.id: record.data["text"] for record in records.list("R")}
    with pg_engine.connect() as connection:
        rows = connection.execute(text("SELECT record_id, content FROM kdb_search WHERE entity_name = 'R'"))
        assert {row.record_id: row.content for row in rows} == stored
    assert {"text", "by0", "by1", "by2", "by3"} <= set(records.entity("R").field_names)
    assert records.search.get_status()[0].pending == 0


def test_a_conflict_in_the_callers_transaction_is_the_callers(search: SearchEngine, pg_url: URL) -> None:
    search.index_records_batch(FOXES)
    engine = opened(pg_url, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM kdb_search"))
        search.index_record("A", "7", "changed meanwhile")
        with pytest.raises(TransactionConflict, match="roll back and repeat"):
            search.index_record("A", "7", "changed here", connection=connection)


def test_a_lock_timeout_is_reported(search: SearchEngine, pg_url: URL) -> None:
    search.index_records_batch(FOXES)
    impatient = SearchEngine(opened(with_options(pg_url, "-c lock_timeout=50ms")), HashProvider())
    with opened(pg_url).begin() as connection:
        connection.execute(text("UPDATE kdb_search SET content_hash = content_hash WHERE record_id = '7'"))
        assert impatient.search("number7", limit=1)[0].id == "7"
        with pytest.raises(DatabaseLocked, match="lock_timeout"):
            impatient.index_record("A", "7", "grey wolf")


def test_search_waits_for_no_lock_of_ours(search: SearchEngine, pg_url: URL) -> None:
    search.index_records_batch(FOXES)
    other = SearchEngine(opened(with_options(pg_url, "-c lock_timeout=50ms")), HashProvider())
    with opened(pg_url).begin() as connection:
        connection.execute(postgresql_sql.LOCK, {"what": "tables"})
        search.index_record("A", "new", "in progress", connection=connection)
        assert other.search("fox number7", limit=1)[0].id == "7"
        assert other.get_status()[0].indexed == 30


def test_paid_texts_survive_a_rollback_unless_the_pool_is_exhausted(pg_url: URL) -> None:
    for pool, kept in ((2, 1), (1, 0)):
        engine = sqlalchemy.create_engine(pg_url, pool_size=pool, max_overflow=0, pool_timeout=1)
        search = SearchEngine(engine, HashProvider(), cache=True)
        search.cache.clear()
        with engine.connect() as connection:
            search.index_record("A", "1", "red fox", connection=connection)
            connection.rollback()
        assert sum(part.texts for part in search.cache.status()) == kept
        engine.dispose()


def test_an_option_of_the_other_database_is_refused(pg_engine: Engine) -> None:
    with pytest.raises(
        InvalidInput, match=r"'vector_search' is no option of postgresql. Known: schema, language, keyword_search, m,"
    ):
        SearchEngine(pg_engine, vector_search="numpy")
    with pytest.raises(InvalidInput, match=r"'schema' is no option of sqlite. Known: vector_search"):
        SearchEngine(kameleon.create_engine("sqlite://"), schema="x")
    with pytest.raises(InvalidInput, match="ef_search is a whole number from 1 to 1000, not 0"):
        SearchEngine(pg_engine, ef_search=0)


def test_distributing_one_server_is_refused(search: SearchEngine) -> None:
    with pytest.raises(StorageError, match="has no Citus"):
        search.admin.distribute()


@pytest.mark.parametrize("query", ["'", "\\", "a'b\\c", "!&|()<->:*", "foo:*", "a & !b", "\u2028", "\ufeff"])
def test_nothing_in_a_query_is_an_operator(search: SearchEngine, query: str) -> None:
    search.index_records_batch([*FOXES, ("A", "odd", f"odd {query} text")])
    for mode in ("keyword", "hybrid"):
        search.search(query, mode=mode, highlight=True)
        assert ids(search.search(f"odd {query}", mode=mode, limit=1)) == ["odd"]


# reported faults


def one_connection(url: URL, **options: Any) -> Engine:
    return sqlalchemy.create_engine(url, pool_size=1, max_overflow=0, **options)


@pytest.mark.parametrize("level", [None, "SERIALIZABLE", "AUTOCOMMIT"])
def test_a_pooled_connection_is_given_back_as_it_was(pg_url: URL, level: Any) -> None:
    engine = one_connection(
        with_options(pg_url, "-c default_transaction_read_only=on"), **({"isolation_level": level} if level else {})
    )
    SearchEngine(opened(pg_url), HashProvider()).index_records_batch(FOXES)
    search = SearchEngine(engine, HashProvider())
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        before = (driver.autocommit, driver.isolation_level, driver.read_only, driver.prepare_threshold)
    for _ in range(2):
        assert len(search.search("fox")) == 10
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert (driver.autocommit, driver.isolation_level, driver.read_only, driver.prepare_threshold) == before
            assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"
    engine.dispose()


def test_an_application_may_begin_its_transactions_with_sql(pg_url: URL) -> None:
    engine = one_connection(pg_url)
    search = SearchEngine(engine, HashProvider())

    @event.listens_for(engine, "checkout")
    def set_tenant(driver: Any, *_: Any) -> None:
        driver.execute("SELECT set_config('app.tenant', '7', false)")

    @event.listens_for(engine, "engine_connect")
    def ping(connection: Any) -> None:
        connection.exec_driver_sql("SELECT 1")

    search.index_records_batch(FOXES)
    assert search.search("number7", limit=1)[0].id == "7"
    assert search.delete_record("A", "7") is True
    assert SearchEngine(engine, HashProvider()).get_status()[0].indexed == 29
    engine.dispose()


class Meanwhile:
    """Calls a function once, after the first statement that contains a text."""

    def __init__(self, engine: Engine, marker: str, work: Any) -> None:
        self.marker, self.work, self.is_done = marker, work, False
        event.listen(engine, "after_cursor_execute", self)

    def __call__(self, *arguments: Any) -> None:
        if self.marker in arguments[2] and not self.is_done:
            self.is_done = True
            self.work()


def test_a_delete_takes_no_index_row_of_a_record_it_did_not_see(pg_engine: Engine, pg_url: URL) -> None:
    records = RecordStore(SearchEngine(pg_engine, HashProvider()))
    records.insert("R", [{"id": "1", "text": "red fox"}])
    other = RecordStore(SearchEngine(opened(pg_url), HashProvider()))
    meanwhile = Meanwhile(
        pg_engine, "DELETE FROM kdb_records", lambda: other.insert("R", [{"id": "7", "text": "late"}])
    )
    assert records.delete("R", ["7"]) == 0
    assert meanwhile.is_done
    assert [r.id for r in records.list("R")] == ["1", "7"]
    assert ids(records.search.search("late", mode="keyword")) == ["7"]


def test_delete_record_takes_no_embedding_of_a_record_it_did_not_see(search: SearchEngine, pg_url: URL) -> None:
    search.index_record("A", "1", "red fox")
    other = SearchEngine(opened(pg_url), HashProvider())
    meanwhile = Meanwhile(search.engine, "DELETE FROM kdb_search", lambda: other.index_record("A", "7", "late"))
    assert search.delete_record("A", "7") is False
    assert meanwhile.is_done
    assert search.get_status()[0].pending == 0


def test_a_record_deleted_during_a_search_is_no_hit(search: SearchEngine, pg_url: URL) -> None:
    search.index_records_batch(FOXES)
    other = SearchEngine(opened(pg_url), HashProvider())
    with search.engine.connect() as connection:
        meanwhile = Meanwhile(search.engine, "kdb_segment", lambda: other.delete_record("A", "7"))
        found = ids(search.search('"number7"', mode="keyword", connection=connection))
    assert meanwhile.is_done
    assert found == []


def test_a_filler_never_overwrites_a_newer_embedding(search: SearchEngine, pg_url: URL) -> None:
    SearchEngine(search.engine).index_record("A", "1", "old text")
    writing, written = threading.Event(), threading.Event()

    def change() -> None:
        engine = opened(pg_url)
        with engine.begin() as connection:
            SearchEngine(engine, HashProvider()).index_record("A", "1", "new text", connection=connection)
            writing.set()
            written.wait(10)

    def release_when_waited_for() -> None:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with opened(pg_url, isolation_level="AUTOCOMMIT").connect() as connection:
            any(connection.scalar(waiting) for _ in range(20_000))
        written.set()

    def embedding(content: str) -> None:
        if content == "old text" and not changer.is_alive():
            changer.start()
            writing.wait(10)
            threading.Thread(target=release_when_waited_for).start()

    changer = threading.Thread(target=change)
    SearchEngine(search.engine, HashProvider(refuse=embedding)).sync()
    changer.join()
    assert search.get_status()[0].pending == 0
    assert search.search("new text", mode="vector", explain=True)[0].explanation[0].raw == pytest.approx(1.0, abs=1e-5)


def test_searches_in_one_transaction_leave_no_savepoints(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch(FOXES)
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE note (n integer)")
        for _ in range(5):
            search.search("fox", connection=connection)
            connection.exec_driver_sql("INSERT INTO note VALUES (1)")
        count = text(
            "SELECT subxact_count FROM pg_stat_get_backend_idset() AS b(id), LATERAL pg_stat_get_backend_subxact(id) "
            "WHERE pg_stat_get_backend_pid(id) = pg_backend_pid()"
        )
        assert connection.scalar(count) == 0


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_engines_start_together_at_every_level(pg_url: URL, level: Any) -> None:
    ready = threading.Barrier(6)

    def start(_: int) -> bool:
        ready.wait()
        return SearchEngine(opened(pg_url, isolation_level=level), HashProvider(), language="simple").get_status() == []

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(start, range(6))) == [True] * 6


def test_the_words_of_a_long_text_are_counted(pg_engine: Engine) -> None:
    long = " ".join(["filler " * 17_000, "needle " * 50])
    rows = [("A", "long", long), ("A", "short", "needle in hay"), *[("A", str(n), "hay") for n in range(9)]]
    scores = []
    for search in (SearchEngine(pg_engine), SearchEngine(kameleon.create_engine("sqlite://"))):
        search.index_records_batch(rows)
        scores.append({hit.id: hit.explanation[0].raw for hit in search.search("needle", mode="keyword", explain=True)})
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_a_large_batch_can_be_part_of_a_two_phase_commit(search: SearchEngine, pg_engine: Engine) -> None:
    with pg_engine.connect() as connection:
        transaction = connection.begin_twophase()
        seen = count_statements(pg_engine)
        search.index_records_batch([("A", str(n), f"text {n}") for n in range(1_500)], connection=connection)
        assert [statement for statement in seen if "TEMPORARY TABLE" in statement] == []
        assert len([statement for statement in seen if "INSERT INTO kdb_search" in statement]) == 2
        transaction.rollback()


def test_the_provider_is_called_before_a_transaction_is_open(search: SearchEngine, pg_engine: Engine) -> None:
    provider = HashProvider()
    counted = SearchEngine(pg_engine, provider)
    counted.index_records_batch(FOXES)
    plain, open_at = provider.embed_query, []

    def embed_query(text: str) -> Any:
        open_at.append(pg_engine.pool.checkedout())  # type: ignore[attr-defined]
        return plain(text)

    provider.embed_query = embed_query  # type: ignore[method-assign]
    for query in ("fox", "river", "number7"):
        counted.search(query)
    assert open_at == [0, 0, 0]


def test_what_comes_after_an_engine_is_seen_by_it(bare_database: URL) -> None:
    early = SearchEngine(opened(bare_database), HashProvider(), create_tables=False)
    with opened(bare_database).begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA ext")
        connection.exec_driver_sql("CREATE EXTENSION vector SCHEMA ext")
    SearchEngine(opened(bare_database), HashProvider(), language="simple").index_record("A", "1", "the fox")
    assert ids(early.search("the", mode="keyword")) == ["1"]
    assert ids(early.search("fox", mode="vector")) == ["1"]
    assert early.index_record("A", "2", "the wolf").embedded == 1


@pytest.mark.parametrize("threshold", [None, 0])
def test_the_callers_connection_prepares_what_the_application_lets_it(pg_url: URL, threshold: int | None) -> None:
    SearchEngine(opened(pg_url), HashProvider()).index_records_batch(FOXES)
    engine = sqlalchemy.create_engine(pg_url, connect_args={"prepare_threshold": threshold}, poolclass=NullPool)
    search = SearchEngine(engine, HashProvider())
    with engine.connect() as connection:
        for n in range(12):
            search.index_record("A", str(n), f"text {n}", connection=connection)
            assert len(search.search("fox", connection=connection)) == 10
        ours = text("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%kdb\\_%'")
        assert bool(connection.execute(ours).first()) is (threshold is not None)


def test_hnsw_is_what_the_planner_uses(indexed: SearchEngine, pg_engine: Engine) -> None:
    plans: list[str] = []

    def explain(_conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "halfvec" in statement and not plans:
            rows = cursor.connection.execute(f"EXPLAIN {statement}", parameters).fetchall()
            plans.append("\n".join(row[0] for row in rows))

    event.listen(pg_engine, "before_cursor_execute", explain)
    with pg_engine.connect() as connection:
        results = indexed.search("word1 word2", mode="vector", connection=connection)
    assert results.plan.vector_search == "hnsw"
    assert "Index Scan using kdb_embedding_g1_hnsw" in plans[0]


def test_a_connection_of_another_encoding_stores_the_same(pg_url: URL) -> None:
    search = SearchEngine(opened(pg_url, connect_args={"client_encoding": "LATIN1"}), HashProvider(8))
    search.index_records_batch([("A", str(n), f"café {n}") for n in range(1_500)])
    (hit,) = SearchEngine(opened(pg_url)).search("1499", mode="keyword")
    assert hit.matched_text == "café 1499"
    with pytest.raises(StorageError, match="client_encoding cannot carry"):
        search.index_record("A", "1", "🦊")


def test_a_cursor_that_writes_values_into_statements_will_do(pg_url: URL) -> None:
    engine = opened(pg_url, connect_args={"cursor_factory": psycopg.ClientCursor})
    search = SearchEngine(engine, HashProvider())
    search.index_records_batch(FOXES)
    for mode in ("vector", "keyword", "hybrid"):
        assert search.search("fox number7 of the river", mode=mode)[0].id == "7"


def test_what_is_no_connection_is_refused(search: SearchEngine) -> None:
    with kameleon.create_engine("sqlite://").connect() as other:
        for wrong in (other, search.engine, "x"):
            for call in (
                lambda c: search.search("fox", connection=c),
                lambda c: search.index_record("A", "1", "x", connection=c),
                lambda c: search.delete_record("A", "1", connection=c),
            ):
                with pytest.raises(InvalidInput, match=r"session\.connection\(\)"):
                    call(wrong)


def test_records_are_the_same_however_many_are_written_at_once(pg_engine: Engine, search: SearchEngine) -> None:
    data: list[dict[str, Any]] = [
        {"text": "täxt \\N \t \u2028 'quoted' 日本", "huge": 10**30, "float": 1e300, "small": 1e-7, "none": None},
        {"text": "", "deep": [{"a": [1, 2.5, True]}, []], "ключ": "\\u0041"},
    ]
    store = RecordStore(search)
    store.insert("One", [{"id": f"{n:02}", **data[n % 2]} for n in range(10)])
    store.insert("Many", [{"id": f"{n:02}", **data[n % 2]} for n in range(60)])
    rows = stored(pg_engine, "kdb_records", "entity_name, id, CAST(data AS text), created_at = updated_at AS is_new")
    few, many = ([row for row in rows if row.entity_name == name] for name in ("One", "Many"))
    assert (len(few), len(many)) == (10, 60)
    assert [row[1:] for row in few] == [row[1:] for row in many[:10]]
    assert {row.is_new for row in rows} == {True}
    assert store.get("Many", "59").data == data[1]


@pytest.mark.parametrize("state", ["starting up", "in recovery mode", "shutting down"])
def test_a_server_that_is_not_ready_yet_is_an_error_to_retry(state: str) -> None:
    refused = psycopg.OperationalError(f"connection failed: FATAL:  the database system is {state}")
    assert str(postgresql_errors.storage_error(refused)).endswith("try again in a moment")


NAMES = [
    "o'brien",
    "O'Brien and Sons",
    "back\\slash",
    "a$1b",
    "$$",
    "{braces} {0}",
    "semi;colon--comment/*",
    "Gemüse 店",
    "select",
    "é" * 31,
    "back`tick[bracket](paren)",
    "a.b",
]


def move_to_another_model(engine: Engine, schema: str) -> SearchEngine:
    other = SearchEngine(engine, HashProvider(32, model_name="other"), schema=schema)
    assert other.reindex(drop_old=True).switched
    assert other.suggest("whal") == ["whale"]
    RecordStore(other).insert("R", [{"id": str(n), "colour": "green", "text": f"tall tree {n}"} for n in range(60)])
    assert len(other.search("tree", where={"colour": "green"}, entity="R", limit=60)) == 60
    assert [found.check for found in examine(other) if found.severity == "error"] == []
    return other


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_of_any_name_serves_every_verb(pg_engine: Engine, name: str) -> None:
    class Base(DeclarativeBase):
        pass

    @searchable(fields=["title"])
    class Memo(Base):
        __tablename__ = "memo"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    name = f"{name}{uuid.uuid4().hex}"[: 63 - len(name.encode()) + len(name)]
    quoted, role = pg_engine.dialect.identifier_preparer.quote(name), f"kdb_{uuid.uuid4().hex[:12]}"
    try:
        search = SearchEngine(pg_engine, HashProvider(), schema=name)
        Base.metadata.create_all(pg_engine)
        with pg_engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {role}")
            connection.exec_driver_sql(f"GRANT SELECT ON {quoted}.kdb_search TO {role}")
        search.index_records_batch([("A", n, f"red fox {n}") for n in range(250)])
        with pg_engine.connect() as connection:
            statement = text("SELECT has_table_privilege(:role, :table, 'SELECT')")
            assert connection.scalar(statement, {"role": role, "table": f"{quoted}.kdb_embedding_g1"})
        assert len(search.search("fox", limit=50)) == 50
        search.track(Memo)
        with search.attach(sessionmaker(pg_engine)).begin() as session:
            session.add_all([Memo(title=f"blue whale {n}") for n in range(60)])
        with pg_engine.begin() as connection:
            connection.execute(text("INSERT INTO memo (title) VALUES ('raw otter')"))
        assert search.sync().embedded == 1
        options = {"where": Memo.id > 1, "facets": ["title"], "count": True}
        assert ids(search.search("otter", entity=Memo, mode="keyword", **options)) == ["61"]  # type: ignore[arg-type]
        move_to_another_model(pg_engine, name).untrack(Memo)
    finally:
        with pg_engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {quoted} CASCADE")
            connection.exec_driver_sql(f"DROP ROLE IF EXISTS {role}")


@pytest.mark.parametrize("name", ["", 'a"b', "a%b", "a:b", "a\0b", "a\nb", "a$kdb$b", "x" * 64, "é" * 32, "\ud800", 5])
def test_a_schema_that_cannot_be_named_is_refused(pg_engine: Engine, name: Any) -> None:
    with pytest.raises(InvalidInput, match="schema is a name"):
        SearchEngine(pg_engine, schema=name)


def test_a_record_that_changes_while_it_is_searched_is_found(pg_engine: Engine) -> None:
    search = SearchEngine(pg_engine)
    search.index_records_batch([("N", "1", "one fox"), ("N", "2", "fox and bear")])
    changes: list[str] = []

    @event.listens_for(pg_engine, "before_cursor_execute")
    def change(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "s.content" in statement and "LEFT JOIN" in statement and not changes:
            changes.append(statement)
            search.index_record("N", "1", "another fox")

    with pg_engine.connect() as connection:
        hits = search.search("fox", mode="keyword", connection=connection)
    assert len(changes) == 1
    assert {(hit.id, hit.matched_text) for hit in hits} == {("1", "another fox"), ("2", "fox and bear")}
