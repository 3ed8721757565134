"""Re-embedding by processes that are killed at random moments, on both databases: what holds after each kill, and how
many texts were paid twice for it."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine

from kameleon import create_engine
from tests.crashing import Crashing

from .database import postgresql
from .report import line, stopwatch

ROWS = 2_000
BATCH_SIZE = 50
KILLS = 6


def run(_rows: int, seed: int, rounds: int = 50) -> Iterator[str]:
    """`rounds` moves from one model to another, half of them on each database, with up to six kills each."""
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'crash.db'}")
        yield crashed("SQLite", engine, Path(folder), (rounds + 1) // 2, seed)
        engine.dispose()
    with tempfile.TemporaryDirectory() as folder, postgresql() as engine:
        yield crashed("PostgreSQL", engine, Path(folder), rounds // 2, seed)


def crashed(name: str, engine: Engine, folder: Path, rounds: int, seed: int) -> str:
    chance = random.Random(seed)
    with stopwatch() as watch:
        crashing = Crashing(engine, folder, rows=ROWS, batch_size=BATCH_SIZE, seed=seed)
        for _ in range(rounds):
            crashing.round(chance.randint(1, KILLS))
    return line(
        f"crash, {name}",
        rounds=rounds,
        seed=seed,
        rows=ROWS,
        batch_size=BATCH_SIZE,
        kills=crashing.kills,
        paid_twice_max=crashing.paid_twice,
        ok=True,
        seconds=round(watch.seconds, 1),
    )
