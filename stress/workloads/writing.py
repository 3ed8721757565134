"""A process that writes on one path until it is killed: it reports each change before and after its commit.

`python -c 'from stress.workloads.writing import serve; serve(URL, MODEL)'` forks such processes.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, delete, event, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, Worker, searchable
from kameleon.embeddings import StaticProvider
from kameleon.errors import KameleonError, ProviderUnavailable
from kameleon.keywords.dialect import Partition
from kameleon.keywords.folding import Limits, Maintenance

from .crashing import DEADLINE_S, WORDS, opened

PROBE = "Probe"
LEASE_S = 0.2
FEW, MANY = 40, 120
SMALL = Limits(fold_from=4, pack_from=6, most_segments=1)
"""Some records make many folds and merges."""
FOLD_ROWS, STEP_ROWS = 12, 10
STATEMENTS = {"fold": 150}
"""How many a step is taken to have until one was counted; 15 where none is named."""

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
        return {id_: content for id_, content in {**texts, **self.puts}.items() if id_ not in self.drops}


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
    """Forks a process for each line of standard input, `PATH SEED DEADLY FOLDER`, and reports its end."""
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
                report(broken=f"{type(error).__name__}: {error}")
                raise
            finally:
                os._exit(status)
        report(pid=pid)
        _, status = os.waitpid(pid, 0)
        os.write(1, b"\n")
        report(ended=os.waitstatus_to_exitcode(status))


def probe_text(seed: str) -> str:
    """Its first word is in no other text, and is no code whose parts others share."""
    return f"t{seed}x0 river"


def report(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


class Writing:
    """Runs steps of one path without end, drawn from the seed and from what the index holds. In the step `deadly` it
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
            report(failed=type(error).__name__, kameleon=isinstance(error, KameleonError), message=str(error))
            self.engine.dispose()
        self.probe()

    def probe(self) -> None:
        """Writes with the same engine as soon as a server is running."""
        until = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.search.index_record(PROBE, self.seed, probe_text(self.seed))
                break
            except KameleonError:
                assert time.monotonic() < until
        report(recovered=self.seed)

    def trying(self, kind: str, work: Callable[[], Any], *changes: Change) -> None:
        self.run_statements = 0
        if self.steps_left == 0:
            self.last_statement = self.chance.randint(0, self.statements.get(kind, STATEMENTS.get(kind, 15)))
        report(kind=kind, entity=self.entity, changes=[[change.puts, list(change.drops)] for change in changes])
        work()
        if self.steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.statements[kind] = self.run_statements
        self.steps_left -= 1
        report(done=kind)

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
        """A text whose first word is in no other text."""
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
        rows = [{"id": id_, "text": content} for id_, content in puts.items()]
        store = RecordStore(self.search)
        self.trying("insert", lambda: store.insert(self.entity, rows, on_conflict="replace"), Change(puts))

    def update(self) -> None:
        if ids := self.ids():
            id_, content = self.chance.choice(ids), self.text()
            store = RecordStore(self.search)
            self.trying("update", lambda: store.update(self.entity, id_, {"text": content}), Change({id_: content}))

    def delete(self) -> None:
        if drops := self.drawn().drops:
            store = RecordStore(self.search)
            self.trying("delete", lambda: store.delete(self.entity, drops), Change({}, drops))

    def index(self) -> None:
        puts = self.drawn().puts
        rows = [(self.entity, id_, content) for id_, content in puts.items()]
        self.trying("index", lambda: self.search.index_records_batch(rows), Change(puts))

    def index_and_delete(self) -> None:
        """In a transaction of the application's own."""
        change = self.drawn()

        def work() -> None:
            with self.engine.begin() as connection:
                rows = [(self.entity, id_, content) for id_, content in change.puts.items()]
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
            existing = {str(obj.id): obj for obj in session.scalars(wanted)}
            for n, (id_, content) in enumerate(change.puts.items()):
                if id_ not in existing:
                    session.add(mapped(id=int(id_), text=content))
                elif n % 2:
                    existing[id_].text = content
                else:
                    session.execute(update(mapped).where(mapped.id == int(id_)).values(text=content))
            session.execute(delete(mapped).where(mapped.id.in_([int(id_) for id_ in change.drops[:2]])))
            for id_ in change.drops[2:]:
                session.delete(session.get_one(mapped, int(id_)))

    def work_off(self) -> None:
        worker = Worker(self.search, batch_size=7, lease_s=LEASE_S)
        self.trying("work", worker.work)

    def outage(self) -> None:
        puts = self.drawn().puts
        rows = [(self.entity, id_, content) for id_, content in puts.items()]
        self.provider.is_down = True
        try:
            self.trying("outage", lambda: self.search.index_records_batch(rows), Change(puts))
        finally:
            self.provider.is_down = False

    def sync(self) -> None:
        self.trying("sync", lambda: self.search.sync(batch_size=7))

    def command(self) -> None:
        """A file of many batches; records that are stored already are skipped."""
        ids = self.ids()
        first = int(ids[-1]) + 1 if ids else 1
        size, batches = 9, 5
        puts = {str(first + n): self.text() for n in range(size * batches)}
        file = self.folder / f"{self.seed}.jsonl"
        file.write_text("".join(json.dumps({"id": id_, "text": content}) + "\n" for id_, content in puts.items()))
        rows = list(puts.items())
        changes = [Change(dict(rows[n : n + size])) for n in range(0, len(rows), size)]
        arguments = [
            "data",
            "insert",
            self.entity,
            "--from-file",
            str(file),
            f"--batch-size={size}",
            "--on-conflict",
            "ignore",
        ]
        self.trying("command", lambda: run_command(self.url, *arguments), *changes)

    def reindex(self) -> None:
        self.trying("reindex", lambda: self.search.reindex(force=True, batch_size=50))

    def prune(self) -> None:
        self.trying("prune", self.search.reindexing.prune)

    def fold(self) -> None:
        """A batch, then the folds and merges that it makes due, of which each step is a transaction."""
        self.index()
        postings, partition = self.search.index.store.postings, Partition("", self.entity)
        postings.fold_rows, postings.step_rows = FOLD_ROWS, STEP_ROWS
        maintenance = Maintenance(self.engine, postings, self.search.index.store.tables.keywords, SMALL)
        purges = self.chance.random() < 0.3
        self.trying("fold", lambda: maintenance.run(partition, purges=purges))


def run_command(url: str, *arguments: str) -> None:
    main = import_module("kameleon_cli.main").main
    sys.argv = ["kameleon", "--database", url, *arguments]
    errors = StringIO()
    with redirect_stdout(StringIO()), redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise KameleonError(errors.getvalue()) from end


ENTITIES = {
    "store": "Ticket",
    "batch": "Page",
    "orm": "Letter",
    "deferred": "Postcard",
    "sync": "Cable",
    "command": "Import",
    "keywords": "Word",
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
    "keywords": [Writing.index_and_delete, Writing.fold, Writing.fold],
}
PATHS = tuple(STEPS)
