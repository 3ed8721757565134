"""`where` as people write it, checked and parsed into a small tree that each dialect renders in its SQL. Imports
`values`, `errors` and `moments`.

{"status": "open", "priority": {"$gte": 3}, "$or": [{"tags": "vip"}, {"product.line": "hub"}]}

Several keys are all required. A dotted path goes into nested objects. Comparisons are typed: 3 is not "3" and 1 is not
true, and an order holds only among numbers, among texts or among moments. A value equals a list that has it as a
member. A missing field equals null. Whole numbers of 64 bits are compared exactly, all others as floats. Values may be
of types that JSON does not have: date, datetime, time, Decimal, UUID, members of an Enum.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from ..errors import InvalidFilter, seen
from ..moments import DATE, Moment, moment_of, read_date, read_moment
from ..values import Bucket
from .paths import ANY, FieldNames, Path, path_of
from .patterns import PATTERNS, check_pattern

LISTS = ("$any", "$all")
ON_FIELDS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$contains", *PATTERNS, *LISTS)
ORDERED = ("$gt", "$gte", "$lt", "$lte")
INSTANT = ("$eq", "$ne", "$in", "$nin", *ORDERED)
"""The operators by which a field that is declared datetime is compared as an instant."""
HAS_WORDS = "has words"
COMPARISONS = (*ON_FIELDS, "$between", "$not")
GROUPS = ("$and", "$or", "$not")
ID = ("id",)
"""The path of a stored record's key, which is beside its data."""
MAX_DEPTH = 32
MAX_MEMBERS = 200
LEAST_WHOLE, MOST_WHOLE = -(2**63) + 1, 2**63 - 1
"""Bound the whole numbers that both databases hold exactly in JSON, less the one that smaller ones are rounded to."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`operator` is one of ON_FIELDS, or HAS_WORDS for a query's `field:word`."""

    path: Path
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """`operator` is $and, $or or $not (of one); an empty $and holds for every record."""

    operator: str
    members: tuple["Filter", ...]


Filter = Comparison | Group


def parse_filter(
    where: Mapping[str, Any] | None,
    names: FieldNames = ANY,
    read: Callable[[Any], Any] | None = None,
) -> Filter | None:
    """Parses `where`, None for no condition. `names` are those that paths may have; `read` converts what is compared,
    to JSON's values by default. Raises InvalidFilter."""
    if where is None or where == {}:
        return None
    return _Parser(names, read or plain).group(where, 0)


@dataclass(frozen=True, slots=True)
class _Parser:
    names: FieldNames
    read: Callable[[Any], Any]

    def group(self, where: Any, depth: int) -> Filter:
        if not isinstance(where, Mapping):
            raise InvalidFilter(f"a filter is an object such as {{'status': 'open'}}, not {seen(where)}")
        self._check_depth(depth)
        return all_of(part for key, value in where.items() for part in self._entry(key, value, depth))

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep")

    def _entry(self, key: Any, value: Any, depth: int) -> Iterator[Filter]:
        if key in ("$and", "$or"):
            yield Group(key, self._members(key, value, depth))
        elif key == "$not" and isinstance(value, list | tuple):
            yield Group("$not", (Group("$or", self._members(key, value, depth)),))
        elif key == "$not":
            yield Group("$not", (self.group(value, depth + 1),))
        elif not isinstance(key, str) or key.startswith("$"):
            raise InvalidFilter(
                f"unknown operator {seen(key)}. Known: {', '.join(GROUPS)}; on a field {', '.join(COMPARISONS)}"
            )
        else:
            path = ID if (key,) == ID else path_of(key, self.names)
            yield from self._comparisons(path, value, depth)

    def _members(self, key: str, value: Any, depth: int) -> tuple[Filter, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise InvalidFilter(f"{key} takes a list of filters, not {seen(value)}")
        if len(value) > MAX_MEMBERS:
            raise InvalidFilter(f"{key} takes {MAX_MEMBERS} filters at most, not {len(value)}. For many values use $in")
        return tuple(self.group(member, depth + 1) for member in value)

    def _comparisons(self, path: tuple[str, ...], value: Any, depth: int) -> Iterator[Filter]:
        value = value.filter if isinstance(value, Bucket) else value
        names = value if isinstance(value, Mapping) and not is_date(value) else ()
        if not any(isinstance(name, str) and name.startswith("$") for name in names):
            yield self._compared(path, "$eq", self.read(value))
            return
        for operator, operand in value.items():
            if operator not in COMPARISONS:
                raise InvalidFilter(f"unknown operator {seen(operator)}. Known: {', '.join(COMPARISONS)}")
            if operator == "$not" and not is_list(operand):
                self._check_depth(depth + 1)
                yield Group("$not", (all_of(self._comparisons(path, operand, depth + 1)),))
            elif operator == "$between":
                low, high = self._ends(operand)
                yield self._compared(path, "$gte", low)
                yield self._compared(path, "$lte", high)
            else:
                operator = "$nin" if operator == "$not" else operator
                yield self._compared(path, operator, self._operand(operator, operand))

    def _compared(self, path: Path, operator: str, value: Any) -> Comparison:
        is_moment = path in self.names.moments and operator in INSTANT
        return Comparison(path, operator, as_moment(path, value) if is_moment else value)

    def _ends(self, value: Any) -> tuple[Any, Any]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise InvalidFilter(f"$between takes a list of two values, the least and the greatest, not {seen(value)}")
        low, high = (self._operand("$gte", end) for end in value)
        if {isinstance(end, int | float) + 2 * isinstance(end, str) for end in (low, high)} == {1, 2}:
            raise InvalidFilter(f"$between takes two numbers, two texts or two dates, not {seen(value)}")
        return low, high

    def _operand(self, operator: str, value: Any) -> Any:
        if operator in ("$in", "$nin", *LISTS) and not is_list(value):
            raise InvalidFilter(f"{operator} takes a list, not {seen(value)}")
        if operator in LISTS:
            _check_members(operator, value)
        if operator in PATTERNS:
            check_pattern(operator, value)
        if operator == "$exists" and not isinstance(value, bool):
            raise InvalidFilter(f"$exists takes true or false, not {seen(value)}")
        if operator == "$contains" and (isinstance(value, Mapping) or is_list(value)):
            raise InvalidFilter(f"$contains takes one value, not {seen(value)}")
        value = read_date(value[DATE]) if is_date(value) else value
        if operator in ORDERED and (isinstance(value, bool | Mapping | None) or is_list(value)):
            raise InvalidFilter(f"{operator} compares with a number or a text, or a date, not {seen(value)}")
        return self.read(value)


def as_moment(path: Path, value: Any) -> Any:
    """What a field that is declared datetime is compared with. Raises InvalidFilter."""
    if isinstance(value, list):
        return [as_moment(path, one) for one in value]
    found = read_moment(value) if isinstance(value, str) else value
    if value is None or isinstance(found, Moment):
        return found
    raise InvalidFilter(
        f"{path[-1]!r:.80} is declared datetime, which compares with dates and texts such as 2026-01-31T12:30Z, not "
        f"{seen(value)}"
    )


def all_of(members: Iterable[Filter]) -> Filter:
    listed = tuple(members)
    return listed[0] if len(listed) == 1 else Group("$and", listed)


def is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def _check_members(operator: str, value: Collection[Any]) -> None:
    if operator == "$all" and len(value) > MAX_MEMBERS:
        raise InvalidFilter(f"$all takes {MAX_MEMBERS} values at most, not {len(value)}")
    whole = next((one for one in value if is_list(one) or (isinstance(one, Mapping) and not is_date(one))), None)
    if whole is not None:
        raise InvalidFilter(f"{operator} takes a list of single values, of which none is {seen(whole)}")


def plain(value: Any, depth: int = 0) -> Any:
    """Converts a value to JSON's: times and UUIDs to their texts, a Decimal to a number, a member of an Enum to its
    value; dates, which JSON does not have, to moments. Raises InvalidFilter for any other."""
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"the value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Enum):
        value = value.value if isinstance(value.value, str | int | float | UUID) else value.name
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | Decimal):
        return number(value)
    if isinstance(value, str):
        return _text(value)
    if is_date(value):
        value = read_date(value[DATE])
    if isinstance(value, Mapping):
        return {plain(name): plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, date):
        return moment_of(value)
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise InvalidFilter(f"a filter compares with JSON values, not {type(value).__name__} ({seen(value)})")


def typed(value: Any) -> Any:
    """Checks a value for columns, which have types of their own: those that JSON does not have stay as they are. Raises
    InvalidFilter."""
    if is_date(value):
        return read_date(value[DATE])
    if isinstance(value, list | tuple | set | frozenset):
        return [typed(item) for item in value]
    if isinstance(value, Enum | date | time | timedelta | UUID | bytes):
        return value
    if isinstance(value, str) and "\0" in value:
        raise InvalidFilter("a text that is compared with a column holds NUL, which PostgreSQL cannot compare")
    checked = plain(value)
    return value if isinstance(value, Decimal) else checked


def is_date(value: Any) -> bool:
    """Whether it is a date in JSON."""
    return isinstance(value, Mapping) and set(value) == {DATE}


def id_text(value: Any) -> str | None:
    """A record's id as it is stored; None for what is no id."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number or isinstance(value, str) else None


def number(value: float | Decimal) -> int | float:
    """The number that a JSON number counts as on both databases: whole ones of 64 bits are exact, all others floats.
    Raises InvalidFilter for one that is not finite."""
    try:
        rounded = float(value)
    except (OverflowError, ValueError):
        rounded = math.inf
    if not math.isfinite(rounded):
        raise InvalidFilter("numbers in a filter are finite")
    return int(value) if LEAST_WHOLE <= value <= MOST_WHOLE and value == int(value) else rounded


def _text(value: str) -> str:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidFilter("a text in a filter holds a lone surrogate, which no database can store")
    return value.replace("\0", " ")


def is_huge(value: Any) -> bool:
    """Whether it is a number that no whole number of 64 bits equals, however it is rounded."""
    return isinstance(value, float) and not LEAST_WHOLE <= value <= MOST_WHOLE


def by_shape(options: Sequence[Any]) -> dict[str, list[Any]]:
    """The values of $in: whether null is among them, flags, numbers, texts and moments, each compared as one list,
    and whole lists and objects."""
    kinds: Sequence[tuple[Any, str]] = (
        *((type(None), "null"), (bool, "flags"), (int | float, "numbers")),
        *((str, "texts"), (Moment, "moments"), (object, "wholes")),
    )
    shapes: dict[str, list[Any]] = {shape: [] for _, shape in kinds}
    for option in options:
        shapes[next(shape for kind, shape in kinds if isinstance(option, kind))].append(option)
    return shapes


def condition(filter_: Filter, binds: dict[str, Any], comparison: Callable[[Comparison, dict[str, Any]], str]) -> str:
    """Renders the tree as SQL that is true or false, never NULL, so that NOT is exact. `comparison` is the dialect's;
    values are added to `binds`."""
    if isinstance(filter_, Comparison):
        return f"coalesce({comparison(filter_, binds)}, false)"
    members = [condition(member, binds, comparison) for member in filter_.members]
    if filter_.operator == "$not":
        return f"NOT ({members[0]})"
    return "(" + (" AND " if filter_.operator == "$and" else " OR ").join(members or ["true"]) + ")"


def holding(filter_: Filter, binds: dict[str, Any], comparison: Callable[[Comparison, dict[str, Any]], str]) -> str:
    """Renders the same for a WHERE of its own, where NULL is false and the planner can use indexes."""
    if isinstance(filter_, Comparison):
        return comparison(filter_, binds)
    if filter_.operator == "$not":
        return condition(filter_, binds, comparison)
    members = [holding(member, binds, comparison) for member in filter_.members]
    return "(" + (" AND " if filter_.operator == "$and" else " OR ").join(members or ["true"]) + ")"


def counting(
    conditions: Sequence[Mapping[str, Any]],
    binds: Mapping[str, Any],
    comparison: Callable[[Comparison, dict[str, Any]], str],
    fields: FieldNames = ANY,
) -> tuple[str, dict[str, Any]]:
    """Renders a count of the rows that each of the conditions holds for, and all binds; `fields` are the names that
    paths may have."""
    all_binds = dict(binds)
    parsed = [parse_filter(each, fields) or Group("$and", ()) for each in conditions]
    counts = [f"count(CASE WHEN {condition(each, all_binds, comparison)} THEN 1 END)" for each in parsed]
    return ", ".join(f"{count} AS c{place}" for place, count in enumerate(counts)), all_binds


def bind(binds: dict[str, Any], value: Any) -> str:
    name = f"where{len(binds)}"
    binds[name] = value
    return f":{name}"
