"""`where` in PostgreSQL's SQL: conditions on the JSONB of `kdb_records.data`, every value and path a bind. Imports this
package alone.

Paths are strict: one never goes into a list by itself, as SQLite's do not.
"""

from collections.abc import Sequence
from typing import Any

from ..filters import HAS_WORDS, ORDERED, Comparison, bind
from ..tables import digits, dump

MAX_FLOAT = "1.7976931348623157e308"
START, END = "(^|[^a-z0-9])", "($|[^a-z0-9])"


def comparison(compared: Comparison, binds: dict[str, Any]) -> str:
    if compared.operator in ("$in", "$nin") and not compared.value:
        return "false" if compared.operator == "$in" else "true"
    path = bind(binds, "strict $" + "".join(f'."{name}"' for name in compared.path))
    value = f"jsonb_path_query_first(kdb_records.data, CAST({path} AS jsonpath), '{{}}', true)"
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
        case _ if compared.operator == HAS_WORDS:
            return has_words(compared.path, compared.value, binds)
    sign = dict(zip(ORDERED, (">", ">=", "<", "<="), strict=True))[compared.operator]
    if isinstance(compared.value, str):
        return when(value, "string", f"({value} #>> '{{}}') COLLATE \"C\" {sign} {bind(binds, compared.value)}")
    return when(value, "number", f"{number(value, compared.value)} {sign} {bind(binds, compared.value)}")


def equals(value: str, wanted: Any, binds: dict[str, Any]) -> str:
    if wanted is None:
        return f"({value} IS NULL OR {value} = 'null')"
    if isinstance(wanted, float):
        return when(value, "number", f"{number(value, wanted)} = {bind(binds, wanted)}")
    return f"({value} = CAST({bind(binds, dump(digits(wanted)))} AS jsonb))"


def equals_any(value: str, options: Sequence[Any], binds: dict[str, Any]) -> str:
    floats = [option for option in options if isinstance(option, float)]
    others = [dump(digits(option)) for option in options if option is not None and not isinstance(option, float)]
    found = []
    if None in options:
        found.append(equals(value, None, binds))
    if floats:
        found.append(when(value, "number", f"{number(value, floats[0])} = ANY({bind(binds, floats)})"))
    if others:
        found.append(f"{value} = ANY(CAST({bind(binds, others)} AS jsonb[]))")
    return " OR ".join(found)


def contains(value: str, wanted: Any, binds: dict[str, Any]) -> str:
    member = f"{value} @> CAST({bind(binds, dump(digits(wanted)))} AS jsonb)"
    inside = f"strpos({value} #>> '{{}}', {bind(binds, wanted)}) > 0" if isinstance(wanted, str) else "false"
    return f"CASE jsonb_typeof({value}) WHEN 'array' THEN {member} WHEN 'string' THEN {inside} ELSE false END"


def when(value: str, kind: str, holds: str) -> str:
    """CASE, for AND may look at its right side first, and a cast of another kind fails."""
    return f"CASE jsonb_typeof({value}) WHEN '{kind}' THEN {holds} ELSE false END"


def number(value: str, wanted: float) -> str:
    """A whole number is compared exactly, a float as floats are; JSONB may hold more than a float can."""
    exact = f"CAST({value} AS numeric)"
    if isinstance(wanted, float):
        return f"CAST(least(greatest({exact}, -{MAX_FLOAT}), {MAX_FLOAT}) AS float8)"
    return exact


def has_words(path: tuple[str, ...], words: str, binds: dict[str, Any]) -> str:
    """Whether a text or a number in the field holds the words as whole ones."""
    inner = bind(binds, "strict $" + "".join(f'."{name}"' for name in path) + ".**")
    quoted = "".join(rf"\{c}" if c.isascii() and not c.isalnum() else c for c in words)
    before, after = (end.isascii() and end.isalnum() for end in (words[0], words[-1]))
    pattern = bind(binds, (START if before else "") + quoted + (END if after else ""))
    return (
        f"EXISTS (SELECT 1 FROM jsonb_path_query(kdb_records.data, CAST({inner} AS jsonpath), '{{}}', true) AS item "
        f"WHERE jsonb_typeof(item) IN ('string', 'number') AND item #>> '{{}}' ~* {pattern})"
    )
