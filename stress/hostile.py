"""The whole corpus of hostile input through every public way in: only kameleon's own errors, nothing lost, nothing
executed, no secret told."""

import warnings
from typing import Any

from .database import database
from .report import Asked, Figures, stopwatch
from .workloads.hostile import GIANTS, STRINGS, VALUES, Ways, bad_providers, check_provider, diagnosed, random_strings

GIANTS_PART = 5


def run(asked: Asked) -> Figures:
    """`rounds` more strings of all of Unicode's categories; those of 10 MB go through one way in GIANTS_PART.
    Raises AssertionError with every fault."""
    given: dict[str, Any] = {name: value for name, (value, _) in (STRINGS | VALUES).items()}
    given |= dict(random_strings(asked.seed, asked.rounds))
    giants = {name: value for name, (value, _) in GIANTS.items()}
    with warnings.catch_warnings(), stopwatch() as watch:
        warnings.simplefilter("ignore")
        with database(asked.backend) as engine:
            ways = Ways(engine)
            ways.put(given)
            ways.put(giants, part=GIANTS_PART)
            ways.track()
            ways.check()
            faults = ways.outcome.faults + diagnosed(ways.search)
        for name, function in bad_providers().items():
            with database(asked.backend) as engine:
                faults += check_provider(engine, name, function)
    if faults:
        raise AssertionError("\n".join([f"{len(faults)} faults", *faults]))
    return {
        "entries": len({*dict(ways.asking("")), *dict(ways.writing("", ""))}),
        "strings": len(given) + len(giants),
        "calls": ways.outcome.calls,
        "accepted": ways.outcome.accepted,
        "refused": ways.outcome.refused,
        "seconds": round(watch.seconds, 1),
    }
