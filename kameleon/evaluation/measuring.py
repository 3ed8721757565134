"""Measures how well an index answers judged queries, and which weight of the vector answers them best. Imports
`judgements`, `metrics`, `search`, `values` and `engine`.

Each query is embedded once and its legs run once; they are then fused in memory as often as there are ways and weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Unpack

from ..judgements import Judgement
from ..search.options import TenantOption
from ..search.weighting import features_of
from ..values import Generation
from .answers import Answer, AnswerCache, Figures, Measured, answers_of
from .fitting import ENOUGH_FITTED, Fit, fit_weighting, paired
from .judged import Judged, judged_by
from .rankings import WEIGHTS

if TYPE_CHECKING:
    from ..engine import SearchEngine

ENOUGH_QUERIES = 10
"""Bounds the judged queries for keeping a weight. Chosen, not measured."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    `queries` were searched; `skipped` have no relevant record judged, or none that is in the index. Of `judged` records
    `unknown` are not in the index; they count as not found. `figures` by what was searched: keyword, vector where the
    index has a model, and each way of fusing at `weight`, the generation's, or by its weighting; `curve` is nDCG@10 of
    the weighted fusion by weight, `errors` two standard errors of the difference between that and the index as it is,
    query by query, and `best` the weight where it is highest, the nearest to the current of several.
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
    errors: Mapping[float, float] | None = None

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
    queries: Mapping[str, str] | None = None,
    qrels: Mapping[str, Mapping[str, float]] | None = None,
    *,
    judgements: Iterable[Judgement] | None = None,
    entities: Sequence[str] = (),
    fits: bool = True,
    cache: AnswerCache | None = None,
    **options: Unpack[TenantOption],
) -> Evaluation:
    """`queries` are texts by id, `qrels` the gains of records by query: a record by its id, or as `entity/id` where
    several entities have that id. `judgements` name the records of theirs; without any of these those are taken that
    are kept with the index. `fits` is whether a weight by query is fitted; with a `cache` queries are not searched for
    again that another call with it has searched for. `tenant` as in `search`. Raises InvalidInput where no query has a
    relevant record."""
    judged = judged_by(search, queries, qrels, judgements, entities, options)
    found = answers_of if cache is None else cache.answers
    answers = found(search, judged, entities, options)
    notes = tuple(dict.fromkeys(answer.legs.note for answer in answers if answer.legs.note))
    generation = next((answer.legs.generation for answer in answers if answer.legs.generation is not None), None)
    pairs = list(zip(answers, judged.gains.values(), strict=True))
    if generation is None:
        by_keywords = _mean([answer.by_keywords(gains) for answer, gains in pairs])
        return Evaluation(*judged.counts, {"keyword": by_keywords}, notes=notes)
    measured = [answer.measured(gains) for answer, gains in pairs]
    fit = _fit(list(judged.gains), answers, [each.scores for each in measured]) if fits else None
    return replace(_weighed(judged, generation, measured), fit=fit, notes=notes)


def _weighed(judged: Judged, generation: Generation, measured: Sequence[Measured]) -> Evaluation:
    """Compares each weight with the index as it is."""
    figures = {name: _mean([each.figures[name] for each in measured]) for name in measured[0].figures}
    current = [each.figures["weighted"].ndcg for each in measured]
    by_weight = dict(zip(WEIGHTS, zip(*(each.scores for each in measured), strict=True), strict=True))
    curve = {weight: fmean(scores) for weight, scores in by_weight.items()}
    differences = {weight: paired(current, scores) for weight, scores in by_weight.items()}
    best = best_weight(curve, generation.weight)
    errors = {weight: error for weight, (_, error) in differences.items()}
    made = Evaluation(*judged.counts, figures, generation, generation.weight, best, curve, *differences[best])
    return replace(made, errors=errors)


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


def _fit(queries: Sequence[str], answers: Sequence[Answer], scores: Sequence[Sequence[float]]) -> Fit | None:
    if len(queries) < ENOUGH_FITTED:
        return None
    legs = [answer.legs for answer in answers]
    return fit_weighting(queries, scores, [features_of(each.legs, each.known_share) for each in legs])


def best_weight(curve: Mapping[float, float], current: float) -> float:
    """Where the curve is highest; of several such places the nearest to the current weight, the lower of two."""
    return max(curve, key=lambda weight: (round(curve[weight], 9), -round(abs(weight - current), 9), -weight))


def _mean(figures: Sequence[Figures]) -> Figures:
    return Figures(
        *(fmean(column) for column in zip(*((one.ndcg, one.recall, one.mrr) for one in figures), strict=True))
    )
