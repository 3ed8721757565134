"""Figures of a run side by side: a table in Markdown, charts as SVG."""

from collections.abc import Mapping
from typing import Any

from cli.plotting import bar_chart

from ..database import POSTGRESQL
from ..report import Figures

NAMES = {
    "ours": "kameleon",
    "by_hand": "SQL by hand",
    "chroma": "Chroma",
    "lance": "LanceDB",
    "langchain": "langchain-postgres",
    "txtai": "txtai",
}
HEADS = (
    "",
    "version",
    "vectors",
    "ingest, s",
    "hybrid p50, ms",
    "hybrid p95, ms",
    "recall@10",
    "found@10",
    "disk, MB",
    "memory, MB",
)
CHARTS = {
    "answers": ("Share of the ten nearest; of sources among ten", ("recall_at_10", "found_at_10")),
    "milliseconds": ("A hybrid query, ms", ("hybrid_p50_ms", "hybrid_p95_ms")),
    "ingest": ("Ingest, s", ("ingest_seconds",)),
    "megabytes": ("Megabytes", ("disk_mb", "peak_mb")),
}


def table(said: Figures) -> str:
    """Markdown of one run's figures, times over ours in brackets."""
    server = ", memory without the server's" if said["backend"] == POSTGRESQL else ""
    title = f"{said['rows']:,} records, {said['queries']} queries, {said['backend']}{server}:"
    rows = [row_of(peer, figures) for peer, figures in said["peers"].items()]
    notes = [f"{NAMES[peer]}: {figures['why']}." for peer, figures in said["peers"].items() if "why" in figures]
    return "\n".join([title, "", row(HEADS), row(["---"] * len(HEADS)), *rows, "", *notes])


def row_of(peer: str, figures: Mapping[str, Any]) -> str:
    if "failed" in figures:
        return row([NAMES[peer], f"failed: {figures['failed'].replace('|', '/')}", *[""] * (len(HEADS) - 2)])
    only = " (vector only)" if figures["mode"] == "vector" else ""
    return row(
        [
            NAMES[peer],
            figures["version"],
            figures["vector_index"],
            f"{figures['ingest_seconds']:g}{times(figures, 'ingest_times_ours')}",
            f"{figures['hybrid_p50_ms']:g}{only}",
            f"{figures['hybrid_p95_ms']:g}{times(figures, 'p95_times_ours')}{only}",
            f"{figures['recall_at_10']:.3f}",
            f"{figures['found_at_10']:.3f}",
            f"{figures['disk_mb']:g}",
            f"{figures['peak_mb']:g}",
        ]
    )


def times(figures: Mapping[str, Any], name: str) -> str:
    return f" ({figures[name]:g})" if name in figures else ""


def row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def charts(said: Figures) -> dict[str, str]:
    """SVG by name, of the peers that did not fail."""
    peers = {
        NAMES[peer] + (" (vector)" if figures["mode"] == "vector" else ""): figures
        for peer, figures in said["peers"].items()
        if "failed" not in figures
    }
    drawn: dict[str, str] = {}
    for chart, (title, names) in CHARTS.items() if peers else ():
        groups = {peer: {name.replace("_", " "): figures[name] for name in names} for peer, figures in peers.items()}
        most = 1.0 if chart == "answers" else max(max(group.values()) for group in groups.values())
        drawn[chart] = bar_chart(f"{title}: {said['rows']:,} records, {said['backend']}", groups, most=most)
    return drawn
