"""Fuses the legs of a judged query in memory: by any way, and at every weight. Imports `metrics`, `search` and
`values`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import DEPTH, ndcg
from ..search.evidence import LEAST_EVIDENCE
from ..search.fusion import Leg, fuse, matching, reduced_weight, set_weights
from ..search.weighting import WEIGHT_STEPS, features_of, stored
from ..values import Ref
from .judged import Gains

if TYPE_CHECKING:
    from ..search.retrieval import Legs

WEIGHTS = tuple(step / WEIGHT_STEPS for step in range(WEIGHT_STEPS + 1))


def own_weight(legs: "Legs") -> float:
    """The weight that the index gives the vector in this query."""
    generation = legs.generation
    if generation is None:
        return 0.0
    if generation.weighting is None:
        return generation.weight
    return stored(generation.weighting).weight(features_of(legs.legs, legs.known_share))


def alone(legs: "Legs", name: str) -> list[Ref]:
    """What one leg finds."""
    return _ranked([Leg(leg.name, leg.chosen, {}, 1.0, leg.most) for leg in legs.legs if leg.name == name])


def fused(legs: "Legs", weight: float, way: str = "weighted") -> list[Ref]:
    """What a search finds at a weight, which words that are unknown to the model lower."""
    weighted = set_weights(legs.legs, reduced_weight(weight, legs.known_share))
    members = matching(weighted)
    return [ref for ref in _ranked(weighted, way) if ref in members]


def _ranked(legs: Sequence[Leg[Any]], way: str = "weighted") -> list[Ref]:
    scores = fuse(legs, way)
    return sorted(scores, key=lambda ref: (-scores[ref], ref))


def ndcg_by_weight(legs: "Legs", gains: Gains) -> list[float]:
    """nDCG@10 of the weighted fusion at each of WEIGHTS: that of `fused`, all at once."""
    by_name = {leg.name: leg for leg in legs.legs}
    if len(by_name) < 2:
        return [ndcg(fused(legs, weight), gains) for weight in WEIGHTS]
    keyword, vector = by_name["keyword"], by_name["vector"]
    refs = sorted(keyword.raw.keys() | vector.raw.keys())
    parts = [_column(leg.normalized(), refs) for leg in (keyword, vector)]
    has_word = np.array([ref in keyword.raw for ref in refs])
    is_near = _column(vector.evidence, refs) >= LEAST_EVIDENCE
    chosen = [np.array([ref in leg.chosen for ref in refs]) for leg in (keyword, vector)]
    measured = []
    for weight in WEIGHTS:
        share = reduced_weight(weight, legs.known_share)
        scores = np.minimum(1.0, (1 - share) * parts[0] + share * parts[1])
        is_hit = (has_word & (share < 1)) | (is_near & (share > 0))
        is_hit &= (chosen[0] & (share < 1)) | (chosen[1] & (share > 0))
        at = np.flatnonzero(is_hit)
        best = at[np.argsort(-scores[at], kind="stable")[:DEPTH]]
        measured.append(ndcg([refs[place] for place in best], gains))
    return measured


def _column(values: Any, refs: Sequence[Ref]) -> Any:
    return np.array([values.get(ref, 0.0) for ref in refs])
