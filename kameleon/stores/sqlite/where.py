"""`where` in SQLite's SQL: conditions on the JSON text of `kdb_records.data`, every value and path a bind. Imports this
package alone.

`json_extract` returns SQL values and `json_type` their types in JSON, so that true is not 1 and 3 is not "3".
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..filters import HAS_WORDS, ORDERED, Comparison, Filter, bind, by_shape, condition
from ..tables import dump

EDGE = "[^a-z0-9]"
KINDS = {str: "('text')", **dict.fromkeys((int, float), "('integer', 'real')")}
KIND = (
    "CASE {0} WHEN 'text' THEN 'string' WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number' "
    "WHEN 'true' THEN 'boolean' WHEN 'false' THEN 'boolean' ELSE {0} END"
)
"""The kind of a `json_type`, in JSON's words."""


def is_plain(name: str) -> bool:
    """Whether a field may have an index, whose SQL contains its name."""
    return name.isascii() and name.isidentifier()


def indexed_path(name: str) -> str:
    """Renders a literal: an index is used where the query has its expression word for word."""
    return f"""'$."{name}"'"""


def comparison(compared: Comparison, binds: dict[str, Any], document: str = "kdb_records.data") -> str:
    if compared.operator in ("$in", "$nin") and not compared.value:
        return "0" if compared.operator == "$in" else "1"
    path = indexed_path(compared.path[0]) if len(compared.path) == 1 and is_plain(compared.path[0]) else ""
    field = Field(document, path or bind(binds, json_path(compared.path)))
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
        case _ if compared.operator == HAS_WORDS:
            return has_words(field, compared.value, binds)
    signs = dict(zip(ORDERED, (">", ">=", "<", "<="), strict=True))
    kinds = "('text')" if isinstance(compared.value, str) else "('integer', 'real')"
    return f"({field.kind} IN {kinds} AND {field.value} {signs[compared.operator]} {bind(binds, compared.value)})"


class Field(NamedTuple):
    """A path into a document, both as SQL."""

    document: str
    path: str

    @property
    def value(self) -> str:
        return f"json_extract({self.document}, {self.path})"

    @property
    def kind(self) -> str:
        return f"json_type({self.document}, {self.path})"

    def has_member(self, condition_: str) -> str:
        """Renders whether it is a list with such an `item`. Lists begin with [, so that an index on the value shows
        that there are none."""
        return (
            f"({self.value} >= '[' AND {self.value} < '\\' AND {self.kind} = 'array' "
            f"AND EXISTS (SELECT 1 FROM json_each({self.document}, {self.path}) AS item WHERE {condition_}))"
        )


def json_path(names: Sequence[str]) -> str:
    return "$" + "".join(f'."{name}"' for name in names)


def holding(filter_: Filter, binds: dict[str, Any]) -> str:
    """Renders the same as `condition` for a WHERE of its own, where NULL is false and the planner can use indexes."""
    if isinstance(filter_, Comparison):
        return comparison(filter_, binds)
    if filter_.operator == "$not":
        return condition(filter_, binds, comparison)
    members = [holding(member, binds) for member in filter_.members]
    return "(" + (" AND " if filter_.operator == "$and" else " OR ").join(members or ["true"]) + ")"


def equals(field: Field, wanted: Any, binds: dict[str, Any]) -> str:
    if wanted is None:
        return f"({field.value} IS NULL)"
    if isinstance(wanted, Mapping | list):
        return equals_whole(field, wanted, binds)
    value = str(int(wanted)) if isinstance(wanted, bool) else bind(binds, wanted)
    kinds = KINDS[type(wanted)] if not isinstance(wanted, bool) else f"('{dump(wanted)}')"
    member = field.has_member(f"item.type IN {kinds} AND item.value = {value}")
    return f"(({field.kind} IN {kinds} AND {field.value} = {value}) OR {member})"


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
            found.append(f"({field.kind} IN {kinds} AND {field.value} IN {listed}) OR {member}")
    return f"({' OR '.join(found)})"


def contains(field: Field, wanted: Any, binds: dict[str, Any]) -> str:
    """A member of a list, or a part of a text."""
    if wanted is None:
        return field.has_member("item.type = 'null'")
    if not isinstance(wanted, str):
        return f"({field.kind} = 'array' AND {equals(field, wanted, binds)})"
    inside = f"instr({field.value}, {bind(binds, wanted)}) > 0"
    return f"CASE {field.kind} WHEN 'array' THEN {equals(field, wanted, binds)} WHEN 'text' THEN {inside} ELSE 0 END"


def has_words(field: Field, words: str, binds: dict[str, Any]) -> str:
    """Whether a text or a number in the field holds the words as whole ones; SQLite lowers ASCII letters alone."""
    pattern = "".join(f"[{c}]" if c in "*?[" else c for c in words)
    before, after = (EDGE if end.isascii() and end.isalnum() else "" for end in (words[0], words[-1]))
    pattern = bind(binds, f"*{before}{pattern}{after}*")
    return (
        f"EXISTS (SELECT 1 FROM json_tree({field.document}, {field.path}) AS item "
        f"WHERE item.type IN ('text', 'integer', 'real') AND ' ' || lower(item.atom) || ' ' GLOB lower({pattern}))"
    )
