"""`python -m stress plot`: pictures of what was measured, out of the lines that runs printed with --json."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .drawing import line_chart
from .peers.showing import chart

FIGURES = Path(__file__).parent / "figures"
MEASURED = FIGURES / "measured.jsonl"
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
Line = Mapping[str, Any]


def plot(source: Path = MEASURED, folder: Path = FIGURES) -> list[Path]:
    """Writes a picture of each kind for which there are lines; of several lines of a run, backend and number of rows
    the last one counts. Raises ValueError for a line that is not a run's."""
    lines = read(source)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, picture in pictures(lines):
        path = folder / f"{name}.svg"
        path.write_text(picture, "utf-8")
        made.append(path)
    return made


def read(source: Path) -> list[Line]:
    found: dict[tuple[str, str, int], Line] = {}
    for number, text in enumerate(source.read_text("utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            if "skipped" not in line:
                found[line["run"], line["backend"], line.get("rows", 0)] = line
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source.name}:{number} is not a line that a run printed with --json: {error}") from error
    return list(found.values())


def pictures(lines: list[Line]) -> Iterator[tuple[str, str]]:
    """(name, SVG)."""
    by_run: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_run[line["run"]].append(line)
    drawn = {
        "throughput": throughput(by_run["insert"]),
        "latency": latency(by_run["search"]),
        "quality": quality(by_run["quality"]),
    }
    drawn |= {f"peers-{line['backend']}": chart(line) for line in by_run["peers"]}
    yield from ((name, picture) for name, picture in drawn.items() if picture)


def throughput(lines: Iterable[Line]) -> str:
    """Records a second by how many a call or hand-written transaction has, vectors at hand."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in most_rows(lines):
        for size, rates in line["batch_sizes"].items():
            curves[NAMES[line["backend"]]].append((float(size), rates["rows_per_second"]))
            curves[f"{NAMES[line['backend']]} by hand"].append((float(size), rates["by_hand_rows_per_second"]))
    title = "Indexing, embeddings at hand"
    return line_chart(title, "records a transaction", "records/s", curves, log_x=True, log_y=True) if curves else ""


def latency(lines: Iterable[Line]) -> str:
    """Where both were measured, of the queries that they ran alternately."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in sorted(lines, key=lambda line: line["rows"]):
        name = NAMES[line["backend"]]
        ours = line.get("by_hand", {}).get("ours_alternating", line)
        curves[name].append((line["rows"], ours["p95_ms"]))
        if "by_hand" in line:
            curves[f"{name} by hand"].append((line["rows"], line["by_hand"]["p95_ms"]))
    title = "Hybrid search, eight words, the ten best: 95th percentile"
    return line_chart(title, "records", "ms", curves, log_x=True, log_y=True) if curves else ""


def quality(lines: Iterable[Line]) -> str:
    """nDCG@10 of the bundled model by the vector's weight, keywords alone to vectors alone."""
    curves = {}
    for line in lines:
        if line["backend"] == "sqlite":
            for collection, models in line.get("collections", {}).items():
                found = {name: value for name, value in models["static"].items() if name.startswith("weight_")}
                curves[collection] = [(float(name.removeprefix("weight_")), value) for name, value in found.items()]
    title = "Quality by weight of the vector, bundled model"
    return line_chart(title, "weight", "nDCG@10", curves) if curves else ""


def most_rows(lines: Iterable[Line]) -> list[Line]:
    """Of each backend the line of the largest run."""
    found: dict[str, Line] = {}
    for line in sorted(lines, key=lambda line: line["rows"]):
        found[line["backend"]] = line
    return list(found.values())
