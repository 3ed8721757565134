"""How long the command takes to answer from a standing start."""

import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .corpus import passages
from .report import line, run_command

TRIES = 7


def run(rows: int, seed: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'start.db'}"
        source = Path(folder) / "records.jsonl"
        texts = passages(rows, seed)
        source.write_text("".join(json.dumps({"id": str(n), "say": text}) + "\n" for n, text in enumerate(texts)))
        run_command("-d", url, "data", "insert", "Record", "--from-file", str(source), "--batch-size", "1000")
        yield line(
            "startup",
            rows=rows,
            help_seconds=median("--help"),
            keyword_search_seconds=median("-d", url, "search", "love story", "--mode", "keyword"),
            hybrid_search_seconds=median("-d", url, "search", "love story"),
        )


def median(*arguments: str) -> float:
    return round(statistics.median(run_command(*arguments)[1] for _ in range(TRIES)), 3)
