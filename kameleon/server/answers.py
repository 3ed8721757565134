"""What the API answers, for the OpenAPI document: the documents of the library by their types. Imports `doctor`,
`entities`, `evaluation`, `excerpts` and `values`."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from ..doctor.findings import Finding
from ..entities import FieldDescription, Kind
from ..evaluation import Figures
from ..excerpts import Passage, Snippet
from ..values import CacheStatus, Failure, IndexStatus, LegScore, QueryPlan, Sizes, TenantStatus


class FacetCount(BaseModel):
    """A value, or a bucket from `from` on and before `to`; `where` is the filter for it where `value` is none."""

    count: int
    value: Any = None
    start: Any = Field(None, alias="from")
    end: Any = Field(None, alias="to")
    where: dict[str, Any] | None = None


class Hit(BaseModel):
    entity: str
    id: str
    tenant: str = ""
    score: float
    is_pinned: bool = False
    data: dict[str, Any] | None
    matched_text: str
    spans: list[list[int]]
    snippet: Snippet | None
    passages: list[Passage] = []
    explanation: list[LegScore] = []


class Legs(BaseModel):
    keyword: list[Hit]
    vector: list[Hit]


class SearchAnswer(BaseModel):
    total: int
    is_total_exact: bool
    exact: bool
    hits: list[Hit]
    cursor: str | None
    facets: dict[str, list[FacetCount]] = {}
    note: str
    corrections: dict[str, str]
    synonyms: dict[str, list[str]]
    plan: QueryPlan | None = None
    legs: Legs | None = None


class Suggestions(BaseModel):
    suggestions: list[str]


class RecordAnswer(BaseModel):
    """A record of the record store; of another what the index has: `content`, and no times."""

    entity: str
    id: str
    tenant: str = ""
    data: dict[str, Any] | None
    content: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class RecordsAnswer(BaseModel):
    records: list[RecordAnswer]
    cursor: str | None


class CountAnswer(BaseModel):
    count: int


class RefusedText(BaseModel):
    entity: str
    id: str
    tenant: str
    reason: str


class IndexedAnswer(BaseModel):
    indexed: int
    unchanged: int
    embedded: int
    reused: int
    failed: int
    pending: int
    failures: list[RefusedText]
    outage: str | None


class InsertAnswer(BaseModel):
    inserted: int
    updated: int
    skipped: int
    index: IndexedAnswer
    created_entity: str | None
    unsearched: list[str]
    keyword_only: list[str]
    ids: list[str]


class DeleteAnswer(BaseModel):
    deleted: int


class EntityAnswer(BaseModel):
    name: str
    kind: Kind
    fields: list[FieldDescription]
    indexed: int
    has_tenants: bool
    values: dict[str, list[FacetCount]] = {}


class EntitiesAnswer(BaseModel):
    entities: list[EntityAnswer]


class GenerationAnswer(BaseModel):
    number: int
    provider: str
    model_name: str
    dimensions: int
    fingerprint: str
    weight: float
    state: str
    noise_mean: float | None
    noise_deviation: float | None
    weighting: dict[str, Any] | None
    vector_index: str


class RunAnswer(BaseModel):
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
    rows_per_second: float
    seconds_left: float | None


class StatusAnswer(BaseModel):
    version: str
    writes: bool
    namespace: str | None
    entities: list[IndexStatus]
    generations: list[GenerationAnswer]
    reindex: RunAnswer | None
    cache: list[CacheStatus]
    size: Sizes | None
    tenants: list[TenantStatus]


class FailuresAnswer(BaseModel):
    failures: list[Failure]


class FindingsAnswer(BaseModel):
    findings: list[Finding]


class JudgementAnswer(BaseModel):
    query: str
    entity: str
    id: str
    gain: float
    tenant: str = ""


class JudgementsAnswer(BaseModel):
    judgements: list[JudgementAnswer]


class KeptAnswer(BaseModel):
    kept: int
    removed: int


class EvaluationAnswer(BaseModel):
    """`figures` by what was searched; `errors_by_weight` are two standard errors of the difference to the index's."""

    queries: int
    skipped: int
    judged: int
    unknown: int
    figures: dict[str, Figures]
    model: str | None
    generation: int | None
    weight: float | None
    best_weight: float | None
    gain: float
    noise: float
    objection: str | None
    ndcg_by_weight: dict[str, float]
    errors_by_weight: dict[str, float]
    fit: dict[str, Any] | None
    notes: list[str]


class WeightAnswer(BaseModel):
    weight: float
    generation: int
    model: str


class Problem(BaseModel):
    """RFC 9457. `title` is the name of the error's class, `detail` its message."""

    type: str
    title: str
    status: int
    detail: str
