"""Processes that write through every path and are killed on the way, and what must hold whenever one is.

A process tells what it is about to commit, commits, and tells that it did: what was told as done is there whole, what
was under way is there whole or not at all. `python -c 'from tests.killing import serve; serve(URL, MODEL)'` forks them.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, NullPool, delete, event, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import kameleon
from kameleon import RecordStore, SearchEngine, Worker, searchable
from kameleon.doctor import examine
from kameleon.embeddings import StaticProvider
from kameleon.embeddings.passages import split_long
from kameleon.errors import KameleonError, ProviderUnavailable
from kameleon.indexing.embedded import flattened
from kameleon.stores.catalog import active

from .crashing import BACKENDS_OF, DEADLINE_S, ROOT, WORDS, opened

KILL, TERMINATE, CRASH = "kill", "terminate", "crash"
PROBE = "Probe"
LEASE_S = 0.2
FEW, MANY = 40, 120

Texts = dict[str, str]


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"])
class Letter(Base):
    __tablename__ = "killing_letter"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@searchable(fields=["text"])
class Postcard(Base):
    __tablename__ = "killing_postcard"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@dataclass(frozen=True)
class Change:
    puts: Texts = field(default_factory=dict)
    drops: Sequence[str] = ()

    def on(self, texts: Texts) -> Texts:
        return {id_: said for id_, said in {**texts, **self.puts}.items() if id_ not in self.drops}


class Fickle(StaticProvider):
    is_down = False

    def embed_batch(self, texts: Sequence[str]) -> Any:
        if self.is_down:
            raise ProviderUnavailable("the provider is down")
        return super().embed_batch(texts)


def provider_of(model: str) -> Fickle:
    """Its passages are short: some texts have several."""
    return Fickle(model, passage_tokens=16)


# the process


def serve(url: str, model: str) -> None:
    """Forks a process for each line of standard input, `PATH SEED DEADLY FOLDER`, and tells when it has ended."""
    import_module("kameleon_cli.main")
    provider = provider_of(model)
    provider.embed_batch(["river"])
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                Writing(url, provider, *line.split()).run()
                status = 0
            except BaseException as error:
                tell(broken=f"{type(error).__name__}: {error}")
                raise
            finally:
                os._exit(status)
        tell(pid=pid)
        _, status = os.waitpid(pid, 0)
        os.write(1, b"\n")
        tell(ended=os.waitstatus_to_exitcode(status))


def tell(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


class Writing:
    """One path's endless work. Its steps are drawn from the seed and from what the index holds. In the step `deadly` it
    kills itself, before one of its statements or after the last commit; -1 for none."""

    def __init__(self, url: str, provider: Fickle, path: str, seed: str, deadly: str, folder: str) -> None:
        self.engine = opened(url, f"killing {os.getpid()}")
        self.provider = provider
        self.search = SearchEngine(self.engine, provider, indexing="deferred" if path == "deferred" else "sync")
        self.url, self.path, self.seed, self.folder = url, path, seed, Path(folder)
        self.chance = random.Random(int(seed))
        self.count = 0
        self.steps_left = int(deadly)
        self.statements: dict[str, int] = {}
        self.run_statements = 0
        self.last_statement: int | None = None
        self.entity = ENTITIES.get(path, "")
        event.listen(Engine, "before_cursor_execute", self._count)

    def run(self) -> None:
        steps = STEPS[self.path]
        try:
            while True:
                self.chance.choice(steps)(self)
        except (KameleonError, OperationalError) as error:
            tell(failed=type(error).__name__, kameleon=isinstance(error, KameleonError), message=str(error))
            self.engine.dispose()
        self.probe()

    def probe(self) -> None:
        """Works on, with the same engine, as soon as there is a server."""
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.search.index_record(PROBE, self.seed, f"probe{self.seed} river")
                break
            except KameleonError:
                assert time.monotonic() < until
        tell(recovered=self.seed)

    def trying(self, kind: str, work: Callable[[], Any], *changes: Change) -> None:
        self.run_statements = 0
        if self.steps_left == 0:
            self.last_statement = self.chance.randint(0, self.statements.get(kind, 15))
        tell(kind=kind, entity=self.entity, changes=[[change.puts, list(change.drops)] for change in changes])
        work()
        if self.steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.statements[kind] = self.run_statements
        self.steps_left -= 1
        tell(done=kind)

    def _count(self, *_: Any) -> None:
        if self.run_statements == self.last_statement:
            os.kill(os.getpid(), signal.SIGKILL)
        self.run_statements += 1

    def drawn(self) -> Change:
        """New texts, other texts and deletions, so that the number of records stays between few and many."""
        ids = self.ids()
        some = self.chance.sample(ids, min(len(ids), 12))
        drops = some[: 4 if len(ids) > FEW else 0] if len(ids) <= MANY else ids[: len(ids) // 2]
        puts = {id_: self.text() for id_ in some[4:] if id_ not in drops}
        first = max(map(int, ids), default=0) + 1
        puts |= {str(first + n): self.text() for n in range(12)}
        return Change(puts, drops)

    def text(self) -> str:
        """Its first word is its own among all that ever are written."""
        self.count += 1
        words = self.chance.choices(WORDS.split(), k=60 if self.chance.random() < 0.1 else 8)
        return " ".join([f"t{self.seed}x{self.count}", *words])

    def ids(self) -> list[str]:
        with self.engine.connect() as connection:
            statement = text("SELECT record_id FROM kdb_search WHERE entity_name = :entity")
            return sorted(connection.execute(statement, {"entity": self.entity}).scalars(), key=int)

    # steps

    def insert(self) -> None:
        puts = self.drawn().puts
        rows = [{"id": id_, "text": said} for id_, said in puts.items()]
        store = RecordStore(self.search)
        self.trying("insert", lambda: store.insert(self.entity, rows, on_conflict="upsert"), Change(puts))

    def update(self) -> None:
        if ids := self.ids():
            id_, said = self.chance.choice(ids), self.text()
            store = RecordStore(self.search)
            self.trying("update", lambda: store.update(self.entity, id_, {"text": said}), Change({id_: said}))

    def delete(self) -> None:
        if drops := self.drawn().drops:
            store = RecordStore(self.search)
            self.trying("delete", lambda: store.delete(self.entity, drops), Change({}, drops))

    def index(self) -> None:
        puts = self.drawn().puts
        rows = [(self.entity, id_, said) for id_, said in puts.items()]
        self.trying("index", lambda: self.search.index_records_batch(rows), Change(puts))

    def index_and_delete(self) -> None:
        """In a transaction of the application's own."""
        change = self.drawn()

        def work() -> None:
            with self.engine.begin() as connection:
                rows = [(self.entity, id_, said) for id_, said in change.puts.items()]
                self.search.index_records_batch(rows, connection=connection)
                self.search.delete_records([(self.entity, id_) for id_ in change.drops], connection=connection)

        self.trying("index_and_delete", work, change)

    def commit(self) -> None:
        change, mapped = self.drawn(), MAPPED[self.entity]
        self.trying("commit", lambda: self._commit(mapped, change), change)

    def _commit(self, mapped: Any, change: Change) -> None:
        """Some by objects, some by a statement for many rows."""
        maker = self.search.attach(sessionmaker(self.engine))
        with maker.begin() as session:
            wanted = select(mapped).where(mapped.id.in_([int(id_) for id_ in change.puts]))
            there = {str(obj.id): obj for obj in session.scalars(wanted)}
            for n, (id_, said) in enumerate(change.puts.items()):
                if id_ not in there:
                    session.add(mapped(id=int(id_), text=said))
                elif n % 2:
                    there[id_].text = said
                else:
                    session.execute(update(mapped).where(mapped.id == int(id_)).values(text=said))
            session.execute(delete(mapped).where(mapped.id.in_([int(id_) for id_ in change.drops[:2]])))
            for id_ in change.drops[2:]:
                session.delete(session.get_one(mapped, int(id_)))

    def work_off(self) -> None:
        worker = Worker(self.search, batch_size=7, lease_s=LEASE_S)
        self.trying("work", worker.work)

    def outage(self) -> None:
        puts = self.drawn().puts
        rows = [(self.entity, id_, said) for id_, said in puts.items()]
        self.provider.is_down = True
        try:
            self.trying("outage", lambda: self.search.index_records_batch(rows), Change(puts))
        finally:
            self.provider.is_down = False

    def sync(self) -> None:
        self.trying("sync", lambda: self.search.sync(batch_size=7))

    def command(self) -> None:
        """A file of many batches, and the same again: what is there is passed over."""
        ids = self.ids()
        first = int(ids[-1]) + 1 if ids else 1
        size, batches = 9, 5
        puts = {str(first + n): self.text() for n in range(size * batches)}
        file = self.folder / f"{self.seed}.jsonl"
        file.write_text("".join(json.dumps({"id": id_, "text": said}) + "\n" for id_, said in puts.items()))
        rows = list(puts.items())
        changes = [Change(dict(rows[n : n + size])) for n in range(0, len(rows), size)]
        arguments = ["data", "insert", self.entity, "--from-file", str(file), f"--batch-size={size}", "--skip-existing"]
        self.trying("command", lambda: run_command(self.url, *arguments), *changes)

    def reindex(self) -> None:
        self.trying("reindex", lambda: self.search.reindex(force=True, batch_size=50))

    def prune(self) -> None:
        self.trying("prune", self.search.reindexing.prune)


def run_command(url: str, *arguments: str) -> None:
    main = import_module("kameleon_cli.main").main
    sys.argv = ["kameleon", "--database", url, *arguments]
    said = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(said):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise KameleonError(said.getvalue()) from end


ENTITIES = {
    "store": "Ticket",
    "batch": "Page",
    "orm": "Letter",
    "deferred": "Postcard",
    "sync": "Cable",
    "command": "Import",
}
MAPPED: Mapping[str, Any] = {"Letter": Letter, "Postcard": Postcard}
STORED = ("Ticket", "Import")
MAY_BE_PENDING = ("Postcard", "Cable")
AFTER_A_KILL = ("pending", "unpruned")
STEPS: Mapping[str, Sequence[Callable[[Writing], None]]] = {
    "store": [Writing.insert, Writing.insert, Writing.update, Writing.delete],
    "batch": [Writing.index, Writing.index_and_delete],
    "orm": [Writing.commit],
    "deferred": [Writing.commit, Writing.work_off, Writing.work_off],
    "sync": [Writing.outage, Writing.sync],
    "command": [Writing.command],
    "prune": [Writing.reindex, Writing.prune],
}
PATHS = tuple(STEPS)


# what must hold


class Killing:
    """An index that processes write to, one after the other, each until it is killed."""

    def __init__(self, engine: Engine, folder: Path, model: Path, *, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.landed: Counter[str] = Counter()
        self._engine = engine
        self._url = engine.url.render_as_string(hide_password=False)
        self._folder = folder
        self._seed = seed
        self._chance = random.Random(seed)
        self._durations: dict[str, float] = {}
        self._provider = provider_of(str(model))
        self._truth: dict[str, Texts] = {entity: {} for entity in (*ENTITIES.values(), PROBE)}
        self._gone: list[str] = []
        Base.metadata.create_all(engine)
        self._search = SearchEngine(engine, self._provider)
        self._search.index_record(PROBE, "0", "probe0 river")
        self._apply(PROBE, Change({"0": "probe0 river"}))
        self._store = RecordStore(self._search)
        for entity in STORED:
            self._store.create_entity(entity, search=["text"])
        serving = f"from tests.killing import serve; serve({self._url!r}, {str(model)!r})"
        self._server = subprocess.Popen(
            [sys.executable, "-c", serving], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Killing":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def round(self, path: str, how: str = KILL) -> None:
        """One process on this path, killed at a random moment or robbed of its connection, and all checks after it."""
        number = sum(self.kills.values())
        try:
            self._run(path, how, self._seed * 10_000 + number)
            self.kills[path if how == KILL else how] += 1
            self._check()
        except AssertionError as error:
            raise AssertionError(f"seed {self._seed}, kill {number}, of {path} by {how}: {error}") from error

    # the process

    def _run(self, path: str, how: str, seed: int) -> None:
        assert self._server.stdin is not None
        steps = self._chance.randint(0, 3)
        is_own = how == KILL and self._chance.random() < 0.5
        self._server.stdin.write(f"{path} {seed} {steps if is_own else -1} {self._folder}\n")
        self._server.stdin.flush()
        said = self._said()
        pid = next(said)["pid"]
        if is_own:
            self._follow(said, None, how)
            return
        under_way = self._heard(said, steps)
        until = time.perf_counter() + self._chance.uniform(0, 1.3 * self._durations.get(under_way["kind"], 0.02))
        while time.perf_counter() < until:
            pass
        self._end(pid, how)
        self._follow(said, under_way, how)

    def _end(self, pid: int, how: str) -> None:
        if how == KILL:
            os.kill(pid, signal.SIGKILL)
            return
        asked = "SELECT pid FROM pg_stat_activity WHERE application_name = :name"
        found = list[int]()
        with self._admin() as connection:
            while not found:
                found = list(connection.execute(text(asked), {"name": f"killing {pid}"}).scalars())
            for backend in found if how == TERMINATE else found[:1]:
                if how == CRASH:
                    os.kill(backend, signal.SIGKILL)
                else:
                    connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})

    def _admin(self) -> Any:
        return kameleon.create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect()

    def _said(self) -> Iterator[dict[str, Any]]:
        """What one process says, until it has ended; a line that it did not finish is left out."""
        assert self._server.stdout is not None
        while True:
            line = self._server.stdout.readline()
            assert line, "the server of processes is gone"
            try:
                what = json.loads(line)
            except ValueError:
                continue
            assert "broken" not in what, what
            yield what
            if "ended" in what:
                return

    def _heard(self, said: Iterator[dict[str, Any]], steps: int) -> dict[str, Any]:
        """Follows so many steps to their end, and tells of the next, which has begun."""
        under_way: dict[str, Any] = {}
        for what in said:
            if "kind" in what:
                under_way, began = what, time.perf_counter()
                if not steps:
                    return under_way
            if "done" in what:
                self._did(under_way, time.perf_counter() - began)
                steps -= 1
        raise AssertionError("the process ended by itself")

    def _did(self, step: Mapping[str, Any], seconds: float | None = None) -> None:
        for puts, drops in step["changes"]:
            self._apply(step["entity"], Change(puts, drops))
        if seconds is not None:
            self._durations[step["kind"]] = (self._durations.get(step["kind"], seconds) + seconds) / 2

    def _apply(self, entity: str, change: Change) -> None:
        before = self._truth[entity]
        self._truth[entity] = after = change.on(before)
        self._gone += [said for id_, said in before.items() if after.get(id_) != said]
        del self._gone[:-20]

    def _follow(self, said: Iterator[dict[str, Any]], under_way: Mapping[str, Any] | None, how: str) -> None:
        """To the end of the process, and of what its backend was sent."""
        left = under_way
        code = None
        failed, recovered = False, ""
        for what in said:
            if "kind" in what:
                left = what
            elif "done" in what and left is not None:
                self._did(left)
                left = None
            elif "failed" in what:
                failed = True
                check_error(what)
            code = what.get("ended", code)
            recovered = what.get("recovered", recovered)
        if how == KILL:
            assert code == -signal.SIGKILL, f"it ended with {code}"
        else:
            assert failed
            assert recovered
            assert code == 0
            self._apply(PROBE, Change({recovered: f"probe{recovered} river"}))
        self._wait(how)
        if left is None:
            self.landed["between"] += 1
        else:
            self._settle(left)

    def _wait(self, how: str) -> None:
        if self._engine.dialect.name == "sqlite":
            return
        if how == CRASH:
            self._engine.dispose()
        until = time.monotonic() + DEADLINE_S
        with self._admin() as connection:
            name = BACKENDS_OF.replace("= :name", "LIKE :name")
            while connection.scalar(text(name), {"name": "killing %"}):
                assert time.monotonic() < until

    def _settle(self, step: Mapping[str, Any]) -> None:
        """What was under way, as far as it came: each of its commits whole, or not at all."""
        if not step["changes"]:
            self.landed["elsewhere"] += 1
            return
        entity = step["entity"]
        held = self._contents().get(entity, {})
        states = [self._truth[entity]]
        for puts, drops in step["changes"]:
            states.append(Change(puts, drops).on(states[-1]))
        came = [n for n, state in enumerate(states) if state == held]
        assert came, f"{entity}: a part of {step['kind']} is there: {differences(held, states)}"
        self.landed["absent" if came[0] == 0 else "present" if came[0] == len(states) - 1 else "partway"] += 1
        for puts, drops in step["changes"][: came[0]]:
            self._apply(entity, Change(puts, drops))

    # the database

    def _check(self) -> None:
        fresh = self._fresh()
        self._check_rows()
        self._check_embeddings(may_be_pending=MAY_BE_PENDING)
        self._check_doctor(fresh, AFTER_A_KILL)
        self._check_search(fresh)
        if self._chance.random() < 0.5:
            self.go_on(fresh)

    def go_on(self, fresh: SearchEngine | None = None) -> None:
        """Another process makes what is missing, without help."""
        search = fresh or self._fresh()
        until = time.monotonic() + DEADLINE_S
        worker = Worker(search, batch_size=50)
        while self._scalars("SELECT record_id FROM kdb_queue"):
            worker.run()
            assert time.monotonic() < until, "the queue is not worked off"
        search.sync()
        search.reindexing.prune()
        self._check_rows()
        self._check_embeddings()
        self._check_doctor(search)

    def _fresh(self) -> SearchEngine:
        return SearchEngine(kameleon.create_engine(self._url, poolclass=NullPool), self._provider)

    def _check_rows(self) -> None:
        contents = self._contents()
        for entity, texts in self._truth.items():
            assert contents.get(entity, {}) == texts, f"{entity} in the index: {differences(contents, [texts])}"
        with Session(self._engine) as session:
            for entity, mapped in MAPPED.items():
                rows = {str(obj.id): obj.text for obj in session.scalars(select(mapped))}
                assert rows == self._truth[entity], entity
        for entity in STORED:
            rows = {record.id: record.data["text"] for record in self._store.list(entity, limit=100_000)}
            assert rows == self._truth[entity], entity

    def _contents(self) -> dict[str, Texts]:
        found: dict[str, Texts] = {}
        with self._engine.connect() as connection:
            for entity, id_, content in connection.execute(
                text("SELECT entity_name, record_id, content FROM kdb_search")
            ):
                found.setdefault(entity, {})[id_] = content
        return found

    def _check_embeddings(self, may_be_pending: Sequence[str] = ()) -> None:
        """Each is of the very text that the record has, all its passages."""
        held = self._embeddings()
        wanted = {(entity, id_): said for entity, texts in self._truth.items() for id_, said in texts.items()}
        texts = [*wanted.values()]
        split = split_long(texts, self._provider)
        made = iter(self._provider.embed_batch(flattened(texts, split)))
        for (entity, id_), said in wanted.items():
            vectors = [next(made) for _ in split.get(said, (None,))]
            rows = held.pop((entity, id_), [])
            if rows or entity not in may_be_pending:
                assert len(rows) == len(vectors), f"{entity} {id_} has {len(rows)} of {len(vectors)} embeddings"
                np.testing.assert_allclose(rows, vectors, atol=1e-5, err_msg=f"{entity} {id_}")
        assert not held, f"embeddings without a record: {list(held)[:5]}"

    def _embeddings(self) -> dict[tuple[str, str], list[Any]]:
        """Of the active generation, by record, in the order of passages."""
        generation = active(self._search.generations())
        if generation is None:
            return {}
        table = f"kdb_embedding_g{generation.number}"
        if self._engine.dialect.name == "sqlite":
            statement = f"""SELECT s.entity_name, s.record_id, e.embedding FROM {table} AS e
                LEFT JOIN kdb_search AS s ON s.id = e.search_id ORDER BY e.search_id, e.passage"""
        else:
            statement = f"""SELECT entity_name, record_id, CAST(embedding AS text) FROM {table}
                ORDER BY entity_name, record_id, passage"""
        found: dict[tuple[str, str], list[Any]] = {}
        with self._engine.connect() as connection:
            for entity, id_, embedding in connection.execute(text(statement)):
                is_blob = isinstance(embedding, bytes)
                vector = np.frombuffer(embedding, "<f4") if is_blob else np.array(json.loads(embedding), "<f4")
                found.setdefault((entity, id_), []).append(vector)
        return found

    def _check_doctor(self, search: SearchEngine, but: Sequence[str] = ()) -> None:
        wrong = [found for found in examine(search) if found.severity != "note" and found.check not in but]
        assert not wrong, wrong

    def _check_search(self, search: SearchEngine) -> None:
        """What is there is found by its own word, what is gone is not."""
        some = [(entity, *pair) for entity, texts in self._truth.items() for pair in texts.items()]
        for entity, id_, said in self._chance.sample(some, min(3, len(some))):
            own = said.partition(" ")[0]
            (found,) = search.search(own, mode="keyword")
            assert (found.entity, found.id, found.matched_text) == (entity, id_, said)
            if entity not in MAY_BE_PENDING and not split_long([said], self._provider):
                (best,) = search.search(said, mode="vector", limit=1)
                assert (best.entity, best.id) == (entity, id_), f"{said} is not found by vector"
        for said in self._gone[-2:]:
            assert not search.search(said.partition(" ")[0], mode="keyword"), f"{said} is found, and gone"

    def _scalars(self, statement: str) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(text(statement)).scalars())


def check_error(what: Mapping[str, Any]) -> None:
    """A session's own statements end with SQLAlchemy's error, kameleon's with its own, which says what to do."""
    assert what["kameleon"] or what["failed"] == "OperationalError", what
    if what["kameleon"]:
        assert "again" in what["message"], what


def differences(held: Any, states: Sequence[Any]) -> str:
    return "; ".join(str([pair for pair in held.items() if pair not in state.items()][:3]) for state in states)[:500]
