"""Checks records as they are given, and chooses those to write. Pure. Imports `errors`, `moments`, `content` and
`stores`."""

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from ..content import check_id, check_tenant, normalize
from ..errors import InvalidInput, InvalidRecord, RecordExists, TenantRequired, seen
from ..moments import is_in_years, read_moment
from ..stores.catalog import Entity
from ..stores.paths import DATETIME, Path, field_path

OnConflict = Literal["error", "replace", "ignore", "merge"]
ON_CONFLICT: tuple[str, ...] = get_args(OnConflict)

Key = tuple[str, str]
"""A tenant and an id, of one entity."""

MAX_DEPTH = 64
"""Bounds the nesting of a record, which Python's JSON decoder reads by recursion. Chosen, not measured."""
MAX_BITS = 1024
"""Bounds whole numbers, which JSON does not. Chosen, not measured."""
TYPES: Mapping[str, tuple[type, ...]] = {
    "any": (object,),
    "text": (str,),
    DATETIME: (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}


class Row(NamedTuple):
    """A record as it is stored: `data` without its id."""

    tenant: str
    id: str
    data: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return self.tenant, self.id


def check_on_conflict(value: object) -> None:
    if not isinstance(value, str) or value not in ON_CONFLICT:
        raise InvalidInput(f"unknown on_conflict {seen(value)}. Known: {', '.join(ON_CONFLICT)}")


def checked_rows(
    entity: Entity, records: Sequence[Mapping[str, Any]], tenant: object = None, *, leaves_invalid: bool = False
) -> list[Row]:
    """Raises InvalidRecord with the position, unless what is invalid is to be left out, and TenantRequired."""
    if tenant is None and entity.tenant_field == "":
        raise TenantRequired(entity.name)
    rows = []
    for position, record in enumerate(records):
        try:
            rows.append(check_record(entity, record, tenant))
        except InvalidRecord as error:
            if not leaves_invalid:
                raise InvalidRecord(str(error), position=position) from error
    return rows


def check_record(entity: Entity, record: Any, tenant: object = None) -> Row:
    """Raises InvalidRecord."""
    if not isinstance(record, Mapping):
        raise InvalidRecord(f"a record is an object, not {type(record).__name__}")
    given = record.get("id")
    id_ = str(uuid.uuid4()) if given is None else check_id(given)
    row = with_tenant(entity, id_, {name: value for name, value in record.items() if name != "id"}, tenant)
    return row._replace(data=check_data(entity, row.data))


def with_tenant(entity: Entity, id_: str, data: Mapping[str, Any], given: object) -> Row:
    """A row under its tenant: that of the entity's field, or the one that is `given`. Raises InvalidRecord."""
    name = entity.tenant_field
    if name is None and given is None:
        return Row("", id_, data)
    tenant = check_tenant(given)
    if not name:
        return Row(tenant, id_, data)
    if name not in data and given is None:
        raise InvalidRecord(
            f"{entity.name} {id_!r:.80} has no field {name!r:.80}, which names its tenant: give it one, or null for "
            "none"
        )
    if name not in data:
        return Row(tenant, id_, {**data, name: given if isinstance(given, int) else tenant or None})
    try:
        own = check_tenant(data[name])
    except InvalidRecord as error:
        raise InvalidRecord(f"{entity.name} {id_!r:.80}, field {name!r:.80}: {error}") from error
    if given is not None and own != tenant:
        raise InvalidRecord(
            f"{entity.name} {id_!r:.80} is of the tenant {own!r:.80} by its field {name!r:.80}, and the call is for "
            f"{tenant!r:.80}"
        )
    return Row(own, id_, data)


def changed_row(
    entity: Entity, tenant: str, id_: str, data: Mapping[str, Any], patch: Mapping[str, Any], *, replace_all: bool
) -> Row:
    """A stored row as an update leaves it, of another tenant if the patch names one. Raises InvalidRecord."""
    changed, name = dict(patch if replace_all else {**data, **patch}), entity.tenant_field
    if not name:
        return Row(tenant, id_, check_data(entity, changed))
    changed.setdefault(name, data.get(name, tenant or None))
    row = with_tenant(entity, id_, changed, None)
    return row._replace(data=check_data(entity, row.data))


def check_data(entity: Entity, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data itself, once every field has its declared type and every value can be stored; with a space for each
    NUL of its texts, which PostgreSQL cannot store."""
    has_nul = False
    for name, value in data.items():
        check_field(name)
        has_nul |= check_value(value, name, 1)
    for declared in entity.fields:
        value = value_at(data, field_path(declared.name, entity.filters))
        if declared.type != "any" and value is not None and not is_of_type(value, declared.type):
            shown = ", a text such as 2026-01-31T12:30Z" if declared.type == DATETIME else ""
            raise InvalidRecord(
                f"field {declared.name!r} is declared {declared.type}{shown}, this is {type(value).__name__} "
                f"({seen(value)})"
            )
    return without_nul(data) if has_nul else data


def without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", " ")
    if isinstance(value, Mapping):
        return {name: without_nul(item) for name, item in value.items()}
    return list(map(without_nul, value)) if isinstance(value, list | tuple) else value


def check_value(value: Any, place: str, depth: int) -> bool:
    """Whether a text in it holds NUL. Raises InvalidRecord for what JSON or a database cannot hold, naming the
    place."""
    if type(value) is str and value.isascii():
        return "\0" in value  # of most values first: they are checked twice a record
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise InvalidRecord(
            f"{place} is a whole number of {value.bit_length()} bits, and one may have {MAX_BITS} (308 digits): "
            "give it as text"
        )
    if value is None or isinstance(value, bool | int):
        return False
    if isinstance(value, str):
        try:
            normalize(value)
        except InvalidRecord as error:
            raise InvalidRecord(f"{place}: {error}") from error
        return "\0" in value
    if isinstance(value, float):
        if math.isfinite(value):
            return False
        raise InvalidRecord(f"{place} is {value}, which JSON does not have")
    if depth >= MAX_DEPTH:
        raise InvalidRecord(f"{place[:60]} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        inner = [(f"{place}.{check_field(name)}", item) for name, item in value.items()]
    elif isinstance(value, list | tuple):
        inner = [(place, item) for item in value]
    else:
        raise InvalidRecord(
            f"{place} is {type(value).__name__}; a record holds text, numbers, booleans, null, lists, objects"
        )
    has_nul = False
    for within, item in inner:
        has_nul |= check_value(item, within, depth + 1)
    return has_nul


def check_field(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidRecord(f"a field's name is text and not empty, got {seen(name)}")
    if check_value(name, "a field's name", 1):
        raise InvalidRecord(f"a field's name holds a NUL character, which PostgreSQL cannot store: {seen(name)}")
    return name


def value_at(data: Mapping[str, Any], path: Path) -> Any:
    """What a path leads to; None where it leads to nothing."""
    value: Any = data
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def is_of_type(value: Any, type_: str) -> bool:
    if isinstance(value, bool):
        return type_ == "boolean"
    if type_ == DATETIME:
        moment = read_moment(value) if isinstance(value, str) else None
        return moment is not None and is_in_years(moment)
    return isinstance(value, TYPES[type_])


def resolve(
    entity: Entity, rows: Sequence[Row], taken: Mapping[Key, Mapping[str, Any]], on_conflict: OnConflict
) -> dict[Key, Row]:
    """The rows to write by key; `taken` has what is stored of those that are there, as far as it is merged with. Raises
    RecordExists with the position of the first whose id is taken, InvalidRecord with that of a merged one."""
    chosen: dict[Key, Row] = {}
    for position, row in enumerate(rows):
        if on_conflict == "replace" or (row.key not in taken and row.key not in chosen):
            chosen[row.key] = row
        elif on_conflict == "merge":
            before = chosen[row.key].data if row.key in chosen else taken[row.key]
            chosen[row.key] = _merged(entity, before, row, position)
        elif on_conflict == "error":
            raise RecordExists(
                f"{entity.name} has a record {row.id!r:.80} already; nothing of this call was stored. "
                "Choose on_conflict: replace it, merge the fields into it, or ignore the new one",
                position=position,
            )
    return chosen


def _merged(entity: Entity, before: Mapping[str, Any], row: Row, position: int) -> Row:
    try:
        return row._replace(data=check_data(entity, {**before, **row.data}))
    except InvalidRecord as error:
        raise InvalidRecord(str(error), position=position) from error
