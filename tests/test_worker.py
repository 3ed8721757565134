"""Embeddings that a commit leaves to workers: the queue, its leases, and concurrent edits."""

import json
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Event, Lock
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from kameleon import SearchEngine, Worker
from kameleon.errors import InvalidInput, NoProvider, ProviderUnavailable
from kameleon.reindex.building import ROWS_A_RANGE
from kameleon.reindex.request import Request
from kameleon.reindex.run import Run as ReindexRun
from kameleon.testing import HashProvider
from kameleon.values import Generation
from stress.workloads.models import Base, Note, assert_index_matches, index

from .conftest import Make, with_citus

Maker = sessionmaker[Session]


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def deferring(make: Make, provider: HashProvider, engine: Engine) -> SearchEngine:
    Base.metadata.create_all(engine)
    return make(provider, indexing="deferred")


@pytest.fixture
def maker(deferring: SearchEngine, engine: Engine) -> Maker:
    return deferring.attach(sessionmaker(engine))


def add(maker: Maker, *titles: str) -> None:
    with maker.begin() as session:
        session.add_all([Note(title=title, body="b") for title in titles])


def queued(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT record_id FROM kdb_queue ORDER BY record_id")).scalars())


def test_a_deferred_commit_is_found_by_keyword_and_embedded_by_a_worker(
    maker: Maker, deferring: SearchEngine, provider: HashProvider, engine: Engine
) -> None:
    add(maker, "red fox", "blue whale")
    assert (provider.calls, queued(engine)) == ([], ["1", "2"])
    assert [hit.id for hit in deferring.search("fox", mode="keyword")] == ["1"]
    assert [status.pending for status in deferring.get_status()] == [2]
    report = Worker(deferring).run()
    assert (report.embedded, report.pending, queued(engine)) == (2, 0, [])
    assert len(provider.calls) == 1
    assert_index_matches(engine, deferring)


def test_a_rolled_back_commit_queues_nothing(maker: Maker, engine: Engine) -> None:
    with maker() as session:
        session.add(Note(title="gone", body="b"))
        session.flush()
        session.rollback()
        session.add(Note(title="", body=""))
        session.commit()
    assert queued(engine) == []


def test_one_session_may_defer_where_others_do_not(make: Make, provider: HashProvider, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    search = make(provider)
    maker = search.attach(sessionmaker(engine))
    with maker(info={"kameleon_indexing": "deferred"}) as session:
        session.add(Note(title="later", body="b"))
        session.commit()
    assert (provider.calls, queued(engine)) == ([], ["1"])
    add(maker, "now")
    assert (provider.calls, queued(engine)) == ([["now\nb"]], ["1"])
    deferred = search.attach(sessionmaker(engine), indexing="deferred")
    add(deferred, "later, too")
    assert queued(engine) == ["1", "3"]


def test_an_unknown_way_of_indexing_is_refused(make: Make, engine: Engine, provider: HashProvider) -> None:
    with pytest.raises(InvalidInput, match="Known: sync, deferred, auto"):
        make(provider, indexing="later")
    with pytest.raises(InvalidInput, match="Known: sync, deferred, auto"):
        make(provider).attach(sessionmaker(engine), indexing="later")  # type: ignore[arg-type]


def test_what_a_commit_could_not_embed_is_queued_for_a_worker(make: Make, engine: Engine) -> None:
    class Down(HashProvider):
        attempts = 1
        is_down = True

        def embed_batch(self, texts: Sequence[str]) -> Any:
            if self.is_down:
                raise ProviderUnavailable("down")
            return super().embed_batch(texts)

    Base.metadata.create_all(engine)
    provider = Down()
    search = make(provider)
    add(search.attach(sessionmaker(engine)), "red fox")
    assert queued(engine) == ["1"]
    worker = Worker(search)
    report = worker.run()
    assert (report.embedded, report.pending, report.outage is not None) == (0, 1, True)
    assert worker.work() is None
    provider.is_down = False
    with engine.begin() as connection:
        connection.execute(text("UPDATE kdb_queue SET due_at = '2000-01-01 00:00:00+00'"))
    assert worker.run().embedded == 1
    assert_index_matches(engine, search)


def test_a_claim_is_this_workers_until_its_lease_ends(maker: Maker, deferring: SearchEngine, engine: Engine) -> None:
    add(maker, "one", "two", "three")
    first = deferring.index.filling.claim("a", limit=2, lease=timedelta(hours=1))
    assert [claim.ref.id for claim in first] == ["1", "2"]
    assert [claim.ref.id for claim in deferring.index.filling.claim("b", limit=9, lease=timedelta(seconds=-1))] == ["3"]
    assert [claim.ref.id for claim in deferring.index.filling.claim("c", limit=9, lease=timedelta(hours=1))] == ["3"]
    assert deferring.index.filling.claim("d", limit=9, lease=timedelta(hours=1)) == []
    deferring.index.filling.work_off(first, pause=timedelta(0))
    assert queued(engine) == ["3"]


class Interrupted(HashProvider):
    """Calls a function before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.first: Any = lambda: None

    def embed_batch(self, texts: Sequence[str]) -> Any:
        first, self.first = self.first, lambda: None
        first()
        return super().embed_batch(texts)


@pytest.fixture
def provider() -> Interrupted:
    return Interrupted()


def edit(maker: Maker, title: str) -> None:
    with maker.begin() as session:
        session.query(Note).filter_by(id=1).one().title = title


def test_an_edit_while_the_worker_embeds_wins(
    maker: Maker, deferring: SearchEngine, provider: Interrupted, engine: Engine
) -> None:
    add(maker, "first", "other")
    provider.first = lambda: edit(maker, "second")
    worker = Worker(deferring)
    worker.work()
    assert queued(engine) == ["1"]
    assert worker.run().embedded == 1
    assert [sorted(call) for call in provider.calls] == [["first\nb", "other\nb"], ["second\nb"]]
    assert_index_matches(engine, deferring)


def test_a_record_deleted_while_the_worker_embeds_stays_deleted(
    maker: Maker, deferring: SearchEngine, provider: Interrupted, engine: Engine
) -> None:
    def delete() -> None:
        with maker.begin() as session:
            session.query(Note).filter_by(id=1).delete()

    add(maker, "first", "other")
    provider.first = delete
    Worker(deferring).run()
    assert_index_matches(engine, deferring)
    assert (list(index(engine).values()), queued(engine)) == (["other\nb"], [])


def test_two_workers_that_meet_do_the_same_work_to_the_same_effect(
    maker: Maker, deferring: SearchEngine, provider: Interrupted, engine: Engine
) -> None:
    """The first worker's lease expires before it has finished."""
    add(maker, "first")
    late = Worker(deferring, lease_s=-1)
    provider.first = lambda: Worker(deferring).run()
    late.work()
    assert (len(provider.calls), queued(engine)) == (2, [])
    assert_index_matches(engine, deferring)


def test_many_workers_share_what_is_due(maker: Maker, deferring: SearchEngine, engine: Engine) -> None:
    add(maker, *(f"note {n}" for n in range(200)))
    deferring.sync(batch_size=1)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM kdb_embedding_g1"))
    begin = Barrier(4)

    def work(_: int) -> int:
        begin.wait()
        return Worker(deferring, batch_size=10).run().embedded

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 200
    assert queued(engine) == []
    assert_index_matches(engine, deferring)


def test_a_worker_runs_until_it_is_stopped(maker: Maker, deferring: SearchEngine, engine: Engine) -> None:
    add(maker, "one")
    stop = Event()
    report = Worker(deferring).run(stop, poll_s=0.01, done=lambda _report: stop.set())
    assert report.embedded == 1


def test_a_worker_without_a_provider_raises_and_leaves_the_queue(maker: Maker, make: Make, engine: Engine) -> None:
    add(maker, "one")
    with pytest.raises(NoProvider):
        Worker(make(None), lease_s=-1).run()
    assert queued(engine) == ["1"]


def test_auto_embeds_what_is_quick_and_leaves_what_is_not(make: Make, engine: Engine) -> None:
    class Slow(HashProvider):
        def __init__(self) -> None:
            super().__init__()
            self.may_answer = Event()

        def embed_batch(self, texts: Sequence[str]) -> Any:
            if "slow" in texts[0]:
                assert self.may_answer.wait(60)
            return super().embed_batch(texts)

    Base.metadata.create_all(engine)
    provider = Slow()
    search = make(provider, indexing="auto", budget_s=0.05)
    maker = search.attach(sessionmaker(engine))
    add(maker, "slow")
    provider.may_answer.set()
    assert queued(engine) == ["1"]
    patient = make(provider, indexing="auto", budget_s=60).attach(sessionmaker(engine))
    add(patient, "quick")
    assert queued(engine) == ["1"]
    Worker(search).run()
    assert_index_matches(engine, search)


class Gated(HashProvider):
    """Answers when `may_answer` is set, and counts the calls that wait for that."""

    def __init__(self, concurrency: int) -> None:
        super().__init__()
        self.concurrency = concurrency
        self.waiting = 0
        self.all_wait, self.may_answer = Event(), Event()
        self._lock = Lock()

    def embed_batch(self, texts: Sequence[str]) -> Any:
        with self._lock:
            self.waiting += 1
            if self.waiting == self.concurrency:
                self.all_wait.set()
        assert self.may_answer.wait(60)
        return super().embed_batch(texts)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_auto_embeds_several_commits_at_a_time(make: Make, engine: Engine) -> None:
    """No call is answered before all of them have begun."""
    Base.metadata.create_all(engine)
    provider = Gated(concurrency=4)
    maker = make(provider, indexing="auto", budget_s=60).attach(sessionmaker(engine))
    with ThreadPoolExecutor(4) as pool:
        commits = [pool.submit(add, maker, f"note {n}") for n in range(4)]
        assert provider.all_wait.wait(60)
        provider.may_answer.set()
        for commit in commits:
            commit.result()
    assert queued(engine) == []


def test_a_provider_that_hangs_is_given_no_more_calls_than_its_concurrency(make: Make, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    provider = Gated(concurrency=2)
    search = make(provider, indexing="auto", budget_s=0.01)
    maker = search.attach(sessionmaker(engine))
    for n in range(5):
        add(maker, f"note {n}")
    assert (provider.waiting, len(queued(engine))) == (2, 5)
    provider.may_answer.set()
    Worker(search).run()
    assert_index_matches(engine, search)


def test_the_command_works_until_it_is_stopped(console_script: str, tmp_path: Path, file_engine: Engine) -> None:
    Base.metadata.create_all(file_engine)
    search = SearchEngine(file_engine, "static", indexing="deferred")
    maker = search.attach(sessionmaker(file_engine))
    command = [console_script, "-d", str(file_engine.url), "embeddings", "worker"]
    add(maker, "red fox")
    once = subprocess.run([*command, "--once", "--json"], capture_output=True, check=True)
    assert json.loads(once.stdout)["embedded"] == 1
    add(maker, "blue whale")
    process = subprocess.Popen([*command, "--poll", "0.05"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == b"1 embedded, 0 failed\n"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output, errors) == (0, b"1 embedded, 0 failed\n", b"")
    assert_index_matches(file_engine, search)


# a running reindex


def begun(search: SearchEngine, **options: Any) -> tuple[ReindexRun, Generation]:
    """A run that has its lease and waits."""
    request = Request(**options)
    run = ReindexRun(search.reindexing, request, search.reindexing.target(request))
    run.begin()
    return run, run.generation


def embedded(engine: Engine, generation: Generation) -> int:
    with engine.connect() as connection:
        table = f"kdb_embedding_g{generation.number}"
        return connection.scalar(text(f"SELECT count(*) FROM {table} WHERE embedding IS NOT NULL")) or 0


def test_a_worker_in_another_process_takes_ranges_of_a_reindex(make: Make, engine: Engine, console_script: str) -> None:
    search = make("static")
    search.index_records_batch([("Page", n, f"some words, {n}") for n in range(2 * ROWS_A_RANGE + 1)])
    run, generation = begun(search, force=True)
    url = engine.url.render_as_string(hide_password=False)
    command = [console_script, "-d", url, "embeddings", "worker", "--once", "--json"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout)["embedded"] == 2 * ROWS_A_RANGE + 1
    assert embedded(engine, generation) == 2 * ROWS_A_RANGE + 1
    assert [rebuild.done for rebuild in search.reindexing.status()] == [2 * ROWS_A_RANGE + 1]
    with search.index.reading() as connection:
        assert search.reindexing.building.ranges.left(connection, generation.number) == 0
    run.end()
    report = search.reindex()
    assert (report.generation, report.embedded, report.pending, report.switched) == (generation.number, 0, 0, True)


def test_workers_help_only_when_nothing_is_due(
    maker: Maker, make: Make, deferring: SearchEngine, engine: Engine
) -> None:
    add(maker, "one")
    Worker(deferring).run()
    run, generation = begun(deferring, force=True)
    add(maker, "two")
    worker = Worker(deferring)
    assert worker.work() is not None
    assert (queued(engine), embedded(engine, generation)) == ([], 0)
    assert worker.work() is not None
    assert worker.work() is None
    run.end()
    deferring.reindex()
    assert embedded(engine, generation) == 2
    assert_index_matches(engine, deferring)


def test_a_worker_outlives_the_generation_that_it_helps_with(
    maker: Maker, deferring: SearchEngine, provider: Interrupted, engine: Engine
) -> None:
    add(maker, "one")
    Worker(deferring).run()
    run, _ = begun(deferring, force=True)

    def prune() -> None:
        run.end()
        deferring.reindexing.prune()

    provider.first = prune
    assert Worker(deferring).run().embedded == 0
    assert_index_matches(engine, deferring)
