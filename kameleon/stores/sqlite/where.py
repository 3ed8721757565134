"""`where` in SQLite's SQL: conditions on the JSON text of `kdb_records AS records`, every value and path a bind.
Imports `moments`.

`json_extract` returns SQL values and `json_type` their types in JSON, so that true is not 1 and 3 is not "3".
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ...moments import DAY_MS, LENGTH, Moment
from ..filters import HAS_WORDS, ID, LISTS, ORDERED, Comparison, Filter, Group, bind, by_shape, id_text
from ..paths import is_plain
from ..patterns import PATTERNS, pieces, prefix, successor
from ..tables import dump

DATA, KEY = "records.data", "records.id"
EDGE = "[^a-z0-9]"
SIGNS = dict(zip(ORDERED, (">", ">=", "<", "<="), strict=True))
ARRAY = "'array'"
KINDS = {str: "('text')", **dict.fromkeys((int, float), "('integer', 'real')")}
KIND = (
    "CASE {0} WHEN 'text' THEN 'string' WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number' "
    "WHEN 'true' THEN 'boolean' WHEN 'false' THEN 'boolean' ELSE {0} END"
)
"""The kind of a `json_type`, in JSON's words."""

TEXT_OF_REAL = "printf('%!.20g', {0})"
DOCUMENT = f"CASE typeof({{0}}) WHEN 'real' THEN {TEXT_OF_REAL} ELSE {{0}} END"
"""A column of JSON as the document that conditions are on: in one, SQLite makes numbers of texts that are some, and
rounds these to 15 digits where it reads them as texts."""


def indexed_path(path: Sequence[str]) -> str:
    """Renders a literal: an index is used where the query has its expression word for word."""
    return f"'{json_path(path)}'"


def comparison(compared: Comparison, binds: dict[str, Any], document: str = DATA, *, is_of_tenant: bool = False) -> str:
    """Renders a condition on a document; one that `is_of_tenant` is in a WHERE of the records of :tenant0 alone."""
    if compared.operator in ("$in", "$nin") and not compared.value:
        return "0" if compared.operator == "$in" else "1"
    if compared.path == ID and compared.operator != HAS_WORDS and document == DATA:
        return on_id(compared, binds)
    path = indexed_path(compared.path) if all(map(is_plain, compared.path)) else ""
    field = Field(document, path or bind(binds, json_path(compared.path)), is_of_tenant)
    match compared.operator:
        case "$eq":
            return equals(field, compared.value, binds)
        case "$ne":
            return f"NOT ifnull({equals(field, compared.value, binds)}, 0)"
        case "$in":
            return equals_any(field, compared.value, binds)
        case "$nin":
            return f"NOT ifnull({equals_any(field, compared.value, binds)}, 0)"
        case "$exists":
            return f"{field.kind} IS {'NOT ' if compared.value else ''}NULL"
        case "$contains":
            return contains(field, compared.value, binds)
        case "$any" | "$all":
            return has_members(field, compared, binds)
        case _ if compared.operator in PATTERNS:
            start, holds = begins(field.value, compared, binds), on_text(field.value, compared, binds)
            return f"({field.kind} = 'text'{start} AND {holds})"
        case _ if compared.operator == HAS_WORDS:
            return has_words(field, compared.value, binds)
    if isinstance(compared.value, Moment):
        return f"({moment(field.value, field.kind)} {SIGNS[compared.operator]} {bind(binds, compared.value.ms)})"
    kinds = "('text')" if isinstance(compared.value, str) else "('integer', 'real')"
    return f"({field.kind} IN {kinds} AND {field.value} {SIGNS[compared.operator]} {bind(binds, compared.value)})"


class Field(NamedTuple):
    """A path into a document, both as SQL. The alternatives of a condition that `is_of_tenant` name the tenant, each in
    a way of its own: only then is an index on (tenant, value) used for each, where nothing else names it."""

    document: str
    path: str
    is_of_tenant: bool = False

    @property
    def begins(self) -> str:
        return "records.tenant IN (:tenant0) AND " if self.is_of_tenant else ""

    @property
    def value(self) -> str:
        return f"json_extract({self.document}, {self.path})"

    @property
    def kind(self) -> str:
        return f"json_type({self.document}, {self.path})"

    def has_member(self, condition_: str) -> str:
        """Renders whether it is a list with such an `item`. Lists begin with [, so that an index on the value shows
        that there are none."""
        begins = "records.tenant = :tenant0 AND " if self.is_of_tenant else ""
        return (
            f"({begins}{self.value} >= '[' AND {self.value} < '\\' AND {self.kind} = 'array' "
            f"AND EXISTS (SELECT 1 FROM json_each({self.document}, {self.path}) AS item WHERE {condition_}))"
        )


def json_text(document: str, path: Sequence[str], binds: dict[str, Any]) -> str:
    """Renders the JSON that a path leads to, in which true is not 1; `json_quote` rounds floats to 15 digits."""
    if not path:
        return f"CAST({document} AS TEXT)"
    field = Field(document, bind(binds, json_path(path)))
    return (
        f"CASE {field.kind} WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'null' THEN 'null' "
        f"WHEN 'real' THEN {TEXT_OF_REAL.format(field.value)} ELSE json_quote({field.value}) END"
    )


def json_path(names: Sequence[str]) -> str:
    """Renders a path, whose names are compared with those of the document as JSON has them, escaped: those with a quote
    cannot be in quotes."""
    escaped = (name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
    return "$" + "".join(f".{name}" if '"' in name else f'."{name}"' for name in escaped)


def is_looked_up(filter_: Filter) -> bool:
    """Whether records have to equal a text, a number or a moment in some field."""
    if isinstance(filter_, Group):
        return filter_.operator == "$and" and any(map(is_looked_up, filter_.members))
    values = filter_.value if filter_.operator == "$in" else [filter_.value] if filter_.operator == "$eq" else []
    return filter_.path != ID and bool(values) and all(type(value) in (*KINDS, Moment) for value in values)


def equals(field: Field, wanted: Any, binds: dict[str, Any]) -> str:
    if wanted is None:
        return f"({field.value} IS NULL)"
    if isinstance(wanted, Mapping | list):
        return equals_whole(field, wanted, binds)
    if isinstance(wanted, Moment):
        return is_moment(field, f"= {bind(binds, wanted.ms)}")
    value = str(int(wanted)) if isinstance(wanted, bool) else bind(binds, wanted)
    kinds = KINDS[type(wanted)] if not isinstance(wanted, bool) else f"('{dump(wanted)}')"
    member = field.has_member(f"item.type IN {kinds} AND item.value = {value}")
    return f"(({field.begins}{field.kind} IN {kinds} AND {field.value} = {value}) OR {member})"


def equals_whole(field: Field, wanted: Any, binds: dict[str, Any]) -> str:
    """Objects are equal whatever the order of their names, and numbers whatever their digits."""
    tree = f"json_tree({bind(binds, dump(wanted))})"
    parts = f"SELECT fullkey, {KIND.format('type')}, atom FROM"
    own = f"json_tree({field.value})"
    return (
        f"CASE WHEN {field.kind} = '{'object' if isinstance(wanted, Mapping) else 'array'}' "
        f"THEN (SELECT count(*) FROM {own}) = (SELECT count(*) FROM {tree}) "
        f"AND NOT EXISTS ({parts} {own} EXCEPT {parts} {tree}) ELSE 0 END"
    )


def equals_any(field: Field, options: Sequence[Any], binds: dict[str, Any]) -> str:
    """Texts and numbers as one list each: SQLite's expressions may be 1,000 deep at most."""
    shapes = by_shape(options)
    found = [equals(field, option, binds) for shape in ("null", "flags", "wholes") for option in shapes[shape]]
    for shape, kinds in (("texts", KINDS[str]), ("numbers", KINDS[int])):
        if shapes[shape]:
            listed = f"(SELECT one.value FROM json_each({bind(binds, dump(shapes[shape]))}) AS one)"
            member = field.has_member(f"item.type IN {kinds} AND item.value IN {listed}")
            found.append(f"({field.begins}{field.kind} IN {kinds} AND {field.value} IN {listed}) OR {member}")
    if shapes["moments"]:
        listed = f"(SELECT one.value FROM json_each({bind(binds, dump([m.ms for m in shapes['moments']]))}) AS one)"
        found.append(is_moment(field, f"IN {listed}"))
    return f"({' OR '.join(found)})"


def is_moment(field: Field, holds: str) -> str:
    """Renders whether it holds for a text that is a moment, or for one in a list."""
    member = field.has_member(f"{moment('item.value', 'item.type')} {holds}")
    return f"(({field.begins}{moment(field.value, field.kind)} {holds}) OR {member})"


def moment(value: str, kind: str) -> str:
    """Renders the milliseconds of a text that is a date or a time, NULL for another. SQLite takes more texts for times,
    and 31 February for 3 March."""
    day = f"substr({value}, 1, {LENGTH})"
    ms = f"CAST(round((julianday({value}) - 2440587.5) * {DAY_MS}.0) AS INTEGER)"
    is_day = f"date({day}, '+0 days') = {day} AND substr({value}, 12, 2) < '24'"
    begins = f"{kind} = 'text' AND {value} >= '0001' AND {value} GLOB '[0-9]*'"
    return f"CASE WHEN {begins} THEN CASE WHEN {is_day} THEN {ms} END END"


def on_id(compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders a comparison with a record's key."""
    if compared.operator in ("$in", "$nin"):
        texts = dump([text for value in compared.value if (text := id_text(value)) is not None])
        any_ = f"{KEY} IN (SELECT item.value FROM json_each({bind(binds, texts)}) AS item)"
        return any_ if compared.operator == "$in" else f"NOT {any_}"
    if compared.operator == "$exists" or compared.operator in LISTS:
        return str(int(compared.operator == "$exists" and compared.value))
    if (value := id_text(compared.value)) is None:
        return str(int(compared.operator == "$ne"))
    if compared.operator == "$contains" or compared.operator in PATTERNS:
        return on_text(KEY, replace(compared, value=value), binds)
    return f"{KEY} {(SIGNS | {'$eq': '=', '$ne': '<>'})[compared.operator]} {bind(binds, value)}"


def contains(field: Field, wanted: Any, binds: dict[str, Any]) -> str:
    """A member of a list, or a part of a text."""
    if wanted is None:
        return field.has_member("item.type = 'null'")
    if not isinstance(wanted, str):
        return f"({field.kind} = 'array' AND {equals(field, wanted, binds)})"
    inside = on_text(field.value, Comparison((), "$contains", wanted), binds)
    return f"CASE {field.kind} WHEN 'array' THEN {equals(field, wanted, binds)} WHEN 'text' THEN {inside} ELSE 0 END"


def has_members(field: Field, compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders whether it is a list with one of these members, or with all of them."""
    wanted = compared.value
    if compared.operator == "$all":
        return f"({' AND '.join([f'{field.kind} = {ARRAY}', *(contains(field, one, binds) for one in wanted)])})"
    found = [contains(field, None, binds)] if None in wanted else []
    if others := [one for one in wanted if one is not None]:
        found.append(equals_any(field, others, binds))
    return f"({field.kind} = {ARRAY} AND ({' OR '.join(found) or '0'}))"


def on_text(value: str, compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders a comparison of a text by its characters, whatever the collation that it has."""
    if compared.operator == "$contains":
        return f"instr({value}, {bind(binds, compared.value)}) > 0"
    glob = ""
    for piece in pieces(compared.operator, compared.value):
        if piece.is_wildcard:
            glob += "*" if piece.character == "%" else "?"
        else:
            glob += f"[{piece.same}]" if len(piece.same) > 1 or piece.same in "*?[" else piece.same
    return f"{value} GLOB {bind(binds, glob)}"


def begins(value: str, compared: Comparison, binds: dict[str, Any]) -> str:
    """Renders what an index on the value looks up of a pattern."""
    start = prefix(pieces(compared.operator, compared.value))
    if not start:
        return ""
    end = successor(start)
    return f" AND {value} >= {bind(binds, start)}" + (f" AND {value} < {bind(binds, end)}" if end else "")


def has_words(field: Field, words: str, binds: dict[str, Any]) -> str:
    """Whether a text or a number in the field holds the words as whole ones; SQLite lowers ASCII letters alone."""
    pattern = "".join(f"[{c}]" if c in "*?[" else c for c in words)
    before, after = (EDGE if end.isascii() and end.isalnum() else "" for end in (words[0], words[-1]))
    pattern = bind(binds, f"*{before}{pattern}{after}*")
    return (
        f"EXISTS (SELECT 1 FROM json_tree({field.document}, {field.path}) AS item "
        f"WHERE item.type IN ('text', 'integer', 'real') AND ' ' || lower(item.atom) || ' ' GLOB lower({pattern}))"
    )
