"""/api/records and /api/count: reads records, and writes those of the record store. Imports `documents`, `entities`,
`errors`, `records` and `values`."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from ...documents import insert_document, record_document, row_document
from ...entities import named
from ...errors import InvalidInput, RecordMissing, UnknownEntity, seen
from ...records import Record
from ...values import SearchResult
from ..answers import CountAnswer, DeleteAnswer, InsertAnswer, RecordAnswer, RecordsAnswer
from ..columns import check_columns
from ..models import MAX_LISTED, CountRequest, Fields, InsertRequest, ListRequest, RecordRequest
from ..operations import Call, Operation
from ..replies import Reply

NEVER = datetime.fromtimestamp(0, UTC)


def list_(call: Call[ListRequest]) -> Mapping[str, Any]:
    given = call.given
    if given.id is not None:
        return listed_by_id(call, [given.id] if isinstance(given.id, str | int) else given.id)
    if not call.serving.is_stored(given.entity):
        return listed_by_search(call)
    records, tenant = call.stored
    after = None if given.cursor is None else read_cursor(given.entity, given.cursor)
    found = records.list(given.entity, where=given.where, limit=given.limit + 1, after=after, **tenant)
    page = found[: given.limit]
    cursor = cursor_of(page[-1]) if len(found) > given.limit else None
    return {"records": [record_document(record) for record in page], "cursor": cursor}


def listed_by_id(call: Call[ListRequest], ids: Sequence[str | int]) -> Mapping[str, Any]:
    """Those that are there. Raises InvalidInput where a page of them is to be listed, too."""
    given, search = call.given, call.serving.search
    if given.where is not None or given.cursor is not None:
        raise InvalidInput("id names the records: leave where and cursor out")
    if len(ids) > MAX_LISTED:
        raise InvalidInput(f"id names {MAX_LISTED:,} records at most, not {len(ids):,}")
    if call.serving.is_stored(given.entity):
        records, tenant = call.stored
        found = records.get_many(given.entity, ids, **tenant)
        return {"records": [record_document(record) for record in found], "cursor": None}
    entities = named(search, [given.entity])
    hits = {
        hit.id: hit for hit in search.search("", entities=entities, ids=ids, limit=len(ids), data=True, **call.within)
    }
    return {"records": [indexed_document(hits[str(id_)]) for id_ in ids if str(id_) in hits], "cursor": None}


def count(call: Call[CountRequest]) -> Mapping[str, Any]:
    given, search = call.given, call.serving.search
    if call.serving.is_stored(given.entity):
        records, tenant = call.stored
        return {"count": records.count(given.entity, where=given.where, **tenant)}
    entities = named(search, [given.entity])
    options = {"where": given.where, "limit": 1, "count": True, **call.within}
    check_columns(options, *entities)
    return {"count": search.search("", entities=entities, **options).total}


def listed_by_search(call: Call[ListRequest]) -> Mapping[str, Any]:
    """Rows of a table or a mapped class, and records that were indexed by their text alone, that the index has."""
    given, search = call.given, call.serving.search
    entities = named(search, [given.entity])
    options = {"where": given.where, "limit": given.limit, "cursor": given.cursor, "data": True, **call.within}
    check_columns(options, *entities)
    found = search.search("", entities=entities, **options)
    return {"records": [indexed_document(hit) for hit in found], "cursor": found.cursor}


def get(call: Call[RecordRequest]) -> Mapping[str, Any]:
    given, search = call.given, call.serving.search
    if call.serving.is_stored(given.entity):
        records, tenant = call.stored
        return record_document(records.get(given.entity, given.id, **tenant))
    options = {"ids": [given.id], "limit": 1, "data": True, **call.within}
    found = search.search("", entities=named(search, [given.entity]), **options)
    if not found:
        raise RecordMissing(f"{given.entity} has no record {given.id!r:.80} in the index")
    return indexed_document(found[0])


def insert(call: Call[InsertRequest]) -> Mapping[str, Any]:
    given, (records, tenant) = call.given, call.stored
    call.serving.check_stored(given.entity)
    options: Any = {"on_conflict": given.on_conflict, "create": given.create, **tenant}
    return insert_document(records.insert(given.entity, given.records, **options))


def put(call: Call[RecordRequest]) -> Reply:
    given, (records, tenant) = call.given, call.stored
    call.serving.check_stored(given.entity)
    record = fields_of(call) | {"id": given.id}
    with suppress(RecordMissing, UnknownEntity):  # it raises TenantRequired before anything is written
        records.get(given.entity, given.id, **tenant)
    report = records.insert(given.entity, [record], on_conflict="replace", **tenant)
    stored = records.get(given.entity, given.id, **tenant)
    return Reply(record_document(stored), 201 if report.inserted else 200)


def patch(call: Call[RecordRequest]) -> Mapping[str, Any]:
    given, (records, tenant) = call.given, call.stored
    call.serving.check_stored(given.entity)
    return record_document(records.update(given.entity, given.id, fields_of(call), **tenant))


def delete(call: Call[RecordRequest]) -> Mapping[str, Any]:
    given, (records, tenant) = call.given, call.stored
    call.serving.check_stored(given.entity)
    deleted = records.delete(given.entity, [given.id], **tenant)
    if not deleted:
        raise RecordMissing(f"{given.entity} has no record {given.id!r:.80}")
    return {"deleted": deleted}


def fields_of(call: Call[RecordRequest]) -> dict[str, Any]:
    """Those of the body. Raises InvalidInput where its id is another than that of the path."""
    fields: dict[str, Any] = dict(call.body.root)
    if str(fields.pop("id", call.given.id)) != call.given.id:
        raise InvalidInput(f"the body is of another record than {call.given.id!r:.80}: leave its id out")
    return fields


def indexed_document(hit: SearchResult) -> dict[str, Any]:
    tenant = {"tenant": hit.tenant} if hit.tenant else {}
    return {"entity": hit.entity, "id": hit.id, **tenant, "data": row_document(hit.data), "content": hit.matched_text}


def cursor_of(record: Record) -> str:
    text = json.dumps([record.id, record.tenant], ensure_ascii=False)
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(entity: str, cursor: str) -> Record:
    """The record after which a page begins. Raises InvalidInput."""
    try:
        id_, tenant = json.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError):
        id_ = tenant = None
    if not isinstance(id_, str) or not isinstance(tenant, str):
        raise InvalidInput(f"this is no cursor of a list of records: {seen(cursor, 40)}. Take that of the page before")
    return Record(entity, id_, {}, NEVER, NEVER, tenant)


ONE = "/api/records/{entity}/{id:path}"
OPERATIONS = [
    Operation("GET", "/api/records", "List records by id.", list_, RecordsAnswer, ListRequest),
    Operation("GET", "/api/count", "Count records.", count, CountAnswer, CountRequest),
    Operation(
        "POST", "/api/records", "Store records and index them.", insert, InsertAnswer, body=InsertRequest, writes=True
    ),
    Operation("GET", ONE, "Get a record.", get, RecordAnswer, RecordRequest),
    Operation(
        "PUT", ONE, "Store a record.", put, RecordAnswer, RecordRequest, Fields, writes=True, statuses=(200, 201)
    ),
    Operation("PATCH", ONE, "Set fields of a record.", patch, RecordAnswer, RecordRequest, Fields, True),
    Operation("DELETE", ONE, "Delete a record.", delete, DeleteAnswer, RecordRequest, writes=True),
]
