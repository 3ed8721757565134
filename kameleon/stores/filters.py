"""`where` as people write it, checked and parsed into a small tree that each dialect renders in its SQL. Imports
`errors`.

{"status": "open", "priority": {"$gte": 3}, "$or": [{"tags": {"$contains": "vip"}}, {"product.line": "hub"}]}

Several keys are all required. A dotted path goes into nested objects. Comparisons are typed: 3 is not "3", and an order
holds only among numbers or among texts. A missing field equals null.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidFilter, seen

COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$contains")
ORDERED = ("$gt", "$gte", "$lt", "$lte")
HAS_WORDS = "has words"
GROUPS = ("$and", "$or", "$not")
MAX_DEPTH = 32
MAX_MEMBERS = 200


@dataclass(frozen=True, slots=True)
class Comparison:
    """`operator` is one of COMPARISONS, or HAS_WORDS for a query's `field:word`."""

    path: tuple[str, ...]
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """`operator` is $and, $or or $not (of one); an empty $and holds for every record."""

    operator: str
    members: tuple["Filter", ...]


Filter = Comparison | Group


def parse_filter(where: Mapping[str, Any] | None, fields: Collection[str] | None = None) -> Filter | None:
    """Parses `where`, None for no condition. `fields`, if given, are the names a path may begin with.

    Raises InvalidFilter.
    """
    if where is None or where == {}:
        return None
    return _group(where, fields, 0)


def _group(where: Any, fields: Collection[str] | None, depth: int) -> Filter:
    if not isinstance(where, Mapping):
        raise InvalidFilter(f"a filter is an object such as {{'status': 'open'}}, not {seen(where)}")
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep")
    members = tuple(part for key, value in where.items() for part in _entry(key, value, fields, depth))
    return members[0] if len(members) == 1 else Group("$and", members)


def _entry(key: Any, value: Any, fields: Collection[str] | None, depth: int) -> Iterator[Filter]:
    if key in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not value:
            raise InvalidFilter(f"{key} takes a list of filters, not {seen(value)}")
        if len(value) > MAX_MEMBERS:
            raise InvalidFilter(f"{key} takes {MAX_MEMBERS} filters at most, not {len(value)}. For many values use $in")
        yield Group(key, tuple(_group(member, fields, depth + 1) for member in value))
    elif key == "$not":
        yield Group("$not", (_group(value, fields, depth + 1),))
    elif not isinstance(key, str) or key.startswith("$"):
        raise InvalidFilter(
            f"unknown operator {seen(key)}. Known: {', '.join(GROUPS)}; on a field {', '.join(COMPARISONS)}"
        )
    else:
        yield from _comparisons(path_of(key, fields), value, fields, depth)


def path_of(key: str, fields: Collection[str] | None) -> tuple[str, ...]:
    """Splits a dotted path into names, the first of them one of `fields`. Raises InvalidFilter."""
    path = tuple(key.split("."))
    if fields is not None and path[0] not in fields:
        raise InvalidFilter(f"unknown field {path[0]!r:.80}. Known: {', '.join(sorted(fields)) or 'none'}")
    if not all(path) or set('"\\') & set(key) or not key.isprintable():
        raise InvalidFilter(
            f"{seen(key, 80)} is no field: a path is printable names joined by single dots, without quotes"
        )
    return path


def _comparisons(path: tuple[str, ...], value: Any, fields: Collection[str] | None, depth: int) -> Iterator[Filter]:
    if not (isinstance(value, Mapping) and any(isinstance(k, str) and k.startswith("$") for k in value)):
        yield Comparison(path, "$eq", plain(value))
        return
    for operator, operand in value.items():
        if operator == "$not":
            inner = _group({".".join(path): operand}, fields, depth + 1)
            yield Group("$not", (inner,))
            continue
        if operator not in COMPARISONS:
            raise InvalidFilter(f"unknown operator {seen(operator)}. Known: {', '.join(COMPARISONS)}, $not")
        yield Comparison(path, operator, _operand(operator, operand))


def _operand(operator: str, value: Any) -> Any:
    if operator in ORDERED and (isinstance(value, bool) or not isinstance(value, int | float | str)):
        raise InvalidFilter(f"{operator} compares with a number or a text, not {seen(value)}")
    if operator in ("$in", "$nin") and not isinstance(value, list | tuple | set | frozenset):
        raise InvalidFilter(f"{operator} takes a list, not {seen(value)}")
    if operator == "$exists" and not isinstance(value, bool):
        raise InvalidFilter(f"$exists takes true or false, not {seen(value)}")
    if operator == "$contains" and isinstance(value, Mapping | list | tuple | set | frozenset):
        raise InvalidFilter(f"$contains takes one value, not {seen(value)}")
    return plain(value)


def plain(value: Any, depth: int = 0) -> Any:
    """Converts a value to JSON's; whole numbers over 64 bits become floats, as both databases' JSON reads them."""
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"the value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 63:
        value = float(value) if abs(value) < 1 << 1023 else math.inf
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidFilter("numbers in a filter are finite")
    if isinstance(value, Mapping):
        return {plain(name): plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidFilter("a text in a filter holds a lone surrogate, which no database can store")
    if isinstance(value, str) and "\0" in value:
        raise InvalidFilter("a text in a filter holds NUL, which no record can")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise InvalidFilter(f"a filter compares with JSON values, not {type(value).__name__} ({seen(value)})")
    return value


def condition(filter_: Filter, binds: dict[str, Any], comparison: Callable[[Comparison, dict[str, Any]], str]) -> str:
    """Renders the tree as SQL that is true or false, never NULL, so that NOT is exact. `comparison` is the dialect's;
    values are added to `binds`."""
    if isinstance(filter_, Comparison):
        return f"coalesce({comparison(filter_, binds)}, false)"
    members = [condition(member, binds, comparison) for member in filter_.members]
    if filter_.operator == "$not":
        return f"NOT ({members[0]})"
    return "(" + (" AND " if filter_.operator == "$and" else " OR ").join(members or ["true"]) + ")"


def bind(binds: dict[str, Any], value: Any) -> str:
    name = f"where{len(binds)}"
    binds[name] = value
    return f":{name}"
