"""Measures a ranking by judged records. Imports nothing of kameleon's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

DEPTH = 10
MAX_RANK = 100


def ndcg(ranked: Sequence[Any], gains: Mapping[Any, float], depth: int = DEPTH) -> float:
    """Discounted gain of the first `depth`, linear, as a share of what the best order would have (Järvelin and
    Kekäläinen, 2002)."""
    ideal = sorted(gains.values(), reverse=True)[:depth]
    best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ideal))
    found = sum(gains.get(id_, 0) / math.log2(rank + 2) for rank, id_ in enumerate(ranked[:depth]))
    return found / best if best else 0.0


def recall(ranked: Sequence[Any], gains: Mapping[Any, float], depth: int = MAX_RANK) -> float:
    """The share of what is relevant (of a gain above 0) that is among the first `depth`."""
    relevant = {id_ for id_, gain in gains.items() if gain > 0}
    return len(relevant.intersection(ranked[:depth])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranked: Sequence[Any], gains: Mapping[Any, float], depth: int = MAX_RANK) -> float:
    """1 over the rank of the first that is relevant, 0 where there is none among the first `depth`."""
    return next((1 / rank for rank, id_ in enumerate(ranked[:depth], 1) if gains.get(id_, 0) > 0), 0.0)
