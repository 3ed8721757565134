"""How good a peer's answers are, and how its figures compare with ours."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

TOP = 10
TIE = 1e-5


def judged(
    result: Mapping[str, Any], texts: Sequence[str], vectors: Any, query_vectors: Any, sources: Sequence[int]
) -> dict[str, Any]:
    """A peer's figures with `recall_at_10` and `found_at_10` in place of its answers."""
    figures = {name: value for name, value in result.items() if name not in ("nearest", "found")}
    recalls = [recall(vectors @ vector, ids) for vector, ids in zip(query_vectors, result["nearest"], strict=True)]
    found = [is_found(texts, source, ids) for source, ids in zip(sources, result["found"], strict=True)]
    return {**figures, "recall_at_10": round(mean(recalls), 4), "found_at_10": round(mean(found), 4)}


def recall(scores: Any, ids: Sequence[str]) -> float:
    """The share of the ten nearest, by exact cosine, that are among a peer's ten; ties count as either."""
    count = min(TOP, len(scores))
    last = np.partition(scores, -count)[-count] - TIE
    return sum(bool(scores[int(id_)] >= last) for id_ in set(ids[:TOP])) / count


def is_found(texts: Sequence[str], source: int, ids: Sequence[str]) -> bool:
    """Whether the passage that the question was cut from, or one of the same words, is among a peer's ten."""
    return any(texts[int(id_)] == texts[source] for id_ in ids[:TOP])


def compared(peers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each peer's ingest and hybrid p95 over ours, where both have been measured."""
    ours = peers["ours"]
    if "failed" in ours:
        return dict(peers)
    return {
        name: {
            **figures,
            "ingest_times_ours": round(figures["ingest_seconds"] / ours["ingest_seconds"], 2),
            "p95_times_ours": round(figures["hybrid_p95_ms"] / ours["hybrid_p95_ms"], 2),
        }
        if "failed" not in figures
        else figures
        for name, figures in peers.items()
    }
