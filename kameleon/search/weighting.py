"""Makes the vector's weight of what a query's legs have at hand, by coefficients that `kameleon eval --save` fitted.
Pure. Imports `errors`.

The features depend on the query and the best ten of each leg, which are among the candidates of every page, so all
pages of a query have one weight.
"""

from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import Any, NamedTuple

from ..errors import InvalidInput, seen
from .evidence import clamp
from .fusion import Leg

WEIGHT_STEPS = 20
"""How many steps the weights have that are measured and fitted. Chosen, not measured."""
LEAST_WEIGHT, MOST_WEIGHT = 1 / WEIGHT_STEPS, 1 - 1 / WEIGHT_STEPS
"""Bound a weight by query, so that no leg loses its hits by it. Chosen, not measured."""
MOST_COEFFICIENT = 1.0
"""Bounds how much of the weight a feature can change. Chosen, not measured."""
LAST_RANK = 10
"""The rank up to which a leg's gap goes. Chosen, not measured."""


class Features(NamedTuple):
    """Of one query, each 0 to 1: the share of its words that the model knows; how much of them the best record by
    keywords has, its evidence; and by how much the best evidence of each leg is above that of its tenth record."""

    known_share: float
    coverage: float
    keyword_gap: float
    vector_gap: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.2f}" for name, value in self._asdict().items())


class Weighting(NamedTuple):
    """The weight is `base` where all features are their `means`; each coefficient is what it changes by where a feature
    goes from 0 to 1. So it is monotone in each of them."""

    base: float
    coefficients: Mapping[str, float]
    means: Mapping[str, float]

    def weight(self, features: Features) -> float:
        """In steps, as it was fitted."""
        values = features._asdict()
        terms = (each * (values[name] - self.means[name]) for name, each in self.coefficients.items())
        value: float = self.base + sum(terms)
        return round(min(MOST_WEIGHT, max(LEAST_WEIGHT, value)) * WEIGHT_STEPS) / WEIGHT_STEPS

    def as_document(self) -> dict[str, Any]:
        return {"base": self.base, "coefficients": dict(self.coefficients), "means": dict(self.means)}

    def __str__(self) -> str:
        terms = (f" {value:+g} x ({name} - {self.means[name]:.2f})" for name, value in self.coefficients.items())
        return f"{self.base:g}{''.join(terms)}"


def features_of(legs: Sequence[Leg[Any]], known_share: float) -> Features:
    """`legs` are those that found anything, before they are fused."""
    best: dict[str, tuple[float, float]] = {}
    for leg in legs:
        scale = leg.scale or clamp
        scores = nlargest(LAST_RANK, leg.chosen.values())
        best[leg.name] = scale(scores[0]), scale(scores[-1]) if len(scores) == LAST_RANK else 0.0
    (keyword, keyword_last), (vector, vector_last) = (best.get(name, (0.0, 0.0)) for name in ("keyword", "vector"))
    return Features(clamp(known_share), keyword, keyword - keyword_last, vector - vector_last)


def stored(document: Mapping[str, Any]) -> Weighting:
    """The weighting that a generation has."""
    return Weighting(document["base"], document["coefficients"], document["means"])


def check_weighting(weighting: object) -> Weighting:
    """Raises InvalidInput for what is no weighting."""
    if isinstance(weighting, Weighting):
        weighting = weighting.as_document()
    if not isinstance(weighting, Mapping) or weighting.keys() != set(Weighting._fields):
        raise InvalidInput(
            f"a weighting has {', '.join(Weighting._fields)}, as `kameleon.evaluation.evaluate` fits it, not "
            f"{seen(weighting, 80)}"
        )
    coefficients, means = weighting["coefficients"], weighting["means"]
    for name, values, most in (("coefficients", coefficients, MOST_COEFFICIENT), ("means", means, 1.0)):
        if not isinstance(values, Mapping) or values.keys() - set(Features._fields):
            raise InvalidInput(f"{name} of a weighting are of {', '.join(Features._fields)}, not {seen(values, 80)}")
        for value in values.values():
            _check_number(name, value, most)
    if coefficients.keys() - means.keys():
        raise InvalidInput(f"a weighting has the means of its coefficients, {', '.join(coefficients)}")
    _check_number("base", weighting["base"], 1.0)
    return Weighting(float(weighting["base"]), dict(coefficients), dict(means))


def _check_number(name: str, value: object, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= most:
        raise InvalidInput(f"{name} of a weighting: a number from -{most:g} to {most:g}, not {seen(value, 80)}")
