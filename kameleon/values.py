"""The values that public calls take and return: frozen and plain. Imports `errors`, `excerpts`, `facet_counts` and
`documents`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from .documents import results_document
from .errors import InvalidInput
from .excerpts import Passage, Snippet, marked
from .facet_counts import Bucket as Bucket

T = TypeVar("T")

BATCH_GENERATED = "embedding.batch_generated"
"""The event after each batch of embeddings."""


class Ref(NamedTuple):
    """Identifies a record by its entity, its id as text and its tenant, "" where it has none. Hits of equal score are
    in this order."""

    entity: str
    id: str
    tenant: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """The key in the index, in whose order rows are locked and written."""
        return self.tenant, self.entity, self.id


class AllTenants(Enum):
    """The type of `ALL_TENANTS`."""

    ALL_TENANTS = "all tenants"


ALL_TENANTS: Final = AllTenants.ALL_TENANTS
"""What a search takes for `tenant` that is to read the records of all."""
Tenants = tuple[str, ...] | None
"""Whose records are read: sorted and distinct; "" is the records that have no tenant, None all there are."""


@dataclass(frozen=True, slots=True)
class LegScore:
    """One leg's score of a hit.

    `leg` is keyword, vector, or rerank, whose score is the hit's own where there is one; or `boost:` with its field or
    condition; or diversity, whose `score` is the relevance over that of the best hit, `raw` the greatest cosine to a
    hit before it and `rank` the place by relevance; or pinned, whose `rank` is the place and which scores none. `rank`
    is 1-based among that leg's candidates, None where the leg scored the record without having chosen it; `raw` is
    BM25, the cosine or the reranker's score; `score` is `raw` normalised to 0..1, by which the fusion orders; `weight`
    is the leg's share. `evidence` is what `raw` is worth by itself, 0..1: the hit's score is the sum of
    `weight * evidence`, but at most the score of the hit before it. `terms` are those of the query that the record has.
    `generation` is the one whose embeddings the vector leg compared.

    Of a boost `raw` is the field's value, the age in days, or whether the condition holds; `evidence` is how much of
    `weight` that counts, 0..1; `score` is the factor, 1 + weight * evidence, by which both the order and the hit's
    score are multiplied. A boost by a field that the record lacks has no entry.
    """

    leg: str
    rank: int | None
    raw: float
    score: float
    weight: float
    evidence: float = 0.0
    terms: tuple[str, ...] = ()
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One hit. `data` is the record as the record store holds it; of a row of a mapped class or a table its texts and
    filterable columns with `search(..., data=True)`, None without. `object` is the mapped object that
    `search(..., session=session, load=True)` loads.

    `spans` are the (start, end) places of matched words in the first 20,000 characters of `matched_text` and in the
    `snippet`, both filled by `search(..., highlight=True)`; of a hit without any, the place of the sentence nearest to
    the query. `passages`, the best first, are filled by `search(..., passages=3)`, `explanation` by `explain=True`.
    `is_pinned` is whether a rule or `pin=` put it there. `similarity` is the cosine, -1 to 1, of the query's vector and
    that of the record, of its nearest passage where it has several: of every hit with an embedding of a search that
    compared vectors, also of one that its words found. `vector` is the embedding, of length 1, of the record
    or its first passage, as float32 numbers, by `search(..., vectors=True)`: None of one that is pending.
    """

    entity: str
    id: str
    score: float
    data: Mapping[str, Any] | None
    matched_text: str
    explanation: tuple[LegScore, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    tenant: str = ""
    snippet: Snippet | None = None
    passages: tuple[Passage, ...] = ()
    object: Any = field(default=None, compare=False, repr=False)
    is_pinned: bool = False
    similarity: float | None = None
    vector: tuple[float, ...] | None = field(default=None, repr=False)

    def highlight(self, before: str = "<mark>", after: str = "</mark>") -> str:
        """`matched_text` with marks around what matched; as HTML, the text escaped, where a mark is a tag."""
        return marked(self.matched_text, self.spans, before, after)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """How a query was answered.

    `legs` names what ran, with milliseconds; `terms` are the query's words that records have; `corrections` are
    words that no record has, or few, and those that keywords took for them; `synonyms` are what keywords were also
    searched for, by what the query has; `rows_scanned` is how many postings or
    vectors of living records each leg read, where that is known; `is_query_cached`: the query's embedding was in
    memory; `note` is a sentence about what was left out and why.
    """

    mode: str
    legs: Mapping[str, float]
    terms: tuple[str, ...] = ()
    generation: int | None = None
    model: str | None = None
    vector_search: str | None = None
    weight: float = 0.0
    rows_scanned: Mapping[str, int] = field(default_factory=dict)
    is_query_cached: bool = False
    note: str = ""
    corrections: Mapping[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)


class SearchResults(list[SearchResult]):
    """The hits, best first, and figures of the whole answer.

    `total` is how many records are hits of some page: those that have a word of the query, and those whose vector is
    evidence enough, if their score is at least `min_score`. `is_total_exact` is False where `total` is a lower bound.
    `exact`: no record that should be among the hits can be missing.

    `cursor` is what the next page takes, None after the last. `facets` are counts over the matches, by field and
    value, the most frequent first. `groups` are the hits by entity, in the order of their best, if grouped.
    `has_objects`: the hits of mapped classes have their objects.
    """

    def __init__(
        self,
        hits: Sequence[SearchResult],
        plan: QueryPlan,
        *,
        total: int = 0,
        exact: bool = True,
        is_total_exact: bool = True,
        facets: Mapping[str, Mapping[Any, int]] | None = None,
        cursor: str | None = None,
        groups: Mapping[str, Sequence[SearchResult]] | None = None,
    ) -> None:
        super().__init__(hits)
        self.plan = plan
        self.total = total
        self.exact = exact
        self.is_total_exact = is_total_exact
        self.facets: Mapping[str, Mapping[Any, int]] = facets or {}
        self.cursor = cursor
        self.groups: Mapping[str, Sequence[SearchResult]] = groups or {}
        self.has_objects = False

    def as_dict(self, *, explain: bool = False) -> dict[str, Any]:
        """The JSON document of the answer, as the command with --json and the API give it: hits without objects, values
        that JSON does not have as text. `explain` adds each hit's legs, and the plan."""
        return results_document(self, explain=explain)

    def objects(self, cls: type[T]) -> list[T]:
        """The objects of a class, in the order of their hits. Raises InvalidInput where none were to be loaded."""
        if not self.has_objects:
            raise InvalidInput("no objects were loaded: search(..., session=session, load=True)")
        return [hit.object for hit in self if isinstance(hit.object, cls)]


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One entity's index: `indexed` records; `pending` of them lack a current embedding, `failed` were refused.
    `unindexed` rows of its class, where this process has that, are not in the index: `sync` indexes them. `note` is
    why vectors are not searched with this engine's model, and what else was logged as a warning and still holds.
    `keyword_search` is where keywords are ranked, in the "index" or the "server"."""

    entity: str
    indexed: int
    pending: int
    last_updated: datetime | None
    failed: int = 0
    note: str = ""
    unindexed: int = 0
    keyword_search: str = "index"


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one writing call did, in records.

    `unchanged` had the same content and cost nothing; `embedded` got a new embedding, `reused` one made for an
    identical text before, or the caller's; `failed` were refused by the provider (`failures` are a few of them, with
    reasons); `pending` are left to `embeddings sync`, because of `outage` where that is set.
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
        counts = ("indexed", "unchanged", "embedded", "reused", "failed", "pending")
        return IndexReport(
            **{name: getattr(self, name) + getattr(other, name) for name in counts},
            failures=(self.failures + other.failures)[:MAX_FAILURES_SHOWN],
            outage=other.outage or self.outage,
        )


MAX_FAILURES_SHOWN = 20
"""Bounds the failures that a report names. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A tombstone: why the provider refused a record's text, and how often it was tried."""

    entity: str
    id: str
    reason: str
    message: str
    attempts: int
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """One model's part of the embedding cache; `size` in bytes."""

    fingerprint: str
    texts: int
    size: int
    last_used: datetime


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes. `tables` are kameleon's own with their indexes, the largest first: on PostgreSQL alone, where rows on the
    workers of Citus are not counted. `database` has the application's tables, too; on SQLite without the WAL."""

    database: int
    tables: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TenantStatus:
    """`indexed` records of a tenant."""

    tenant: str
    indexed: int


BUILDING = "building"


Noise = tuple[float, float]
"""The mean and the standard deviation of the cosines of unrelated texts, of one model."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One row of the registry: all embeddings made by one fingerprint. `state`: building, active, retired, dropped.
    `noise_mean` and `noise_deviation` are of the cosines of unrelated sentences, None until they were measured.
    `weighting` is how the weight follows from a query, None where it is `weight` for all."""

    number: int
    provider: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model_name: str = ""
    dimensions: int = 0
    fingerprint: str = ""
    weight: float = 0.5
    state: str = "active"
    noise_mean: float | None = None
    noise_deviation: float | None = None
    weighting: Mapping[str, Any] | None = None

    @property
    def noise(self) -> Noise | None:
        """Both, where both are known."""
        mean, deviation = self.noise_mean, self.noise_deviation
        return None if mean is None or deviation is None else (mean, deviation)


@dataclass(frozen=True, slots=True)
class ReindexRun:
    """A run that builds or fills a generation, as any process sees it: records of `total` that are done, and seconds.
    `phase`: embedding, indexing, comparing, done, stopped or refused (by its gate); `owner` has the lease, None if
    no process has."""

    generation: int
    phase: str
    owner: str | None
    total: int
    embedded: int
    reused: int
    failed: int
    embedding_s: float
    writing_s: float
    indexing_s: float
    began_at: datetime
    updated_at: datetime

    @property
    def done(self) -> int:
        return self.embedded + self.reused + self.failed

    @property
    def rows_per_second(self) -> float:
        """Of one process, averaged over those that work at it; 0 before the first batch."""
        seconds = self.embedding_s + self.writing_s
        return self.done / seconds if seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Of embedding, at this rate; None before the first batch."""
        return max(0, self.total - self.done) / self.rows_per_second if self.rows_per_second else None


@dataclass(frozen=True, slots=True)
class GateReport:
    """How the rankings of two models compare. `overlap` is the share of the first ten that both have, averaged over
    `queries`; nDCG@10 with linear gain over those of them with judgements, None without any."""

    queries: int
    overlap: float
    judged: int = 0
    ndcg_before: float | None = None
    ndcg_after: float | None = None


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """What `reindex` did, in records and seconds.

    `action`: "nothing" (all is current), "filled" (what was pending in the active generation), "built" (another
    generation, `switched`: the index reads it now) or "rolled back" (the generation before is active again). `reused`
    came from the cache or an identical text of the same batch; `failed` are tombstones, `failures` a few of them.
    `stopped` is why the run ended before its end, `outage` the provider's error where that was the reason: run it again
    and it resumes. `notes` are for the reader.
    """

    action: str
    generation: int | None
    model: str
    embedded: int = 0
    reused: int = 0
    failed: int = 0
    pending: int = 0
    embedding_s: float = 0.0
    writing_s: float = 0.0
    indexing_s: float = 0.0
    seconds: float = 0.0
    switched: bool = False
    stopped: str = ""
    outage: str | None = None
    failures: tuple[tuple[Ref, str], ...] = ()
    gate: GateReport | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows_per_second(self) -> float:
        """The index's build not counted."""
        seconds = self.seconds - self.indexing_s
        return (self.embedded + self.reused + self.failed) / seconds if seconds > 0 else 0.0
