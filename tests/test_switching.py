"""An open engine that searches and writes while the index moves to another model and back."""

import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Condition, Event

import pytest

from kameleon import SearchEngine
from kameleon.content import content_hash
from kameleon.testing import HashProvider
from kameleon.values import BATCH_GENERATED, SearchResults
from stress.workloads.small_model import small_model

from .conftest import Make

ROWS = 400
BATCH = 16
AT_LEAST, SAMPLED = 3, 40
WAIT_S = 60
WORDS = (
    "river",
    "mountain",
    "winter",
    "summer",
    "music",
    "teacher",
    "hospital",
    "engine",
    "letter",
    "garden",
    "bridge",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Traffic:
    """Two threads of one engine, a searching and a writing one. `phase` is the step of the move; `during`
    waits until both have worked in it."""

    def __init__(self, search: SearchEngine, models: set[str]) -> None:
        self.seen: set[tuple[str, int | None]] = set()
        self.written: dict[str, str] = {}
        self.deleted: set[str] = set()
        self._search = search
        self._models = models
        self._counts: Counter[tuple[str, str]] = Counter()
        self._chance = random.Random(11)
        self._phase = "before"
        self._stop = Event()
        self._changed = Condition()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(self._loop, "search", self._query), pool.submit(self._loop, "write", self._write)]
            try:
                yield
            finally:
                self._stop.set()
                for future in running:
                    future.result()

    def during(self, phase: str) -> None:
        """Waits until both threads have worked in this phase."""
        with self._changed:
            self._phase = phase
            wanted = [(phase, "search"), (phase, "write")]
            self._changed.wait_for(
                lambda: self._stop.is_set() or all(self._counts[key] >= AT_LEAST for key in wanted), WAIT_S
            )
            assert all(self._counts[key] >= AT_LEAST for key in wanted), f"{self._counts} in {phase}"

    def _loop(self, kind: str, act: Callable[[int], None]) -> None:
        try:
            for n in count():
                if self._stop.is_set():
                    return
                phase = self._phase
                act(n)
                with self._changed:
                    self._counts[phase, kind] += phase == self._phase
                    self._changed.notify_all()
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()

    def _query(self, n: int) -> None:
        mode = ("hybrid", "vector")[n % 2]
        found = self._search.search(WORDS[n % len(WORDS)], mode=mode, explain=True)
        self.seen.add(checked(found, self._models))

    def _write(self, n: int) -> None:
        id_, old = f"new{n}", f"new{n - 4}"
        self._put(id_, f"{id_} {self._words()}")
        if n % 4 == 1:
            self._put(str(n % ROWS), f"edited{n} {self._words()}")
        if n % 4 == 0 and old in self.written:
            assert self._search.delete_record("Record", old)
            del self.written[old]
            self.deleted.add(old)

    def _words(self) -> str:
        """Numbers alone do not distinguish two texts by their tokens: 12 15 and 15 12 have the same mean."""
        return " ".join(self._chance.choices(WORDS, k=8))

    def _put(self, id_: str, text: str) -> None:
        self._search.index_record("Record", id_, text)
        self.written[id_] = text


def checked(found: SearchResults, models: set[str]) -> tuple[str, int | None]:
    """The (model, generation) of an answer that is of one generation alone."""
    assert found
    assert found.plan.model in models
    legs = [score for hit in found for score in hit.explanation if score.leg == "vector"]
    assert legs
    assert {score.generation for score in legs} == {found.plan.generation}
    return found.plan.model, found.plan.generation


def fill(search: SearchEngine) -> None:
    chance = random.Random(7)
    search.index_records_batch([("Record", str(n), " ".join(chance.choices(WORDS, k=8))) for n in range(ROWS)])


def check_found(search: SearchEngine, traffic: Traffic) -> None:
    assert len(traffic.written) > AT_LEAST
    assert traffic.deleted
    for id_, text in traffic.written.items():
        state = search.admin.state("Record", id_)
        assert state is not None
        assert state.content_hash == state.embedded_hash == content_hash(text)
    for id_ in traffic.deleted:
        assert search.admin.state("Record", id_) is None
    for id_, text in random.Random(13).sample(sorted(traffic.written.items()), min(SAMPLED, len(traffic.written))):
        for mode in ("keyword", "vector"):
            assert search.search(text, mode=mode, limit=1)[0].id == id_, (id_, mode)
    for id_ in sorted(traffic.deleted)[:SAMPLED]:
        for mode in ("keyword", "vector"):
            assert id_ not in [hit.id for hit in search.search(id_, mode=mode, limit=2 * ROWS)]


def move(search: SearchEngine, traffic: Traffic, **options: object) -> None:
    """To another model, while something happens between two batches, and before and after the switch."""
    waited = list[int]()

    def progress(phase: str, done: int, total: int) -> None:
        if not waited and BATCH < done < total:
            waited.append(done)
            traffic.during(f"build {options}")

    report = search.reindex(batch_size=BATCH, progress=progress, **options)  # type: ignore[arg-type]
    assert (report.action, report.switched, report.stopped) == ("built", True, "")
    assert waited
    traffic.during(f"switched {options}")


def test_an_engine_opened_by_name_follows_the_index_from_model_to_model(make: Make, tmp_path: Path) -> None:
    small = small_model(tmp_path)
    search = make("static")
    fill(search)
    traffic = Traffic(search, {"static-en-256", small.name})
    with traffic.flowing():
        traffic.during("before")
        move(search, traffic, model=str(small))
        report = search.reindexing.rollback()
        assert (report.action, report.model, report.switched) == ("rolled back", "static-en-256", True)
        traffic.during("back")
    assert traffic.seen == {("static-en-256", 1), ("static-en-32", 2)}
    assert [status.pending for status in search.get_status()] == [0]
    check_found(search, traffic)


def test_an_engine_with_a_provider_object_stays_with_its_own_embeddings(make: Make) -> None:
    old, new = HashProvider(64, model_name="old"), HashProvider(32, model_name="new")
    search, mover = make(old), make(new)
    fill(search)
    traffic = Traffic(search, {"old"})
    with traffic.flowing():
        traffic.during("before")
        move(mover, traffic)
        assert checked(mover.search(WORDS[0], explain=True), {"new"}) == ("new", 2)
        move_back = search.reindex(batch_size=BATCH)
        assert (move_back.action, move_back.generation, move_back.switched) == ("built", 1, True)
        traffic.during("back")
        assert mover.reindexing.rollback().model == "new"
        traffic.during("forth")
        assert search.reindexing.rollback().model == "old"
        traffic.during("back")
    assert traffic.seen == {("old", 1)}
    assert [status.pending for status in search.get_status()] == [0]
    check_found(search, traffic)
    mover.reindexing.rollback()
    assert [status.pending for status in mover.get_status()] == [0]
    check_found(mover, traffic)


def test_what_was_embedded_before_a_switch_and_is_written_after_it_is_embedded_by_the_new_model(
    make: Make, tmp_path: Path
) -> None:
    small = str(small_model(tmp_path))
    search, mover = make("static"), make("static")
    fill(search)
    moved = list[str]()

    def move_once(_event: str, _figures: object) -> None:
        if not moved:
            moved.append(mover.reindex(model=small).model)

    search.on(BATCH_GENERATED, move_once)
    search.index_record("Record", "late", "a captain of the ocean")
    assert moved == ["static-en-32"]
    assert [status.pending for status in search.get_status()] == [0]
    assert search.search("captain ocean", mode="vector", limit=1)[0].id == "late"


def test_a_model_whose_files_are_others_now_leaves_embeddings_pending(make: Make, tmp_path: Path) -> None:
    small = small_model(tmp_path)
    make("static").reindex(model=str(small))
    make("static").index_record("Record", "early", "a captain of the ocean")
    with (small / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    search = make("static")
    search.index_record("Record", "late", "a teacher in the garden")
    assert "stay pending: the index holds embeddings of static-en-32" in search.get_status()[0].note
    assert [(status.indexed, status.pending) for status in search.get_status()] == [(2, 1)]


def test_where_the_model_s_folder_is_gone_an_engine_opened_by_name_goes_by_keywords(make: Make, tmp_path: Path) -> None:
    small = small_model(tmp_path)
    make("static").index_record("Record", "early", "a captain of the ocean")
    make("static").reindex(model=str(small))
    shutil.rmtree(small)
    search = make("static")
    search.index_record("Record", "late", "a teacher in the garden")
    assert re.search("static-en-32 cannot be had here: .* is not a static model", search.get_status()[0].note)
    found = search.search("teacher")
    assert [hit.id for hit in found] == ["late"]
    assert "keywords only" in found.plan.note
    (status,) = search.get_status()
    assert (status.pending, "cannot be had here" in status.note) == (1, True)
    assert search.reindexing.rollback().pending == 0
    assert search.search("teacher", mode="vector", limit=1)[0].id == "late"


def test_a_rollback_to_a_model_that_cannot_be_loaded_reports_what_is_pending(make: Make) -> None:
    old, new = make(HashProvider(64, model_name="old")), make(HashProvider(32, model_name="new"))
    old.index_record("Record", "early", "a captain of the ocean")
    new.reindex()
    new.index_record("Record", "late", "a teacher in the garden")
    report = new.reindexing.rollback()
    assert (report.action, report.model, report.switched, report.pending) == ("rolled back", "old", True, 1)
    assert "1 records are pending: Unknown embedding provider 'hash'" in report.notes[0]
    assert [(g.model_name, g.state) for g in new.generations()] == [("old", "active"), ("new", "retired")]
