"""BM25 as Lucene and FTS5 compute it, in parts. Imports nothing of kameleon's."""

import math

K1, B, K3 = 1.2, 0.75, 1.0


def idf(rows: int, having: int) -> float:
    """Computes ln((N - n + 0.5) / (n + 0.5)), never below 1e-6."""
    return max(1e-6, math.log((rows - having + 0.5) / (having + 0.5))) if having < rows else 1e-6


def times_weight(times: int) -> float:
    """Weighs a term that the query has so often: (k3 + 1) q / (k3 + q) with k3 1 (Robertson and Walker, "Some simple
    effective approximations to the 2-Poisson model", 1994): long questions repeat what they are about."""
    return (K3 + 1) * times / (K3 + times)
