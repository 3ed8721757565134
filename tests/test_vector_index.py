"""PostgreSQL's vector index where only sessions write, and how far a search looks in it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import sessionmaker

from kameleon import SearchEngine, Worker
from kameleon.doctor import examine
from kameleon.errors import StorageError
from kameleon.stores.postgresql import hnsw as postgresql_hnsw
from kameleon.stores.postgresql import vectors as postgresql_vectors
from kameleon.stores.postgresql.vectors import Passage, deeper, leg_of, may_miss
from kameleon.stores.values import Candidates, Scope
from kameleon.testing import HashProvider
from stress.workloads.models import Base, Note

from .conftest import ids

MISSING = "100 embeddings or more have no HNSW index, so each search reads all of them"
NEXT_STEP = "a worker or `kameleon embeddings sync` builds it"
WORDS = 40


@pytest.fixture
def search(pg_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SearchEngine:
    """An index over which HNSW is worth it from 100 embeddings on."""
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 100)
    Base.metadata.create_all(pg_engine)
    return SearchEngine(pg_engine, HashProvider(16))


def commit(search: SearchEngine, engine: Engine, notes: int) -> None:
    maker = sessionmaker(engine)
    search.attach(maker)
    with maker.begin() as session:
        session.add_all(Note(title="t", body=f"word{n % WORDS} of note {n}") for n in range(notes))


def notes_on_status(search: SearchEngine) -> set[str]:
    found = {status.note for status in search.get_status()}
    assert found, "nothing is indexed"
    return found


def vector_index(search: SearchEngine) -> str:
    (generation,) = search.generations()
    return search.admin.vector_index(generation)


# building it


def test_a_commit_builds_no_index_and_a_worker_does(search: SearchEngine, pg_engine: Engine) -> None:
    commit(search, pg_engine, 120)
    assert vector_index(search) == "exact"
    Worker(search).run()
    assert vector_index(search) == "hnsw"


def test_sync_builds_the_index_of_what_sessions_wrote(search: SearchEngine, pg_engine: Engine) -> None:
    commit(search, pg_engine, 120)
    search.sync()
    assert vector_index(search) == "hnsw"


def test_a_worker_builds_none_for_few_embeddings(search: SearchEngine, pg_engine: Engine) -> None:
    commit(search, pg_engine, 90)
    Worker(search).run()
    assert vector_index(search) == "exact"
    assert notes_on_status(search) == {""}
    assert examine(search) == []


def test_a_missing_index_is_in_the_status_and_the_doctors_report(search: SearchEngine, pg_engine: Engine) -> None:
    commit(search, pg_engine, 120)
    assert notes_on_status(search) == {f"{MISSING}: {NEXT_STEP}"}
    (finding,) = examine(search)
    assert (finding.check, finding.message) == ("unused-hnsw", MISSING)
    assert "`kameleon embeddings sync` builds it" in finding.cure


def test_an_index_that_is_there_is_no_finding(search: SearchEngine, pg_engine: Engine) -> None:
    commit(search, pg_engine, 120)
    assert search.admin.index_vectors()
    assert notes_on_status(search) == {""}
    with no_scans(pg_engine):
        assert examine(search) == []


def test_a_worker_whose_role_may_not_build_goes_on(
    search: SearchEngine, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit(search, pg_engine, 120)
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE kdb_worker")
        schema = connection.scalar(text("SELECT current_schema()"))
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO kdb_worker")
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO kdb_worker")
    try:
        with set_at_connect(pg_engine, "SET ROLE kdb_worker"):
            with pytest.raises(StorageError, match="must be owner"):
                search.admin.index_vectors()
            report = Worker(search).run()
        assert (report.pending, vector_index(search)) == (0, "exact")
        assert "the vector index is not built now" in caplog.text
    finally:
        with pg_engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY kdb_worker")
            connection.exec_driver_sql("DROP ROLE kdb_worker")


# searching it


@contextmanager
def set_at_connect(engine: Engine, *statements: str) -> Iterator[None]:
    def set_all(driver: Any, _record: Any) -> None:
        for statement in statements:
            driver.execute(statement)
        driver.commit()

    engine.dispose()
    event.listen(engine, "connect", set_all)
    yield
    event.remove(engine, "connect", set_all)
    engine.dispose()


def no_scans(engine: Engine) -> AbstractContextManager[None]:
    """Small tables use their indexes."""
    return set_at_connect(engine, "SET enable_seqscan = off", "SET enable_sort = off")


def test_a_search_looks_further_where_the_nearest_are_about_as_far_as_each_other(
    search: SearchEngine, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(search, pg_engine, 120)
    assert search.admin.index_vectors()
    with no_scans(pg_engine):
        for contrast, settings in ((0.0, {"100"}), (1e9, {"500"})):
            monkeypatch.setattr(postgresql_vectors, "LEAST_CONTRAST", contrast)
            with search.index.reading() as connection:
                found = nearest(search, connection)
                now = connection.exec_driver_sql("SELECT current_setting('hnsw.ef_search')").scalars()
                assert (len(found.scores), found.how, set(now)) == (50, "hnsw", settings)


def nearest(search: SearchEngine, connection: Connection) -> Candidates:
    (generation,) = search.generations()
    vector = np.asarray(HashProvider(16).embed_query("word1 of note 1"), "<f4")
    unit = vector / np.linalg.norm(vector)
    return search.index.store.vectors.nearest(connection, generation, unit, Scope(is_undivided=True), 50)


def test_the_index_is_used_again_after_it_was_missing(search: SearchEngine, pg_engine: Engine) -> None:
    commit(search, pg_engine, 120)
    other = SearchEngine(pg_engine, HashProvider(16))
    with no_scans(pg_engine):
        assert [other.search("word1", mode="vector").plan.vector_search for _ in range(2)] == ["exact", "exact"]
        assert search.admin.index_vectors()
        how = [other.search("word1", mode="vector").plan.vector_search for _ in range(2)]
        assert how == ["exact", "hnsw"]
        with pg_engine.begin() as connection:
            connection.exec_driver_sql("DROP INDEX kdb_embedding_g1_hnsw")
        results = other.search("word1", mode="vector")
        assert (results.plan.vector_search, results.exact) == ("exact", True)


def test_a_limit_beyond_what_the_index_has_reads_all(search: SearchEngine, pg_engine: Engine) -> None:
    commit(search, pg_engine, 120)
    assert search.admin.index_vectors()
    with no_scans(pg_engine):
        results = search.search("word1", mode="vector", limit=200)
        assert len(set(ids(results))) == 120
        assert results.exact


def passages(*cosines: float, is_hnsw: bool = True) -> list[Passage]:
    return [Passage(doc, cosine, is_hnsw) for doc, cosine in enumerate(cosines)]


def test_some_may_be_missed_where_the_last_is_hardly_further_than_the_tenth() -> None:
    alike, apart = [0.5] * 10 + [0.45], [0.5] * 10 + [0.4]
    assert may_miss(passages(*alike))
    assert not may_miss(passages(*apart))
    assert not may_miss(passages(*alike, is_hnsw=False))
    assert not may_miss(passages(*alike[:10]))


def test_a_record_is_as_near_as_its_nearest_passage() -> None:
    found = [Passage(1, 0.2, False), Passage(None, 0.9, False), Passage(2, 0.4, False), Passage(1, 0.6, False)]
    leg = leg_of(found, 5, {2: 0.4, 3: 0.1})
    assert (list(leg.scores.items()), dict(leg.others), leg.is_exact) == ([(1, 0.6), (2, 0.4)], {3: 0.1}, True)


def test_more_passages_are_read_until_enough_records_are_found() -> None:
    of_two = [Passage(n % 2, 0.5, False) for n in range(10)]
    assert deeper(of_two, 2, 10) == 0
    assert deeper(of_two, 4, 10) == 30
    assert deeper(of_two, 4, 11) == 0
    assert deeper([Passage(None, 0.5, False)] * 10, 4, 10) == 20
