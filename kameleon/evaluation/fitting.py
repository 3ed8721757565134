"""Fits how the vector's weight follows from a query, and tests by cross-validation whether that is better than one
weight for all. Imports `search`.

Deterministic: the folds are those of the digests of the queries' ids, and the search over coefficients has no random
part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from statistics import fmean, stdev
from typing import Any

import numpy as np

from ..search.weighting import LEAST_WEIGHT, MOST_WEIGHT, WEIGHT_STEPS, Features, Weighting

ENOUGH_FITTED = 50
"""Bounds the judged queries for fitting a weight by query. Chosen, not measured."""
FOLDS = 5
COEFFICIENTS = tuple(step / 4 for step in range(-4, 5))
BASES = np.arange(WEIGHT_STEPS + 1) / WEIGHT_STEPS
"""What is tried of a coefficient and, with it, of the weight of an average query. Chosen, not measured."""
SHRINKAGE = 0.005
"""How much nDCG@10 a coefficient of 1 has to gain. Of .0005, .002 and .005 this one loses least on the judged
collections: stress/README.md."""
ROUNDS = 5
LEAST_GAIN = 1e-9

Array = Any


@dataclass(frozen=True)
class Fit:
    """What was fitted to all judged queries. `fixed` and `fitted` are nDCG@10 of one weight and of a weight by query,
    each of queries that it was not chosen by; `gain` is the mean difference, `noise` two standard errors of it, query
    by query."""

    weighting: Weighting
    fixed: float
    fitted: float
    gain: float
    noise: float

    @property
    def objection(self) -> str | None:
        """Why the weighting is not worth keeping; None where it is."""
        if not self.weighting.coefficients:
            return "no feature of a query has anything to do with its best weight"
        if self.gain <= self.noise:
            return f"nDCG@10 is {self.gain:+.4f} by it, which chance alone may do ({self.noise:.4f})"
        return None


def fit_weighting(queries: Sequence[str], scores: Sequence[Sequence[float]], features: Sequence[Features]) -> Fit:
    """`scores` are nDCG@10 of each query at each of WEIGHTS."""
    by_weight, columns = np.array(scores), np.array(features)
    fold = _folds(queries)
    fixed, fitted = np.zeros(len(queries)), np.zeros(len(queries))
    for number in range(FOLDS):
        own, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        fixed[own] = by_weight[own, by_weight[others].mean(axis=0).argmax()]
        weighting = _fitted(by_weight[others], columns[others])
        steps = [round(weighting.weight(features[place]) * WEIGHT_STEPS) for place in own.tolist()]
        fitted[own] = by_weight[own, steps]
    gain, noise = paired(fixed.tolist(), fitted.tolist())
    return Fit(_fitted(by_weight, columns), float(fixed.mean()), float(fitted.mean()), gain, noise)


def paired(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Of the same queries: the mean difference, and two standard errors of it."""
    gains = [new - old for old, new in zip(before, after, strict=True)]
    return fmean(gains), 2 * stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0


def _folds(queries: Sequence[str]) -> Array:
    """A number for each query; folds are of one size, give or take one."""
    fold = np.empty(len(queries), int)
    order = sorted(range(len(queries)), key=lambda place: sha256(queries[place].encode()).digest())
    fold[order] = np.arange(len(queries)) % FOLDS
    return fold


def _fitted(by_weight: Array, columns: Array) -> Weighting:
    """The weighting whose mean nDCG@10, less what its coefficients have to gain, is greatest of those that a search
    finds which changes one coefficient at a time, each with every base."""
    means = columns.mean(axis=0).round(4)
    centred, rows = columns - means, np.arange(len(columns))

    def best_base(coefficients: Array) -> tuple[float, float]:
        """Its value, and the base; of several the one in the middle."""
        weights = np.clip(BASES[:, None] + centred @ coefficients, LEAST_WEIGHT, MOST_WEIGHT)
        gained = by_weight[rows, np.rint(weights * WEIGHT_STEPS).astype(int)].mean(axis=1)
        best = np.flatnonzero(gained >= gained.max() - LEAST_GAIN)
        return float(gained.max() - SHRINKAGE * np.abs(coefficients).sum()), float(BASES[best[len(best) // 2]])

    chosen = np.zeros(columns.shape[1])
    most, base = best_base(chosen)
    for _ in range(ROUNDS):
        before = most
        for place, tried in product(range(len(chosen)), COEFFICIENTS):
            changed = chosen.copy()
            changed[place] = tried
            value, other = best_base(changed)
            if value > most + LEAST_GAIN:
                most, base, chosen = value, other, changed
        if most == before:
            break
    named = {name: float(each) for name, each in zip(Features._fields, chosen, strict=True) if each}
    kept = dict(zip(Features._fields, means.tolist(), strict=True))
    return Weighting(base, named, {name: kept[name] for name in named})
