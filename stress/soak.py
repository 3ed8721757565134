"""The same crowd for as long as is asked: memory, the database's files and its dead rows are to stay as they were.

The first quarter warms up, a minute at most; what follows is compared with its own end.
"""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, text

from .crowd import READERS, WRITERS, gathered
from .report import Asked, Figures

MINUTE_S, PART = 60.0, 4
DEAD_ROWS = """
    SELECT sum(n_live_tup), sum(n_dead_tup), sum(pg_total_relation_size(relid))
    FROM pg_stat_user_tables WHERE schemaname = current_schema()
"""


@dataclass
class Samples:
    """What is seen every few seconds: (second, MB) by process, and of the database."""

    engine: Engine
    start: float | None = None
    memory: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    database: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def take(self, pids: Sequence[int]) -> None:
        if self.start is None:
            self.start = time.monotonic()
        second = time.monotonic() - self.start
        for pid, megabytes in resident(pids).items():
            self.memory.setdefault(pid, []).append((second, megabytes))
        for name, number in (self._of_file() if self.engine.dialect.name == "sqlite" else self._of_server()).items():
            self.database.setdefault(name, []).append((second, number))

    def _of_file(self) -> Mapping[str, float]:
        path = str(self.engine.url.database)
        sizes = {"file_mb": path, "wal_mb": f"{path}-wal"}
        return {name: os.path.getsize(one) / 2**20 if os.path.exists(one) else 0.0 for name, one in sizes.items()}

    def _of_server(self) -> Mapping[str, float]:
        with self.engine.connect() as connection:
            live, dead, size = connection.execute(text(DEAD_ROWS)).one()
        return {"live_rows": float(live or 0), "dead_rows": float(dead or 0), "tables_mb": float(size or 0) / 2**20}


def resident(pids: Sequence[int]) -> dict[int, float]:
    """MB by process, of those that are still there."""
    asked = ["ps", "-o", "pid=,rss=", "-p", ",".join(map(str, pids))]
    rows = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")
    return {int(pid): int(kilobytes) / 1024 for pid, kilobytes in (row.split() for row in rows if row.strip())}


def course(samples: Sequence[tuple[float, float]], seconds: float) -> Mapping[str, float]:
    """The mean of the first part after warming up, of the last, and the slope by the minute between."""
    part = min(MINUTE_S, seconds / PART)
    warm = [sample for sample in samples if sample[0] >= part]
    first = mean([value for second, value in warm if second < 2 * part])
    last = mean([value for second, value in warm if second >= seconds - part])
    return {"first": round(first, 1), "last": round(last, 1), "a_minute": round(slope(warm) * MINUTE_S, 2)}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Least squares."""
    if len(samples) < 2:
        return 0.0
    seconds, values = mean([second for second, _ in samples]), mean([value for _, value in samples])
    over = sum((second - seconds) ** 2 for second, _ in samples)
    return sum((second - seconds) * (value - values) for second, value in samples) / over if over else 0.0


def run(asked: Asked) -> Figures:
    with gathered(asked) as (crowd, server):
        samples = Samples(crowd.engine)
        crowd.run(WRITERS, READERS, turns=None, seconds=asked.seconds, server=server, watch=samples.take)
        memory: dict[str, Any] = {
            f"{kind}_{number}": course(samples.memory.get(pid, []), asked.seconds)
            for number, (kind, pid) in enumerate(crowd.processes)
        }
        peak = max(value for found in samples.memory.values() for _, value in found)
        files = {name: course(found, asked.seconds) for name, found in samples.database.items()}
        most = {f"most_{name}": round(max(value for _, value in found), 1) for name, found in samples.database.items()}
        return {**crowd.figures(), "peak_mb": round(peak), "memory_mb": memory, "database": files | most}
