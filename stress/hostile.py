"""All of the hostile input through every public call: only kameleon's own errors, nothing lost, nothing executed, no
secret shown."""

import warnings
from typing import Any

from .database import database
from .report import Arguments, Figures, stopwatch
from .workloads.hostile import PublicCalls, bad_providers, check_provider, diagnosed
from .workloads.hostile_values import GIANTS, STRINGS, VALUES, random_strings

GIANTS_PART = 5


def run(args: Arguments) -> Figures:
    """`rounds` more strings of all of Unicode's categories; those of 10 MB go through one call in GIANTS_PART.
    Raises AssertionError with every fault."""
    given: dict[str, Any] = {name: value for name, (value, _) in (STRINGS | VALUES).items()}
    given |= dict(random_strings(args.seed, args.rounds))
    giants = {name: value for name, (value, _) in GIANTS.items()}
    with warnings.catch_warnings(), stopwatch() as watch:
        warnings.simplefilter("ignore")
        with database(args.backend) as engine:
            calls = PublicCalls(engine)
            calls.put(given)
            calls.put(giants, part=GIANTS_PART)
            calls.track()
            calls.check()
            faults = calls.outcome.faults + diagnosed(calls.search)
        for name, function in bad_providers().items():
            with database(args.backend) as engine:
                faults += check_provider(engine, name, function)
    if faults:
        raise AssertionError("\n".join([f"{len(faults)} faults", *faults]))
    return {
        "entries": len({*dict(calls.reads("")), *dict(calls.writes("", ""))}),
        "strings": len(given) + len(giants),
        "calls": calls.outcome.calls,
        "accepted": calls.outcome.accepted,
        "refused": calls.outcome.refused,
        "seconds": round(watch.seconds, 1),
    }
