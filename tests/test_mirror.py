"""The embeddings in memory against the embeddings in the database, whatever happens to the latter."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine, text

import kameleon
from kameleon import SearchEngine
from kameleon.search import sqlite as dialect
from kameleon.search.mirror import Mirror
from kameleon.testing import HashProvider

record_ids = st.integers(0, 12).map(str)
words = st.sampled_from(["red fox", "brown bear", "grey wolf", "white owl", "poison", ""])


def refuse(content: str) -> Exception | None:
    return ValueError("no") if content == "poison" else None


class MirrorMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.engine = kameleon.create_engine("sqlite://")
        self.search = SearchEngine(self.engine, HashProvider(8, refuse=refuse), vector_search="numpy")
        self.search.index_record("A", "first", "red fox")
        self.mirror = Mirror("kdb_embedding_g1", 8)

    @rule(rows=st.lists(st.tuples(record_ids, words), min_size=1, max_size=6))
    def write(self, rows: list[tuple[str, str]]) -> None:
        self.search.index_records_batch([("A", id_, content) for id_, content in rows])

    @rule(rows=st.lists(st.tuples(record_ids, words), min_size=1, max_size=3))
    def look_inside_and_roll_back(self, rows: list[tuple[str, str]]) -> None:
        with self.engine.connect() as connection:
            transaction = connection.begin()
            self.search.index_records_batch([("A", id_, content) for id_, content in rows], connection=connection)
            self.mirror.scores(connection, np.ones(8, np.float32), [1])
            transaction.rollback()

    @rule(id_=record_ids)
    def delete(self, id_: str) -> None:
        self.search.delete_record("A", id_)

    @rule(id_=record_ids)
    def write_keywords_only(self, id_: str) -> None:
        SearchEngine(self.engine).index_record("A", id_, "another text")

    @invariant()
    def the_mirror_says_what_the_database_says(self) -> None:
        if not hasattr(self, "mirror"):
            return
        vector = np.linspace(-1, 1, 8, dtype=np.float32)
        with self.engine.connect() as connection:
            rows = connection.execute(
                text("SELECT search_id, embedding FROM kdb_embedding_g1 WHERE embedding NOT NULL")
            )
            truth = {row[0]: float(np.frombuffer(row[1], "<f4") @ vector) for row in rows}
            found = self.mirror.best(connection, vector, 100, None)
        assert found.keys() == truth.keys()
        assert all(abs(found[id_] - truth[id_]) < 1e-5 for id_ in truth)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()


TestMirror = MirrorMachine.TestCase
TestMirror.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_a_pruned_log_means_reading_anew(file_engine: Engine) -> None:
    search = SearchEngine(file_engine, HashProvider(8), vector_search="numpy")
    search.index_record("A", "0", "text 0")
    assert len(search.search("text", mode="vector")) == 1
    for n in range(1, 70):
        search.index_record("A", str(n), f"text {n}")
    with file_engine.begin() as connection:
        connection.execute(text("DELETE FROM kdb_embedding_log WHERE seq < (SELECT max(seq) FROM kdb_embedding_log)"))
    assert len(search.search("text", mode="vector", limit=100)) == 70


def test_the_log_stays_short(file_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "LOG_IDS_KEPT", 10)
    search = SearchEngine(file_engine, HashProvider(8))
    for n in range(dialect.LOG_PRUNED_EVERY):
        search.index_record("A", str(n), f"text {n}")
    with file_engine.connect() as connection:
        kept = connection.scalar(text("SELECT sum(ids) FROM kdb_embedding_log"))
    assert kept <= 12
    assert len(search.search("text", mode="vector", limit=100)) == dialect.LOG_PRUNED_EVERY


def test_another_process_s_write_is_seen(file_engine: Engine) -> None:
    ours = SearchEngine(file_engine, HashProvider(8), vector_search="numpy")
    ours.index_record("A", "1", "red fox")
    assert len(ours.search("red fox", mode="vector")) == 1
    other = kameleon.create_engine(str(file_engine.url))
    SearchEngine(other, HashProvider(8)).index_record("A", "2", "red fox")
    other.dispose()
    assert len(ours.search("red fox", mode="vector")) == 2
