"""What indexes on declared fields hold of a value, and what a comparison looks up in them. Imports `moments`.

A key is one for each kind of type: the first characters of a text, a number rounded to a float, the milliseconds of a
datetime; of a list it is the same for all. A comparison looks up every key that a value it holds for can have, and then
compares the value itself: two texts or numbers may have one key. An index is used where a query has its expression.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from ...moments import Moment
from ..filters import ORDERED, Comparison, bind
from ..paths import DATETIME, Path, is_plain
from ..patterns import PATTERNS, pieces, prefix, successor

MAX_FLOAT = "1.7976931348623157e308"
AS_FLOAT = f"CAST(least(greatest({{0}}, -{MAX_FLOAT}), {MAX_FLOAT}) AS float8)"
"""JSONB may hold a number that is more than a float can be."""
DATA = "records.data"
TEXT_LENGTH = 120
"""A row of an index has at most 2,704 bytes, of which a tenant and an entity take 510."""
ZONE = r"(Z|[+-](0\d|1[0-4])\:[0-5]\d)"
MOMENT = (
    r"^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    rf"([T ]([01]\d|2[0-3])\:[0-5]\d(\:[0-5]\d(\.\d+)?)?{ZONE}?)?$"
)
"""Texts that are moments, but for days that a month has not. A colon is escaped, for it would begin a bind."""
KINDS = {"text": "text", "boolean": "text", "integer": "number", "number": "number", DATETIME: "moment"}
"""The kind of key by the type of a field."""
TYPES = {"text": "text", "number": "float8", "moment": "bigint"}
LISTS = {"text": "CAST('[' AS text)", "number": "CAST('NaN' AS float8)", "moment": "9223372036854775807"}
"""The key of every list."""
SIGNS = {"$gt": ">=", "$gte": ">=", "$lt": "<=", "$lte": "<="}


def key(value: str, kind: str) -> str:
    """Renders the key of a JSON value, NULL of one of another kind."""
    match kind:
        case "text":
            one = f"ELSE left({value} #>> '{{}}', {TEXT_LENGTH})"
        case "number":
            one = f"WHEN 'number' THEN {AS_FLOAT.format(f'CAST({value} AS numeric)')}"
        case _:
            one = f"ELSE {moment(value)}"
    collated = ' COLLATE "C"' if kind == "text" else ""
    return f"(CASE jsonb_typeof({value}) WHEN 'array' THEN {LISTS[kind]} {one} END){collated}"


def moment(value: str) -> str:
    """Renders the milliseconds of a text that is a date or a time, NULL of another, by functions of which an index may
    be made: those of timestamptz depend on settings. A CASE in a CASE, for a cast of any other text fails."""
    text = f"({value} #>> '{{}}')"
    month = f"make_date(CAST(left({text}, 4) AS int), CAST(substr({text}, 6, 2) AS int), 1)"
    day = f"({month} + CAST(substr({text}, 9, 2) AS int) - 1)"
    zone = rf"coalesce(CAST(translate(substring({text} FROM '[+-]\d\d\:\d\d$'), '\:', '') AS int), 0)"
    second = rf"coalesce(CAST(substring({text} FROM '\:\d\d\:(\d\d)') AS int), 0)"
    minutes = (
        f"(CAST({day} - make_date(1970, 1, 1) AS bigint) * 1440 "
        f"+ coalesce(CAST(nullif(substr({text}, 12, 2), '') AS int), 0) * 60 "
        f"+ coalesce(CAST(nullif(substr({text}, 15, 2), '') AS int), 0) - {zone} / 100 * 60 - {zone} % 100)"
    )
    part = rf"CAST(rpad(left(coalesce(substring({text} FROM '\.(\d+)'), ''), 6), 6, '0') AS int)"
    ms = f"{minutes} * 60000 + {second} * 1000 + ({part} + 500) / 1000"
    return (
        f"CASE WHEN jsonb_typeof({value}) = 'string' AND {text} ~ '{MOMENT}' "
        f"THEN CASE WHEN extract(month FROM {day}) = CAST(substr({text}, 6, 2) AS int) THEN {ms} END END"
    )


def literal(document: str, path: Path) -> str:
    """Renders a path of plain names: an index is used where the query has its expression, without binds."""
    return "(" + document + "".join(f" -> CAST('{name}' AS text)" for name in path) + ")"


def looked_up(compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders what holds for the keys of all stored records that a comparison holds for, empty where none does."""
    if not all(map(is_plain, compared.path)):
        return ""
    value, operator = literal(DATA, compared.path), compared.operator
    if operator in PATTERNS:
        return begins(key(value, "text"), prefix(pieces(operator, compared.value)), binds)
    if operator in ("$eq", "$in"):
        wanted = compared.value if operator == "$in" else [compared.value]
        kinds = {kind_of(one) for one in wanted}
        kind = kinds.pop() if len(kinds) == 1 else ""
        return is_any(key(value, kind), kind, wanted, binds) if kind else ""
    kind = kind_of(compared.value) if operator in ORDERED else ""
    return f"{key(value, kind)} {SIGNS[operator]} {wanted_key(compared.value, kind, binds)}" if kind else ""


def is_any(value_key: str, kind: str, wanted: Sequence[Any], binds: dict[str, Any]) -> str:
    keys = bind(binds, [key_of(one) for one in wanted])
    return f"{value_key} = ANY(array_append(CAST({keys} AS {TYPES[kind]}[]), {LISTS[kind]}))"


def begins(value_key: str, start: str, binds: dict[str, Any]) -> str:
    start = start[:TEXT_LENGTH]
    if not start:
        return ""
    end = successor(start)
    least = f"{value_key} >= CAST({bind(binds, start)} AS text)"
    return least + (f" AND {value_key} < CAST({bind(binds, end)} AS text)" if end else "")


def wanted_key(wanted: Any, kind: str, binds: dict[str, Any]) -> str:
    return f"CAST({bind(binds, key_of(wanted))} AS {TYPES[kind]})"


def kind_of(wanted: Any) -> str:
    """The kind of the key of what is compared, empty for what no index is looked up for."""
    if isinstance(wanted, Moment):
        return "moment"
    if isinstance(wanted, str):
        return "text"
    return "number" if isinstance(wanted, int | float) and not isinstance(wanted, bool) else ""


def key_of(wanted: Any) -> Any:
    if isinstance(wanted, Moment):
        return wanted.ms
    return wanted[:TEXT_LENGTH] if isinstance(wanted, str) else float(wanted)


def index_name(prefix_: str, path: Path, kind: str) -> str:
    """The name of the index of a field, of at most 63 bytes."""
    digest = hashlib.md5("\0".join(path).encode(), usedforsecurity=False).hexdigest()
    return f"{prefix_}records_by_{kind}_{digest[:16]}"
