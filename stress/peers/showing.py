"""Figures of a run side by side: a table in Markdown, a picture."""

from collections.abc import Mapping
from typing import Any

from ..database import POSTGRESQL
from ..drawing import bar_charts
from ..report import Figures

NAMES = {
    "ours": "kameleon",
    "by_hand": "SQL by hand",
    "chroma": "Chroma",
    "lance": "LanceDB",
    "langchain": "langchain-postgres",
    "txtai": "txtai",
    "zvec": "zvec",
    "qdrant_edge": "Qdrant Edge",
    "bm25s": "bm25s",
    "pg_textsearch": "pg_textsearch",
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
CHARTED = {
    "ingest, s": "ingest_seconds",
    "query, 95th percentile, ms": "hybrid_p95_ms",
    "recall@10 of the nearest": "recall_at_10",
    "share of sources among ten": "found_at_10",
    "disk, MB": "disk_mb",
}


def table(result: Figures) -> str:
    """Markdown of one run's figures, times over ours in brackets."""
    server = ", memory without the server's" if result["backend"] == POSTGRESQL else ""
    title = f"{result['rows']:,} records, {result['queries']} queries, {result['backend']}{server}:"
    rows = [row_of(peer, figures) for peer, figures in result["peers"].items()]
    notes = [f"{NAMES[peer]}: {figures['why']}." for peer, figures in result["peers"].items() if "why" in figures]
    return "\n".join([title, "", row(HEADS), row(["---"] * len(HEADS)), *rows, "", *notes])


def row_of(peer: str, figures: Mapping[str, Any]) -> str:
    if "failed" in figures:
        return row([NAMES[peer], f"failed: {figures['failed'].replace('|', '/')}", *[""] * (len(HEADS) - 2)])
    only = "" if figures["mode"] == "hybrid" else f" ({figures['mode']} only)"
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


def chart(result: Figures) -> str:
    """SVG of the peers that did not fail; empty if all did."""
    peers = {
        NAMES[peer] + ("" if figures["mode"] == "hybrid" else f" ({figures['mode']})"): figures
        for peer, figures in result["peers"].items()
        if "failed" not in figures
    }
    is_server = result["backend"] == POSTGRESQL
    title = f"{result['rows']:,} records on {'PostgreSQL' if is_server else 'SQLite'}, and peers"
    charted = CHARTED | {f"memory{', without the server' if is_server else ''}, MB": "peak_mb"}
    groups = {name: {peer: figures[key] for peer, figures in peers.items()} for name, key in charted.items()}
    return bar_charts(title, groups) if peers else ""
