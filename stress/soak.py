"""The same crowd for `seconds`: memory, the database's files and its dead rows must not grow, once the index
has been of each model: texts of the one behind a network are kept in its cache, which grows to its limit."""

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

from sqlalchemy import Engine, text

from .crowd import gathered
from .report import Arguments, Figures

TENTHS = 10
DEAD_ROWS = """
    SELECT sum(n_live_tup), sum(n_dead_tup), sum(pg_total_relation_size(relid))
    FROM pg_stat_user_tables WHERE schemaname = current_schema()
"""


@dataclass
class Samples:
    """Samples taken every few seconds: (second, MB) of each process and of the database."""

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
    """MB by process, of those that are still running."""
    command = ["ps", "-o", "pid=,rss=", "-p", ",".join(map(str, pids))]
    rows = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")
    return {int(pid): int(kilobytes) / 1024 for pid, kilobytes in (row.split() for row in rows if row.strip())}


def tenths(samples: Iterable[tuple[float, float]], seconds: float) -> list[float]:
    """The means of each tenth of the time."""
    parts: list[list[float]] = [[] for _ in range(TENTHS)]
    for second, value in samples:
        parts[min(int(second / seconds * TENTHS), TENTHS - 1)].append(value)
    return [round(mean(part), 1) for part in parts if part]


def run(args: Arguments) -> Figures:
    """Memory is that of a process, by kind."""
    with gathered(args) as (crowd, server):
        samples = Samples(crowd.engine)
        crowd.run(transactions=None, server=server, watch=samples.take)
        memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for kind, pid in crowd.processes:
            memory[kind] += samples.memory.get(pid, [])
        most = {f"most_{name}": round(max(value for _, value in found), 1) for name, found in samples.database.items()}
        return {
            **crowd.figures(),
            "peak_mb": round(max(value for found in memory.values() for _, value in found)),
            "memory_mb_by_tenths": {kind: tenths(found, args.seconds) for kind, found in memory.items()},
            "database_by_tenths": {name: tenths(found, args.seconds) for name, found in samples.database.items()},
            **most,
            "cached_texts": sum(one.texts for one in crowd.search.cache.status()),
        }
