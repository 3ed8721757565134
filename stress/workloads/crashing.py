"""A process that re-embeds an index and is killed while it does, and what must hold after each kill.

`python -m stress.workloads.crashing URL MODEL LOG BATCH_SIZE` is the process: MODEL is a static model's folder.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Engine, NullPool, text

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import StaticProvider
from kameleon.embeddings.static import BUNDLED
from kameleon.stores.catalog import active
from kameleon.values import BUILDING, Generation, SearchResults

from .small_model import small_model

ROOT = Path(__file__).parents[2]
WORDS = """
    river mountain winter summer music teacher hospital engine letter garden bridge island forest market window kitchen
    doctor village captain harvest painting journey silver thunder library soldier language history ocean
"""
DEADLINE_S = 60
BACKENDS_OF = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name"

Rows = set[tuple[str, str, str, Any]]


class Logging(StaticProvider):
    """Logs a line with the numbers that its texts begin with before it embeds, and prints a line."""

    def __init__(self, path: str, log: str) -> None:
        super().__init__(path)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        numbers = " ".join(text.partition(" ")[0] for text in texts)
        os.write(self._log, f"{numbers}\n".encode())
        os.write(sys.stdout.fileno(), b"batch\n")
        return [*super().embed_batch(texts)]


def main(url: str, model: str, log: str, batch_size: str) -> None:
    search = SearchEngine(opened(url, f"crashing {os.getpid()}"), "static")
    provider = Logging(model, log)
    os.write(sys.stdout.fileno(), b"ready\n")
    report = search.reindex(provider=provider, batch_size=int(batch_size))
    assert not report.stopped


def opened(url: str, name: str) -> Engine:
    return kameleon.create_engine(
        url, **({"connect_args": {"application_name": name}} if url.startswith("postgresql") else {})
    )


def passages(rows: int, chance: random.Random) -> list[str]:
    return [" ".join([str(n), *chance.choices(WORDS.split(), k=12)]) for n in range(rows)]


def embedded_numbers(log: Path) -> list[int]:
    """The numbers of the texts that were to be embedded; a line that was not finished is left out."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [int(number) for line in lines for number in line.split()]


class Crashing:
    """An index of `rows` texts that moves from one model to the other and back, by processes that are killed.

    The embeddings of an uninterrupted run of each model are read first; after each kill the tables are compared.
    """

    def __init__(self, engine: Engine, folder: Path, *, rows: int, batch_size: int, seed: int) -> None:
        self.kills = 0
        self.paid_twice = 0
        self._engine = engine
        self._url = engine.url.render_as_string(hide_password=False)
        self._folder = folder
        self._batch_size = batch_size
        self._chance = random.Random(seed)
        self._texts = passages(rows, self._chance)
        self._models = {path.name: path for path in (BUNDLED, small_model(folder))}
        self._search = SearchEngine(engine, "static")
        self._search.index_records_batch([("Record", str(n), text) for n, text in enumerate(self._texts)])
        self._complete = {self._active().model_name: self._rows(self._active())}
        self._batch_s = self._undisturbed()

    def round(self, kills: int) -> None:
        """Move the index to its other model, with as many kills unless a process ends before."""
        old = self._active()
        model = next(path for name, path in self._models.items() if name != old.model_name)
        paid = list[int]()
        is_done, killed = False, self.kills
        for kills_left in reversed(range(kills + 1)):
            written = self._embedded(model.name)
            is_done, numbers = self._run(model, kills_left)
            paid += numbers
            self._check(old, model.name)
            lost = len(numbers) - (self._embedded(model.name) - written)
            assert 0 <= lost <= (0 if is_done else self._batch_size), f"{lost} texts were embedded and are not stored"
            self.paid_twice = max(self.paid_twice, lost)
            if is_done:
                break
        assert is_done
        assert set(paid) == set(range(len(self._texts)))
        assert len(paid) - len(self._texts) <= self._batch_size * (self.kills - killed)
        assert self._active().model_name == model.name
        assert [run.owner for run in self._search.reindexing.status()] == [None, None]
        self._search.reindexing.prune()
        assert [g.model_name for g in self._search.generations()] == [model.name]

    def _undisturbed(self) -> float:
        """Seconds a batch."""
        small = next(path for path in self._models.values() if path != BUNDLED)
        report = self._search.reindex(model=str(small), batch_size=self._batch_size, drop_old=True)
        assert report.switched
        assert report.embedded == len(self._texts)
        self._complete[small.name] = self._rows(self._active())
        assert all(len(rows) == len(self._texts) for rows in self._complete.values())
        return report.seconds * self._batch_size / len(self._texts)

    def _run(self, model: Path, kills_left: int) -> tuple[bool, list[int]]:
        """Runs a process, killed at a random moment unless `kills_left` is 0; whether it ended, what it embedded."""
        log = self._folder / f"embedded{self.kills}-{model.name}"
        log.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "stress.workloads.crashing", self._url, str(model), str(log), str(self._batch_size)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            with process, process.stdout as output:  # type: ignore[union-attr]
                if kills_left and self._is_time(output, model.name, kills_left):
                    process.kill()
                output.read()
                code = process.wait(DEADLINE_S)
        finally:
            process.kill()
        self._wait_for_backend(process.pid)
        assert code in ((0, -9) if kills_left else (0,))
        self.kills += code == -9
        return code == 0, embedded_numbers(log)

    def _is_time(self, output: IO[bytes], model: str, kills_left: int) -> bool:
        """Waits for a random line of the process and a random part of two batches' time; False if it has ended."""
        batches = -(-(len(self._texts) - self._embedded(model)) // self._batch_size)
        for _ in range(1 + self._chance.randint(0, batches // kills_left)):
            if not output.readline():
                return False
        until = time.perf_counter() + self._chance.uniform(0, 2 * self._batch_s)
        while time.perf_counter() < until:
            pass
        return True

    def _wait_for_backend(self, pid: int) -> None:
        """Waits until PostgreSQL has done what was sent before the kill."""
        if self._engine.dialect.name == "sqlite":
            return
        until = time.monotonic() + DEADLINE_S
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while connection.scalar(text(BACKENDS_OF), {"name": f"crashing {pid}"}):
                assert time.monotonic() < until

    def _check(self, old: Generation, model: str) -> None:
        """The active generation is complete, each has embeddings of its own model, and search reads the active one."""
        now = self._active()
        assert now.model_name in (old.model_name, model)
        assert self._rows(now) == self._complete[now.model_name]
        for other in self._search.generations():
            assert self._rows(other) <= self._complete[other.model_name]
            assert other.model_name == now.model_name or other.state != BUILDING or now == old
        self._check_search(now)

    def _check_search(self, now: Generation) -> None:
        sample = self._chance.choice(self._texts)
        fresh = SearchEngine(kameleon.create_engine(self._url, poolclass=NullPool), "static")
        for search in (self._search, fresh):
            for found in (search.search(sample, explain=True), search.search(sample, mode="vector", explain=True)):
                check_generation(found, now)
                assert found[0].matched_text == sample

    def _active(self) -> Generation:
        found = active(self._search.generations())
        assert found is not None
        return found

    def _embedded(self, model: str) -> int:
        return sum(len(self._rows(g)) for g in self._search.generations() if g.model_name == model)

    def _rows(self, generation: Generation) -> Rows:
        """(entity, id, hash, vector), these of PostgreSQL as text, which has every bit."""
        table = f"kdb_embedding_g{generation.number}"
        if self._engine.dialect.name == "sqlite":
            columns = "s.entity_name, s.record_id, e.content_hash, e.embedding"
            statement = f"SELECT {columns} FROM {table} AS e LEFT JOIN kdb_search AS s ON s.id = e.search_id"
        else:
            statement = f"SELECT entity_name, record_id, content_hash, CAST(embedding AS text) FROM {table}"
        with self._engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(text(statement))]
        assert len(set(rows)) == len(rows)
        return set(rows)


def check_generation(found: SearchResults, generation: Generation) -> None:
    """A search was answered from one generation alone, which its plan names."""
    assert found
    assert (found.plan.generation, found.plan.model) == (generation.number, generation.model_name)
    legs = [score for hit in found for score in hit.explanation if score.leg == "vector"]
    assert {score.generation for score in legs} == {generation.number}


if __name__ == "__main__":
    main(*sys.argv[1:])
