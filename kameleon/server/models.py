"""What requests have, by the names that the verbs of the library have: of query parameters, of a JSON body, and of a
tool's arguments. Imports `indexing` and `search`.

What is neither a text, a number, a boolean nor a list of these is JSON text in a query string. What the verbs check
themselves is of type Any here, so that the messages are theirs.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, StringConstraints, Tag

from ..indexing.judgements import MAX_GAIN, MAX_QUERY_BYTES
from ..search.checks import MAX_LIMIT
from ..search.query import MAX_PASSAGES, MAX_SNIPPET, MIN_SNIPPET

MAX_SUGGESTIONS = 200
"""Bounds what one request of /api/suggest gets. Chosen, not measured."""
MAX_TEXT = 50_000
"""Bounds the characters of a query. Chosen, not measured."""
MAX_LISTED = 1_000
"""Bounds the records of one page of /api/records. Chosen, not measured."""
PYTHON_ALONE = ("rerank", "rerank_top", "load", "session", "connection")
"""Options of the verbs that JSON cannot have."""


FieldName = Annotated[str, StringConstraints(min_length=1)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Names = Name | list[Name]
Id = Annotated[str, StringConstraints(min_length=1)] | int
Ids = Id | list[Id]
Tenants = str | list[str]
Cursor = Annotated[str, StringConstraints(min_length=1)]
Query = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_BYTES)]
Gain = Annotated[float, Field(ge=0, le=MAX_GAIN)]
Share = Annotated[float, Field(ge=0, le=1)]


class GivenHit(BaseModel):
    """A hit, of which its entity and id are read."""

    entity: Name
    id: Id


Record = Id | Annotated[list[Id], Field(min_length=2, max_length=2)] | GivenHit


class Given(BaseModel):
    """Values of a request; other names are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def options(self, *others: str) -> dict[str, Any]:
        """Those that were given and are not null, but for these."""
        given = {name: getattr(self, name) for name in self.model_fields_set if name not in others}
        return {name: value for name, value in given.items() if value is not None}


class Within(Given):
    tenant: Tenants | None = Field(None, description="Whose records: one tenant, or several.")
    all_tenants: bool = Field(False, description="The records of all tenants.")


class Searching(Within):
    """What `search` and `similar` share."""

    entities: Names | None = Field(None, description="The entities to search; of all without it.")
    limit: int = Field(10, ge=1, le=MAX_LIMIT, description="Hits at most.")
    offset: int = Field(0, ge=0, le=MAX_LIMIT, description="Skip so many of the best hits.")
    cursor: Cursor | None = Field(None, description="The `cursor` of the page before.")
    mode: Literal["hybrid", "keyword", "vector"] = Field("hybrid", description="By both legs, or by one.")
    where: dict[str, Any] | None = Field(None, description='A filter, such as {"status": "open"}.')
    ids: Ids | None = Field(None, description="The only records to search.")
    min_score: Share = Field(0.0, description="Leave out hits of a lower score.")
    hide: list[Record] = Field([], description="Records that are no hits: ids, or [entity, id].")
    fusion: Literal["weighted", "rrf", "dbsf"] = Field("weighted", description="How the legs' scores are combined.")
    weight: Share | None = Field(None, description="The vector leg's share of the score; the model's own without it.")
    boost: Any = Field(None, description="Boosts as JSON; [] for none.")
    sort: str | list[str] | None = Field(
        None, description="Order the 1,000 best by a field, -field: the greatest first."
    )
    limit_by: dict[str, int] | None = Field(
        None, description='At most so many hits of each value of a field: {"brand": 1}.'
    )
    group_by: Literal["entity"] | None = Field(None, description="`limit` hits of each entity.")
    diversity: Share = Field(0.0, description="Order the 100 best so that each is unlike those before it.")
    synonyms: bool = Field(True, description="Use the synonyms of the index.")
    rules: bool = Field(True, description="Use the query rules of the index.")
    count: bool = Field(False, description="Count all that match.")
    facets: Any = Field(None, description='Fields whose values are counted: ["status", {"price": [0, 10, 100]}].')
    highlight: bool = Field(True, description="Give `spans` and `snippet`.")
    snippet_length: int | None = Field(None, ge=MIN_SNIPPET, le=MAX_SNIPPET, description="Characters of a snippet.")
    passages: int = Field(0, ge=0, le=MAX_PASSAGES, description="So many of the best passages of each hit.")
    explain: bool = Field(False, description="Give each leg's score of each hit, and the plan.")


class SearchRequest(Searching):
    query: Text = Field("", description="Any text; an empty one lists records.")
    entity: Names | None = Field(None, description="As `entities`; repeatable.")
    pin: list[Record] = Field([], description="Records to put first: ids, or [entity, id].")
    legs: bool = Field(False, description="Give the best hits of each leg alone, too.")


class SimilarRequest(Searching):
    entity: Name = Field(description="The entity of the record.")
    id: Id = Field(description="The record that others are to be similar to.")


class SuggestRequest(Within):
    text: Text = Field(description="A text whose last word is completed.")
    entity: Names | None = Field(None, description="The entities whose words are suggested; repeatable.")
    entities: Names | None = Field(None, description="As `entity`.")
    limit: int = Field(10, ge=1, le=MAX_SUGGESTIONS, description="Suggestions at most.")


class EntityRequest(Within):
    name: Name = Field(description="The entity.")


class FailuresRequest(Within):
    entity: Name | None = Field(None, description="The failures of this entity alone.")


class CountRequest(Within):
    entity: Name = Field(description="The entity of the records.")
    where: dict[str, Any] | None = Field(None, description="A filter, as of a search.")


class ListRequest(CountRequest):
    id: Ids | None = Field(None, description="These records alone, in the order of the ids; repeatable.")
    limit: int = Field(100, ge=1, le=MAX_LISTED, description="Records at most.")
    cursor: Cursor | None = Field(None, description="The `cursor` of the page before.")


class OneTenant(Given):
    tenant: str | None = Field(None, description="The tenant of the record.")


class RecordRequest(OneTenant):
    entity: Name = Field(description="The entity of the record.")
    id: str = Field(min_length=1, description="The record's id; it may have slashes.")


class InsertRequest(OneTenant):
    entity: Name = Field(description="The entity, which is made if it is missing.")
    records: list[dict[FieldName, Any]] = Field(description="The records; one without `id` gets a random one.")
    on_conflict: Literal["error", "replace", "merge", "ignore"] = Field(
        "replace", description="Where an id exists: refuse, replace the record, set its fields, or leave it."
    )
    create: bool = Field(True, description="Make a missing entity.")


class Fields(RootModel[dict[FieldName, Any]]):
    """The fields of a record."""

    model_config = ConfigDict(strict=True)


class Judged(OneTenant):
    query: Query = Field(description="The query that was searched for.")
    entity: Name = Field(description="The entity of the record.")
    id: Id = Field(description="The record's id.")
    gain: Gain | None = Field(description="0 for a record that is not relevant; null removes the judgement.")


OneOrSeveral = Annotated[
    Annotated[Judged, Tag("judgement")] | Annotated[list[Judged], Tag("judgements")],
    Discriminator(lambda value: "judgements" if isinstance(value, list) else "judgement"),
]


class Judgements(RootModel[OneOrSeveral]):
    """One judgement, or a list of them."""

    model_config = ConfigDict(strict=True)

    @property
    def several(self) -> list[Judged]:
        return self.root if isinstance(self.root, list) else [self.root]


class OfEntities(Within):
    entity: Names | None = Field(None, description="As `entities`; repeatable.")
    entities: Names | None = Field(None, description="The entities whose records are judged; all without it.")

    @property
    def named(self) -> list[str]:
        return [name for one in (self.entity, self.entities) for name in ([one] if isinstance(one, str) else one or [])]


class ListJudgements(OfEntities):
    query: Query | None = Field(None, description="What was judged of this query alone.")


class UnjudgeRequest(OneTenant):
    query: Query = Field(description="The query.")
    entity: Name | None = Field(None, description="The entity of the record; with `id`.")
    id: str | None = Field(None, min_length=1, description="The record; without it all that was judged of the query.")


class EvaluateRequest(OfEntities):
    judgements: list[Judged] | None = Field(None, description="What is judged; without it what the index keeps.")


class WeightRequest(Given):
    weight: Share = Field(description="The vector leg's share of the score in every search that gives none.")
