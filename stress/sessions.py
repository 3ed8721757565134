"""Random sessions, for as long as is asked: after each commit the index is what the tables say, on both databases."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from kameleon import create_engine
from tests.test_stateful import machine

from .database import postgresql
from .report import line, stopwatch

STEPS = 50


def run(rows: int, seed: int) -> Iterator[str]:
    """`rows` steps in all on each database."""
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'sessions.db'}")
        yield checked("SQLite", engine, rows, seed)
        engine.dispose()
    with postgresql() as engine:
        yield checked("PostgreSQL", engine, rows, seed)


def checked(name: str, engine: Engine, steps: int, seed: int) -> str:
    asked = settings(
        max_examples=max(1, steps // STEPS),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with stopwatch() as watch:
        run_state_machine_as_test(seeded(seed)(machine(engine)), settings=asked)
    return line(f"random sessions, {name}", steps=steps, seed=seed, differences=0, seconds=round(watch.seconds, 1))
