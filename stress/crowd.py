"""Processes that write and read one index at once, each checking what it is promised; none may err, wait for ever or
find what was not committed.

Every writer keeps what was acknowledged to it, so that at the end each is told what is missing.
"""

import faulthandler
import json
import multiprocessing
import os
import random
import re
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from itertools import count
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from sqlalchemy import Engine, delete, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, Worker, searchable
from kameleon.doctor import examine
from kameleon.embeddings.static import BUNDLED
from kameleon.errors import DatabaseLocked, ReindexRunning, TransactionConflict
from kameleon.values import SearchResults
from tests.small_model import small_model

from .corpus import passages
from .database import database
from .report import Asked, latencies
from .server import DIMENSIONS, serving

READERS = 8
SERVER_LATENCY_S = 0.02
COUNTERS, GROUPS, MEMBERS, KEPT = 5, 40, 6, 60
START_S, GRACE_S = 300.0, 60.0
REFUSED = 2
SAMPLED_S = 2.0
ERRORS_KEPT = 3
WORDS = (
    "river",
    "mountain",
    "winter",
    "music",
    "teacher",
    "hospital",
    "engine",
    "letter",
    "garden",
    "bridge",
    "island",
)
VERSION = re.compile(r"version(\w+)")


class Base(DeclarativeBase):
    pass


@searchable(fields=["said"])
class Counter(Base):
    __tablename__ = "crowd_counter"

    id: Mapped[int] = mapped_column(primary_key=True)
    said: Mapped[str]


@searchable(fields=["said"])
class Page(Base):
    __tablename__ = "crowd_page"

    id: Mapped[int] = mapped_column(primary_key=True)
    said: Mapped[str]


@dataclass(frozen=True)
class Place:
    """One process: where it works, as what, and for how long. `turns` is how many transactions, None as many as there
    is time for; `server` is a model's base URL."""

    url: str
    folder: str
    kind: str
    number: int
    seed: int
    seconds: float
    turns: int | None
    server: str


@dataclass
class Told:
    """What a process tells at its end. `own` is what is to be stored of records that nobody else writes, `shared` the
    version that this process wrote last of each group, "" for deleted."""

    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    own: dict[str, dict[str, str | None]] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    increments: int = 0
    repeated: int = 0

    @contextmanager
    def timed(self, verb: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.milliseconds.setdefault(verb, []).append((time.perf_counter() - start) * 1000)


class Member:
    """A process of the crowd: `turn` is one transaction, or one search, and is called until it is time."""

    indexing: Any = "sync"

    def __init__(self, place: Place, told: Told) -> None:
        self.place = place
        self.told = told
        self.chance = random.Random(f"{place.seed} {place.number}")
        self.engine = kameleon.create_engine(place.url)
        self.search = SearchEngine(self.engine, "static", indexing=self.indexing)
        self.n = 0

    def run(self) -> None:
        until = time.monotonic() + self.place.seconds
        while time.monotonic() < until and self.n != self.place.turns:
            self.n += 1
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001 - told at the end
                self.told.errors.append(said(error, f"{self.place.kind} {self.place.number}, turn {self.n}"))
                if len(self.told.errors) >= ERRORS_KEPT:
                    break

    def turn(self) -> None:
        raise NotImplementedError

    @property
    def mark(self) -> str:
        """A word that no other transaction writes."""
        return f"{self.place.number}x{self.n}"

    def sentence(self) -> str:
        return " ".join(self.chance.choices(WORDS, k=8))

    def check_found(self, entity: str, id_: str, mark: str) -> None:
        """What this process has committed is found, by any mode that reads words; the embedding may be left to come."""
        mode = self.chance.choice(["keyword", "hybrid"])
        with self.told.timed(f"search {mode}"):
            found = self.search.search(mark, entity=entity, mode=mode, limit=5, weight=0.1)
        assert id_ in [hit.id for hit in found], f"{entity} {id_} was committed with {mark} and is not found: {found}"

    def check_gone(self, entity: str, id_: str, content: str) -> None:
        """What this process has deleted is not."""
        with self.told.timed("search hybrid"):
            found = self.search.search(content, entity=entity, limit=50)
        assert id_ not in [hit.id for hit in found], f"{entity} {id_} was deleted and is found"


class Batches(Member):
    """Groups that others write too: the records of one are written in one batch, in any order, with one version."""

    def turn(self) -> None:
        groups = self.chance.sample(range(GROUPS), 3)
        if self.chance.random() < 0.1:
            with self.told.timed("write delete"):
                self.search.delete_records([("Shared", id_) for group in groups for id_ in members(group)])
            self.told.shared |= dict.fromkeys(map(str, groups), "")
            return
        records = [("Shared", id_, self.member_text(group)) for group in groups for id_ in members(group)]
        self.chance.shuffle(records)
        with self.told.timed("write batch"):
            self.write(records)
        self.told.shared |= dict.fromkeys(map(str, groups), self.mark)

    def member_text(self, group: int) -> str:
        return f"group{group} version{self.mark} {self.sentence()}"

    def write(self, records: Sequence[tuple[str, str, str]]) -> None:
        self.search.index_records_batch(records)


class Joined(Batches):
    """The same in a transaction of the application's, which begins with what it writes."""

    def write(self, records: Sequence[tuple[str, str, str]]) -> None:
        def attempt(_tries: int) -> None:
            with self.engine.begin() as connection:
                self.search.index_records_batch(records, connection=connection)

        repeated(attempt, self.told, may_be_refused=0)


class Records(Member):
    """The record store: inserts, updates and deletes of its own, which it finds or does not find right afterwards."""

    def __init__(self, place: Place, told: Told) -> None:
        super().__init__(place, told)
        self.store = RecordStore(self.search)

    def turn(self) -> None:
        own = self.told.own.setdefault("Ticket", {})
        id_ = f"{self.place.number}-{self.n % KEPT}"
        content = f"ticket {self.mark} {self.sentence()}"
        if own.get(id_) is None:
            with self.told.timed("write insert"):
                self.store.insert("Ticket", [{"id": id_, "text": content, "writer": self.place.number}])
        elif self.chance.random() < 0.2:
            with self.told.timed("write delete"):
                deleted = self.store.delete("Ticket", [id_])
            assert deleted == 1, f"{id_} was there and {deleted} were deleted"
            before, own[id_] = own[id_], None
            self.check_gone("Ticket", id_, before or "")
            return
        else:
            with self.told.timed("write update"):
                self.store.update("Ticket", id_, {"text": content})
        own[id_] = content
        self.check_found("Ticket", id_, self.mark)


class Sessions(Member):
    """Attached sessions: counters that others count too, and pages of its own that come, change, move and go."""

    def __init__(self, place: Place, told: Told) -> None:
        super().__init__(place, told)
        self.maker: sessionmaker[Session] = self.search.attach(sessionmaker(self.engine))
        self.first = 1_000_000 * (place.number + 1)

    def turn(self) -> None:
        id_ = self.first + self.n % KEPT
        content = f"page {self.mark} {self.sentence()}"
        counter = self.chance.randint(1, COUNTERS)
        own = self.told.own.setdefault("Page", {})
        is_there = own.get(str(id_)) is not None
        step = "add" if not is_there else self.chance.choice(["edit", "edit", "delete", "move"])
        moved = id_ + 10_000
        with self.told.timed(f"commit {self.indexing}"):
            self.change(counter, id_, content, step, moved)
        self.told.increments += 1
        before = own.get(str(id_))
        own[str(id_)] = content if step in ("add", "edit") else None
        if step == "move":
            own[str(moved)] = content
        if step == "delete":
            self.check_gone("Page", str(id_), before or "")
        else:
            self.check_found("Page", str(moved if step == "move" else id_), self.mark)

    def change(self, counter: int, id_: int, content: str, step: str, moved: int) -> None:
        """Half of the transactions begin with what they write, so that SQLite lets them wait. The others read first:
        who is refused for that begins anew, and takes its turn first when that has happened twice."""
        attempt = partial(self.attempt, counter, id_, content, step, moved)
        if self.n % 2:
            attempt(0)
        else:
            repeated(attempt, self.told, may_be_refused=REFUSED)

    def attempt(self, counter: int, id_: int, content: str, step: str, moved: int, tries: int) -> None:
        with self.maker.begin() as session:
            if self.n % 2:
                session.execute(update(Counter).where(Counter.id == counter).values(said=Counter.said))
            elif tries >= REFUSED:
                self.search.index.begin_writing(session.connection())
            counted = session.get(Counter, counter, with_for_update=True)
            assert counted is not None
            counted.said = f"counter {counter} counted {int(counted.said.split()[-1]) + 1}"
            if step == "add":
                session.add(Page(id=id_, said=content))
                return
            page = session.get(Page, id_)
            assert page is not None, f"page {id_} was committed and is not there"
            if step == "delete":
                session.delete(page)
                return
            page.said = content
            if step == "move":
                session.execute(delete(Page).where(Page.id == moved))
                page.id = moved


class Deferred(Sessions):
    indexing = "deferred"


class Keeper(Member):
    """Who looks after the index: a worker, `sync`, `doctor`, and a model after the other."""

    def turn(self) -> None:
        with self.told.timed("worker"):
            Worker(self.search).run()
        if self.n % 4 == 0:
            with self.told.timed("sync"):
                self.search.sync()
        if self.n % 8 == 3:
            self.reindex()
        if self.n % 8 == 7:
            with self.told.timed("doctor"):
                check_doctor(self.search)
        time.sleep(0.2)

    def reindex(self) -> None:
        names: dict[str, dict[str, Any]] = {"static": {}, "small": {"model": small_path(self.place.folder)}}
        if self.place.server:
            names["openai"] = {"provider": "openai", "dimensions": DIMENSIONS}
        options = names[list(names)[self.n // 8 % len(names)]] or {"model": str(BUNDLED)}
        with self.told.timed("reindex"), suppress(ReindexRunning):
            report = self.search.reindex(**options, batch_size=200)
            assert not report.stopped, report
        with self.told.timed("prune"):
            self.search.reindexing.prune()


class Reader(Member):
    def turn(self) -> None:
        checks = [self.check_group] * 6 + [self.check_two, self.check_pages, self.check_where, self.check_similar]
        checks += [self.check_suggest] * 2
        if self.n % 50 == 0:
            checks = [self.check_status]
        self.chance.choice(checks)()

    def asked(self, query: str, mode: str = "hybrid", **options: Any) -> SearchResults:
        with self.told.timed(f"search {mode}"):
            found = self.search.search(query, mode=mode, explain=True, **options)
        check_hits(found)
        return found

    def check_group(self) -> None:
        group = self.chance.randrange(GROUPS)
        mode = self.chance.choice(["keyword", "keyword", "hybrid", "vector"])
        query = f"group{group}" if mode != "vector" else self.sentence()
        found = self.asked(query, mode, entity="Shared", limit=50)
        versions_by_group: dict[str, list[str]] = {}
        for hit in found:
            version = VERSION.search(hit.matched_text)
            assert version is not None, hit
            versions_by_group.setdefault(hit.matched_text.split()[0], []).append(version[1])
        for name, versions in versions_by_group.items():
            assert len(set(versions)) == 1, f"half a batch is seen: {name} has the versions {sorted(set(versions))}"
        if mode == "keyword":
            count = len(versions_by_group.get(f"group{group}", []))
            assert count in (0, MEMBERS), f"half a batch is seen: {count} of group{group}"

    def check_two(self) -> None:
        """Two searches of one transaction see the same."""
        group = self.chance.randrange(GROUPS)
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            first, second = (
                self.asked(f"group{group}", mode, entity="Shared", limit=MEMBERS, connection=connection)
                for mode in ("keyword", "hybrid")
            )
        texts = {hit.id: hit.matched_text for hit in first}
        for hit in second:
            assert texts.get(hit.id, hit.matched_text) == hit.matched_text, f"one transaction saw two texts of {hit.id}"

    def check_pages(self) -> None:
        word, seen, cursor = self.chance.choice(WORDS), list[str](), None
        for _ in range(6):
            page = self.asked(word, "keyword", entity="Page", limit=10, cursor=cursor)
            seen += [hit.id for hit in page]
            if (cursor := page.cursor) is None:
                break
        assert len(set(seen)) == len(seen), "a page repeats hits of an earlier one"

    def check_where(self) -> None:
        writer = self.chance.randrange(8)
        found = self.asked(self.chance.choice(WORDS), entity="Ticket", where={"writer": writer}, limit=10, count=True)
        assert all(hit.data and hit.data["writer"] == writer for hit in found), "a hit is not of the filter"

    def check_similar(self) -> None:
        id_ = str(self.chance.randint(1, COUNTERS))
        with self.told.timed("similar"):
            found = self.search.similar("Counter", id_, limit=5)
        check_hits(found)
        assert id_ not in [hit.id for hit in found]

    def check_suggest(self) -> None:
        with self.told.timed("suggest"):
            found = self.search.suggest("counte", limit=100)
        assert "counter" in found, found

    def check_status(self) -> None:
        with self.told.timed("status"):
            status = {each.entity: each.indexed for each in self.search.get_status()}
        assert status["Counter"] == COUNTERS
        assert status.get("Shared", 0) % MEMBERS == 0, f"half a batch is counted: {status['Shared']}"


KINDS: Mapping[str, Callable[[Place, Told], Member]] = {
    "batches": Batches,
    "joined": Joined,
    "records": Records,
    "sessions": Sessions,
    "deferred": Deferred,
    "keeper": Keeper,
    "reader": Reader,
}
WRITERS = ("batches", "records", "sessions", "keeper", "deferred", "joined", "sessions", "batches")


def members(group: int) -> list[str]:
    return [f"{group}-{n}" for n in range(MEMBERS)]


def check_hits(found: SearchResults) -> None:
    scores = [hit.score for hit in found]
    assert all(0 <= score <= 1 for score in scores), scores
    assert scores == sorted(scores, reverse=True), scores
    legs = [score for hit in found for score in hit.explanation if score.leg == "vector"]
    assert {score.generation for score in legs} <= {found.plan.generation}, "a search mixes two models"


def check_doctor(search: SearchEngine) -> None:
    wrong = [finding for finding in examine(search) if finding.severity == "error"]
    assert not wrong, f"doctor finds {wrong}"


def repeated(attempt: Callable[[int], None], told: Told, *, may_be_refused: int) -> None:
    """As an application does. `attempt` is told how often it was begun before; as often as may be it is refused because
    it read before another wrote, on SQLite, after that it takes its turn and is not."""
    for tries in count():
        try:
            attempt(tries)
        except (OperationalError, DatabaseLocked, TransactionConflict) as error:
            is_locked = isinstance(error, DatabaseLocked) or "locked" in str(error)
            if not isinstance(error, TransactionConflict) and not (is_locked and tries < may_be_refused):
                raise
            told.repeated += 1
            time.sleep(random.uniform(0, 0.01))
        else:
            return


def said(error: BaseException, who: str) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = traceback.format_exception_only(error)[-1].strip()
    return f"{who}: {line[:500]} ({Path(last.filename).name}:{last.lineno})"


def small_path(folder: str) -> str:
    return str(Path(folder) / "static-en-32")


def member(place: Place, start: Barrier) -> None:
    """The process. Where it is stuck it says so itself, a while after it should have ended."""
    told = Told()
    name = Path(place.folder) / f"{place.number}"
    os.environ["OPENAI_API_KEY"] = "none"
    os.environ["OPENAI_BASE_URL"] = place.server
    with name.with_suffix(".stack").open("w") as stack:
        faulthandler.dump_traceback_later(place.seconds + START_S + GRACE_S, file=stack)
        try:
            if place.server:
                import_module("openai")  # sixteen at once in the middle would be what is measured
            working = KINDS[place.kind](place, told)
            start.wait(START_S)
            working.run()
        except BaseException as error:  # noqa: BLE001 - told at the end
            told.errors.append(said(error, f"{place.kind} {place.number}"))
        faulthandler.cancel_dump_traceback_later()
    name.with_suffix(".json").write_text(json.dumps(asdict(told)))


class Crowd:
    """An index of `asked.rows` passages besides what the crowd writes, and the processes that are let loose on it."""

    def __init__(self, engine: Engine, asked: Asked, folder: str) -> None:
        self.engine = engine
        self.asked = asked
        self.folder = folder
        self.search = SearchEngine(engine, "static")
        self.told: list[Told] = []
        self.seconds = 0.0
        self.processes: list[tuple[str, int]] = []
        self._prepare()

    def _prepare(self) -> None:
        small_model(Path(self.folder))
        Base.metadata.create_all(self.engine)
        texts = passages(self.asked.rows, self.asked.seed)
        self.search.index_records_batch([("Passage", n, passage) for n, passage in enumerate(texts)])
        with self.search.attach(sessionmaker(self.engine)).begin() as session:
            session.add_all([Counter(id=n, said=f"counter {n} counted 0") for n in range(1, COUNTERS + 1)])
        RecordStore(self.search).create_entity("Ticket", search=["text"], fields={"writer": "integer"})
        self.search.index_records_batch(
            [("Shared", id_, f"group{group} version0 river") for group in range(GROUPS) for id_ in members(group)]
        )

    def run(
        self, *, turns: int | None, server: str, watch: Callable[[Sequence[int]], None] = lambda _pids: None
    ) -> None:
        """Let them work; raises AssertionError that names what went wrong, with the seed."""
        url = self.engine.url.render_as_string(hide_password=False)
        context = multiprocessing.get_context("spawn")
        kinds = [*WRITERS, *["reader"] * READERS]
        seconds = self.asked.seconds
        places = [
            Place(url, self.folder, kind, number, self.asked.seed, seconds, turns, server)
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
        self.told = [self._heard(place) for place in places]
        wrong = [error for told in self.told for error in told.errors]
        wrong += [f"{place.kind} {place.number} was stuck:\n{self._stack(place)}" for place in stuck]
        wrong += self._found_at_the_end()
        if wrong:
            raise AssertionError("\n".join([f"seed {self.asked.seed}, {self.asked.backend}:", *wrong]))

    def _wait(self, processes: Sequence[BaseProcess], until: float, watch: Callable[[Sequence[int]], None]) -> None:
        while time.monotonic() < until and (alive := [process for process in processes if process.is_alive()]):
            watch([process.pid or 0 for process in alive])
            alive[0].join(SAMPLED_S)

    def _heard(self, place: Place) -> Told:
        path = Path(self.folder) / f"{place.number}.json"
        if not path.exists():
            return Told(errors=[f"{place.kind} {place.number} ended without a word"])
        return Told(**json.loads(path.read_text()))

    def _stack(self, place: Place) -> str:
        return (Path(self.folder) / f"{place.number}.stack").read_text()[-3000:]

    def _found_at_the_end(self) -> Iterator[str]:
        try:
            Worker(self.search).run()
            self.search.sync()
            check_doctor(self.search)
        except Exception as error:  # noqa: BLE001 - told at the end
            yield said(error, "at the end")
        stored = self._stored()
        for told in self.told:
            for entity, own in told.own.items():
                for id_, content in own.items():
                    if stored.get((entity, id_)) != content:
                        yield f"{entity} {id_} was acknowledged as {content!r} and is {stored.get((entity, id_))!r}"
        expected = {(entity, id_) for told in self.told for entity, own in told.own.items() for id_ in own if own[id_]}
        there = {ref for ref in stored if ref[0] in ("Ticket", "Page")}
        if extra := there - expected:
            yield f"{len(extra)} records are there that nobody wrote or all deleted, like {sorted(extra)[:3]}"
        for group in range(GROUPS):
            found = {VERSION.findall(stored.get(("Shared", id_), "version"))[0:1].__str__() for id_ in members(group)}
            last = {told.shared[str(group)] for told in self.told if str(group) in told.shared} or {"0"}
            if len(found) != 1 or not found & {str([version] if version else []) for version in last}:
                yield f"group {group} has {found}, and last acknowledged were {last}"
        counted = sum(int(stored["Counter", str(n)].split()[-1]) for n in range(1, COUNTERS + 1))
        if counted != sum(told.increments for told in self.told):
            yield f"{sum(told.increments for told in self.told)} increments were acknowledged, {counted} are stored"
        yield from self._left_behind()

    def _stored(self) -> dict[tuple[str, str], str]:
        """What the index holds; that it is what the tables say is for doctor to tell."""
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
        for told in self.told:
            for verb, milliseconds in told.milliseconds.items():
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
            "repeated_by_the_application": sum(told.repeated for told in self.told),
            "longest_write_ms": round(max(writes)),
            "each": {verb: spread(found) for verb, found in sorted(spent.items())},
        }


@contextmanager
def gathered(asked: Asked) -> Iterator[tuple[Crowd, str]]:
    """A crowd on a new database, and the base URL of a model for it."""
    with (
        database(asked.backend) as engine,
        tempfile.TemporaryDirectory() as folder,
        serving(SERVER_LATENCY_S) as server,
    ):
        yield Crowd(engine, asked, folder), server


LEFT_BEHIND = {
    "transactions": """
        SELECT count(*) FROM pg_stat_activity
        WHERE state LIKE 'idle in transaction%' AND datname = current_database() AND pid <> pg_backend_pid()
    """,
    "advisory locks": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()",
}


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    whole = milliseconds if len(milliseconds) > 1 else [*milliseconds] * 2
    return {"count": len(milliseconds), **latencies(whole), "max_ms": round(max(milliseconds), 1)}
