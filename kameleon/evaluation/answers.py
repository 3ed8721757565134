"""What a judged query finds, measured, and kept while the index is as it was. Imports `content`, `metrics`, `search`,
`values` and `engine`."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..content import check_tenants
from ..metrics import ndcg, recall, reciprocal_rank
from ..search.fusion import WAYS
from ..search.options import TenantOption
from ..values import ALL_TENANTS, Generation, IndexStatus, Ref, Tenants
from .judged import Gains, Judged
from .rankings import alone, fused, ndcg_by_weight, own_weight

if TYPE_CHECKING:
    from ..engine import SearchEngine
    from ..search.retrieval import Legs

DEPTH = 100
"""Bounds the hits of a query, as recall@100 does."""
MOST_KEPT = 1_000
"""Bounds the queries of an AnswerCache, which are about 220 kB each with 200 records by each leg."""
CHECKED_S = 2.0
"""Bounds how old the answers of an AnswerCache are: to count the records of 20,000 takes .1 s. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the judged queries: nDCG@10 with linear gain, recall@100, and the reciprocal rank of the first
    relevant among 100."""

    ndcg: float
    recall: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one query: the figures by what was searched, and nDCG@10 at each of WEIGHTS."""

    figures: Mapping[str, Figures]
    scores: Sequence[float]


class Answer:
    """The legs of one query. What was measured is kept for the same gains."""

    def __init__(self, legs: "Legs") -> None:
        self.legs = legs
        self._last: tuple[Gains, Measured] | None = None

    def by_keywords(self, gains: Gains) -> Figures:
        return _figures(alone(self.legs, "keyword"), gains)

    def measured(self, gains: Gains) -> Measured:
        if self._last is None or self._last[0] != gains:
            self._last = gains, self._measure(gains)
        return self._last[1]

    def of(self, generations: Sequence[Generation]) -> "Answer":
        """The same, weighted as its generation is now."""
        number = self.legs.generation and self.legs.generation.number
        now = next((each for each in generations if each.number == number), self.legs.generation)
        return self if now == self.legs.generation else Answer(replace(self.legs, generation=now))

    def _measure(self, gains: Gains) -> Measured:
        legs, own = self.legs, own_weight(self.legs)
        figures = {"keyword": self.by_keywords(gains), "vector": _figures(alone(legs, "vector"), gains)}
        ways = {way: _figures(fused(legs, own, way), gains) for way in WAYS}
        return Measured({**figures, **ways}, ndcg_by_weight(legs, gains))


class AnswerCache:
    """Keeps what the queries of evaluations found, so that another by other judgements searches for new queries alone.
    A query is searched again once records, embeddings, synonyms or query rules have changed; for records that is looked
    at every `checked_s` seconds. Threads may share it."""

    def __init__(self, checked_s: float = CHECKED_S) -> None:
        self._checked_s = checked_s
        self._lock = Lock()
        self._status: dict[Tenants, tuple[float, Sequence[IndexStatus]]] = {}
        self._kept: OrderedDict[tuple[Any, ...], tuple[object, Answer]] = OrderedDict()

    def answers(
        self, search: "SearchEngine", judged: Judged, entities: Sequence[str], options: TenantOption
    ) -> list[Answer]:
        tenants = check_tenants(options.get("tenant", ""))
        with search.index.reading() as connection:
            generations, curation, _ = search.index.catalog.registry(connection)
        unweighted = [replace(each, weight=0.0, weighting=None) for each in generations]
        state = self._status_of(search, tenants), unweighted, curation
        found = []
        for query in judged.gains:
            key = judged.texts[query], tuple(entities), tenants
            answer = self._get(key, state)
            if answer is None:
                answer = _answer(search, judged.texts[query], entities, options)
            else:
                answer = answer.of(generations)
            if answer.legs.generation is not None or not generations:  # else the provider did not answer
                self._keep(key, state, answer)
            found.append(answer)
        return found

    def _status_of(self, search: "SearchEngine", tenants: Tenants) -> Sequence[IndexStatus]:
        with self._lock:
            checked, status = self._status.get(tenants, (0.0, ()))
        if status and monotonic() < checked + self._checked_s:
            return status
        status = search.get_status(tenant=ALL_TENANTS if tenants is None else tenants)
        with self._lock:
            if len(self._status) > MOST_KEPT:
                self._status.clear()
            self._status[tenants] = monotonic(), status
        return status

    def _get(self, key: tuple[Any, ...], state: object) -> Answer | None:
        with self._lock:
            before, answer = self._kept.get(key, (None, None))
            return answer if before == state else None

    def _keep(self, key: tuple[Any, ...], state: object, answer: Answer) -> None:
        with self._lock:
            self._kept[key] = state, answer
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


def answers_of(search: "SearchEngine", judged: Judged, entities: Sequence[str], options: TenantOption) -> list[Answer]:
    return [_answer(search, judged.texts[query], entities, options) for query in judged.gains]


def _answer(search: "SearchEngine", text: str, entities: Sequence[str], options: TenantOption) -> Answer:
    return Answer(search.admin.legs(text, entities=entities, limit=DEPTH, **options))


def _figures(ranked: Sequence[Ref], gains: Gains) -> Figures:
    return Figures(ndcg(ranked, gains), recall(ranked, gains), reciprocal_rank(ranked, gains))
