"""The arguments and results of the MCP server's tools, and their JSON Schemas. Imports nothing of kameleon's but this
package."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict

from ..models import Given

MAX_HITS = 50
"""Bounds the hits of a call. Chosen, not measured."""
MAX_RECORDS = 100
"""Bounds the records that a call stores or deletes. Chosen, not measured."""

Absent = SkipJsonSchema[None]
"""An argument that may be null; its schema does not offer that."""


def read_object(value: Any) -> Any:
    """A JSON object that a client gave as text, as models often do, as the object; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


Object = Annotated[dict[str, Any], BeforeValidator(read_object)]
Limit = Annotated[int, Field(ge=1, le=MAX_HITS, description="Hits at most.")]
Entities = Annotated[
    str | list[str] | Absent, Field(description="The entity, or entities, to search; all where it is absent.")
]
EntityName = Annotated[str, Field(description="The entity's name, as list_entities has it.")]
RecordId = Annotated[str | int, Field(description="The record's id.")]
Where = Annotated[
    Object | Absent,
    Field(
        description='A filter by fields, such as {"status": "open"} or {"stars": {"$gte": 10}}. Operators: $eq $ne $gt '
        "$gte $lt $lte $between $in $nin $exists $contains $startswith $like $ilike (% and _) $icontains, on lists "
        "$any $all; $and $or $not."
    ),
]
Mode = Annotated[
    Literal["hybrid", "keyword", "vector"],
    Field(description="hybrid (words and meaning), keyword (words alone) or vector (meaning alone)."),
]
Tenant = Annotated[str | Absent, Field(description="The tenant whose records are meant, where entities have tenants.")]
Tenants = Annotated[
    str | list[str] | Absent,
    Field(description="The tenant, or tenants, whose records are meant, where entities have tenants."),
]


Cursor = Annotated[
    str | Absent, Field(description="Continues after an earlier result: its cursor, with the same arguments.")
]


class Arguments(Given):
    """Other names are refused. A number may be given as text, as models do at times."""

    model_config = ConfigDict(strict=False)


class SearchArguments(Arguments):
    query: Annotated[
        str,
        Field(
            description='Any text. "exact phrase", -word, prefix* and field:word are operators. An empty text lists '
            "records."
        ),
    ]
    entity: Entities = None
    limit: Limit = 10
    where: Where = None
    mode: Mode = "hybrid"
    tenant: Tenants = None
    cursor: Cursor = None


class SimilarArguments(Arguments):
    entity: EntityName
    id: RecordId
    limit: Limit = 10
    where: Where = None
    tenant: Tenant = None
    cursor: Cursor = None


class FetchArguments(Arguments):
    entity: EntityName
    id: RecordId
    tenant: Tenant = None
    field: Annotated[str | Absent, Field(description="Only this field, of a record that is too long to be whole.")] = (
        None
    )
    start: Annotated[
        int, Field(ge=0, le=2**31, description="The character of a long text to go on from: next_start of a result.")
    ] = 0


class SuggestArguments(Arguments):
    text: Annotated[str, Field(description="The beginning of a query, whose last word is completed.")]
    entity: Entities = None
    limit: Annotated[int, Field(ge=1, le=MAX_HITS, description="Suggestions at most.")] = 10
    tenant: Tenants = None


class ListEntitiesArguments(Arguments):
    entity: Annotated[str | Absent, Field(description="Only this entity.")] = None
    tenant: Tenant = None


class StatusArguments(Arguments):
    tenant: Tenant = None


class StoreArguments(Arguments):
    entity: EntityName
    records: Annotated[
        list[Object],
        Field(
            min_length=1,
            max_length=MAX_RECORDS,
            description="Objects of fields. `id` is the key; a record without one gets one.",
        ),
    ]
    on_conflict: Annotated[
        Literal["error", "replace", "merge", "ignore"],
        Field(description="What becomes of a record whose id is taken: error stores nothing of the call."),
    ] = "error"
    create: Annotated[bool, Field(description="Whether an entity that does not exist is made of these records.")] = (
        False
    )
    tenant: Tenant = None


class DeleteArguments(Arguments):
    entity: EntityName
    ids: Annotated[list[str | int], Field(min_length=1, max_length=MAX_RECORDS, description="The records' ids.")]
    tenant: Tenant = None


class PassageResult(TypedDict):
    text: str
    start: int
    end: int
    score: NotRequired[float]


class HitResult(TypedDict):
    """`data` are a stored record's fields, `matched_text` is the text of a record that lives elsewhere; of one that is
    cut `data` are its short fields, and `passages` the best parts of its text, in their order in it."""

    entity: str
    id: str
    tenant: NotRequired[str]
    uri: str
    score: float
    data: NotRequired[dict[str, Any]]
    matched_text: NotRequired[str]
    passages: NotRequired[list[PassageResult]]
    is_cut: bool


class HitsResult(TypedDict):
    """`cursor` continues after these hits, null after the last. `note` is what was left out, and why; `corrections` are
    words that no record has, and those searched instead."""

    hits: list[HitResult]
    total: int
    is_total_exact: bool
    cursor: str | None
    note: str
    corrections: dict[str, str]


class RecordResult(TypedDict):
    """`text` is a part of a long text, or of the one field that is named, from `start` on; `next_start` is where
    it goes on, null at its end. `left_out` are the fields that are not in `data`, with their characters."""

    entity: str
    id: str
    tenant: NotRequired[str]
    uri: str
    data: NotRequired[dict[str, Any]]
    left_out: NotRequired[dict[str, int]]
    text: NotRequired[str]
    start: NotRequired[int]
    next_start: NotRequired[int | None]


class SuggestionsResult(TypedDict):
    suggestions: list[str]


class EntitiesResult(TypedDict):
    """`left_out` is how many entities there are beside these: name one to have it."""

    entities: list[dict[str, Any]]
    left_out: NotRequired[int]


class StatusResult(TypedDict):
    version: str
    writes: bool
    entities: list[dict[str, Any]]
    model: str | None
    reindex: dict[str, Any] | None


class StoreResult(TypedDict):
    """In records. `ids` are those of the call, in its order; `pending` of them have no embedding yet."""

    ids: list[str]
    inserted: int
    updated: int
    skipped: int
    pending: int
    created_entity: bool


class DeleteResult(TypedDict):
    deleted: int


@cache
def schema_of(kind: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON Schema of arguments or of a result, without titles and defaults of null, which models do not need."""
    schema: dict[str, Any] = shortened(TypeAdapter(kind).json_schema())
    schema["properties"] = {name: one for name, one in schema["properties"].items() if name not in without}
    return schema


def shortened(schema: Any) -> Any:
    if isinstance(schema, list):
        return [shortened(one) for one in schema]
    if not isinstance(schema, Mapping):
        return " ".join(schema.split()) if isinstance(schema, str) else schema
    return {
        name: {key: shortened(one) for key, one in value.items()}
        if name in ("properties", "$defs")
        else shortened(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str)) and not (name == "default" and value is None)
    }
