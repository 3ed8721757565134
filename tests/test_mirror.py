"""The embeddings in memory, compared with those in the database after every kind of write."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray
from sqlalchemy import Engine, text

import kameleon
from kameleon import SearchEngine
from kameleon.indexing.entries import make_entry
from kameleon.stores.names import DEFAULT
from kameleon.stores.sqlite import embedding_log, mirrors, statements
from kameleon.stores.sqlite import mirror as mirroring
from kameleon.stores.sqlite.mirror import Mirror
from kameleon.stores.sqlite.vectors import scores_of
from kameleon.stores.values import Candidates, Scope
from kameleon.testing import HashProvider
from kameleon.values import Generation, Ref

from .conftest import SHARED

record_ids = st.integers(0, 12).map(str)
tenants = st.sampled_from(["", "t", "u"])
words = st.sampled_from(["red fox", "brown bear", "grey wolf", "white owl", "poison", ""])


def refuse(content: str) -> Exception | None:
    return ValueError("no") if content == "poison" else None


class MirrorMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.engine = kameleon.create_engine("sqlite://")
        self.search = SearchEngine(self.engine, HashProvider(8, refuse=refuse), vector_search="numpy")
        self.search.index_record("A", "first", "red fox")
        self.mirrors = {tenant: Mirror(DEFAULT, 1, 8, tenant) for tenant in ("", "t", None)}

    @rule(rows=st.lists(st.tuples(record_ids, words), min_size=1, max_size=6), tenant=tenants)
    def write(self, rows: list[tuple[str, str]], tenant: str) -> None:
        self.search.index_records_batch([("A", id_, content) for id_, content in rows], tenant=tenant)

    @rule(rows=st.lists(st.tuples(record_ids, words, tenants), min_size=2, max_size=6, unique_by=lambda row: row[::2]))
    def write_of_several_tenants(self, rows: list[tuple[str, str, str]]) -> None:
        self.search.index.write([make_entry(Ref("A", id_, tenant), content) for id_, content, tenant in rows])

    @rule(rows=st.lists(st.tuples(record_ids, words), min_size=1, max_size=3), tenant=tenants)
    def look_inside_and_roll_back(self, rows: list[tuple[str, str]], tenant: str) -> None:
        written = [("A", id_, content) for id_, content in rows]
        with self.engine.connect() as connection:
            transaction = connection.begin()
            self.search.index_records_batch(written, tenant=tenant, connection=connection)
            for mirror in self.mirrors.values():
                mirror.scores(connection, np.ones(8, np.float32), [1])
            transaction.rollback()

    @rule(id_=record_ids, tenant=tenants)
    def delete(self, id_: str, tenant: str) -> None:
        self.search.delete_record("A", id_, tenant=tenant)

    @rule(id_=record_ids)
    def write_keywords_only(self, id_: str) -> None:
        SearchEngine(self.engine).index_record("A", id_, "another text", tenant="")

    @invariant()
    def the_mirrors_match_the_database(self) -> None:
        if not hasattr(self, "mirrors"):
            return
        vector = np.linspace(-1, 1, 8, dtype=np.float32)
        with self.engine.connect() as connection:
            rows = connection.execute(
                text(
                    "SELECT search_id, embedding, tenant FROM kdb_embedding_g1 JOIN kdb_search ON id = search_id "
                    "WHERE embedding NOT NULL"
                )
            ).all()
            for tenant, mirror in self.mirrors.items():
                those = [row for row in rows if tenant in (row[2], None)]
                exact = {row[0]: float(np.frombuffer(row[1], "<f4") @ vector) for row in those}
                found = mirror.best(connection, vector, 100)
                assert found.scores.keys() == exact.keys()
                assert all(abs(found.scores[id_] - exact[id_]) < 1e-5 for id_ in exact)
                assert found.scanned == len(exact)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()


TestMirror = pytest.mark.slow(MirrorMachine.TestCase)
TestMirror.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def test_a_pruned_log_means_reading_anew(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider(8), vector_search="numpy")
    search.index_record("A", "0", "text 0")
    assert len(search.search("text", mode="vector")) == 1
    for n in range(1, 70):
        search.index_record("A", str(n), f"text {n}")
    with file_engine.begin() as connection:
        connection.execute(text("DELETE FROM kdb_embedding_log WHERE seq < (SELECT max(seq) FROM kdb_embedding_log)"))
    assert len(search.search("text", mode="vector", limit=100)) == 70


def test_records_without_an_embedding_have_no_cosine(file_engine: Engine) -> None:
    SearchEngine(file_engine, HashProvider(8)).index_record("A", "1", "red fox")
    vector = np.ones(8, np.float32)
    with file_engine.connect() as connection:
        assert list(scores_of(connection, "kdb_embedding_g1", vector, [1, 99])) == [1]
        assert scores_of(connection, "kdb_embedding_g1", vector, [99]) == {}


def test_the_log_stays_short(file_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_log, "LOG_IDS_KEPT", 10)
    search = SearchEngine(file_engine, HashProvider(8))
    for n in range(embedding_log.LOG_PRUNED_EVERY):
        search.index_record("A", str(n), f"text {n}")
    with file_engine.connect() as connection:
        kept = connection.scalar(text("SELECT sum(ids) FROM kdb_embedding_log"))
    assert kept <= 12
    assert len(search.search("text", mode="vector", limit=100)) == embedding_log.LOG_PRUNED_EVERY


def test_another_process_s_write_is_seen(file_engine: Engine) -> None:
    ours = SearchEngine(file_engine, HashProvider(8), vector_search="numpy")
    ours.index_record("A", "1", "red fox")
    assert len(ours.search("red fox", mode="vector")) == 1
    other = kameleon.create_engine(str(file_engine.url))
    SearchEngine(other, HashProvider(8)).index_record("A", "2", "red fox")
    other.dispose()
    assert len(ours.search("red fox", mode="vector")) == 2


@pytest.fixture
def searched(file_engine: Engine) -> SearchEngine:
    """Two tenants of 30 records."""
    search = SearchEngine(file_engine, HashProvider(8), vector_search="numpy")
    for tenant in ("t1", "t2"):
        search.index_records_batch([("A", str(n), f"text {n} of {tenant}") for n in range(30)], tenant=tenant)
    return search


def nearest(search: SearchEngine, *tenants: str) -> Candidates:
    (generation,) = search.generations()
    with search.index.store.connections.reading() as connection:
        vector = np.linspace(-1, 1, 8, dtype=np.float32)
        return search.index.store.vectors.nearest(connection, generation, vector, Scope(tenants=tenants or None), 99)


def test_a_tenants_embeddings_are_read_apart(searched: SearchEngine) -> None:
    first = nearest(searched, "t1")
    assert len(first.scores) == first.scanned == 30
    for n in range(80):
        searched.index_records_batch([("A", f"{m}", f"changed {n} {m}") for m in range(n, n + 3)], tenant="t2")
    with searched.index.store.connections.writing() as connection:
        connection.execute(text("DELETE FROM kdb_embedding_log WHERE seq < (SELECT max(seq) FROM kdb_embedding_log)"))
    assert nearest(searched, "t1") == first
    assert nearest(searched, "t2").scanned == 82
    assert nearest(searched, "t1", "t2").scanned == nearest(searched).scanned == 112


def test_a_log_entry_has_the_one_tenant_of_a_write(searched: SearchEngine) -> None:
    searched.delete_record("A", "1", tenant="t2")
    searched.index.write([make_entry(Ref("A", "1", tenant), "text") for tenant in ("t1", "t2")])
    searched.index_record("B", "1", "text", tenant="")
    with searched.index.store.connections.reading() as connection:
        logged = connection.execute(text("SELECT tenant FROM kdb_embedding_log ORDER BY seq")).scalars().all()
    assert list(dict.fromkeys(logged)) == ["t1", "t2", None, ""]


def test_a_tenants_first_query_does_not_depend_on_what_others_searched(file_engine: Engine) -> None:
    pytest.importorskip("sqlite_vec")
    search = SearchEngine(file_engine, HashProvider(8))
    for tenant in ("t1", "t2"):
        search.index_record("A", "1", "red fox", tenant=tenant)
    how = [nearest(search, tenant).how for tenant in ("t1", "t1", "t2", "t2", "t1")]
    assert how == [how[0], "numpy", how[0], "numpy", "numpy"]


def test_a_generation_is_searched_first_once_for_each_tenant() -> None:
    kept, generation = mirrors.Mirrors(DEFAULT), Generation(1, "hash", fingerprint="x")
    assert kept.is_first(generation, ["a"])
    assert not kept.is_first(generation, ["a"])
    assert kept.is_first(generation, ["a", "b"])
    assert not kept.is_first(generation, ["b", "a"])
    assert kept.is_first(generation, [None])
    assert kept.is_first(replace(generation, number=2), ["a"])
    assert not kept.is_first(generation, [])
    kept.is_first(generation, [f"t{n}" for n in range(mirrors.SEARCHED_KEPT - 1)])
    assert not kept.is_first(generation, ["t0"])
    assert not kept.is_first(replace(generation, number=2), ["a"])
    assert kept.is_first(generation, ["b"])


def test_mirrors_stay_within_their_bytes(searched: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last, and two whatever their size."""
    kept = searched.index.store.vectors._mirrors  # type: ignore[attr-defined]
    for tenant in ("t1", "t2", "t3", "t1"):
        nearest(searched, tenant)
    assert [key[2] for key in kept._mirrors] == ["t2", "t3", "t1"]
    assert kept._bytes == sum(mirror.size for mirror in kept._mirrors.values()) > 0
    monkeypatch.setattr(mirrors, "MIRROR_BYTES", kept._bytes)
    nearest(searched, "t4")
    assert [key[2] for key in kept._mirrors] == ["t3", "t1", "t4"]
    monkeypatch.setattr(mirrors, "MIRROR_BYTES", 0)
    nearest(searched, "t2")
    assert [key[2] for key in kept._mirrors] == ["t4", "t2"]
    kept.forget("t2")
    assert [key[2] for key in kept._mirrors] == ["t4"]
    assert kept._bytes == sum(mirror.size for mirror in kept._mirrors.values())


@pytest.fixture
def by_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EXACT_BYTES": 0, "DIRECTIONS": 96, "CANDIDATES": 200, "SAMPLE": 500}.items():
        monkeypatch.setattr(mirroring, name, value)


class TablesOfVectors:
    """The tables that a mirror reads. Odd ids are of one entity, even ones of another."""

    def __init__(self, dimensions: int) -> None:
        self.engine = kameleon.create_engine("sqlite://")
        with self.engine.begin() as connection:
            connection.execute(
                text("CREATE TABLE kdb_embedding_g1 (search_id INTEGER, passage INTEGER, embedding BLOB)")
            )
            connection.execute(text("CREATE INDEX by_id ON kdb_embedding_g1 (search_id)"))
            connection.execute(text("CREATE TABLE kdb_search (id INTEGER PRIMARY KEY, tenant TEXT, entity_name TEXT)"))
            connection.execute(text(statements.CREATE[-1]))
        self.mirror = Mirror(DEFAULT, 1, dimensions)

    def write(self, vectors: dict[tuple[int, int], NDArray[np.float32]], gone: Iterable[int] = ()) -> None:
        changed = np.unique([*gone, *(id_ for id_, _ in vectors)]).astype(np.int64)
        with self.engine.begin() as connection:
            connection.exec_driver_sql(
                "DELETE FROM kdb_embedding_g1 WHERE search_id = ?", [(int(id_),) for id_ in changed]
            )
            rows = [(id_, passage, vector.tobytes()) for (id_, passage), vector in vectors.items()]
            if rows:
                connection.exec_driver_sql("INSERT INTO kdb_embedding_g1 VALUES (?, ?, ?)", rows)
                records = [(id_, "Odd" if id_ % 2 else "Even") for id_, _ in vectors]
                connection.exec_driver_sql("INSERT OR IGNORE INTO kdb_search VALUES (?, '', ?)", records)
            embedding_log.log_change(DEFAULT, connection, changed.tolist())

    def best(self, vector: NDArray[np.float32], limit: int, **options: Any) -> mirroring.Nearest:
        with self.engine.connect() as connection:
            return self.mirror.best(connection, vector, limit, **options)


@pytest.mark.usefixtures("by_directions")
def test_directions_of_real_embeddings_find_nearly_all_that_an_exact_scan_finds() -> None:
    path = SHARED / "data" / "embeddings" / "wikipedia_movies.all-MiniLM-L6-v2.f16.npy"
    if not path.is_file():
        pytest.skip("the embeddings of film extracts are not beside the project")
    real = np.load(path, mmap_mode="r")[:8040].astype(np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    stored, queries = real[:8000], real[8000:]
    tables = TablesOfVectors(384)
    tables.write({(n, 0): vector for n, vector in enumerate(stored)})
    shares = []
    for vector in queries:
        exact = set(np.argsort(-(stored @ vector))[:10].tolist())
        found = tables.best(vector, 10)
        assert not found.is_exact
        shares.append(len(exact & set(found.scores)) / 10)
    assert np.mean(shares) >= 0.97


@pytest.mark.usefixtures("by_directions")
def test_directions_follow_updates_deletes_and_growth() -> None:
    chance = np.random.default_rng(1)
    vectors = chance.standard_normal((3000, 128)).astype(np.float32)
    tables = TablesOfVectors(128)
    tables.write({(n, 0): vectors[n] for n in range(1000)})
    assert next(iter(tables.best(vectors[5], 3).scores)) == 5
    tables.write({(5, 0): vectors[2000], (5, 1): vectors[2001]}, gone=[6])
    assert tables.best(vectors[2001], 1).scores == pytest.approx({5: np.linalg.norm(vectors[2001]) ** 2}, rel=1e-4)
    assert 5 not in tables.best(vectors[5], 10).scores
    assert 6 not in tables.best(vectors[6], 999).scores
    tables.write({(n, 0): vectors[n] for n in range(1000, 3000)})
    assert next(iter(tables.best(vectors[2500], 3).scores)) == 2500
    assert list(tables.best(vectors[7], 2, allowed=[7, 2999]).scores) == [7, 2999]
    odd = tables.best(vectors[7], 300, accept=lambda ids: [id_ for id_ in ids if id_ % 10 == 1])
    assert len(odd.scores) == 300
    for entity in ("Odd", "Even"):
        of_entity = tables.best(vectors[7], 300, entities=[entity]).scores
        assert len(of_entity) == 300
        assert {id_ % 2 for id_ in of_entity} == {int(entity == "Odd")}
    assert tables.best(vectors[7], 9, entities=["Odd", "Even"]).scores == tables.best(vectors[7], 9).scores
    assert not tables.best(vectors[7], 9, entities=["None"]).scores


def test_a_record_of_many_passages_takes_one_place() -> None:
    tables = TablesOfVectors(4)
    near, far = np.array([1, 0, 0, 0], np.float32), np.array([0.5, 0.5, 0, 0], np.float32)
    tables.write({**{(1, passage): near for passage in range(50)}, (2, 0): far, (3, 0): far, (2, 1): -near})
    assert tables.best(near, 3) == ({1: 1.0, 2: 0.5, 3: 0.5}, 53, True)


def test_transactions_that_see_an_older_state_are_answered_from_it(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider(8), vector_search="numpy")
    search.index_record("A", "1", "red fox")
    with file_engine.connect() as older:
        assert len(search.search("fox", mode="vector", connection=older)) == 1
        other = kameleon.create_engine(str(file_engine.url))
        SearchEngine(other, HashProvider(8)).index_records_batch([("A", "1", "grey wolf"), ("A", "2", "red fox")])
        other.dispose()
        assert len(search.search("fox", mode="vector")) == 2
        (hit,) = search.search("red fox", mode="vector", connection=older)
        assert hit.id == "1"
        assert hit.score == pytest.approx(1.0, abs=0.01)
    assert [hit.id for hit in search.search("red fox", mode="vector", limit=1)] == ["2"]
