"""Processes that write on every path, killed at random moments: what holds after each kill, what was interrupted, and
how many texts a re-embed embedded twice. On PostgreSQL some lose their connection, or the server, instead.

After each kill all of what was reported as committed is stored, what was in progress is stored completely or not at
all, the doctor finds nothing wrong, search finds what is stored and nothing that was deleted, the keyword index is what
BM25 without an index is, and another process continues.
"""

import os
import random
import tempfile
from collections import Counter
from pathlib import Path

from sqlalchemy import Engine

from .database import POSTGRESQL, SERVER, database
from .report import Arguments, Figures, stopwatch
from .workloads.crashing import Crashing
from .workloads.killing import CRASH, KILL, TERMINATE, Killing
from .workloads.small_model import small_model
from .workloads.writing import PATHS

ROWS = 600
BATCH_SIZE = 20
KILLS = 6
OTHERS = {TERMINATE: 5, CRASH: 25}


def run(args: Arguments) -> Figures:
    """`rounds` kills, one in nine of a re-embed to another model, the others on the paths that write, one by one."""
    reindexes = max(1, args.rounds // (len(PATHS) + 1))
    with stopwatch() as watch:
        with database(args.backend) as engine, tempfile.TemporaryDirectory() as folder:
            killing = killed(engine, Path(folder), args, args.rounds - reindexes)
        with database(args.backend) as engine, tempfile.TemporaryDirectory() as folder:
            crashing = reindexed(engine, Path(folder), args.seed, reindexes)
    kills = killing.kills + Counter({"reindex": crashing.kills})
    return {
        "rows": ROWS,
        "rounds": kills.total(),
        "seconds": round(watch.seconds, 1),
        "kills": dict(sorted(kills.items())),
        "landed": {name: killing.landed[name] for name in ("absent", "present", "partway", "between", "elsewhere")},
        "within_a_merge": killing.merging,
        "paid_twice_max": crashing.paid_twice,
        "batch_size": BATCH_SIZE,
        "faults": 0,
    }


def killed(engine: Engine, folder: Path, args: Arguments, kills: int) -> Killing:
    with Killing(engine, folder, small_model(folder), seed=args.seed) as killing:
        for number in range(kills):
            killing.round(PATHS[number % len(PATHS)], manner(args.backend, number))
        killing.go_on()
    return killing


def manner(backend: str, number: int) -> str:
    """Spreads the manners over all paths. A server that is not ours is left alone."""
    if backend != POSTGRESQL:
        return KILL
    if number % OTHERS[CRASH] == OTHERS[CRASH] - 1 and SERVER not in os.environ:
        return CRASH
    return TERMINATE if number % OTHERS[TERMINATE] == OTHERS[TERMINATE] - 1 else KILL


def reindexed(engine: Engine, folder: Path, seed: int, kills: int) -> Crashing:
    chance = random.Random(seed)
    crashing = Crashing(engine, folder, rows=ROWS, batch_size=BATCH_SIZE, seed=seed)
    while crashing.kills < kills:
        crashing.round(min(kills - crashing.kills, chance.randint(1, KILLS)))
    return crashing
