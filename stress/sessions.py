"""Random sessions, `rows` steps of them: after each commit the index matches the tables, on both databases."""

from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from kameleon import SearchEngine
from kameleon.testing import HashProvider

from .database import database
from .report import Arguments, Figures, stopwatch
from .workloads.machine import machine

STEPS = 50


def run(args: Arguments) -> Figures:
    """`rows` steps in all."""
    examples = settings(
        max_examples=max(1, args.rows // STEPS),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with database(args.backend) as engine, stopwatch() as watch:
        search = SearchEngine(engine, HashProvider(8))
        run_state_machine_as_test(seeded(args.seed)(machine(engine, search)), settings=examples)
    return {"steps": args.rows, "seconds": round(watch.seconds, 1), "differences": 0}
