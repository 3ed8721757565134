"""How fast files become searchable: the same records as JSON lines, CSV and Parquet, read alone and inserted."""

import csv
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kameleon.files import records

from .corpus import documents, write_lines
from .database import address, database
from .report import Arguments, Figures, run_command, stopwatch

COMMIT_BATCH = 1_000
ALL_UP_TO = 100_000
"""Bounds the rows that are inserted from each format; of more only CSV is."""
Records = Sequence[Mapping[str, Any]]


def run(args: Arguments) -> Figures:
    """Figures by format: `read` is without a database, `insert` the command with its start, the bundled model and its
    peak memory; `times_json_lines` is its time over that of JSON lines."""
    writers: dict[str, Callable[[Path, Records], None]] = {"csv": write_csv}
    if args.rows <= ALL_UP_TO:
        writers = {"jsonl": write_lines, **writers, "parquet": write_parquet}
    found = [{**record, "year": 1900 + number % 120} for number, record in enumerate(documents(args.rows, args.seed))]
    figures: dict[str, Any] = {"rows": len(found)}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"records.{name}" for name in writers}
        for name, write in writers.items():
            write(paths[name], found)
        del found
        for name, path in paths.items():
            figures[name] = {**reading(path, args.rows), **inserting(args, path)}
    for name in figures.keys() - {"rows", "jsonl"} if "jsonl" in figures else ():
        figures[name]["times_json_lines"] = round(figures[name]["seconds"] / figures["jsonl"]["seconds"], 2)
    return figures


def reading(path: Path, rows: int) -> Figures:
    with stopwatch() as watch:
        count = sum(1 for _ in records(path))
    assert count == rows
    return {"read_rows_per_second": round(rows / watch.seconds)}


def inserting(args: Arguments, path: Path) -> Figures:
    with database(args.backend) as engine:
        options = ("--batch-size", str(COMMIT_BATCH), str(path))
        output, seconds, peak = run_command("-d", address(engine), "--json", "data", "insert", "Film", *options)
    inserted = json.loads(output)["inserted"]
    assert inserted == args.rows
    return {"seconds": round(seconds, 2), "rows_per_second": round(inserted / seconds), "command_peak_mb": peak}


def write_csv(path: Path, found: Records) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)


def write_parquet(path: Path, found: Records) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(list(found)), path)
