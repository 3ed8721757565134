"""Two legs into one ranking. Pure: scores in, scores out.

Normalisation is theoretical-minimum scaling (Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid
Retrieval", 2022): a leg's score is measured from the least it could be, not from the least that was fetched, so a hit's
score does not change with the number of candidates.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

LEAST = {"keyword": 0.0, "vector": -1.0}


@dataclass(frozen=True)
class Leg(Generic[Key]):
    """One leg's raw scores, higher is better: `chosen` are its own candidates, `scored` those of the other leg."""

    name: str
    chosen: Mapping[Key, float]
    scored: Mapping[Key, float]
    weight: float

    def normalized(self) -> dict[Key, float]:
        """Each raw score over 0..1: (raw - least) / (best - least), least being 0 for BM25 and -1 for a cosine."""
        raw = {**self.scored, **self.chosen}
        least = LEAST[self.name]
        span = max(raw.values(), default=least) - least
        return {key: (value - least) / span if span > 0 else 0.0 for key, value in raw.items()}

    def ranks(self) -> dict[Key, int]:
        """1-based, best first; equal scores in the order the leg put them forward."""
        ordered = sorted(self.chosen.items(), key=lambda item: -item[1])
        return {key: rank for rank, (key, _) in enumerate(ordered, 1)}


def fuse(legs: "list[Leg[Key]]") -> dict[Key, float]:
    """The convex combination of the legs' normalised scores, 0..1, for every key that a leg put forward."""
    total = sum(leg.weight for leg in legs) or 1.0
    fused: dict[Key, float] = {key: 0.0 for leg in legs for key in leg.chosen}
    for leg in legs:
        for key, score in leg.normalized().items():
            fused[key] += leg.weight / total * score
    return {key: min(1.0, max(0.0, score)) for key, score in fused.items()}
