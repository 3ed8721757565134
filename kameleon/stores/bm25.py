"""BM25 as Lucene and FTS5 compute it, in parts. Imports values."""

import math
from collections.abc import Mapping

from .values import Key

K1, B, K3 = 1.2, 0.75, 1.0
# English, as PostgreSQL's `english` has them: its tsvectors hold none, so on SQLite they are left out of queries.
ENGLISH = """
    a about above after again against all am an and any are as at be because been before being below between both
    but by can did do does doing don down during each few for from further had has have having he her here hers
    herself him himself his how i if in into is it its itself just me more most my myself no nor not now of off on
    once only or other our ours ourselves out over own s same she should so some such t than that the their theirs
    them themselves then there these they this those through to too under until up very was we were what when where
    which while who whom why will with you your yours yourself yourselves
"""
STOP_WORDS = frozenset(ENGLISH.split())


def idf(rows: int, having: int) -> float:
    """Computes ln((N - n + 0.5) / (n + 0.5)), never below 1e-6."""
    return max(1e-6, math.log((rows - having + 0.5) / (having + 0.5))) if having < rows else 1e-6


def times_weight(times: int) -> float:
    """Weighs a term that the query has so often: (k3 + 1) q / (k3 + q) with k3 1 (Robertson and Walker, "Some simple
    effective approximations to the 2-Poisson model", 1994): long questions repeat what they are about."""
    return (K3 + 1) * times / (K3 + times)


def best_first(scores: Mapping[Key, float]) -> dict[Key, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
