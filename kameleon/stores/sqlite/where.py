"""`where` in SQLite's SQL: conditions on the JSON text of `kdb_records.data`, every value and path a bind. Imports this
package alone.

`json_extract` returns SQL values and `json_type` their types in JSON, so that true is not 1 and 3 is not "3".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..filters import HAS_WORDS, ORDERED, Comparison, Filter, bind, condition
from ..tables import dump

EDGE = "[^a-z0-9]"


def is_plain(name: str) -> bool:
    """Whether a field may have an index, whose SQL contains its name."""
    return name.isascii() and name.isidentifier()


def indexed_path(name: str) -> str:
    """Renders a literal: an index is used where the query has its expression word for word."""
    return f"""'$."{name}"'"""


def comparison(compared: Comparison, binds: dict[str, Any]) -> str:
    if compared.operator in ("$in", "$nin") and not compared.value:
        return "0" if compared.operator == "$in" else "1"
    path = indexed_path(compared.path[0]) if len(compared.path) == 1 and is_plain(compared.path[0]) else ""
    path = path or bind(binds, json_path(compared.path))
    value, kind = f"json_extract(kdb_records.data, {path})", f"json_type(kdb_records.data, {path})"
    match compared.operator:
        case "$eq":
            return equals(value, kind, compared.value, binds)
        case "$ne":
            return f"NOT ifnull({equals(value, kind, compared.value, binds)}, 0)"
        case "$in" | "$nin":
            any_ = equals_any(value, kind, compared.value, binds)
            return f"({any_})" if compared.operator == "$in" else f"NOT ifnull(({any_}), 0)"
        case "$exists":
            return f"{kind} IS {'NOT ' if compared.value else ''}NULL"
        case "$contains":
            return contains(value, kind, path, compared.value, binds)
        case _ if compared.operator == HAS_WORDS:
            return has_words(path, compared.value, binds)
    signs = dict(zip(ORDERED, (">", ">=", "<", "<="), strict=True))
    kinds = "('text')" if isinstance(compared.value, str) else "('integer', 'real')"
    return f"({kind} IN {kinds} AND {value} {signs[compared.operator]} {bind(binds, compared.value)})"


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


def equals(value: str, kind: str, wanted: Any, binds: dict[str, Any]) -> str:
    if wanted is None:
        return f"({value} IS NULL)"
    if isinstance(wanted, bool):
        return f"({kind} = '{'true' if wanted else 'false'}' AND {value} = {int(wanted)})"
    if isinstance(wanted, int | float):
        return f"({kind} IN ('integer', 'real') AND {value} = {bind(binds, wanted)})"
    if isinstance(wanted, str):
        return f"({kind} = 'text' AND {value} = {bind(binds, wanted)})"
    shape = "object" if isinstance(wanted, Mapping) else "array"
    return f"({kind} = '{shape}' AND {value} = json({bind(binds, dump(wanted))}))"


def equals_any(value: str, kind: str, options: Sequence[Any], binds: dict[str, Any]) -> str:
    """Texts and numbers as one list each: SQLite's expressions may be 1,000 deep at most."""
    texts = [option for option in options if isinstance(option, str)]
    numbers = [option for option in options if isinstance(option, int | float) and not isinstance(option, bool)]
    others = [o for o in options if o is None or isinstance(o, bool | Mapping | list | tuple)]
    found = [equals(value, kind, option, binds) for option in others]
    for listed, kinds in ((texts, "('text')"), (numbers, "('integer', 'real')")):
        if listed:
            members = f"SELECT item.value FROM json_each({bind(binds, dump(listed))}) AS item"
            found.append(f"({kind} IN {kinds} AND {value} IN ({members}))")
    return " OR ".join(found)


def contains(value: str, kind: str, path: str, wanted: Any, binds: dict[str, Any]) -> str:
    member = (
        f"EXISTS (SELECT 1 FROM json_each(kdb_records.data, {path}) AS item "
        f"WHERE {equals('item.value', 'item.type', wanted, binds)})"
    )
    inside = f"instr({value}, {bind(binds, wanted)}) > 0" if isinstance(wanted, str) else "0"
    return f"CASE {kind} WHEN 'array' THEN {member} WHEN 'text' THEN {inside} ELSE 0 END"


def has_words(path: str, words: str, binds: dict[str, Any]) -> str:
    """Whether a text or a number in the field holds the words as whole ones; SQLite lowers ASCII letters alone."""
    pattern = "".join(f"[{c}]" if c in "*?[" else c for c in words)
    before, after = (EDGE if end.isascii() and end.isalnum() else "" for end in (words[0], words[-1]))
    pattern = bind(binds, f"*{before}{pattern}{after}*")
    return (
        f"EXISTS (SELECT 1 FROM json_tree(kdb_records.data, {path}) AS item "
        f"WHERE item.type IN ('text', 'integer', 'real') AND ' ' || lower(item.atom) || ' ' GLOB lower({pattern}))"
    )
