"""`where` in PostgreSQL's SQL: conditions on the JSONB of `kdb_records AS records`, every value and path a bind.
Imports `moments`.

Paths are strict: one never goes into a list by itself, as SQLite's do not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...moments import Moment
from ..filters import (
    HAS_WORDS,
    ID,
    LEAST_WHOLE,
    LISTS,
    MOST_WHOLE,
    ORDERED,
    Comparison,
    bind,
    by_shape,
    id_text,
    is_huge,
)
from ..patterns import PATTERNS, pieces
from ..tables import digits, dump
from .field_keys import AS_FLOAT, DATA, looked_up, moment

KEY = "records.id"
SIGNS = dict(zip(ORDERED, (">", ">=", "<", "<="), strict=True))
START, END = "(^|[^a-z0-9])", "($|[^a-z0-9])"
IS_WHOLE = f"{{0}} BETWEEN {LEAST_WHOLE} AND {MOST_WHOLE}"
DOCUMENT = "CAST({} AS jsonb)"
"""A column of JSON as the document that conditions are on."""


def comparison(compared: Comparison, binds: dict[str, Any], document: str = DATA) -> str:
    if compared.operator in ("$in", "$nin") and not compared.value:
        return "false" if compared.operator == "$in" else "true"
    if compared.operator == HAS_WORDS:
        return has_words(document, compared.path, compared.value, binds)
    if document != DATA:
        return on_value(at(document, compared.path, binds), compared, binds)
    if compared.path == ID:
        return on_id(compared, binds)
    holds = on_value(at(document, compared.path, binds), compared, binds)
    found = looked_up(compared, binds)
    return f"({found} AND {holds})" if found else holds


def on_value(value: str, compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders a comparison of a JSON value."""
    match compared.operator:
        case "$eq":
            return equals(value, compared.value, binds)
        case "$ne":
            return f"NOT coalesce({equals(value, compared.value, binds)}, false)"
        case "$in":
            return f"({equals_any(value, compared.value, binds)})"
        case "$nin":
            return f"NOT coalesce(({equals_any(value, compared.value, binds)}), false)"
        case "$exists":
            return f"{value} IS {'NOT ' if compared.value else ''}NULL"
        case "$contains":
            return contains(value, compared.value, binds)
        case "$any" | "$all":
            return has_members(value, compared, binds)
        case _ if compared.operator in PATTERNS:
            return when(value, "string", on_text(f"({value} #>> '{{}}')", compared, binds))
    sign = SIGNS[compared.operator]
    if isinstance(compared.value, Moment):
        return f"{moment(value)} {sign} {bind(binds, compared.value.ms)}"
    if isinstance(compared.value, str):
        return when(value, "string", f"({value} #>> '{{}}') COLLATE \"C\" {sign} {bind(binds, compared.value)}")
    return when(value, "number", f"{number(value, compared.value)} {sign} {bind(binds, compared.value)}")


def json_text(document: str, path: Sequence[str], binds: dict[str, Any]) -> str:
    """Renders the JSON that a path leads to."""
    return f"CAST({at(document, path, binds)} AS text)"


def at(document: str, path: Sequence[str], binds: dict[str, Any]) -> str:
    return "(" + document + "".join(f" -> CAST({bind(binds, name)} AS text)" for name in path) + ")"


def equals(value: str, wanted: Any, binds: dict[str, Any]) -> str:
    """A scalar contains itself, and a list contains its members."""
    if wanted is None:
        return f"({value} IS NULL OR {value} = 'null')"
    if isinstance(wanted, Moment):
        return is_moment(value, f"= {bind(binds, wanted.ms)}")
    if isinstance(wanted, float):
        return single_or_member(value, lambda one: is_float(one, [wanted], binds))
    sign = "=" if isinstance(wanted, Mapping | list) else "@>"
    return f"({value} {sign} CAST({bind(binds, dump(digits(wanted)))} AS jsonb))"


def equals_any(value: str, options: Sequence[Any], binds: dict[str, Any]) -> str:
    shapes = by_shape(options)
    floats = [option for option in shapes["numbers"] if isinstance(option, float)]
    exact = [option for option in shapes["numbers"] if not isinstance(option, float)]
    singles = [dump(option) for option in (*shapes["flags"], *exact, *shapes["texts"])]
    found = [equals(value, option, binds) for option in (*shapes["null"][:1], *shapes["wholes"])]
    if floats:
        found.append(single_or_member(value, lambda one: is_float(one, floats, binds)))
    if singles:
        listed = f"ANY(CAST({bind(binds, singles)} AS jsonb[]))"
        found.append(f"{value} = {listed} OR {when(value, 'array', f'{value} @> {listed}')}")
    if shapes["moments"]:
        listed = bind(binds, [option.ms for option in shapes["moments"]])
        found.append(is_moment(value, f"= ANY(CAST({listed} AS bigint[]))"))
    return " OR ".join(found)


def is_moment(value: str, holds: str) -> str:
    """Whether it holds for a text that is a moment, or for one in a list."""
    members = f"EXISTS (SELECT 1 FROM jsonb_array_elements({value}) AS item(one) WHERE {moment('one')} {holds})"
    return f"CASE jsonb_typeof({value}) WHEN 'array' THEN {members} ELSE {moment(value)} {holds} END"


def on_id(compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders a comparison with a record's key."""
    if compared.operator in ("$in", "$nin"):
        texts = [text for value in compared.value if (text := id_text(value)) is not None]
        any_ = f"{KEY} = ANY(CAST({bind(binds, texts)} AS text[]))"
        return any_ if compared.operator == "$in" else f"NOT {any_}"
    if compared.operator == "$exists" or compared.operator in LISTS:
        return "true" if compared.operator == "$exists" and compared.value else "false"
    if (value := id_text(compared.value)) is None:
        return "true" if compared.operator == "$ne" else "false"
    if compared.operator == "$contains" or compared.operator in PATTERNS:
        return on_text(KEY, replace(compared, value=value), binds)
    return f"{KEY} {(SIGNS | {'$eq': '=', '$ne': '<>'})[compared.operator]} {bind(binds, value)}"


def contains(value: str, wanted: Any, binds: dict[str, Any]) -> str:
    """A member of a list, or a part of a text."""
    member = f"{value} @> 'null'" if wanted is None else equals(value, wanted, binds)
    is_text, text = isinstance(wanted, str), f"({value} #>> '{{}}')"
    inside = on_text(text, Comparison((), "$contains", wanted), binds) if is_text else "false"
    return f"CASE jsonb_typeof({value}) WHEN 'array' THEN {member} WHEN 'string' THEN {inside} ELSE false END"


def has_members(value: str, compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders whether it is a list with one of these members, or with all of them."""
    wanted = compared.value
    found = [contains(value, one, binds) for one in wanted if one is None or compared.operator == "$all"]
    if compared.operator == "$any" and (others := [one for one in wanted if one is not None]):
        found.append(equals_any(value, others, binds))
    none, joined = ("true", " AND ") if compared.operator == "$all" else ("false", " OR ")
    return when(value, "array", f"({joined.join(found) or none})")


def on_text(value: str, compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders a comparison of a text by its characters, whatever the collation that it has."""
    value = f'CAST({value} AS text) COLLATE "C"'
    if compared.operator == "$contains":
        return f"strpos({value}, {bind(binds, compared.value)}) > 0"
    like, same = "", dict[str, str]()
    for piece in pieces(compared.operator, compared.value):
        letter = piece.same[:1] or piece.character
        same |= dict.fromkeys(piece.same[1:], letter)
        like += letter if piece.is_wildcard or letter not in "%_\\" else f"\\{letter}"
    if same:
        value = f"translate({value}, {bind(binds, ''.join(same))}, {bind(binds, ''.join(same.values()))})"
    return f"{value} LIKE {bind(binds, like)}"


def when(value: str, kind: str, holds: str) -> str:
    """CASE, for AND may look at its right side first, and a cast of another kind fails."""
    return f"CASE jsonb_typeof({value}) WHEN '{kind}' THEN {holds} ELSE false END"


def single_or_member(value: str, holds: Callable[[str], str]) -> str:
    """Whether it holds for a number, or for one in a list."""
    inner = when("one", "number", holds("one"))
    members = f"EXISTS (SELECT 1 FROM jsonb_array_elements({value}) AS item(one) WHERE {inner})"
    return f"CASE jsonb_typeof({value}) WHEN 'number' THEN {holds(value)} WHEN 'array' THEN {members} ELSE false END"


def is_float(value: str, wanted: Sequence[float], binds: dict[str, Any]) -> str:
    """Whether a number is one of these when it is rounded to a float, as whole numbers of 64 bits are not."""
    exact = f"CAST({value} AS numeric)"
    found = []
    for are_huge in (False, True):
        if floats := [one for one in wanted if is_huge(one) is are_huge]:
            rounded = f"{AS_FLOAT.format(exact)} = ANY(CAST({bind(binds, floats)} AS float8[]))"
            found.append(f"({'NOT ' if are_huge else ''}{IS_WHOLE.format(exact)} AND {rounded})")
    return f"({' OR '.join(found)})"


def number(value: str, wanted: float) -> str:
    """A number as one that is ordered like it: exactly beside a whole number, as a float beside a float."""
    exact = f"CAST({value} AS numeric)"
    if is_huge(wanted):
        return f"CASE WHEN {IS_WHOLE.format(exact)} THEN 0 ELSE {AS_FLOAT.format(exact)} END"
    return AS_FLOAT.format(exact) if isinstance(wanted, float) else exact


def has_words(document: str, path: tuple[str, ...], words: str, binds: dict[str, Any]) -> str:
    """Whether a text or a number in the field holds the words as whole ones."""
    inner = bind(binds, "strict $" + "".join(f".{dump(name)}" for name in path) + ".**")
    quoted = "".join(rf"\{c}" if c.isascii() and not c.isalnum() else c for c in words)
    before, after = (end.isascii() and end.isalnum() for end in (words[0], words[-1]))
    pattern = bind(binds, (START if before else "") + quoted + (END if after else ""))
    return (
        f"EXISTS (SELECT 1 FROM jsonb_path_query({document}, CAST({inner} AS jsonpath), '{{}}', true) AS item "
        f"WHERE jsonb_typeof(item) IN ('string', 'number') AND item #>> '{{}}' ~* {pattern})"
    )
