"""Processes that write on every path and are killed while they do, and what must hold after each kill.

A change that a process reported as done is stored completely; one that was in progress is stored completely or not at
all.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, NullPool, select, text
from sqlalchemy.orm import Session

import kameleon
from kameleon import RecordStore, SearchEngine, Worker
from kameleon.doctor import examine
from kameleon.embeddings.passages import split_long
from kameleon.indexing.embedded import flattened
from kameleon.stores.catalog import active

from .brute_force import assert_exact
from .crashing import BACKENDS_OF, DEADLINE_S, ROOT, WORDS
from .writing import (
    AFTER_A_KILL,
    ENTITIES,
    MAPPED,
    MAY_BE_PENDING,
    PROBE,
    STORED,
    Base,
    Change,
    Texts,
    probe_text,
    provider_of,
)

KILL, TERMINATE, CRASH = "kill", "terminate", "crash"
UNAFFECTED = 5
"""So many steps that succeed after connections were ended show that these were a fold's, whose errors are logged: they
are ended again."""
MERGING = "SELECT segment FROM kdb_segment WHERE state <> 0"
DELETED_IN_TAIL = "SELECT doc FROM kdb_tail WHERE doc NOT IN (SELECT doc FROM kdb_search)"
KEYWORDS_LEFT = (DELETED_IN_TAIL, "SELECT doc FROM kdb_dead", MERGING)


class Killing:
    """An index that processes write to, one after the other, each until it is killed."""

    def __init__(self, engine: Engine, folder: Path, model: Path, *, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.landed: Counter[str] = Counter()
        self.merging = 0
        """Kills that left a merge for another process to end."""
        self._engine = engine
        self._url = engine.url.render_as_string(hide_password=False)
        self._folder = folder
        self._seed = seed
        self._chance = random.Random(seed)
        self._durations: dict[str, float] = {}
        self._provider = provider_of(str(model))
        self._expected: dict[str, Texts] = {entity: {} for entity in (*ENTITIES.values(), PROBE)}
        self._gone: list[str] = []
        Base.metadata.create_all(engine)
        self._search = SearchEngine(engine, self._provider)
        self._search.index_record(PROBE, "0", probe_text("0"))
        self._apply(PROBE, Change({"0": probe_text("0")}))
        self._store = RecordStore(self._search)
        for entity in STORED:
            self._store.create_entity(entity, search=["text"])
        serving = f"from stress.workloads.writing import serve; serve({self._url!r}, {str(model)!r})"
        self._server = subprocess.Popen(
            [sys.executable, "-c", serving], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Killing":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def round(self, path: str, how: str = KILL) -> None:
        """One process on this path, killed at a random moment or disconnected, and all checks after it."""
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
        messages = self._messages()
        pid = next(messages)["pid"]
        if is_own:
            self._follow(messages, pid, None, how)
            return
        in_progress = self._begun(messages, steps)
        until = time.perf_counter() + self._chance.uniform(0, 1.3 * self._durations.get(in_progress["kind"], 0.02))
        while time.perf_counter() < until:
            pass
        self._end(pid, how)
        self._follow(messages, pid, in_progress, how)

    def _end(self, pid: int, how: str) -> None:
        if how == KILL:
            os.kill(pid, signal.SIGKILL)
            return
        statement = "SELECT pid FROM pg_stat_activity WHERE application_name = :name"
        found = list[int]()
        with self._admin() as connection:
            while not found:
                found = list(connection.execute(text(statement), {"name": f"killing {pid}"}).scalars())
            for backend in found if how == TERMINATE else found[:1]:
                if how == CRASH:
                    os.kill(backend, signal.SIGKILL)
                else:
                    connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})

    def _admin(self) -> Any:
        return kameleon.create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect()

    def _messages(self) -> Iterator[dict[str, Any]]:
        """The messages of one process, until it has ended; a line that it did not finish is left out."""
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

    def _begun(self, messages: Iterator[dict[str, Any]], steps: int) -> dict[str, Any]:
        """Follows so many steps to their end and returns the next one, which has begun."""
        in_progress: dict[str, Any] = {}
        for what in messages:
            if "kind" in what:
                in_progress, began = what, time.perf_counter()
                if not steps:
                    return in_progress
            if "done" in what:
                self._did(in_progress, time.perf_counter() - began)
                steps -= 1
        raise AssertionError("the process ended by itself")

    def _did(self, step: Mapping[str, Any], seconds: float | None = None) -> None:
        for puts, drops in step["changes"]:
            self._apply(step["entity"], Change(puts, drops))
        if seconds is not None:
            self._durations[step["kind"]] = (self._durations.get(step["kind"], seconds) + seconds) / 2

    def _apply(self, entity: str, change: Change) -> None:
        before = self._expected[entity]
        self._expected[entity] = after = change.on(before)
        self._gone += [content for id_, content in before.items() if after.get(id_) != content]
        del self._gone[:-20]

    def _follow(
        self, messages: Iterator[dict[str, Any]], pid: int, in_progress: Mapping[str, Any] | None, how: str
    ) -> None:
        """Reads messages until the process and its backend have ended."""
        left = in_progress
        code = None
        failed, recovered, succeeded = False, "", 0
        for what in messages:
            if "kind" in what:
                left = what
            elif "done" in what and left is not None:
                self._did(left)
                left = None
                succeeded += 1
                if how != KILL and succeeded % UNAFFECTED == 0:
                    self._end(pid, how)
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
            self._apply(PROBE, Change({recovered: probe_text(recovered)}))
        self._wait(how)
        self.merging += bool(self._scalars(MERGING))
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
        """Records how far the step in progress came: each of its commits is stored completely or not at all."""
        if not step["changes"]:
            self.landed["elsewhere"] += 1
            return
        entity = step["entity"]
        held = self._contents().get(entity, {})
        states = [self._expected[entity]]
        for puts, drops in step["changes"]:
            states.append(Change(puts, drops).on(states[-1]))
        came = [n for n, state in enumerate(states) if state == held]
        assert came, f"{entity}: a part of {step['kind']} is stored: {differences(held, states)}"
        self.landed["absent" if came[0] == 0 else "present" if came[0] == len(states) - 1 else "partway"] += 1
        for puts, drops in step["changes"][: came[0]]:
            self._apply(entity, Change(puts, drops))

    # the database

    def _check(self) -> None:
        fresh = self._fresh()
        self._check_rows()
        self._check_keywords(fresh)
        self._check_embeddings(may_be_pending=MAY_BE_PENDING)
        self._check_doctor(fresh, AFTER_A_KILL)
        self._check_search(fresh)
        if self._chance.random() < 0.5:
            self.go_on(fresh)

    def go_on(self, fresh: SearchEngine | None = None) -> None:
        """Another process makes what is missing by itself."""
        search = fresh or self._fresh()
        until = time.monotonic() + DEADLINE_S
        worker = Worker(search, batch_size=50)
        while self._scalars("SELECT record_id FROM kdb_queue"):
            worker.run()
            assert time.monotonic() < until, "the queue is not worked off"
        search.sync()
        search.reindexing.prune()
        search.admin.purge()
        self._check_rows()
        self._check_keywords(search)
        for left in KEYWORDS_LEFT:
            assert not self._scalars(left), f"a purge leaves {left}"
        self._check_embeddings()
        self._check_doctor(search)

    def _fresh(self) -> SearchEngine:
        return SearchEngine(kameleon.create_engine(self._url, poolclass=NullPool), self._provider)

    def _check_rows(self) -> None:
        contents = self._contents()
        for entity, texts in self._expected.items():
            assert contents.get(entity, {}) == texts, f"{entity} in the index: {differences(contents, [texts])}"
        with Session(self._engine) as session:
            for entity, mapped in MAPPED.items():
                rows = {str(obj.id): obj.text for obj in session.scalars(select(mapped))}
                assert rows == self._expected[entity], entity
        for entity in STORED:
            rows = {record.id: record.data["text"] for record in self._store.list(entity, limit=100_000)}
            assert rows == self._expected[entity], entity

    def _check_keywords(self, search: SearchEngine) -> None:
        """The keyword index is what the texts are, wherever folds and merges were interrupted."""
        each = self._expected.items()
        contents = {(entity, id_): content for entity, texts in each for id_, content in texts.items()}
        own = self._chance.choice([*contents.values()])
        words = " ".join(self._chance.sample(WORDS.split(), 3))
        assert_exact(search, contents, [words, f"{words} {own}"])

    def _contents(self) -> dict[str, Texts]:
        found: dict[str, Texts] = {}
        with self._engine.connect() as connection:
            for entity, id_, content in connection.execute(
                text("SELECT entity_name, record_id, content FROM kdb_search")
            ):
                found.setdefault(entity, {})[id_] = content
        return found

    def _check_embeddings(self, may_be_pending: Sequence[str] = ()) -> None:
        """Each record has the embeddings of all passages of its current text."""
        held = self._embeddings()
        wanted = {(entity, id_): content for entity, texts in self._expected.items() for id_, content in texts.items()}
        texts = [*wanted.values()]
        split = split_long(texts, self._provider)
        made = iter(self._provider.embed_batch(flattened(texts, split)))
        for (entity, id_), content in wanted.items():
            vectors = [next(made) for _ in split.get(content, (None,))]
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
        """A stored record is found by a word of its own, a deleted one is not."""
        some = [(entity, *pair) for entity, texts in self._expected.items() for pair in texts.items()]
        for entity, id_, content in self._chance.sample(some, min(3, len(some))):
            own = content.partition(" ")[0]
            (found,) = search.search(own, mode="keyword")
            assert (found.entity, found.id, found.matched_text) == (entity, id_, content)
            if entity not in MAY_BE_PENDING and not split_long([content], self._provider):
                (best,) = search.search(content, mode="vector", limit=1)
                assert (best.entity, best.id) == (entity, id_), f"{content} is not found by vector"
        for content in self._gone[-2:]:
            assert not search.search(content.partition(" ")[0], mode="keyword"), f"{content} was deleted and is found"

    def _scalars(self, statement: str) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(text(statement)).scalars())


def check_error(what: Mapping[str, Any]) -> None:
    """A session's own statements fail with SQLAlchemy's error, kameleon's with its own, which names the next step."""
    assert what["kameleon"] or what["failed"] == "OperationalError", what
    if what["kameleon"]:
        assert "again" in what["message"], what


def differences(held: Any, states: Sequence[Any]) -> str:
    return "; ".join(str([pair for pair in held.items() if pair not in state.items()][:3]) for state in states)[:500]
