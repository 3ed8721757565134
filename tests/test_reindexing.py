"""Re-embedding through SearchEngine: plans, resumed runs, leases, and what every generation holds afterwards."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.orm import Session, sessionmaker

from kameleon import SearchEngine
from kameleon.doctor import examine
from kameleon.embeddings import EmbeddingProvider
from kameleon.embeddings.static import BUNDLED
from kameleon.errors import (
    GateRefused,
    InvalidInput,
    ModelMismatch,
    ProviderUnavailable,
    ReindexRefused,
    ReindexRunning,
    TextRefused,
    TransactionConflict,
    UnknownEntity,
    UnknownProvider,
)
from kameleon.reindex.gate import Gate, GateQuery
from kameleon.reindex.owners import machine
from kameleon.reindex.request import Request
from kameleon.reindex.run import Run
from kameleon.stores.postgresql.statements import TRY_LOCK
from kameleon.testing import HashProvider
from kameleon.values import Ref
from stress.workloads.models import Base, Note, assert_index_matches

from .conftest import Make, ids, with_citus

RECORDS = [("Article", str(n), f"word{n} shared fox {n % 5}") for n in range(30)]
OTHERS = [("Note", str(n), f"paint number{n}") for n in range(7)]


@pytest.fixture(params=with_citus("sqlite", "sqlite-memory", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old(make: Make) -> SearchEngine:
    """An index of 64 dimensions."""
    search = make(HashProvider(64, model_name="old"))
    search.index_records_batch([*RECORDS, *OTHERS])
    return search


def new_provider(**options: Any) -> HashProvider:
    return HashProvider(32, model_name="new", **options)


@pytest.fixture
def new(make: Make, old: SearchEngine) -> SearchEngine:
    """An engine whose model has no embeddings in the index yet."""
    return make(new_provider())


def embedded_texts(search: SearchEngine) -> list[str]:
    assert isinstance(search.provider, HashProvider)
    return [content for call in search.provider.calls for content in call]


def states(search: SearchEngine) -> list[tuple[int, str, str]]:
    return [(g.number, g.model_name, g.state) for g in search.generations()]


def found(search: SearchEngine, query: str) -> tuple[str, int | None]:
    """The best hit by vector, and the generation that it names."""
    (hit,) = search.search(query, mode="vector", limit=1, explain=True)
    return hit.id, hit.explanation[0].generation


def embeddings(engine: Engine, number: int) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM kdb_embedding_g{number}")) or 0)


class Failing(HashProvider):
    """Unavailable after `good` calls."""

    attempts = 1

    def __init__(self, good: int, dimensions: int = 32) -> None:
        super().__init__(dimensions, model_name="new" if dimensions == 32 else "old")
        self.good = good

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        if len(self.calls) >= self.good:
            raise ProviderUnavailable("the line is cut")
        return super().embed_batch(texts)


def test_a_generation_is_built_beside_and_switched_to(
    old: SearchEngine, new: SearchEngine, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kameleon.reindex")
    report = new.reindex(batch_size=10)
    assert (report.action, report.generation, report.embedded, report.pending) == ("built", 2, 37, 0)
    assert report.switched
    assert not report.stopped
    assert states(new) == [(1, "old", "retired"), (2, "new", "active")]
    wrote = [record.getMessage() for record in caplog.records if "wrote batch" in record.getMessage()]
    assert wrote == [f"reindex: wrote batch {n} ({rows} rows)" for n, rows in ((1, 10), (2, 10), (3, 10), (4, 7))]
    assert found(new, "word7 shared") == ("7", 2)
    assert found(old, "word7 shared") == ("7", 1)
    assert (embeddings(engine, 1), embeddings(engine, 2)) == (37, 37)


def test_nothing_to_do_is_reported_without_a_request(old: SearchEngine) -> None:
    calls = len(embedded_texts(old))
    report = old.reindex()
    assert (report.action, report.generation, report.switched) == ("nothing", 1, False)
    assert report.notes
    assert len(embedded_texts(old)) == calls
    assert old.reindexing.status() == []


def test_what_is_pending_is_embedded_in_place(old: SearchEngine, make: Make) -> None:
    make(None).index_records_batch([("Article", "a", "written without"), ("Note", "b", "also without")])
    assert old.reindex("Note").embedded == 1
    assert {s.entity: s.pending for s in old.get_status()} == {"Article": 1, "Note": 0}
    assert old.reindex().embedded == 1
    assert [g.number for g in old.generations()] == [1]


def test_force_embeds_all_anew_with_the_same_model(old: SearchEngine) -> None:
    report = old.reindex(force=True)
    assert (report.generation, report.embedded) == (2, 37)
    assert states(old) == [(1, "old", "retired"), (2, "old", "active")]
    assert found(old, "word3 shared") == ("3", 2)


def test_force_of_one_entity_keeps_what_the_others_have(old: SearchEngine, engine: Engine) -> None:
    before = len(embedded_texts(old))
    report = old.reindex("Note", force=True)
    assert (report.embedded, len(embedded_texts(old)) - before) == (7, 7)
    assert embeddings(engine, 2) == 37
    assert found(old, "word3 shared") == ("3", 2)
    assert found(old, "number4") == ("4", 2)


def test_an_entity_alone_cannot_change_its_model(old: SearchEngine, new: SearchEngine) -> None:
    with pytest.raises(InvalidInput, match="a change of model is for the whole index"):
        new.reindex("Note")
    with pytest.raises(UnknownEntity, match="It has: Article, Note"):
        old.reindex("Nobody")
    assert len(old.generations()) == 1


def test_one_tenant_is_embedded_again_and_what_is_pending_of_it(old: SearchEngine, make: Make, engine: Engine) -> None:
    for tenant in ("t1", "t2"):
        make(None).index_records_batch([("Memo", n, f"of {tenant} number{n}") for n in range(3)], tenant=tenant)
    assert old.reindexing.plan(tenant="t1").rows == 3
    assert old.reindex("Memo", tenant="t1").embedded == 3
    assert [status.pending for status in old.get_status("Memo", tenant=["t1", "t2"])] == [3]
    assert old.reindex(tenant=["t1", "t2"]).embedded == 3
    before = len(embedded_texts(old))
    report = old.reindex("Memo", tenant="t2", force=True, batch_size=2)
    assert (report.generation, report.embedded, report.switched) == (2, 3, True)
    assert sorted(set(embedded_texts(old)[before:])) == [f"of t2 number{n}" for n in range(3)]
    assert embeddings(engine, 2) == 37 + 6
    assert [each for each in examine(old) if each.severity == "error"] == []
    assert old.reindex(tenant="", force=True).embedded == 37
    assert (embeddings(engine, 3), [status.pending for status in old.get_status()]) == (43, [0, 0, 0])


def test_a_tenant_alone_cannot_change_its_model(old: SearchEngine, new: SearchEngine, make: Make) -> None:
    make(None).index_record("Memo", "1", "of a tenant", tenant="t1")
    for options, message in (
        ({"tenant": "t1"}, "the tenant 't1' alone cannot move to new: a change of model is for the whole index"),
        ({"tenant": "t1", "in_place": True}, "name no entity and no tenant"),
        ({"tenant": None}, "a tenant"),
    ):
        with pytest.raises(InvalidInput, match=message):
            new.reindex(**options)
    with pytest.raises(InvalidInput, match="nothing of 't3' is in the index"):
        old.reindex(tenant="t3", force=True)
    assert not hasattr(old.for_tenant("t1"), "reindex")
    assert len(old.generations()) == 1


def test_dimensions_change_both_ways_and_a_retired_generation_is_filled_again(
    old: SearchEngine, new: SearchEngine
) -> None:
    new.reindex()
    new.index_record("Article", "late", "zebra crossing")
    report = old.reindex()
    assert (report.action, report.generation, report.embedded, report.switched) == ("built", 1, 1, True)
    assert states(old) == [(1, "old", "active"), (2, "new", "retired")]
    assert found(old, "zebra crossing") == ("late", 1)


def test_an_engine_without_generation_gets_an_error_with_both_models_and_the_command(
    old: SearchEngine, new: SearchEngine
) -> None:
    with pytest.raises(ModelMismatch, match=r"of old \(64 dimensions\).* new \(32\).*search\.reindex\(\)"):
        new.search("fox", mode="vector")
    assert ids(new.search('"word7"', mode="keyword")) == ["7"]
    assert "search.reindex()" in new.search("word7").plan.note
    assert all("search.reindex()" in status.note for status in new.get_status())
    assert [status.note for status in old.get_status()] == ["", ""]


def test_an_outage_ends_the_run_and_the_next_resumes(old: SearchEngine, make: Make) -> None:
    down = make(Failing(2))
    report = down.reindex(batch_size=10)
    assert (report.embedded, report.pending, report.switched) == (20, 17, False)
    assert report.outage is not None
    assert "the line is cut" in report.stopped
    assert states(old) == [(1, "old", "active"), (2, "new", "building")]
    assert found(old, "word7 shared") == ("7", 1)
    with pytest.raises(ModelMismatch, match="still being built"):
        down.search("fox", mode="vector")
    again = make(new_provider())
    report = again.reindex(batch_size=10)
    assert (report.generation, report.embedded, report.pending) == (2, 17, 0)
    assert sorted(embedded_texts(again) + embedded_texts(down)) == sorted(
        content for _, _, content in [*RECORDS, *OTHERS]
    )
    (run,) = again.reindexing.status()
    assert (run.done, run.total, run.owner, run.phase) == (37, 37, None, "done")


def test_writes_meanwhile_are_drained_and_deletes_too(old: SearchEngine, make: Make) -> None:
    def meddle(batch: int) -> None:
        if batch == 2:
            old.index_record("Article", "late", "zebra crossing")
            old.index_record("Article", "0", "giraffe now")
            old.delete_record("Article", "1")

    provider = Meddled(meddle)
    search = make(provider)
    report = search.reindex(batch_size=10)
    assert report.pending == 0
    assert found(search, "zebra crossing") == ("late", 2)
    assert found(search, "giraffe now") == ("0", 2)
    assert "1" not in ids(search.search("word1 shared", mode="vector", entity="Article", limit=50))
    assert sum(status.indexed for status in search.get_status()) == 37


class Meddled(HashProvider):
    """Calls a function before each batch."""

    def __init__(self, meddle: Callable[[int], None]) -> None:
        super().__init__(32, model_name="new")
        self.meddle = meddle

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        self.meddle(len(self.calls) + 1)
        return super().embed_batch(texts)


def test_refused_texts_are_tombstones_and_stop_nothing(old: SearchEngine, make: Make) -> None:
    poison = make(new_provider(refuse=lambda text: TextRefused("bad") if "word7 " in text else None))
    report = poison.reindex(batch_size=10)
    assert (report.embedded, report.failed, report.pending, report.switched) == (36, 1, 0, True)
    assert report.failures[0][0] == Ref("Article", "7")
    assert [(f.id, f.reason) for f in poison.failures()] == [("7", "embed_failed")]
    assert ids(poison.search('"word7"', mode="keyword")) == ["7"]
    assert poison.reindex().action == "nothing"


class OneTooMany(EmbeddingProvider):
    model_name = "new"
    dimensions = 4

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        return [[1.0, 0.0, 0.0, 0.0]] * (len(texts) + 1)


class Wide(OneTooMany):
    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        return [[1.0, 0.0, 0.0, 0.0, 0.0]] * len(texts)


@pytest.mark.parametrize("broken", [OneTooMany(), Wide()])
def test_a_broken_contract_ends_the_run_with_its_cause(
    old: SearchEngine, make: Make, broken: EmbeddingProvider
) -> None:
    report = make(broken).reindex()
    assert report.outage is not None
    assert not report.switched
    assert "fails on every text" in report.outage
    assert "vectors for 1 texts" in report.outage or "the model has" in report.outage
    assert found(old, "word7 shared") == ("7", 1)


def test_a_model_that_refuses_every_text_is_not_switched_to(old: SearchEngine, make: Make) -> None:
    old.index_record("Article", "blank", "  ")
    broken = make(new_provider(refuse=lambda _text: TextRefused("not a number")))
    for reason in ("not a number", "an earlier run"):
        with pytest.raises(ReindexRefused, match=f"refused every text.*{reason}"):
            broken.reindex()
        assert states(old) == [(1, "old", "active"), (2, "new", "building")]
    assert found(old, "word7 shared") == ("7", 1)
    old.reindexing.prune()
    assert make(new_provider()).reindex().switched


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_text_that_cannot_be_read_is_a_tombstone(old: SearchEngine, new: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE kdb_search SET content = CAST(x'ff41' AS TEXT) WHERE record_id = '9'"))
    report = new.reindex(batch_size=10)
    assert (report.embedded, report.failed, report.switched) == (36, 1, True)
    assert [(f.id, f.reason) for f in new.failures()] == [("9", "read_failed")]


def test_a_second_run_is_refused_with_the_owner_of_the_first(old: SearchEngine, make: Make) -> None:
    messages: list[str] = []

    def meddle(batch: int) -> None:
        if batch == 1:
            with pytest.raises(ReindexRunning) as refused:
                make(new_provider()).reindex()
            messages.append(str(refused.value))

    assert make(Meddled(meddle)).reindex(batch_size=10).switched
    assert "is building generation 2" in messages[0]
    assert "embeddings cancel" in messages[0]


@pytest.mark.parametrize("owner", ["a-machine 1 99 ab", "{here} 4194305 99 ab", "{here} {pid} 1 ab"])
def test_a_lease_is_kept_elsewhere_and_free_where_its_process_is_gone(
    old: SearchEngine, make: Make, engine: Engine, owner: str
) -> None:
    make(Failing(1)).reindex(batch_size=10)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE kdb_reindex SET owner = :owner, lease_until = '2999-01-01 00:00:00+00:00'"),
            {"owner": owner.format(here=machine(), pid=os.getpid())},
        )
    again = make(new_provider())
    if owner.startswith("a-machine"):
        with pytest.raises(ReindexRunning, match="process 1 on a-machine"):
            again.reindex()
    else:
        assert again.reindex().switched


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_lease_that_was_taken_while_the_registry_was_waited_for_is_seen(
    old: SearchEngine, pg_engine: Engine, pg_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    SearchEngine(pg_engine).index_record("Article", "pending", "not embedded yet")
    old.reindex()
    snapshots = sqlalchemy.create_engine(pg_url, isolation_level="REPEATABLE READ")
    second = SearchEngine(snapshots, new_provider())
    lock = second.index.store.schema.lock_registry

    def overtaken(connection: Connection, **options: Any) -> None:
        lock(connection, **options)
        with pg_engine.begin() as other:
            other.execute(text("UPDATE kdb_reindex SET owner = 'a-machine 1 99 ab', lease_until = '2999-01-01'"))

    monkeypatch.setattr(second.index.store.schema, "lock_registry", overtaken)
    with pytest.raises(ReindexRunning, match="process 1 on a-machine"):
        second.reindex()
    snapshots.dispose()


def test_a_run_that_lost_its_lease_writes_no_more(old: SearchEngine, make: Make, engine: Engine) -> None:
    def meddle(batch: int) -> None:
        if batch == 3:
            with engine.begin() as connection:
                connection.execute(text("UPDATE kdb_reindex SET owner = 'other 1 1 x'"))

    with pytest.raises(ReindexRunning, match="took generation 2 over"):
        make(Meddled(meddle)).reindex(batch_size=10)
    assert embeddings(engine, 2) == 20


def test_a_run_that_lost_its_lease_to_another_of_its_engine_writes_no_more(
    old: SearchEngine, make: Make, engine: Engine
) -> None:
    def meddle(batch: int) -> None:
        if batch == 2:
            with engine.begin() as connection:
                connection.execute(text("UPDATE kdb_reindex SET lease_until = '2000-01-01 00:00:00+00:00'"))
            Run(mover.reindexing, Request(), mover.reindexing.target(Request())).begin()

    mover = make(Meddled(meddle))
    with pytest.raises(ReindexRunning, match="took generation 2 over"):
        mover.reindex(batch_size=10)
    assert embeddings(engine, 2) == 10
    assert mover.reindexing.status()[-1].owner is not None


def test_a_helper_stops_when_the_run_has_ended(old: SearchEngine, make: Make, engine: Engine) -> None:
    def meddle(batch: int) -> None:
        if batch == 2:
            run.end()

    helper, request = make(Meddled(meddle)), Request(batch_size=10)
    run = Run(helper.reindexing, request, helper.reindexing.target(request))
    run.begin()
    helped = helper.reindexing.building.help_out()
    assert helped is not None
    assert (helped.embedded, embeddings(engine, 2)) == (20, 20)
    assert helper.reindexing.building.help_out() is None


def test_a_cancel_just_before_the_switch_is_obeyed(old: SearchEngine, make: Make) -> None:
    new = make(new_provider())

    def progress(phase: str, _done: int, _total: int) -> None:
        if phase == "indexing":
            assert old.reindexing.cancel()

    assert new.reindex(progress=progress).stopped == "cancelled"
    assert states(old) == [(1, "old", "active"), (2, "new", "building")]


def test_embeddings_whose_records_went_unseen_are_swept_away(
    old: SearchEngine, new: SearchEngine, engine: Engine
) -> None:
    def progress(phase: str, _done: int, _total: int) -> None:
        if phase == "indexing":
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM kdb_search WHERE entity_name = 'Note'"))

    assert new.reindex(progress=progress).switched
    assert (embeddings(engine, 1), embeddings(engine, 2)) == (37, 30)


def test_a_text_that_is_twice_in_a_batch_is_embedded_once(old: SearchEngine, make: Make) -> None:
    old.index_records_batch([("Same", str(n), "one and the same") for n in range(30)])
    old.delete_records([(entity, id_) for entity, id_, _ in [*RECORDS, *OTHERS]])
    search = make(new_provider())
    assert isinstance(search.provider, HashProvider)
    one = search.provider.count_tokens("one and the same") / 1e6
    report = search.reindex(batch_size=10, max_cost=2.5 * one, price_per_million=1)
    assert (report.embedded, report.reused, report.switched) == (2, 18, False)
    assert len(embedded_texts(search)) == 2


def test_in_place_keeps_what_it_has_no_need_to_drop(old: SearchEngine, new: SearchEngine, make: Make) -> None:
    new.reindex()
    make(None).index_record("Note", "late", "zebra crossing")
    assert new.reindex(in_place=True).action == "filled"
    assert states(new) == [(1, "old", "retired"), (2, "new", "active")]
    with pytest.raises(InvalidInput, match="name no entity"):
        new.reindex("Note", in_place=True, force=True)


def test_what_another_run_did_since_it_was_looked_at_is_not_done_again(
    old: SearchEngine, new: SearchEngine, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = make(new_provider())
    look, looks = second.reindexing.target, list[str]()

    def overtaken(request: Request) -> Any:
        target = look(request)
        looks.append(target.action)
        if len(looks) == 1:
            new.reindex()
        return target

    monkeypatch.setattr(second.reindexing, "target", overtaken)
    assert second.reindex().action == "nothing"
    assert (looks, embedded_texts(second)) == (["built", "nothing"], [])
    assert states(second) == [(1, "old", "retired"), (2, "new", "active")]


def test_cancel_stops_after_the_batch_and_the_next_run_resumes(old: SearchEngine, make: Make) -> None:
    def meddle(batch: int) -> None:
        if batch == 2:
            assert len(old.reindexing.cancel()) == 1

    search = make(Meddled(meddle))
    report = search.reindex(batch_size=10)
    assert (report.stopped, report.embedded, report.switched) == ("cancelled", 20, False)
    assert old.reindexing.cancel() == []
    assert search.reindex(batch_size=10).embedded == 17


def test_limits_stop_between_batches(old: SearchEngine, make: Make) -> None:
    search = make(new_provider())
    assert search.reindex(max_minutes=0).embedded == 0
    with pytest.raises(InvalidInput, match="price_per_million"):
        search.reindex(max_cost=1)
    tokens = [search.provider.count_tokens(content) for _, _, content in RECORDS[:20]]  # type: ignore[union-attr]
    report = search.reindex(batch_size=10, max_cost=sum(tokens) / 1e6, price_per_million=1)
    assert (report.embedded, report.switched) == (20, False)
    assert "would cost more" in report.stopped
    assert search.reindex().embedded == 17


def test_rollback_goes_back_and_embeds_what_came_since(old: SearchEngine, new: SearchEngine) -> None:
    with pytest.raises(ReindexRefused, match="no generation to go back to"):
        old.reindexing.rollback()
    new.reindex()
    new.index_record("Article", "late", "zebra crossing")
    report = old.reindexing.rollback()
    assert (report.generation, report.embedded, report.pending) == (1, 1, 0)
    assert states(old) == [(1, "old", "active"), (2, "new", "retired")]
    assert found(old, "zebra crossing") == ("late", 1)
    assert found(new, "zebra crossing") == ("late", 2)


def test_prune_drops_all_but_the_active_one(old: SearchEngine, new: SearchEngine, engine: Engine) -> None:
    new.reindex()
    pruned = new.reindexing.prune()
    assert ([g.number for g in pruned.dropped], pruned.waiting) == ([1], ())
    assert states(new) == [(2, "new", "active")]
    with new.index.reading() as connection:
        assert new.index.store.schema.embedding_tables(connection) == {2}
    with pytest.raises(ModelMismatch, match="holds embeddings of new"):
        old.search("fox", mode="vector")
    old.index_record("Article", "1", "changed by the old engine")
    assert "stay pending: the index holds embeddings of new" in old.get_status()[0].note
    assert ids(old.search("changed")) == ["1"]
    assert old.reindex().generation == 3


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_table_that_may_be_read_is_dropped_by_the_next_prune(
    old: SearchEngine, new: SearchEngine, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.stores.postgresql.schema.READERS_WAIT_S", 0.1)
    new.reindex()
    with pg_engine.connect() as reader:
        before = old.search("word7 shared", mode="vector", connection=reader)
        reader.execute(text("SELECT count(*) FROM kdb_generation"))
        pruned = new.reindexing.prune()
        assert ([g.number for g in pruned.waiting], pruned.dropped) == ([1], ())
        assert embeddings(pg_engine, 1) == 37
        (finding,) = [f for f in examine(new) if f.check == "unpruned"]
        assert (finding.severity, "embeddings prune" in finding.cure) == ("warning", True)
    assert [g.number for g in new.reindexing.prune().dropped] == [1]
    assert before.plan.generation == 1


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_role_that_may_write_records_may_write_a_new_generation(
    old: SearchEngine, pg_engine: Engine, make: Make, schema: str
) -> None:
    role = f"{schema} role"
    with pg_engine.begin() as connection:
        connection.execute(text(f'CREATE ROLE "{role}"'))
        connection.execute(text(f'GRANT USAGE ON SCHEMA {schema} TO "{role}"'))
        connection.execute(text(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO "{role}"'))

    def write(batch: int) -> None:
        if batch == 2:
            with pg_engine.connect() as connection:
                connection.execute(text(f'SET LOCAL ROLE "{role}"'))
                old.index_record("Article", "1", "written by another role", connection=connection)
                assert old.delete_record("Article", "2", connection=connection)
                connection.commit()

    new = make(Meddled(write))
    try:
        assert new.reindex(batch_size=10).switched
        with pg_engine.connect() as connection:
            connection.execute(text(f'SET LOCAL ROLE "{role}"'))
            (hit,) = new.search("written by another role", mode="vector", limit=1, connection=connection)
            assert hit.id == "1"
            connection.rollback()
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f'DROP OWNED BY "{role}"'))
            connection.execute(text(f'DROP ROLE "{role}"'))


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_prepared_transaction_is_waited_for(
    old: SearchEngine, new: SearchEngine, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.stores.postgresql.schema.READERS_WAIT_S", 0.1)
    with pg_engine.connect() as writer:
        transaction = writer.begin_twophase()
        old.index_record("Article", "late", "a late text", connection=writer)
        transaction.prepare()
        (note,) = new.reindex().notes
        waiting = new.reindexing.prune().waiting
        transaction.commit()
    assert "still open" in note
    assert [g.number for g in waiting] == [1]
    assert [g.number for g in new.reindexing.prune().dropped] == [1]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_one_connection_will_do(old: SearchEngine, pg_url: URL) -> None:
    single = sqlalchemy.create_engine(pg_url, pool_size=1, max_overflow=0, pool_timeout=0)
    new = SearchEngine(single, new_provider())
    assert new.reindex(drop_old=True).switched
    assert new.reindexing.prune().dropped == ()
    new.index_record("Article", "late", "a late text")
    assert new.sync().embedded == 0
    single.dispose()


@pytest.mark.parametrize("backend", ["postgresql"])
def test_the_doctor_drops_every_table_that_was_left(
    old: SearchEngine, new: SearchEngine, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.stores.postgresql.schema.READERS_WAIT_S", 0.1)
    new.reindex()
    new.reindex(force=True)
    with pg_engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM kdb_generation"))
        assert [g.number for g in new.reindexing.prune().waiting] == [1, 2]
    found_left = [f for f in examine(new, fix=True) if f.check == "unpruned"]
    assert [f.is_fixed for f in found_left] == [True, True]
    with new.index.reading() as connection:
        assert new.index.store.schema.embedding_tables(connection) == {3}


@pytest.mark.parametrize("backend", ["postgresql"])
def test_what_an_older_snapshot_may_name_is_not_dropped(
    old: SearchEngine, new: SearchEngine, pg_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.stores.postgresql.schema.READERS_WAIT_S", 0.1)
    with pg_engine.connect().execution_options(isolation_level="REPEATABLE READ") as reader:
        reader.execute(text("SELECT 1"))
        report = new.reindex(drop_old=True)
        assert "the table of generation 1 may be read" in report.notes[0]
        assert old.search("word7 shared", mode="vector", connection=reader)[0].id == "7"
    assert [g.number for g in new.reindexing.prune().dropped] == [1]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_rows_deleted_under_a_snapshot_raise_a_conflict_to_retry(
    old: SearchEngine, new: SearchEngine, pg_engine: Engine
) -> None:
    with pg_engine.connect().execution_options(isolation_level="REPEATABLE READ") as reader:
        reader.execute(text("SELECT 1"))
        new.reindex()
        with pg_engine.begin() as other:
            other.execute(text("DROP TABLE kdb_embedding_g1"))
        with pytest.raises(TransactionConflict, match="older than the prune"):
            old.search("word7 shared", mode="vector", connection=reader)
        reader.rollback()
        assert new.search("word7 shared", mode="vector", connection=reader)[0].id == "7"


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_table_whose_index_is_being_built_is_dropped_by_the_next_prune(
    old: SearchEngine, new: SearchEngine, pg_engine: Engine
) -> None:
    new.reindex()
    with pg_engine.connect() as builder:
        builder.exec_driver_sql(TRY_LOCK.format(name="kdb_embedding_g1"))
        assert [g.number for g in new.reindexing.prune().waiting] == [1]
    assert [g.number for g in new.reindexing.prune().dropped] == [1]


def test_drop_old_leaves_one_generation(old: SearchEngine, new: SearchEngine) -> None:
    new.reindex(drop_old=True)
    assert states(new) == [(2, "new", "active")]


def test_in_place_drops_first_and_searches_by_keyword_meanwhile(old: SearchEngine, make: Make, engine: Engine) -> None:
    seen: list[tuple[list[str], str, list[tuple[int, str, str]]]] = []

    def meddle(batch: int) -> None:
        if batch == 2:
            results = old.search('"word7"')
            seen.append((ids(results), results.plan.note, states(old)))
            old.index_record("Article", "late", "zebra crossing")

    search = make(Meddled(meddle))
    report = search.reindex(in_place=True, batch_size=10)
    assert seen[0][0] == ["7"]
    assert "holds embeddings of new" in seen[0][1]
    assert seen[0][2] == [(2, "new", "building")]
    assert (report.switched, report.pending, states(search)) == (True, 0, [(2, "new", "active")])
    assert found(search, "zebra crossing") == ("late", 2)


def test_in_place_that_was_interrupted_resumes(old: SearchEngine, make: Make) -> None:
    assert make(Failing(1)).reindex(in_place=True, batch_size=10).embedded == 10
    assert old.search("word7").plan.generation is None
    writer = make(new_provider())
    writer.index_record("Article", "late", "zebra crossing")
    assert states(writer) == [(2, "new", "building")]
    assert writer.reindex().pending == 0
    assert found(writer, "zebra crossing") == ("late", 2)


def test_in_place_onto_a_retired_generation_leaves_it_alone_in_the_index(
    old: SearchEngine, new: SearchEngine, make: Make
) -> None:
    new.reindex()
    make(None).index_record("Article", "late", "zebra crossing")
    seen: list[tuple[list[tuple[int, str, str]], int | None]] = []
    back = make(Failing(0, 64))
    back.reindex(in_place=True)
    seen.append((states(back), back.search("word7").plan.generation))
    assert seen == [([(1, "old", "building")], None)]
    assert old.reindex().switched
    assert states(old) == [(1, "old", "active")]
    assert found(old, "zebra crossing") == ("late", 1)


def test_the_gate_refuses_a_model_that_finds_others(old: SearchEngine, new: SearchEngine) -> None:
    assert isinstance(new.provider, HashProvider)
    with pytest.raises(GateRefused, match=r"overlap@10 is 0\.\d+ over \d+ queries"):
        old.reindex(provider=new.provider, gate=Gate(overlap=1.0))
    assert states(new) == [(1, "old", "active"), (2, "new", "building")]
    judged = [GateQuery("word7 shared", {Ref("Article", "7"): 1})]
    report = old.reindex(provider=new.provider, gate=Gate(overlap=0.1, queries=judged))
    assert report.gate is not None
    assert (report.gate.queries, report.gate.judged, report.gate.ndcg_before, report.gate.ndcg_after) == (
        1,
        1,
        1.0,
        1.0,
    )
    assert (report.embedded, report.switched) == (0, True)


def test_bad_requests_write_nothing(old: SearchEngine, new: SearchEngine, make: Make) -> None:
    with pytest.raises(InvalidInput, match="makes 256 dimensions, 384 were requested"):
        new.reindex(provider="static", dimensions=384)
    for options in (
        {"batch_size": 0},
        {"max_minutes": -1},
        {"in_place": True, "gate": 0.5},
        {"gate": 3},
        {"gate": "x"},
    ):
        with pytest.raises(InvalidInput):
            new.reindex(**options)
    with pytest.raises(UnknownProvider, match="hash"):
        make(None).reindex()
    assert (states(new), new.reindexing.status()) == ([(1, "old", "active")], [])


def test_an_engine_opened_by_name_follows_the_switch(make: Make, tmp_path: Path) -> None:
    named = make("static")
    named.index_records_batch(RECORDS)
    assert named.search("fox", mode="vector").plan.generation == 1
    report = named.reindex(model=str(other_model(tmp_path)))
    assert (report.generation, report.model, report.embedded) == (2, "other", 30)
    results = named.search("word7 shared", mode="vector")
    assert (results.plan.generation, results.plan.model) == (2, "other")
    named.index_record("Article", "late", "zebra crossing")
    assert found(named, "zebra crossing") == ("late", 2)
    assert [status.pending for status in named.get_status()] == [0]
    assert named.reindex().action == "nothing"
    assert named.reindexing.rollback().embedded == 1
    assert found(named, "zebra crossing") == ("late", 1)


def other_model(folder: Path) -> Path:
    """The bundled model under a fingerprint of its own."""
    target = folder / "other"
    target.mkdir()
    for file in BUNDLED.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((target / "tokenizer.json").read_text("utf-8"))
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1), "utf-8")
    return target


def test_mapped_classes_are_reindexed_as_they_are(make: Make, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    before, after = make(HashProvider(64)), make(new_provider())
    maker: sessionmaker[Session] = before.attach(sessionmaker(engine))
    with maker.begin() as session:
        session.add_all([Note(title=f"title{n}", body=f"body{n} fox") for n in range(20)])

    def meddle(batch: int) -> None:
        if batch == 2:
            with maker.begin() as session:
                session.add(Note(title="zebra", body="crossing"))
                session.get_one(Note, 3).title = "giraffe"
                session.delete(session.get_one(Note, 4))

    report = make(Meddled(meddle)).reindex(batch_size=8)
    assert (report.pending, report.switched) == (0, True)
    assert_index_matches(engine, after)
