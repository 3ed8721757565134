"""Makes evidence, 0 to 1, of a leg's raw score by itself: of a cosine by how far it is above those of unrelated texts,
of BM25 by the words of the query. Pure. Imports `values`.

Neither depends on other hits or other queries, so one `min_score` has the same meaning in all. The constants were
measured on nine judged collections with two models, with queries of one collection put to another: stress/README.md.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..values import Noise

Key = TypeVar("Key", bound=Hashable)
Scale = Callable[[float], float]

MIDDLE = 5.0
"""A cosine that is so many standard deviations above the mean of unrelated texts is evidence of one half; a logistic
curve goes through it."""
LEAST_EVIDENCE = 0.08
"""The evidence from which on a record without a word of the query is a hit of a hybrid search: a cosine 2.6 deviations
above the mean of unrelated texts. Of the relevant records without a word nearly all have it, and of queries that were
put to another collection half find none that has."""


@dataclass(frozen=True)
class VectorScale:
    """`known_share` is how much of the query's evidence the model's vocabulary leaves. Of a model without `noise`, the
    cosine itself."""

    noise: Noise | None
    known_share: float = 1.0

    def __call__(self, cosine: float) -> float:
        if self.noise is None:
            return self.known_share * clamp(cosine)
        mean, deviation = self.noise
        return self.known_share / (1 + math.exp(min(700.0, MIDDLE - (cosine - mean) / deviation)))


@dataclass(frozen=True)
class KeywordScale:
    """`full` is the BM25 of a text of average length that has each word of the query once."""

    full: float

    def __call__(self, score: float) -> float:
        return min(1.0, score / self.full) if self.full > 0 else 0.0


def levelled(ordered: Sequence[Key], evidence: Mapping[Key, float]) -> dict[Key, float]:
    """The scores of hits in their order: each its own evidence, but no more than the hit before it has. So a score
    depends on better hits alone, and `min_score` leaves the beginning of the ranking."""
    scores: dict[Key, float] = {}
    least = 1.0
    for key in ordered:
        least = scores[key] = min(least, evidence[key])
    return scores


def clamp(score: float) -> float:
    return min(1.0, max(0.0, score))
