"""Converts what a filter compares with to what columns of each type take. Imports `errors` and `stores`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import cast, literal, types

from ..errors import InvalidFilter, seen
from ..stores.filters import LISTS, Comparison
from ..stores.patterns import PATTERNS

MAX_CONTAINED = 10_000
"""Bounds the characters of a text that $contains looks for. Chosen, not measured."""


def fitted(given: Comparison, column: Any) -> Comparison:
    """Read dates, times and UUIDs, which JSON has no values for, from its texts. Raises InvalidFilter for a value that
    the column's type does not compare with: each database would refuse, or convert, it in its own way."""
    value, type_ = given.value, column.type
    if given.operator in ("$contains", *PATTERNS):
        _check_text(given, column)
        return given
    if given.operator in LISTS:
        raise InvalidFilter(f"{given.operator} holds for lists alone: {column.key} is {type_!r:.60}. Use $in")
    if given.operator == "$exists" or value is None:
        return given
    if given.operator in ("$in", "$nin"):
        listed = [fit(item, column) for item in value if item is not None]
        if isinstance(type_, types.Integer):
            listed = [item for item in listed if isinstance(item, int)]
        return replace(given, value=[*listed, *(item for item in value if item is None)])
    return replace(given, value=fit(value, column))


def _check_text(given: Comparison, column: Any) -> None:
    type_ = column.type
    own = type_.impl_instance if isinstance(type_, types.TypeDecorator) else type_
    is_text = isinstance(own, types.String) and not isinstance(own, types.Enum)
    if not is_text or not isinstance(given.value, str) or len(given.value) > MAX_CONTAINED:
        raise InvalidFilter(
            f"{given.operator} on a column takes a text of {MAX_CONTAINED:,} characters at most, and a column of "
            f"texts: {column.key} is {type_!r:.60}, this {seen(given.value)}"
        )


def fit(value: Any, column: Any) -> Any:
    value = value.value if isinstance(value, Enum) and not isinstance(column.type, NAMED) else value
    readers = ((read, what) for kinds, read, what in READERS if isinstance(column.type, kinds))
    read, what = next(readers, (_as_it_is, "one value"))
    try:
        return read(value, column.type)
    except (ValueError, OverflowError) as error:
        raise InvalidFilter(
            f"{column.key} is {column.type!r:.60}, which compares with {what}, not {seen(value)}"
        ) from error


def _as_it_is(value: Any, _type: Any) -> Any:
    return _of(value, str, int, float, bool, Decimal, date, time, UUID)


def _of(value: Any, *types: type) -> Any:
    """Raises ValueError for a value of another type; true is no number."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError
    return value


def _integer(value: Any, _type: Any) -> Any:
    """Exact beyond the column's range, too: PostgreSQL would compare a whole number with a float as floats."""
    number = _of(value, int, float, Decimal)
    return int(number) if number == int(number) and -(1 << 63) <= number < 1 << 63 else Decimal(number)


def _number(value: Any, type_: Any) -> Any:
    """Exact, but for a column of floats: PostgreSQL would compare NUMERIC as floats."""
    number, is_float = _of(value, int, float, Decimal), isinstance(type_, types.Float)
    if isinstance(number, Decimal):
        return float(number) if is_float else number
    return Decimal(repr(number)) if isinstance(number, int) or not is_float else number


def _name(value: Any, type_: Any) -> Any:
    if type_.enum_class is not None and isinstance(value, type_.enum_class):
        return value
    value = value.value if isinstance(value, Enum) else value
    if value not in type_.enums:
        raise ValueError
    return value


def _moment(value: Any, type_: Any) -> datetime:
    """A time without a zone is UTC where the column has zones; a date is its midnight."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else _of(value, date)
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if not type_.timezone and moment.tzinfo:
        raise ValueError
    zoned = moment if moment.tzinfo or not type_.timezone else moment.replace(tzinfo=UTC)
    return zoned.astimezone(UTC) if type_.timezone else moment


def _uuid(value: Any, type_: Any) -> Any:
    found = value if isinstance(value, UUID) else UUID(_of(value, str))
    return found if type_.as_uuid else str(found)


def _day(value: Any, _type: Any) -> date:
    if isinstance(value, datetime):
        raise ValueError
    return date.fromisoformat(value) if isinstance(value, str) else _of(value, date)


def _time(value: Any, _type: Any) -> time:
    return time.fromisoformat(value) if isinstance(value, str) else _of(value, time)


def _text(value: Any, _type: Any) -> str:
    return str(value) if isinstance(value, UUID) else _of(value, str)


READERS: Sequence[tuple[Any, Callable[[Any, Any], Any], str]] = (
    (types.Interval, lambda value, _type: _of(value, timedelta), "timedeltas"),
    (types.LargeBinary, lambda value, _type: _of(value, bytes), "bytes"),
    (types.TypeDecorator, lambda value, _type: value, "what it accepts"),
    (types.Enum, _name, "its members and their names"),
    (types.Boolean, lambda value, _type: _of(value, bool), "true and false"),
    (types.DateTime, _moment, "datetimes and texts such as 2026-01-31T12:30, with a zone (+00:00) where it has one"),
    (types.Date, _day, "dates and texts such as 2026-01-31"),
    (types.Time, _time, "times and texts such as 12:30"),
    (types.Uuid, _uuid, "UUIDs and their texts"),
    (types.Integer, _integer, "numbers"),
    (types.Numeric | types.Float, _number, "numbers"),
    (types.String, _text, "texts"),
)
SINGLE_BITS, LEAST_SINGLE, MOST_SINGLE = 24, 1.2e-38, 3.4e38
"""Bound the floats of 32 bits: PostgreSQL refuses to round another one to these."""
NAMED = (types.Enum, types.TypeDecorator)
"""The types of columns that take members of an Enum as they are."""


def is_single(type_: Any) -> bool:
    """Whether a type's floats have 32 bits on PostgreSQL."""
    has_few_bits = isinstance(type_, types.Float) and type_.precision is not None and type_.precision <= SINGLE_BITS
    return has_few_bits or isinstance(type_, types.REAL)


def rounded(value: Any, type_: Any) -> Any:
    """A number as a column of floats has it."""
    if not isinstance(value, float) or not is_single(type_) or not LEAST_SINGLE <= abs(value) <= MOST_SINGLE:
        return value
    return cast(literal(value, types.Double), type_)
