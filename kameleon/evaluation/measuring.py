"""Measures how well an index answers judged queries, and which weight of the vector answers them best. Imports
`metrics`, `search`, `values` and `engine`.

Each query is embedded once and its legs run once; they are then fused in memory as often as there are ways and weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Unpack

from ..metrics import ndcg, recall, reciprocal_rank
from ..search.fusion import WAYS
from ..search.query import TenantOption
from ..search.weighting import features_of
from ..values import Generation, Ref
from .fitting import ENOUGH_FITTED, Fit, fit_weighting, paired
from .judged import Gains, find_judged
from .rankings import WEIGHTS, alone, fused, ndcg_by_weight, own_weight

if TYPE_CHECKING:
    from ..engine import SearchEngine
    from ..search.retrieval import Legs

DEPTH = 100
"""Bounds the hits of a query, as recall@100 does."""
ENOUGH_QUERIES = 10
"""Bounds the judged queries for keeping a weight. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the judged queries: nDCG@10 with linear gain, recall@100, and the reciprocal rank of the first
    relevant among 100."""

    ndcg: float
    recall: float
    mrr: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    `queries` were searched; `skipped` have no relevant record judged, or none that is in the index. Of `judged` records
    `unknown` are not in the index; they count as not found. `figures` by what was searched: keyword, vector where the
    index has a model, and each way of fusing at `weight`, the generation's, or by its weighting; `curve` is nDCG@10 of
    the weighted fusion by weight, and `best` the weight where it is highest, the nearest to the current of several.
    Both are of what `set_weight` would do: as in every search without `weight=`, the vector counts for less where the
    model's vocabulary lacks a query's words, so that `search(weight=w)`, which lowers nothing, may differ from the
    curve at w. `gain` is by how much `best` is better than the index as it is, `noise` two standard errors of that,
    query by query. `fit` is a weight by query, of fifty queries or more. `notes` are those of the searches.
    """

    queries: int
    skipped: int
    judged: int
    unknown: int
    figures: Mapping[str, Figures]
    generation: Generation | None = None
    weight: float | None = None
    best: float | None = None
    curve: Mapping[float, float] | None = None
    gain: float = 0.0
    noise: float = 0.0
    fit: Fit | None = None
    notes: tuple[str, ...] = ()

    @property
    def objection(self) -> str | None:
        """Why `best` is not worth keeping; None where it is."""
        if self.best is None or self.weight is None or self.generation is None:
            return "no vector was searched, so there is no weight to keep"
        if self.queries < ENOUGH_QUERIES:
            return f"{self.queries} judged queries prove too little of others; it takes {ENOUGH_QUERIES}"
        if self.best == self.weight and self.generation.weighting is None:
            return "it is the index's already"
        if self.gain <= self.noise:
            return f"nDCG@10 is {self.gain:.4f} higher by it, which chance alone may do ({self.noise:.4f})"
        return None

    @property
    def fit_objection(self) -> str | None:
        """Why a weight by query is not worth keeping; None where it is."""
        if self.generation is None:
            return "no vector was searched, so there is no weight to fit"
        if self.fit is None:
            return f"{self.queries} judged queries prove too little of others; it takes {ENOUGH_FITTED}"
        if self.fit.weighting.as_document() == self.generation.weighting:
            return "it is the index's already"
        return self.fit.objection


def evaluate(
    search: "SearchEngine",
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, float]],
    *,
    entities: Sequence[str] = (),
    **options: Unpack[TenantOption],
) -> Evaluation:
    """`queries` are texts by id, `qrels` the gains of records by query: a record by its id, or as `entity/id` where
    several entities have that id. `tenant` as in `search`. Raises InvalidInput where no query has a relevant record."""
    judged = find_judged(search, queries, qrels, entities, options)
    answers = [
        (search.admin.legs(queries[query], entities=entities, limit=DEPTH, **options), gains)
        for query, gains in judged.gains.items()
    ]
    notes = tuple(dict.fromkeys(legs.note for legs, _ in answers if legs.note))
    generation = next((legs.generation for legs, _ in answers if legs.generation is not None), None)
    figures = {"keyword": _figures((alone(legs, "keyword"), gains) for legs, gains in answers)}
    if generation is None:
        return Evaluation(*judged.counts, figures, notes=notes)
    figures["vector"] = _figures((alone(legs, "vector"), gains) for legs, gains in answers)
    for way in WAYS:
        figures[way] = _figures((fused(legs, own_weight(legs), way), gains) for legs, gains in answers)
    scores = [ndcg_by_weight(legs, gains) for legs, gains in answers]
    curve = dict(zip(WEIGHTS, map(fmean, zip(*scores, strict=True)), strict=True))
    best = best_weight(curve, generation.weight)
    at_best = [each[WEIGHTS.index(best)] for each in scores]
    gain, noise = paired([ndcg(fused(legs, own_weight(legs)), gains) for legs, gains in answers], at_best)
    fit = _fit(list(judged.gains), answers, scores)
    return Evaluation(*judged.counts, figures, generation, generation.weight, best, curve, gain, noise, fit, notes)


def keep(search: "SearchEngine", found: Evaluation) -> Generation | None:
    """Sets the weights that `evaluate` found better than the index's by more than chance: `best`, and a weight by query
    where that is better than one weight. Returns the generation, None where nothing was to set."""
    generation, fit = found.generation, found.fit
    if generation is None or found.weight is None or found.best is None:
        return None
    if found.objection is not None and found.fit_objection is not None:
        return None
    weight = found.best if found.objection is None else found.weight
    weighting = fit.weighting if fit is not None and fit.objection is None else None
    return search.admin.set_weight(weight, generation, weighting=weighting)


def _fit(
    queries: Sequence[str], answers: Sequence[tuple["Legs", Gains]], scores: Sequence[Sequence[float]]
) -> Fit | None:
    if len(queries) < ENOUGH_FITTED:
        return None
    return fit_weighting(queries, scores, [features_of(legs.legs, legs.known_share) for legs, _ in answers])


def best_weight(curve: Mapping[float, float], current: float) -> float:
    """Where the curve is highest; of several such places the nearest to the current weight, the lower of two."""
    return max(curve, key=lambda weight: (round(curve[weight], 9), -round(abs(weight - current), 9), -weight))


def _figures(answers: Iterable[tuple[Sequence[Ref], Gains]]) -> Figures:
    measured = [(ndcg(r, gains), recall(r, gains), reciprocal_rank(r, gains)) for r, gains in answers]
    return Figures(*(fmean(column) for column in zip(*measured, strict=True)))
