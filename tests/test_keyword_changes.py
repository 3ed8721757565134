"""Whatever writers, folds and merges do, at every instant and isolation level, the keyword index is what the records
are."""

import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from kameleon.keywords.folding import Limits
from kameleon.keywords.packing import Document
from kameleon.keywords.segments import of_documents
from kameleon.keywords.writing import insert, rows_of

from .keyword_index import NOTES, Index, analysed, assert_exact, best

LIMITS = Limits(fold_from=4, pack_from=3, most_segments=2)
CONTENTS = st.lists(st.sampled_from(["fox", "foxes", "red", "blue", "whale", "a"]), max_size=5).map(" ".join)
IDS = st.integers(0, 12).map(str)
QUERIES = ["fox", "red fox a", "blue blue whale"]
WORDS = ["fox", "foxes", "red", "blue", "whale", "a"]
RECORDS = 12


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def index(engine: Engine) -> Index:
    made = Index(engine, LIMITS)
    made.dialect.fold_rows, made.dialect.step_rows = 6, 2
    return made


def machine(index: Index) -> type[RuleBasedStateMachine]:
    class Changes(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            with index.engine.begin() as connection:
                for table in ("record", "kdb_tail", "kdb_segment", "kdb_word", "kdb_posting", "kdb_dead"):
                    connection.exec_driver_sql(f"DELETE FROM {table}")
            self.connection = index.engine.connect()
            self.has_written = False

        def teardown(self) -> None:
            if hasattr(self, "connection"):
                self.connection.close()

        def check(self) -> None:
            """A transaction that has only read ends: on SQLite it could not write any more after another has."""
            assert_exact(index, self.connection, QUERIES)
            if not self.has_written:
                self.connection.rollback()
            with index.engine.connect() as other:
                assert_exact(index, other, QUERIES)

        @rule(id=IDS, content=CONTENTS)
        def put(self, id: str, content: str) -> None:
            self.has_written = True
            index.put(self.connection, id, content)

        @rule(contents=st.dictionaries(st.integers(100, 999).map(str), CONTENTS, min_size=1, max_size=9))
        def put_a_segment(self, contents: dict[str, str]) -> None:
            """What a transaction of many records does."""
            there = set(self.connection.exec_driver_sql("SELECT id FROM record").scalars())
            documents = [
                Document(index.add(self.connection, key, content), analysed(content))
                for key, content in contents.items()
                if key not in there
            ]
            if documents:
                self.has_written = True
                insert(self.connection, index.dialect, rows_of(NOTES, of_documents(documents)))

        @rule(id=st.one_of(IDS, st.integers(100, 999).map(str)))
        def delete(self, id: str) -> None:
            self.has_written = True
            index.delete(self.connection, id)

        @rule(id=IDS, content=CONTENTS)
        def put_and_take_back(self, id: str, content: str) -> None:
            self.has_written = True
            savepoint = self.connection.begin_nested()
            index.put(self.connection, id, content)
            assert_exact(index, self.connection, QUERIES)
            savepoint.rollback()

        @rule()
        def commit(self) -> None:
            self.connection.commit()
            self.has_written = False
            self.check()

        @rule()
        def roll_back(self) -> None:
            self.connection.rollback()
            self.has_written = False
            self.check()

        @rule(purges=st.booleans())
        def step(self, purges: bool) -> None:
            index.maintenance.step(NOTES, purges=purges)
            self.check()

        @rule()
        def purge(self) -> None:
            self.connection.commit()
            self.has_written = False
            index.maintenance.run(NOTES, purges=True)
            self.check()
            assert index.rows(self.connection, "kdb_dead") == 0
            tail = set(self.connection.exec_driver_sql("SELECT doc FROM kdb_tail").scalars())
            assert len(tail) < 4
            assert tail <= index.contents(self.connection).keys()
            self.connection.commit()

    return Changes


def test_after_each_change_the_index_is_what_the_records_are(index: Index) -> None:
    run_state_machine_as_test(
        machine(index),
        settings=settings(
            max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def levels(engine: Engine) -> list[str]:
    return ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] if engine.dialect.name == "postgresql" else [""]


def test_readers_beside_writers_and_folds_see_what_is_committed(index: Index) -> None:
    """Each of some records is replaced again and again by two writers; a third takes others in and out. A reader sees
    all of the first, whatever its level, and in one snapshot all records as they are."""
    with index.engine.begin() as connection:
        for n in range(RECORDS):
            index.put(connection, f"kept{n}", "all")
    done = Event()
    errors: list[str] = []

    def write(number: int, level: str) -> int:
        chance, commits = random.Random(number), 0
        for _ in range(60):
            with level_of(index.engine, level).connect() as connection:
                try:
                    for _ in range(chance.randint(1, 3)):
                        index.put(connection, f"kept{chance.randrange(RECORDS)}", f"all {chance.choice(WORDS)}")
                    if number == 2:
                        index.put(connection, f"other{chance.randrange(5)}", chance.choice(WORDS))
                        index.delete(connection, f"other{chance.randrange(5)}")
                    if chance.random() < 0.2:
                        connection.rollback()
                    else:
                        connection.commit()
                        commits += 1
                except DBAPIError as error:  # two writers of two records in another order, or a level above the first
                    errors.append(str(error))
        return commits

    def read_at(level: str) -> int:
        checks = 0
        while not done.is_set() or not checks:
            with level_of(index.engine, level).connect() as connection:
                if level == "READ COMMITTED":
                    assert index.vocabulary(connection).frequencies(["all"]) == {"all": RECORDS}
                else:
                    assert_exact(index, connection, ["all", "fox", "red blue whale a"])
            checks += 1
        return checks

    def fold() -> int:
        steps = 0
        while not done.is_set():
            steps += index.maintenance.step(NOTES)
        return steps

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read_at, level) for level in levels(index.engine)]
        folding = pool.submit(fold)
        writers = [pool.submit(write, n, level) for n, level in enumerate(["", "", "", *levels(index.engine)[1:]])]
        try:
            commits = [writer.result() for writer in writers]
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)
        assert folding.result() > 0
    assert min(commits[:3]) > 20, errors
    assert not [error for error in errors if "kdb_" in error.partition("[SQL")[0]]
    index.maintenance.run(NOTES, purges=True)
    with index.engine.begin() as connection:
        assert_exact(index, connection, QUERIES)
        assert index.rows(connection, "kdb_dead") == 0


def level_of(engine: Engine, level: str) -> Engine:
    return engine.execution_options(isolation_level=level) if level else engine


@pytest.mark.parametrize("seed", range(2))
def test_a_fold_or_merge_that_is_killed_never_was(index: Index, seed: int) -> None:
    """The process is killed as it begins a step; another goes on where it was."""
    url = index.engine.url.render_as_string(hide_password=False)
    chance = random.Random(seed)
    for attempt in range(2):
        command = [sys.executable, "-m", "tests.keyword_writer", url, f"{seed} {attempt}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
            assert process.stdout is not None
            assert len(list(islice(process.stdout, chance.randint(1, 60)))) > 0
            process.kill()
        with index.engine.begin() as connection:
            assert_exact(index, connection, ["all", *QUERIES])
            assert best(index.contents(connection), "all fox")
    while index.maintenance.step(NOTES, purges=True):
        with index.engine.begin() as connection:
            assert_exact(index, connection, ["all", *QUERIES])


def test_what_fails_in_a_step_is_rolled_back_and_not_raised(
    index: Index, break_statement: Callable[[int], None]
) -> None:
    """Whichever statement of a step fails, readers see what was there."""
    for failing in range(12):
        with index.engine.begin() as connection:
            for n in range(6):
                index.put(connection, str(n), "all fox")
        break_statement(failing)
        index.maintenance.run(NOTES)
        break_statement(-1)
        with index.engine.begin() as connection:
            assert_exact(index, connection, ["all", *QUERIES])
    index.maintenance.run(NOTES, purges=True)
    with index.engine.begin() as connection:
        assert index.rows(connection, "kdb_tail") == index.rows(connection, "kdb_dead") == 0
        assert_exact(index, connection, ["all", *QUERIES])


def test_who_is_overtaken_in_a_step_changes_nothing(index: Index) -> None:
    """Before each step begins to write, another engine makes the same step, where nothing keeps it out."""
    other = Index(index.engine, LIMITS, creates=False)
    other.dialect.fold_rows, other.dialect.step_rows = 6, 2
    begin_writing = index.dialect.begin_writing
    overtaken = []

    def overtake(connection: Connection) -> None:
        overtaken.append(other.maintenance.step(NOTES))
        begin_writing(connection)

    index.dialect.begin_writing = overtake  # type: ignore[method-assign]
    for n in range(40):
        with index.engine.begin() as connection:
            index.put(connection, str(n % 9), "all fox")
        index.maintenance.step(NOTES)
        with index.engine.begin() as connection:
            assert_exact(index, connection, ["all", *QUERIES])
    assert overtaken
    assert any(overtaken) == index.is_sqlite
    other.maintenance.run(NOTES, purges=True)
    with index.engine.begin() as connection:
        assert_exact(index, connection, ["all", *QUERIES])
        assert index.rows(connection, "kdb_segment") == 1


@pytest.fixture
def break_statement(engine: Engine) -> Callable[[int], None]:
    """Lets the n-th statement on kdb_ tables from now on that changes something fail; none for -1."""
    from sqlalchemy import event

    left = [-1]

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if left[0] >= 0 and "kdb_" in statement and not statement.lstrip().upper().startswith("SELECT"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError("this statement fails")

    event.listen(engine, "before_cursor_execute", fail)

    def set_left(count: int) -> None:
        left[0] = count

    return set_left
