"""Checks entities and records as they are given, and makes entries of the index from them. Pure. Imports `values`,
`errors`, `content`, `stores` and `indexing`."""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..content import check_entity, check_id, emphasized, field_weights, normalize, render, text_of
from ..errors import InvalidInput, InvalidRecord, RecordExists, seen
from ..indexing.entries import make_entry
from ..stores.catalog import Entity, Field
from ..stores.values import Entry
from ..values import Ref

OnConflict = Literal["error", "upsert", "skip"]

MAX_DEPTH = 64
"""Bounds the nesting of a record, which Python's JSON decoder reads by recursion. Chosen, not measured."""
MAX_BITS = 1024
"""Bounds whole numbers, which JSON does not. Chosen, not measured."""
TYPES: Mapping[str, tuple[type, ...]] = {
    "any": (object,),
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}


def declared_entity(name: str, search: Sequence[str] | Mapping[str, float], fields: Mapping[str, str]) -> Entity:
    """A checked entity. Raises InvalidInput."""
    check_entity(name)
    for given in (*search, *fields, *fields.values()):
        if not isinstance(given, str):
            raise InvalidInput(f"fields and their types are named by texts, not {seen(given)}")
    if isinstance(search, str):
        raise InvalidInput(f"search is a list of field names; for one, use [{seen(search)}]")
    if "id" in (*search, *fields):
        raise InvalidInput("`id` is the key of every record and no field: get a record by it")
    unknown = sorted(set(fields.values()) - set(TYPES))
    if unknown:
        raise InvalidInput(f"unknown type {seen(unknown[0])}. Known: {', '.join(TYPES)}")
    if not search:
        raise InvalidInput(f"{name}: name at least one searchable field")
    weights = field_weights(search)
    names = dict.fromkeys([*search, *fields])
    return Entity(
        name, tuple(Field(check_field(n), fields.get(n, "any"), n in weights, weights.get(n, 1)) for n in names)
    )


def checked_rows(
    entity: Entity, records: Sequence[Mapping[str, Any]], *, leaves_invalid: bool = False
) -> list[tuple[str, Mapping[str, Any]]]:
    """Raises InvalidRecord with the position, unless what is invalid is to be left out."""
    rows = []
    for position, record in enumerate(records):
        try:
            rows.append(check_record(entity, record))
        except InvalidRecord as error:
            if not leaves_invalid:
                raise InvalidRecord(str(error), position=position) from error
    return rows


def check_record(entity: Entity, record: Any) -> tuple[str, Mapping[str, Any]]:
    """(id, data without id). Raises InvalidRecord."""
    if not isinstance(record, Mapping):
        raise InvalidRecord(f"a record is an object, not {type(record).__name__}")
    given = record.get("id")
    id_ = str(uuid.uuid4()) if given is None else check_id(given)
    return id_, check_data(entity, {name: value for name, value in record.items() if name != "id"})


def check_data(entity: Entity, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data itself, once every field has its declared type and every value can be stored."""
    for name, value in data.items():
        check_field(name)
        check_value(value, name, 1)
    for declared in entity.fields:
        value = data.get(declared.name)
        if declared.type != "any" and value is not None and not is_of_type(value, declared.type):
            raise InvalidRecord(
                f"field {declared.name!r} is declared {declared.type}, this is {type(value).__name__} ({seen(value)})"
            )
    return data


def check_value(value: Any, place: str, depth: int) -> None:
    """Raises InvalidRecord for what JSON or a database cannot hold, naming the place."""
    if type(value) is str and value.isascii() and "\0" not in value:
        return  # of most values first: they are checked twice a record
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise InvalidRecord(
            f"{place} is a whole number of {value.bit_length()} bits, and one may have {MAX_BITS} (308 digits): "
            "give it as text"
        )
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidRecord(f"{place} holds a NUL character, which PostgreSQL cannot store")
        if not value.isascii():
            try:
                normalize(value)
            except InvalidRecord as error:
                raise InvalidRecord(f"{place}: {error}") from error
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRecord(f"{place} is {value}, which JSON does not have")
    elif depth >= MAX_DEPTH:
        raise InvalidRecord(f"{place[:60]} is nested more than {MAX_DEPTH} deep")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            check_field(name)
            check_value(item, f"{place}.{name}", depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            check_value(item, place, depth + 1)
    else:
        raise InvalidRecord(
            f"{place} is {type(value).__name__}; a record holds text, numbers, booleans, null, lists, objects"
        )


def check_field(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidRecord(f"a field's name is text and not empty, got {seen(name)}")
    check_value(name, "a field's name", 1)
    return name


def is_of_type(value: Any, type_: str) -> bool:
    if isinstance(value, bool):
        return type_ == "boolean"
    return isinstance(value, TYPES[type_])


def resolve(
    entity: str, rows: Sequence[tuple[str, Mapping[str, Any]]], taken: set[str], on_conflict: OnConflict
) -> dict[str, Mapping[str, Any]]:
    """The rows to write by id. Raises RecordExists with the position of the first whose id is taken."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for position, (id_, data) in enumerate(rows):
        if on_conflict == "upsert" or (id_ not in taken and id_ not in chosen):
            chosen[id_] = data
        elif on_conflict == "error":
            raise RecordExists(
                f"{entity} has a record {id_!r:.80} already; nothing of this call was stored. "
                "Replace it (upsert) or leave it (skip)",
                position=position,
            )
    return chosen


def infer_entity(name: str, records: Sequence[Mapping[str, Any]]) -> Entity:
    """Texts longer than a word are searchable; where there is none, every text is."""
    texts: dict[str, bool] = {}
    for record in records:
        for field_name, value in record.items():
            if isinstance(value, str) and field_name != "id":
                texts[field_name] = texts.get(field_name, False) or len(value.split(maxsplit=1)) > 1
    searchable = {n for n, is_long in texts.items() if is_long} or set(texts)
    entity = with_fields(Entity(name), records)
    return replace(entity, fields=tuple(replace(f, is_searchable=f.name in searchable) for f in entity.fields))


def with_fields(entity: Entity, records: Sequence[Mapping[str, Any]]) -> Entity:
    present = set(entity.field_names) | {"id"}
    names = dict.fromkeys(name for record in records for name in record if name not in present)
    return replace(entity, fields=entity.fields + tuple(Field(name) for name in names)) if names else entity


def record_entry(entity: Entity, id_: str, data: Mapping[str, Any], tenant: str = "") -> Entry:
    weighty = [(text_of(data.get(field.name)), field.weight) for field in entity.fields if field.weight > 1]
    text, _, gaps, _ = render(data, entity.searchable)
    return make_entry(Ref(entity.name, id_, tenant), text, emphasized(weighty), gaps)
