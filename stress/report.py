"""What every run's line says beside its figures."""

import json
import os
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

KAMELEON = Path(sys.executable).with_name("kameleon")


def line(run: str, **figures: Any) -> str:
    return json.dumps(
        {
            "run": run,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "sqlalchemy": version("sqlalchemy"),
            "numpy": version("numpy"),
            **figures,
        }
    )


class Stopwatch:
    seconds = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    watch = Stopwatch()
    start = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - start


def run_command(*arguments: str) -> tuple[str, float, float]:
    """kameleon's standard output, seconds and peak memory in MB."""
    process = subprocess.Popen([str(KAMELEON), *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with stopwatch() as watch:
        output = process.stdout.read().decode()
        _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"kameleon {' '.join(arguments)}: exit {process.returncode}")
    return output, watch.seconds, usage.ru_maxrss / 1024
