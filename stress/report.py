"""A run's arguments and its output: one line of JSON, or the same for people."""

import json
import os
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import quantiles
from typing import Any

from .database import POSTGRESQL, server_versions
from .memory import peak_mb

ROOT = Path(__file__).parents[1]
PACKAGES = ("kameleon", "sqlalchemy", "numpy", "psycopg", "pgvector")

Figures = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command's options; `seconds` bounds runs of a given time, `rounds` those of a given number, and
    `scale` the sizes of others, of which there are `classes` (all where it is empty)."""

    backend: str
    rows: int
    seed: int
    rounds: int
    seconds: float
    scale: float = 1.0
    classes: tuple[str, ...] = ()


def line(run: str, args: Arguments, figures: Figures) -> dict[str, Any]:
    """What was measured, on what. `peak_mb` is this process's unless the run measures another.

    In every run's figures `times_by_hand` is its time over that of the hand-written baseline in the same run.
    """
    return {
        "run": run,
        "backend": args.backend,
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "versions": versions(args.backend),
        "seed": args.seed,
        "peak_mb": peak_mb(),
        **figures,
    }


def versions(backend: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | (server_versions() if backend == POSTGRESQL else {"sqlite": sqlite3.sqlite_version})


def latencies(milliseconds: Sequence[float]) -> dict[str, float]:
    """Percentiles of what single calls took."""
    cuts = quantiles([*milliseconds] * 2 if len(milliseconds) == 1 else milliseconds, n=100, method="inclusive")
    return {f"p{place}_ms": round(cuts[place - 1], 2) for place in (50, 95, 99)}


def for_people(result: Mapping[str, Any]) -> Iterator[str]:
    """The same figures, one a line; those of a part are indented under its name."""
    about = " ".join(f"{name} {number}" for name, number in result["versions"].items())
    yield f"{result['run']} on {result['backend']}, {result['date']}: {result['cores']} cores, {about}"
    left_out = ("run", "backend", "date", "cores", "versions")
    yield from rows_of({name: value for name, value in result.items() if name not in left_out}, "  ")


def rows_of(figures: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from rows_of(value, indent + "  ")
        else:
            shown = json.dumps(value) if isinstance(value, list) else value
            yield f"{indent}{name.replace('_', ' '):<32} {shown}"


class Stopwatch:
    seconds = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    watch = Stopwatch()
    start = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - start


def run_command(*arguments: str) -> tuple[str, float, int]:
    """What `kameleon` prints, its seconds with its start, and its peak memory in MB."""
    command = [sys.executable, "-m", "stress.command", *arguments]
    with stopwatch() as watch:
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    *lines, peak = done.stderr.splitlines()
    if done.returncode:
        raise RuntimeError(f"kameleon {' '.join(arguments)}: exit {done.returncode}: {' '.join(lines)}")
    return done.stdout, watch.seconds, int(peak)
