"""The values that cross kameleon's borders: frozen, plain, importing nothing of kameleon's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

BATCH_GENERATED = "embedding.batch_generated"
"""The event after each batch of embeddings."""


class Ref(NamedTuple):
    """Which record: its entity and its id as text. Its order is the order of ties."""

    entity: str
    id: str


def ids_by_entity(refs: Iterable[Ref]) -> dict[str, list[str]]:
    """In the order of the refs."""
    grouped: dict[str, list[str]] = {}
    for entity, id_ in refs:
        grouped.setdefault(entity, []).append(id_)
    return grouped


@dataclass(frozen=True, slots=True)
class LegScore:
    """What one leg said of a hit.

    `rank` is 1-based among that leg's candidates, None where the leg scored the record without having chosen it;
    `raw` is BM25 or the cosine; `score` is `raw` normalised to 0..1; `weight` is the leg's share in the fusion.
    """

    leg: str
    rank: int | None
    raw: float
    score: float
    weight: float
    terms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One hit. `data` is the record as the record store holds it, None for records that live elsewhere.

    `spans` are the (start, end) places of matched words in the first 20,000 characters of `matched_text`, filled by
    `search(..., highlight=True)`.
    """

    entity: str
    id: str
    score: float
    data: Mapping[str, Any] | None
    matched_text: str
    explanation: tuple[LegScore, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()

    def highlight(self, before: str = "<mark>", after: str = "</mark>") -> str:
        parts, end = [], 0
        for start, stop in self.spans:
            parts += [self.matched_text[end:start], before, self.matched_text[start:stop], after]
            end = stop
        return "".join([*parts, self.matched_text[end:]])


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """How a query was answered.

    `legs` names what ran, with milliseconds; `terms` are the query's terms as the index holds them, `candidate_terms`
    those that chose candidates; `note` says in words what was left out and why.
    """

    mode: str
    legs: Mapping[str, float]
    terms: tuple[str, ...] = ()
    candidate_terms: tuple[str, ...] = ()
    generation: int | None = None
    model: str | None = None
    vector_search: str | None = None
    weight: float = 0.0
    note: str = ""


class SearchResults(list[SearchResult]):
    """The hits, best first, and what is known about them as a whole.

    `total` counts the records that the legs put forward before `limit` cut them; `exact` says whether no record that
    should be among the hits can be missing. `facets` and `cursor` are empty unless a search asks for them.
    """

    def __init__(
        self,
        hits: Sequence[SearchResult],
        plan: QueryPlan,
        *,
        total: int = 0,
        exact: bool = True,
        facets: Mapping[str, Mapping[Any, int]] | None = None,
        cursor: str | None = None,
    ) -> None:
        super().__init__(hits)
        self.plan = plan
        self.total = total
        self.exact = exact
        self.facets = facets or {}
        self.cursor = cursor


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One entity's index: `indexed` records; `pending` of them lack a current embedding, `failed` were refused."""

    entity: str
    indexed: int
    pending: int
    last_updated: datetime | None
    failed: int = 0


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one writing call did, in records.

    `unchanged` had the same content and cost nothing; `embedded` got a new embedding, `reused` one made for an
    identical text before; `failed` were refused by the provider (`failures` says why, a few of them);
    `pending` are left to `embeddings sync`, because of `outage` where that is set.
    """

    indexed: int = 0
    unchanged: int = 0
    embedded: int = 0
    reused: int = 0
    failed: int = 0
    pending: int = 0
    failures: tuple[tuple[Ref, str], ...] = ()
    outage: str | None = None

    def __add__(self, other: "IndexReport") -> "IndexReport":
        return IndexReport(
            indexed=self.indexed + other.indexed,
            unchanged=self.unchanged + other.unchanged,
            embedded=self.embedded + other.embedded,
            reused=self.reused + other.reused,
            failed=self.failed + other.failed,
            pending=self.pending + other.pending,
            failures=(self.failures + other.failures)[:MAX_FAILURES_SHOWN],
            outage=other.outage or self.outage,
        )


MAX_FAILURES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A tombstone: why the provider refused a record's text, and how often it was tried."""

    entity: str
    id: str
    reason: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One model's part of the embedding cache; `size` in bytes."""

    fingerprint: str
    texts: int
    size: int
    last_used: datetime


@dataclass(frozen=True, slots=True)
class Generation:
    """One row of the registry: all embeddings made by one fingerprint. `state`: building, active or retired."""

    number: int
    provider: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model_name: str = ""
    dimensions: int = 0
    fingerprint: str = ""
    weight: float = 0.5
    state: str = "active"
