"""Compares two settings of a search by judged queries, query by query. Imports `entities`, `errors`, `judgements`,
`metrics`, `search`, `values` and `engine`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ..entities import named
from ..errors import InvalidInput, seen
from ..judgements import Judgement
from ..metrics import DEPTH, ndcg, reciprocal_rank
from ..search.options import SearchOptions, TenantOption
from ..values import Ref
from .fitting import paired
from .judged import Gains, judged_by

if TYPE_CHECKING:
    from ..engine import SearchEngine

GIVEN = (
    *("tenant", "limit", "offset", "cursor", "group_by"),
    *("highlight", "count", "facets", "explain", "load", "passages", "snippet_length"),
)
"""Options that a setting cannot have: the tenant is both settings', the page is the ten best, and the others change no
order."""
ROUNDS, PART = 10_000, 500
"""How many random signs of the differences are tried, and how many at once."""
TIE = 1e-9
NO_OPTIONS: SearchOptions = {}


@dataclass(frozen=True, slots=True)
class Compared:
    """One query: nDCG@10 and the reciprocal rank of its first relevant record among ten, by both settings."""

    query: str
    text: str
    ndcg_before: float
    ndcg_after: float
    mrr_before: float
    mrr_after: float

    @property
    def difference(self) -> float:
        return self.ndcg_after - self.ndcg_before


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: `queries` in the order of their differences, the greatest first. `gain` is the mean
    difference of nDCG@10, `noise` two standard errors of it; `p` is how often the mean is so great or greater, in
    either direction, where it is chance which of the two settings has which of a query's figures (Fisher's
    randomisation test). `skipped`, `judged`, `unknown` and `notes` as in Evaluation."""

    queries: Sequence[Compared]
    skipped: int
    judged: int
    unknown: int
    gain: float
    noise: float
    p: float
    notes: tuple[str, ...] = ()

    @property
    def wins(self) -> int:
        """How many queries are better after than before."""
        return sum(query.difference > TIE for query in self.queries)

    @property
    def losses(self) -> int:
        return sum(query.difference < -TIE for query in self.queries)

    @property
    def ties(self) -> int:
        return len(self.queries) - self.wins - self.losses

    def mean(self, figure: str) -> float:
        """Of `ndcg_before`, `ndcg_after`, `mrr_before` or `mrr_after`."""
        return fmean(getattr(query, figure) for query in self.queries)

    def most_different(self, number: int) -> list[Compared]:
        """The queries with so many of the greatest wins and losses each."""
        wins = [query for query in self.queries[:number] if query.difference > TIE]
        return wins + [query for query in self.queries[-number:] if query.difference < -TIE] if number else []

    @property
    def verdict(self) -> str:
        figures = f"nDCG@10 {self.gain:+.4f} ± {self.noise:.4f}, p = {self.p:.4f}"
        if abs(self.gain) <= self.noise or not self.gain:
            return f"no difference that chance alone would not make: {figures}"
        return f"after is {'better' if self.gain > 0 else 'worse'} than before: {figures}"


def compare(
    search: "SearchEngine",
    queries: Mapping[str, str] | None = None,
    qrels: Mapping[str, Mapping[str, float]] | None = None,
    before: SearchOptions = NO_OPTIONS,
    after: SearchOptions = NO_OPTIONS,
    *,
    judgements: Iterable[Judgement] | None = None,
    entities: Sequence[str] = (),
    **options: Unpack[TenantOption],
) -> Comparison:
    """`before` and `after` are options of `search`, {} the index's own settings; the others as in `evaluate`."""
    settings = [check_setting(name, setting) for name, setting in (("before", before), ("after", after))]
    judged = judged_by(search, queries, qrels, judgements, entities, options)
    notes: dict[str, None] = {}
    searched, compared = named(search, entities) or None, []
    for query, gains in judged.gains.items():
        text = judged.texts[query]
        old, new = (_measured(search, text, gains, searched, {**one, **options}, notes) for one in settings)
        compared.append(Compared(query, text, old[0], new[0], old[1], new[1]))
    compared.sort(key=lambda one: -one.difference)
    differences = [one.difference for one in compared]
    gain, noise = paired([0.0] * len(differences), differences)
    counts = (judged.skipped, judged.judged, judged.unknown)
    return Comparison(compared, *counts, gain, noise, randomised(differences), tuple(notes))


def _measured(
    search: "SearchEngine",
    text: str,
    gains: Gains,
    entities: Sequence[object] | None,
    options: Mapping[str, Any],
    notes: dict[str, None],
) -> tuple[float, float]:
    hits = search.search(text, entities=entities, limit=DEPTH, **options)
    if hits.plan.note:
        notes[hits.plan.note] = None
    ranked = [Ref(hit.entity, hit.id, hit.tenant) for hit in hits]
    return ndcg(ranked, gains), reciprocal_rank(ranked, gains, DEPTH)


def check_setting(name: str, setting: object) -> Mapping[str, Any]:
    """Raises InvalidInput for what is no setting."""
    if not isinstance(setting, Mapping):
        raise InvalidInput(f"{name} has options of a search, such as {{'mode': 'keyword'}}, not {seen(setting)}")
    known = sorted(SearchOptions.__optional_keys__ - set(GIVEN))
    for option in setting:
        if option in GIVEN:
            raise InvalidInput(f"{name}: leave {option} out: both settings have the ten best hits of the same records")
        if option not in known:
            raise InvalidInput(f"{name}: a search has no option {seen(option)}. Known: {', '.join(known)}")
    return setting


def randomised(differences: Sequence[float]) -> float:
    """The share of random signs whose sum is as far from 0 as that of the differences, which are one of them."""
    values = np.array([value for value in differences if abs(value) > TIE])
    if not len(values):
        return 1.0
    random = np.random.default_rng(1)
    seen_sum = abs(values.sum()) - TIE
    extreme = 0
    for _ in range(ROUNDS // PART):
        signs = random.integers(0, 2, (PART, len(values)), "i1") * 2 - 1
        extreme += int((abs(signs @ values) >= seen_sum).sum())
    return (extreme + 1) / (ROUNDS + 1)
