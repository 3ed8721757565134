"""What the tools of the MCP server do, each by one verb of the library. Imports `documents`, `entities`,
`errors`, `records` and `values`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, cast

from starlette.requests import Request

from ...documents import row_document, run_document
from ...entities import named
from ...errors import InvalidInput, RecordMissing, UnknownEntity
from ...records import Record
from ...values import SearchResult, SearchResults
from ..columns import check_columns
from ..serving import Serving
from . import models
from .budget import BYTES_A_TOKEN, LEAST, as_text, fitted, key_of, part_of, short_fields, tokens
from .entities import entities_document, names_of

PASSAGE_TOKENS = 350
"""About what a passage takes: it has 1,000 characters at most, and its place."""
PLACE_TOKENS = 20
"""What the names and the place of a part take."""
LEFT_OUT = 20
"""Bounds the fields that are named as left out. Chosen, not measured."""
MAX_PASSAGES, SNIPPETS = 20, (60, 2_000)
"""Bound the passages of a hit and the characters of its snippet, within what a search takes. Chosen, not measured."""


@dataclass(frozen=True)
class Call:
    """A request to a tool, or for a resource: by HTTP where there is a `request`. What it gets is cut to `budget`
    tokens."""

    serving: Serving
    request: Request | None = None
    budget: int = 4_000

    @property
    def search(self) -> Any:
        return self.serving.search

    def within(self, tenant: str | list[str] | None) -> dict[str, Any]:
        return self.serving.within(cast("Request", self.request), tenant)

    def among(self, entity: str | list[str] | None) -> dict[str, Any]:
        """The `entities` that verbs take, or nothing. Raises UnknownEntity."""
        if entity is None:
            return {}
        return {"entities": named(self.search, [entity] if isinstance(entity, str) else entity)}


@dataclass(frozen=True)
class Tool:
    """`arguments` and `result` are what its schemas are made of; `run` gives the result. Clients see whether it
    `writes`, and if so whether it `destroys` something, or changes nothing when it is repeated."""

    name: str
    title: str
    description: str
    arguments: type[models.Arguments]
    result: Any
    run: Callable[[Call, Any], Mapping[str, Any]]
    writes: bool = False
    destroys: bool = False
    is_idempotent: bool = True
    names_entities: bool = False


def search(call: Call, given: models.SearchArguments) -> Mapping[str, Any]:
    options = {"where": given.where, "mode": given.mode, "cursor": given.cursor}
    options |= call.among(given.entity) | call.within(given.tenant)
    check_columns(options)
    return hits(call, given.limit, lambda **more: call.search.search(given.query, **options, **more))


def similar(call: Call, given: models.SimilarArguments) -> Mapping[str, Any]:
    options = {"where": given.where, "cursor": given.cursor, **call.within(given.tenant)}
    (entity,) = named(call.search, [given.entity])
    check_columns(options, entity)
    return hits(call, given.limit, lambda **more: call.search.similar(entity, given.id, **options, **more))


def hits(call: Call, limit: int, find: Callable[..., SearchResults]) -> Mapping[str, Any]:
    """The hits within the budget. Where it is not enough for all of them, the search is repeated for those that it is
    enough for, so that the cursor goes on after the last of them."""
    limit = min(limit, max(1, call.budget // LEAST))
    while True:
        results = call.serving.with_text(find(limit=limit, highlight=True, data=True, **sizes(call.budget // limit)))
        document: dict[str, Any] = {
            "hits": [],
            "total": results.total,
            "is_total_exact": results.is_total_exact,
            "cursor": results.cursor,
            "note": results.plan.note,
            "corrections": dict(results.plan.corrections),
        }
        document["hits"] = fitted(results, call.budget - tokens(document))
        if len(document["hits"]) == len(results):
            return document
        limit = len(document["hits"])


def sizes(share: int) -> Mapping[str, int]:
    """The options of a search whose hits have so many tokens each: passages that fill them, or a snippet where that is
    less than a passage."""
    characters = (share - LEAST // 2) * BYTES_A_TOKEN * 2 // 3
    return {
        "passages": min(MAX_PASSAGES, share // PASSAGE_TOKENS),
        "snippet_length": max(SNIPPETS[0], min(SNIPPETS[1], characters)),
    }


def fetch(call: Call, given: models.FetchArguments) -> Mapping[str, Any]:
    record, text = read(call, given.entity, str(given.id), given.tenant)
    key, data = key_of(given.entity, str(given.id), record.tenant), row_document(record.data) or {}
    if given.field is not None:
        return with_part(call, key, field_text(data, given.field), given.start)
    whole = {**key, **content_of(record)}
    if given.start == 0 and tokens(whole) <= call.budget:
        return whole
    kept = short_fields(data, call.budget // 2)[0] if given.start == 0 else {}
    left_out = [(name, len(as_text(value))) for name, value in data.items() if name not in kept]
    parts = {"data": kept, "left_out": dict(left_out[:LEFT_OUT])}
    return with_part(call, key | {name: part for name, part in parts.items() if part}, text, given.start)


def with_part(call: Call, document: Mapping[str, Any], text: str, start: int) -> Mapping[str, Any]:
    """The document with as much of a text as fits, from a character on."""
    part = part_of(text, start, call.budget - tokens(document) - PLACE_TOKENS)
    end = start + len(part)
    return {**document, "text": part, "start": start, "next_start": end if end < len(text) else None}


def field_text(data: Mapping[str, Any], name: str) -> str:
    """Raises InvalidInput for a field that a record does not have."""
    if name not in data:
        raise InvalidInput(f"the record has no field {name!r:.80}. It has: {', '.join(data) or 'none'}")
    value = data[name]
    return value if isinstance(value, str) else as_text(value)


def read(call: Call, entity: str, id_: str, tenant: str | None) -> tuple["Record | SearchResult", str]:
    """A record and its searchable text: one of the record store, or of any entity that is in the index. Raises
    RecordMissing, UnknownEntity."""
    within = call.within(tenant)
    found = call.serving.with_text(
        call.search.search("", ids=[id_], limit=1, data=True, **call.among(entity), **within)
    )
    record = call.serving.records.get(entity, id_, **within) if call.serving.is_stored(entity) else None
    if record is None and not found:
        raise RecordMissing(f"{entity} has no record {id_!r:.80}")
    return record or found[0], found[0].matched_text if found else ""


def content_of(record: "Record | SearchResult") -> Mapping[str, Any]:
    if record.data is None:
        assert isinstance(record, SearchResult)  # noqa: S101 - a stored record has data
        return {"text": record.matched_text}
    return {"data": row_document(record.data)}


def suggest(call: Call, given: models.SuggestArguments) -> Mapping[str, Any]:
    options = call.among(given.entity) | call.within(given.tenant)
    return {"suggestions": call.search.suggest(given.text, limit=given.limit, **options)}


def list_entities(call: Call, given: models.ListEntitiesArguments) -> Mapping[str, Any]:
    return entities_document(call.serving, call.within(given.tenant), given.entity, call.budget)


def status(call: Call, given: models.StatusArguments) -> Mapping[str, Any]:
    within = call.within(given.tenant)
    runs = [] if "tenant" in within else [run for run in call.search.reindexing.status() if run.owner is not None]
    return {
        "version": version("kameleon"),
        "writes": call.serving.writes,
        "entities": [asdict(one) for one in call.search.get_status(**within)],
        "model": next((one.model_name for one in call.search.generations() if one.state == "active"), None),
        "reindex": next(map(run_document, runs), None),
    }


def store(call: Call, given: models.StoreArguments) -> Mapping[str, Any]:
    within = call.within(given.tenant)
    options = {"on_conflict": given.on_conflict, "create": given.create, **within}
    call.serving.check_stored(given.entity)
    try:
        report = call.serving.records.insert(given.entity, given.records, **options)
    except UnknownEntity as error:
        known = ", ".join(names_of(call.serving, within)) or "none"
        raise UnknownEntity(
            f"unknown entity {given.entity!r:.80}. Known: {known}. With create = true it is made of these records"
        ) from error
    return {
        "ids": list(report.ids),
        "inserted": report.inserted,
        "updated": report.updated,
        "skipped": report.skipped,
        "pending": report.index.pending,
        "created_entity": report.created_entity is not None,
    }


def delete(call: Call, given: models.DeleteArguments) -> Mapping[str, Any]:
    return {"deleted": call.serving.records.delete(given.entity, given.ids, **call.within(given.tenant))}


TOOLS = (
    Tool(
        "search",
        "Search records",
        "Search the records of a database by words and by meaning, best first. A hit has the whole record, or its best "
        "passages where is_cut is true; fetch gets the rest.",
        models.SearchArguments,
        models.HitsResult,
        search,
        names_entities=True,
    ),
    Tool(
        "fetch",
        "Get a record",
        "Get one record whole by its entity and id. A long one comes in parts: call again with start = next_start.",
        models.FetchArguments,
        models.RecordResult,
        fetch,
    ),
    Tool(
        "similar",
        "Find similar records",
        "Find the records of an entity that are most like one of them, by its words and its meaning.",
        models.SimilarArguments,
        models.HitsResult,
        similar,
    ),
    Tool(
        "suggest",
        "Complete a query",
        "Complete the last word of a text with words that records have, the most frequent first.",
        models.SuggestArguments,
        models.SuggestionsResult,
        suggest,
    ),
    Tool(
        "list_entities",
        "List entities",
        "List the kinds of records: how many there are, their fields with types, and the values that where can filter "
        "by, with their counts. Call it before a search with where.",
        models.ListEntitiesArguments,
        models.EntitiesResult,
        list_entities,
    ),
    Tool(
        "status",
        "Get the state of the index",
        "Get how many records of each entity are in the index, which of them have no embedding yet, and whether a "
        "reindex is running.",
        models.StatusArguments,
        models.StatusResult,
        status,
    ),
    Tool(
        "store",
        "Store records",
        "Store records of an entity, and index them. By default nothing is stored where an id is taken.",
        models.StoreArguments,
        models.StoreResult,
        store,
        writes=True,
        destroys=True,
        is_idempotent=False,
        names_entities=True,
    ),
    Tool(
        "delete",
        "Delete records",
        "Delete records of an entity by their ids, for good.",
        models.DeleteArguments,
        models.DeleteResult,
        delete,
        writes=True,
        destroys=True,
    ),
)
"""In the order in which clients see them."""
