"""The processes of a crowd that write or maintain the index: each checks what its own commits promise."""

import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, Worker, searchable
from kameleon.doctor import examine
from kameleon.embeddings.static import BUNDLED
from kameleon.errors import DatabaseLocked, ReindexRunning, TransactionConflict

from .embeddings_server import DIMENSIONS

COUNTERS, GROUPS, MEMBERS, KEPT = 5, 40, 6, 60
REFUSED = 2
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


class Base(DeclarativeBase):
    pass


@searchable(fields=["content"])
class Counter(Base):
    __tablename__ = "crowd_counter"

    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str]


@searchable(fields=["content"])
class Page(Base):
    __tablename__ = "crowd_page"

    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[str]


@dataclass(frozen=True)
class Place:
    """One process: where it works, as what, and for how long. `transactions` bounds how many it runs, None for
    as many as there is time for; `server` is a model's base URL."""

    url: str
    folder: str
    kind: str
    number: int
    seed: int
    seconds: float
    transactions: int | None
    server: str


@dataclass
class Outcome:
    """What a process reports at its end. `own` is what is to be stored of records that nobody else writes, `shared` the
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
    """A process of the crowd: `work` is one transaction, or one search, and is called until the time is over."""

    indexing: Any = "sync"

    def __init__(self, place: Place, outcome: Outcome) -> None:
        self.place = place
        self.outcome = outcome
        self.chance = random.Random(f"{place.seed} {place.number}")
        self.engine = kameleon.create_engine(place.url)
        self.search = SearchEngine(self.engine, "static", indexing=self.indexing)
        self.n = 0

    def run(self) -> None:
        until = time.monotonic() + self.place.seconds
        while time.monotonic() < until and self.n != self.place.transactions:
            self.n += 1
            try:
                self.work()
            except Exception as error:  # noqa: BLE001 - reported at the end
                self.outcome.errors.append(
                    described(error, f"{self.place.kind} {self.place.number}, transaction {self.n}")
                )
                if len(self.outcome.errors) >= ERRORS_KEPT:
                    break

    def work(self) -> None:
        raise NotImplementedError

    @property
    def mark(self) -> str:
        """A word that no other transaction writes."""
        return f"{self.place.number}x{self.n}"

    def sentence(self) -> str:
        return " ".join(self.chance.choices(WORDS, k=8))

    def check_found(self, entity: str, id_: str, mark: str) -> None:
        """What this process has committed is found by every mode that uses keywords; the embedding may be pending."""
        mode = self.chance.choice(["keyword", "hybrid"])
        with self.outcome.timed(f"search {mode}"):
            found = self.search.search(mark, entity=entity, mode=mode, limit=5, weight=0.1)
        assert id_ in [hit.id for hit in found], f"{entity} {id_} was committed with {mark} and is not found: {found}"

    def check_gone(self, entity: str, id_: str, content: str) -> None:
        """What this process has deleted is not found."""
        with self.outcome.timed("search hybrid"):
            found = self.search.search(content, entity=entity, limit=50)
        assert id_ not in [hit.id for hit in found], f"{entity} {id_} was deleted and is found"


class Batches(Member):
    """Writes groups that other processes write too: all records of one in one batch, in any order, with one version."""

    def work(self) -> None:
        groups = self.chance.sample(range(GROUPS), 3)
        if self.chance.random() < 0.1:
            with self.outcome.timed("write delete"):
                self.search.delete_records([("Shared", id_) for group in groups for id_ in members(group)])
            self.outcome.shared |= dict.fromkeys(map(str, groups), "")
            return
        records = [("Shared", id_, self.member_text(group)) for group in groups for id_ in members(group)]
        self.chance.shuffle(records)
        with self.outcome.timed("write batch"):
            self.write(records)
        self.outcome.shared |= dict.fromkeys(map(str, groups), self.mark)

    def member_text(self, group: int) -> str:
        return f"group{group} version{self.mark} {self.sentence()}"

    def write(self, records: Sequence[tuple[str, str, str]]) -> None:
        self.search.index_records_batch(records)


class Joined(Batches):
    """The same in a transaction of the application's own, which begins with the write."""

    def write(self, records: Sequence[tuple[str, str, str]]) -> None:
        def attempt(_tries: int) -> None:
            with self.engine.begin() as connection:
                self.search.index_records_batch(records, connection=connection)

        repeated(attempt, self.outcome, may_be_refused=0)


class Records(Member):
    """Uses the record store: inserts, updates and deletes its own records and searches for each afterwards."""

    def __init__(self, place: Place, outcome: Outcome) -> None:
        super().__init__(place, outcome)
        self.store = RecordStore(self.search)

    def work(self) -> None:
        own = self.outcome.own.setdefault("Ticket", {})
        id_ = f"{self.place.number}-{self.n % KEPT}"
        content = f"ticket {self.mark} {self.sentence()}"
        if own.get(id_) is None:
            with self.outcome.timed("write insert"):
                self.store.insert("Ticket", [{"id": id_, "text": content, "writer": self.place.number}])
        elif self.chance.random() < 0.2:
            with self.outcome.timed("write delete"):
                deleted = self.store.delete("Ticket", [id_])
            assert deleted == 1, f"{id_} was stored and {deleted} were deleted"
            before, own[id_] = own[id_], None
            self.check_gone("Ticket", id_, before or "")
            return
        else:
            with self.outcome.timed("write update"):
                self.store.update("Ticket", id_, {"text": content})
        own[id_] = content
        self.check_found("Ticket", id_, self.mark)


class Sessions(Member):
    """Uses attached sessions: shared counters, and pages of its own that are added, edited, moved and deleted."""

    def __init__(self, place: Place, outcome: Outcome) -> None:
        super().__init__(place, outcome)
        self.maker: sessionmaker[Session] = self.search.attach(sessionmaker(self.engine))
        self.first = 1_000_000 * (place.number + 1)

    def work(self) -> None:
        id_ = self.first + self.n % KEPT
        content = f"page {self.mark} {self.sentence()}"
        counter = self.chance.randint(1, COUNTERS)
        own = self.outcome.own.setdefault("Page", {})
        exists = own.get(str(id_)) is not None
        step = "add" if not exists else self.chance.choice(["edit", "edit", "delete", "move"])
        moved = id_ + 10_000
        with self.outcome.timed(f"commit {self.indexing}"):
            self.change(counter, id_, content, step, moved)
        self.outcome.increments += 1
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
        one that is refused for that begins anew, and acquires the write lock first when that has happened twice."""
        attempt = partial(self.attempt, counter, id_, content, step, moved)
        if self.n % 2:
            attempt(0)
        else:
            repeated(attempt, self.outcome, may_be_refused=REFUSED)

    def attempt(self, counter: int, id_: int, content: str, step: str, moved: int, tries: int) -> None:
        with self.maker.begin() as session:
            if self.n % 2:
                session.execute(update(Counter).where(Counter.id == counter).values(content=Counter.content))
            elif tries >= REFUSED:
                self.search.index.begin_writing(session.connection())
            counted = session.get(Counter, counter, with_for_update=True)
            assert counted is not None
            counted.content = f"counter {counter} counted {int(counted.content.split()[-1]) + 1}"
            if step == "add":
                session.add(Page(id=id_, content=content))
                return
            page = session.get(Page, id_)
            assert page is not None, f"page {id_} was committed and is not stored"
            if step == "delete":
                session.delete(page)
                return
            page.content = content
            if step == "move":
                session.execute(delete(Page).where(Page.id == moved))
                page.id = moved


class Deferred(Sessions):
    indexing = "deferred"


class Keeper(Member):
    """Maintains the index: a worker, `sync`, `doctor`, and one re-embed after the other."""

    def work(self) -> None:
        with self.outcome.timed("worker"):
            Worker(self.search).run()
        if self.n % 4 == 0:
            with self.outcome.timed("sync"):
                self.search.sync()
        if self.n % 8 == 3:
            self.reindex()
        if self.n % 8 == 7:
            with self.outcome.timed("doctor"):
                check_doctor(self.search)
        time.sleep(0.2)

    def reindex(self) -> None:
        names: dict[str, dict[str, Any]] = {"static": {}, "small": {"model": small_path(self.place.folder)}}
        if self.place.server:
            names["openai"] = {"provider": "openai", "dimensions": DIMENSIONS}
        options = names[list(names)[self.n // 8 % len(names)]] or {"model": str(BUNDLED)}
        with self.outcome.timed("reindex"), suppress(ReindexRunning):
            report = self.search.reindex(**options, batch_size=200)
            assert not report.stopped, report
        with self.outcome.timed("prune"):
            self.search.reindexing.prune()


def members(group: int) -> list[str]:
    return [f"{group}-{n}" for n in range(MEMBERS)]


def check_doctor(search: SearchEngine) -> None:
    wrong = [finding for finding in examine(search) if finding.severity == "error"]
    assert not wrong, f"doctor finds {wrong}"


def repeated(attempt: Callable[[int], None], outcome: Outcome, *, may_be_refused: int) -> None:
    """Retries as an application does. `attempt` gets the number of earlier tries; on SQLite `may_be_refused` of them
    may fail because another process wrote after they had read, later ones acquire the write lock first and must not."""
    for tries in count():
        try:
            attempt(tries)
        except (OperationalError, DatabaseLocked, TransactionConflict) as error:
            is_locked = isinstance(error, DatabaseLocked) or "locked" in str(error)
            if not isinstance(error, TransactionConflict) and not (is_locked and tries < may_be_refused):
                raise
            outcome.repeated += 1
            time.sleep(random.uniform(0, 0.01))
        else:
            return


def described(error: BaseException, who: str) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = traceback.format_exception_only(error)[-1].strip()
    return f"{who}: {line[:500]} ({Path(last.filename).name}:{last.lineno})"


def small_path(folder: str) -> str:
    return str(Path(folder) / "static-en-32")
