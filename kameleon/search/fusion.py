"""Two legs into one ranking. Pure: scores in, scores out. Imports `errors` and `forking`.

Three ways by name order the records; each turns a leg's raw scores into 0..1 before the legs are combined by their
weights. A hit's score is not that sum but its evidence (`evidence.py`), which depends on no other record:

`weighted` is theoretical-minimum scaling (Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid
Retrieval", 2022): a leg's score is measured from the least it could be, not from the least that was fetched, so a hit's
score does not change with the number of candidates. `Leg.normalized` describes the upper end.

`rrf` is reciprocal rank fusion (Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and
individual Rank Learning Methods", 2009) over the best it could be: (k + 1) / (k + rank), k 60; equal scores share the
better rank. A record that a leg did not choose has nothing of that leg, so a deeper search may raise its score.

`dbsf` is distribution-based score fusion (Mazzeschi, 2023, as Qdrant has it): a leg's candidates from three standard
deviations below their mean to three above it, clipped. All its scores depend on how many candidates were fetched.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from statistics import fmean, pstdev
from typing import Any, Generic, TypeVar

from ..errors import InvalidInput, seen
from ..forking import lazy
from .evidence import LEAST_EVIDENCE, Scale, VectorScale, clamp

Key = TypeVar("Key", bound=Hashable)

LEAST = {"keyword": 0.0, "vector": -1.0}
RRF_K = 60
SIGMAS = 3.0
LEAST_SHARE, FULL_SHARE = 0.5, 0.7
"""Shares of a query's words that the model knows, below and above which the vector counts for nothing and in full."""
ROUNDING = 1e-9
"""Bounds how far outside of 0 to 1 a score of a caller's fusion may be."""


@dataclass(frozen=True)
class Leg(Generic[Key]):
    """One leg's raw scores, higher is better: `chosen` are its own candidates, `scored` those of the other leg. Keys
    stand for records. `weight` is the leg's share; a leg alone has all of it. `most` is what no record could score more
    than; `scale` makes evidence of a raw score."""

    name: str
    chosen: Mapping[Key, float]
    scored: Mapping[Key, float]
    weight: float = 1.0
    most: float | None = None
    scale: Scale | None = None

    @lazy
    def raw(self) -> dict[Key, float]:
        return {**self.scored, **self.chosen}

    def normalized(self) -> dict[Key, float]:
        return self._normalized

    @lazy
    def _normalized(self) -> dict[Key, float]:
        """Each raw score over 0..1: (raw - least) / (top - least), least being 0 for BM25 and -1 for a cosine.

        The top is the best score; for a leg that knows `most`, what no record could score more than, halfway between
        the two. A best hit that has all of a query's words is then near to 1, and one that has but a minor word is not,
        as it is by the maximum alone: so one weight fits short and long questions.
        """
        raw, least, span = self.raw, LEAST[self.name], self._span
        if span <= 0:
            return dict.fromkeys(raw, 0.0)
        shares = {key: (value - least) / span for key, value in raw.items()}
        return shares if min(shares.values(), default=0) >= 0 else {key: clamp(share) for key, share in shares.items()}

    @lazy
    def _span(self) -> float:
        best = max(self.raw.values(), default=LEAST[self.name])
        top = best if self.most is None else (best + max(best, self.most)) / 2
        return top - LEAST[self.name]

    @property
    def unrelated(self) -> float:
        """The normalised score of a record that has nothing to do with the query: no word of it, or the mean cosine of
        unrelated texts, where that is known."""
        noise = self.scale.noise if isinstance(self.scale, VectorScale) else None
        return 0.0 if noise is None or self._span <= 0 else clamp((noise[0] - LEAST[self.name]) / self._span)

    @lazy
    def evidence(self) -> Mapping[Key, float]:
        """What each raw score is worth by itself, 0..1; without a scale the normalised score."""
        scale = self.scale
        return self._normalized if scale is None else {key: scale(value) for key, value in self.raw.items()}

    def ranks(self) -> dict[Key, int]:
        """1-based, best first; equal scores share a rank."""
        ranks: dict[Key, int] = {}
        previous, shared = math.nan, 0
        for place, (key, score) in enumerate(sorted(self.chosen.items(), key=lambda item: -item[1]), 1):
            shared = shared if score == previous else place
            ranks[key], previous = shared, score
        return ranks


Fusion = Callable[[Sequence[Leg[Any]]], Mapping[Any, float]]
"""A way of one's own: from the legs that found anything, keyword before vector, a score from 0 to 1 for each key to be
among the hits. Keys that it leaves out are no hits."""


def by_rank(leg: Leg[Key]) -> dict[Key, float]:
    return {key: (RRF_K + 1) / (RRF_K + rank) for key, rank in leg.ranks().items()}


def by_distribution(leg: Leg[Key]) -> dict[Key, float]:
    """Where all candidates are alike, each is in the middle, as the mean is."""
    if not leg.chosen:
        return {}
    mean, spread = fmean(leg.chosen.values()), SIGMAS * pstdev(leg.chosen.values())
    if spread <= 1e-9 * max(1.0, abs(mean)):
        return dict.fromkeys(leg.raw, 0.5)
    return {key: clamp((value - mean + spread) / (2 * spread)) for key, value in leg.raw.items()}


WAYS: dict[str, Callable[[Leg[Any]], dict[Any, float]]] = {
    "weighted": Leg.normalized,
    "rrf": by_rank,
    "dbsf": by_distribution,
}


def check_fusion(fusion: object) -> "str | Fusion":
    if callable(fusion) or (isinstance(fusion, str) and fusion in WAYS):
        return fusion
    raise InvalidInput(f"unknown fusion {seen(fusion, 80)}. Known: {', '.join(WAYS)}, or a function of the legs")


def leg_scores(leg: Leg[Key], fusion: "str | Fusion" = "weighted") -> dict[Key, float]:
    """A leg's scores over 0..1, as they go into a fusion."""
    return (WAYS[fusion] if isinstance(fusion, str) else Leg.normalized)(leg)


def fuse(legs: "Sequence[Leg[Key]]", fusion: "str | Fusion" = "weighted") -> dict[Key, float]:
    """The convex combination of the legs' scores, 0..1, for every key that a leg put forward, or what a function gives.
    Raises InvalidInput where that is no score."""
    if not isinstance(fusion, str):
        return _checked(fusion(legs), legs) if legs else {}
    total = total_weight(legs)
    fused: dict[Key, float] = dict.fromkeys((key for leg in legs for key in leg.chosen), 0.0)
    for leg in legs:
        share, score_of = leg.weight / total, leg_scores(leg, fusion).get
        fused = {key: score + share * score_of(key, 0.0) for key, score in fused.items()}
    return fused if max(fused.values(), default=0.0) <= 1.0 else {key: min(1.0, score) for key, score in fused.items()}


def unrelated_score(legs: "Sequence[Leg[Key]]", fusion: "str | Fusion") -> float:
    """The fused score of a record that has nothing to do with the query; 0 where a leg's ranks or spread decide."""
    total = total_weight(legs)
    return sum(leg.weight / total * leg.unrelated for leg in legs) if fusion == "weighted" else 0.0


def evidence(legs: "Sequence[Leg[Key]]") -> dict[Key, float]:
    """The evidence of each key that a leg put forward: the legs' own by their weights."""
    total = total_weight(legs)
    found: dict[Key, float] = dict.fromkeys((key for leg in legs for key in leg.chosen), 0.0)
    for leg in legs:
        share, evidence_of = leg.weight / total, leg.evidence.get
        found = {key: value + share * evidence_of(key, 0.0) for key, value in found.items()}
    return found


def matching(legs: "Sequence[Leg[Key]]") -> set[Key]:
    """The keys that are hits of a hybrid search: those with a word of the query, and those whose vector is evidence
    enough."""
    keys: set[Key] = set()
    for leg in legs:
        least = LEAST_EVIDENCE if leg.name == "vector" else 0.0
        keys.update(key for key in leg.raw if leg.evidence[key] >= least)
    return keys


def set_weights(legs: "Sequence[Leg[Key]]", weight: float) -> "list[Leg[Key]]":
    """The legs that count, `weight` being the vector's. Keywords alone count for all; the vector alone for no more than
    beside them, so that what is merely the nearest there is has no score of what has the words, too."""
    names = {leg.name for leg in legs}
    weights = {"vector": weight, "keyword": 1.0 - weight if "vector" in names else 1.0}
    return [replace(leg, weight=weights[leg.name]) for leg in legs if weights[leg.name] > 0]


def total_weight(legs: "Sequence[Leg[Key]]") -> float:
    """What the legs' weights are parts of."""
    return max(1.0, sum(leg.weight for leg in legs))


def reduced_weight(weight: float, known_share: float) -> float:
    """The vector's weight for a query of which the model knows a share: all of it from FULL_SHARE on, nothing below
    LEAST_SHARE, where words are for the most part unknown or come in pieces."""
    return weight * clamp((known_share - LEAST_SHARE) / (FULL_SHARE - LEAST_SHARE))


def _checked(scores: object, legs: "Sequence[Leg[Key]]") -> dict[Key, float]:
    if not isinstance(scores, Mapping):
        raise InvalidInput(f"a fusion gives a score for each key, as a mapping, not {type(scores).__name__}")
    candidates = {key for leg in legs for key in leg.chosen}
    for key, score in scores.items():
        if key not in candidates:
            raise InvalidInput(f"a fusion scored {key!r:.80}, which no leg put forward")
        if not isinstance(score, Real) or isinstance(score, bool) or not -ROUNDING <= float(score) <= 1 + ROUNDING:
            raise InvalidInput(f"a fusion gives numbers from 0 to 1, not {score!r:.80}")
    return {key: clamp(float(score)) for key, score in scores.items()}
