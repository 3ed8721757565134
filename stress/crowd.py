"""Processes that write and read one index at once, each checking what it is promised; none may fail, wait for ever
or find what was not committed.

Every writer keeps what was acknowledged to it, so that the end of a run can list what is missing.
"""

import faulthandler
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import sessionmaker

from kameleon import RecordStore, SearchEngine, Worker

from .corpus import passages
from .crowd_members import (
    COUNTERS,
    GROUPS,
    Base,
    Batches,
    Counter,
    Deferred,
    Joined,
    Keeper,
    Member,
    Outcome,
    Place,
    Records,
    Sessions,
    check_doctor,
    described,
    members,
)
from .crowd_readers import VERSION, Reader
from .database import database
from .embeddings_server import serving
from .report import Arguments, latencies
from .workloads.small_model import small_model

READERS = 8
SERVER_LATENCY_S = 0.02
START_S, GRACE_S = 300.0, 60.0
SAMPLED_S = 2.0


KINDS: Mapping[str, Callable[[Place, Outcome], Member]] = {
    "batches": Batches,
    "joined": Joined,
    "records": Records,
    "sessions": Sessions,
    "deferred": Deferred,
    "keeper": Keeper,
    "reader": Reader,
}
WRITERS = ("batches", "records", "sessions", "keeper", "deferred", "joined", "sessions", "batches")


def member(place: Place, start: Barrier) -> None:
    """The process. One that is stuck dumps its stack, a while after it should have ended."""
    outcome = Outcome()
    name = Path(place.folder) / f"{place.number}"
    os.environ["OPENAI_API_KEY"] = "none"
    os.environ["OPENAI_BASE_URL"] = place.server
    with name.with_suffix(".stack").open("w") as stack:
        faulthandler.dump_traceback_later(place.seconds + START_S + GRACE_S, file=stack)
        try:
            if place.server:
                import_module("openai")  # sixteen at once in the middle would be what is measured
            working = KINDS[place.kind](place, outcome)
            start.wait(START_S)
            working.run()
        except BaseException as error:  # noqa: BLE001 - reported at the end
            outcome.errors.append(described(error, f"{place.kind} {place.number}"))
        faulthandler.cancel_dump_traceback_later()
    name.with_suffix(".json").write_text(json.dumps(asdict(outcome)))


class Crowd:
    """An index of `args.rows` passages besides what the crowd writes, and the processes that work on it."""

    def __init__(self, engine: Engine, args: Arguments, folder: str) -> None:
        self.engine = engine
        self.args = args
        self.folder = folder
        self.search = SearchEngine(engine, "static")
        self.outcomes: list[Outcome] = []
        self.seconds = 0.0
        self.processes: list[tuple[str, int]] = []
        self._prepare()

    def _prepare(self) -> None:
        small_model(Path(self.folder))
        Base.metadata.create_all(self.engine)
        texts = passages(self.args.rows, self.args.seed)
        self.search.index_records_batch([("Passage", n, passage) for n, passage in enumerate(texts)])
        with self.search.attach(sessionmaker(self.engine)).begin() as session:
            session.add_all([Counter(id=n, content=f"counter {n} counted 0") for n in range(1, COUNTERS + 1)])
        RecordStore(self.search).create_entity("Ticket", search=["text"], fields={"writer": "integer"})
        self.search.index_records_batch(
            [("Shared", id_, f"group{group} version0 river") for group in range(GROUPS) for id_ in members(group)]
        )

    def run(
        self, *, transactions: int | None, server: str, watch: Callable[[Sequence[int]], None] = lambda _pids: None
    ) -> None:
        """Runs the processes; raises AssertionError with every fault and the seed."""
        url = self.engine.url.render_as_string(hide_password=False)
        context = multiprocessing.get_context("spawn")
        kinds = [*WRITERS, *["reader"] * READERS]
        seconds = self.args.seconds
        places = [
            Place(url, self.folder, kind, number, self.args.seed, seconds, transactions, server)
            for number, kind in enumerate(kinds)
        ]
        barrier = context.Barrier(len(places) + 1)
        processes = [context.Process(target=member, args=(place, barrier)) for place in places]
        for process in processes:
            process.start()
        self.processes = [(place.kind, process.pid or 0) for place, process in zip(places, processes, strict=True)]
        start = time.perf_counter()
        try:
            with suppress(BrokenBarrierError):
                barrier.wait(START_S)
            start = time.perf_counter()
            self._wait(processes, time.monotonic() + seconds + 3 * GRACE_S, watch)
        finally:
            stuck = [place for place, process in zip(places, processes, strict=True) if process.is_alive()]
            for process in processes:
                process.kill()
                process.join()
        self.seconds = time.perf_counter() - start
        self.outcomes = [self._outcome(place) for place in places]
        wrong = [error for outcome in self.outcomes for error in outcome.errors]
        wrong += [f"{place.kind} {place.number} was stuck:\n{self._stack(place)}" for place in stuck]
        wrong += self._found_at_the_end()
        if wrong:
            raise AssertionError("\n".join([f"seed {self.args.seed}, {self.args.backend}:", *wrong]))

    def _wait(self, processes: Sequence[BaseProcess], until: float, watch: Callable[[Sequence[int]], None]) -> None:
        while time.monotonic() < until and (alive := [process for process in processes if process.is_alive()]):
            watch([process.pid or 0 for process in alive])
            alive[0].join(SAMPLED_S)

    def _outcome(self, place: Place) -> Outcome:
        path = Path(self.folder) / f"{place.number}.json"
        if not path.exists():
            return Outcome(errors=[f"{place.kind} {place.number} ended without a report"])
        return Outcome(**json.loads(path.read_text()))

    def _stack(self, place: Place) -> str:
        return (Path(self.folder) / f"{place.number}.stack").read_text()[-3000:]

    def _found_at_the_end(self) -> Iterator[str]:
        try:
            Worker(self.search).run()
            self.search.sync()
            check_doctor(self.search)
        except Exception as error:  # noqa: BLE001 - reported at the end
            yield described(error, "at the end")
        stored = self._stored()
        for outcome in self.outcomes:
            for entity, own in outcome.own.items():
                for id_, content in own.items():
                    if stored.get((entity, id_)) != content:
                        yield f"{entity} {id_} was acknowledged as {content!r} and is {stored.get((entity, id_))!r}"
        expected = {
            (entity, id_) for outcome in self.outcomes for entity, own in outcome.own.items() for id_ in own if own[id_]
        }
        present = {ref for ref in stored if ref[0] in ("Ticket", "Page")}
        if extra := present - expected:
            yield f"{len(extra)} records are stored that nobody wrote or all deleted, like {sorted(extra)[:3]}"
        for group in range(GROUPS):
            found = {VERSION.findall(stored.get(("Shared", id_), "version"))[0:1].__str__() for id_ in members(group)}
            last = {outcome.shared[str(group)] for outcome in self.outcomes if str(group) in outcome.shared} or {"0"}
            if len(found) != 1 or not found & {str([version] if version else []) for version in last}:
                yield f"group {group} has {found}, and last acknowledged were {last}"
        counted = sum(int(stored["Counter", str(n)].split()[-1]) for n in range(1, COUNTERS + 1))
        acknowledged = sum(outcome.increments for outcome in self.outcomes)
        if counted != acknowledged:
            yield f"{acknowledged} increments were acknowledged, {counted} are stored"
        yield from self._left_behind()

    def _stored(self) -> dict[tuple[str, str], str]:
        """What the index holds; doctor compares it with the tables."""
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT entity_name, record_id, content FROM kdb_search"))
            return {(row[0], row[1]): row[2] for row in rows}

    def _left_behind(self) -> Iterator[str]:
        with self.engine.connect() as connection:
            queued = connection.scalar(text("SELECT count(*) FROM kdb_queue"))
            if queued:
                yield f"{queued} rows are left in the queue"
            if self.engine.dialect.name == "postgresql":
                for what, statement in LEFT_BEHIND.items():
                    if count := connection.scalar(text(statement)):
                        yield f"{count} {what} are left"

    def figures(self) -> dict[str, Any]:
        spent: dict[str, list[float]] = {}
        for outcome in self.outcomes:
            for verb, milliseconds in outcome.milliseconds.items():
                spent.setdefault(verb, []).extend(milliseconds)
        searches = [ms for verb, found in spent.items() if verb.startswith("search") for ms in found]
        writes = [ms for verb, found in spent.items() if verb.startswith(("write", "commit")) for ms in found]
        return {
            "rows": len(self._stored()),
            "seconds": round(self.seconds, 1),
            "transactions": len(writes),
            "transactions_per_second": round(len(writes) / self.seconds, 1),
            "searches": len(searches),
            **latencies(searches),
            "repeated_by_the_application": sum(outcome.repeated for outcome in self.outcomes),
            "longest_write_ms": round(max(writes)),
            "each": {verb: spread(found) for verb, found in sorted(spent.items())},
        }


@contextmanager
def gathered(args: Arguments) -> Iterator[tuple[Crowd, str]]:
    """A crowd on a new database, and the base URL of a model for it."""
    with (
        database(args.backend) as engine,
        tempfile.TemporaryDirectory() as folder,
        serving(SERVER_LATENCY_S) as server,
    ):
        yield Crowd(engine, args, folder), server


LEFT_BEHIND = {
    "transactions": """
        SELECT count(*) FROM pg_stat_activity
        WHERE state LIKE 'idle in transaction%' AND datname = current_database() AND pid <> pg_backend_pid()
    """,
    "advisory locks": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()",
}


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    sample = milliseconds if len(milliseconds) > 1 else [*milliseconds] * 2
    return {"count": len(milliseconds), **latencies(sample), "max_ms": round(max(milliseconds), 1)}
