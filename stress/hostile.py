"""All of the hostile input through every public call: only kameleon's own errors, nothing lost, nothing executed, no
secret shown."""

import warnings
from typing import Any

from .database import database
from .report import Arguments, Figures, stopwatch
from .workloads.hostile import Ways, bad_providers, check_provider, diagnosed
from .workloads.hostile_values import GIANTS, STRINGS, VALUES, random_strings

GIANTS_PART = 5


def run(args: Arguments) -> Figures:
    """`rounds` more strings of all of Unicode's categories; those of 10 MB go through one way in GIANTS_PART.
    Raises AssertionError with every fault."""
    given: dict[str, Any] = {name: value for name, (value, _) in (STRINGS | VALUES).items()}
    given |= dict(random_strings(args.seed, args.rounds))
    giants = {name: value for name, (value, _) in GIANTS.items()}
    with warnings.catch_warnings(), stopwatch() as watch:
        warnings.simplefilter("ignore")
        with database(args.backend) as engine:
            ways = Ways(engine)
            ways.put(given)
            ways.put(giants, part=GIANTS_PART)
            ways.track()
            ways.check()
            faults = ways.outcome.faults + diagnosed(ways.search)
        for name, function in bad_providers().items():
            with database(args.backend) as engine:
                faults += check_provider(engine, name, function)
    if faults:
        raise AssertionError("\n".join([f"{len(faults)} faults", *faults]))
    return {
        "entries": len({*dict(ways.reads("")), *dict(ways.writes("", ""))}),
        "strings": len(given) + len(giants),
        "calls": ways.outcome.calls,
        "accepted": ways.outcome.accepted,
        "refused": ways.outcome.refused,
        "seconds": round(watch.seconds, 1),
    }
