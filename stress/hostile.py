"""The whole corpus of hostile input through every public way in: only kameleon's own errors, nothing lost, nothing
executed, no secret told."""

import warnings
from typing import Any

from tests.hostile import (
    GIANTS,
    STRINGS,
    VALUES,
    Ways,
    bad_providers,
    check_provider,
    diagnosed,
    random_strings,
)

from .database import database
from .report import Asked, Figures

GIANTS_PART = 5


def run(asked: Asked) -> Figures:
    """`rounds` more strings of all of Unicode's categories; those of 10 MB go through one way in GIANTS_PART.
    Raises AssertionError with every fault."""
    strings = {name: value for name, (value, _) in (STRINGS | GIANTS).items()}
    strings |= dict(random_strings(asked.seed, asked.rounds))
    given: dict[str, Any] = strings | {name: value for name, (value, _) in VALUES.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with database(asked.backend) as engine:
            ways = Ways(engine)
            for name, value in given.items():
                ways.put(name, value, part=GIANTS_PART if name in GIANTS else 1)
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
        "strings": len(given),
        "calls": ways.outcome.calls,
        "accepted": ways.outcome.accepted,
        "refused": ways.outcome.refused,
    }
