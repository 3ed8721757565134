"""Values of Arrow's columns as those of JSON. Imports nothing of kameleon's.

Dates and times are texts in ISO 8601, those with a zone in UTC; a duration is a number of seconds; a decimal of up to
15 digits is a number, a longer one a text; NaN, by which pandas writes what is missing, is null.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow
from pyarrow import types

Convert = Callable[[Any], Any]

FLOAT_DIGITS = 15
"""Bounds the digits of decimals that are numbers: a float has 15 for certain."""
REFUSED: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (types.is_binary, "binary"),
    (types.is_large_binary, "binary"),
    (types.is_fixed_size_binary, "binary"),
    (types.is_binary_view, "binary"),
    (types.is_union, "a union"),
    (types.is_interval, "an interval"),
)
TEXTS = (types.is_string, types.is_large_string, types.is_string_view)
AS_THEY_ARE = (*TEXTS, types.is_integer, types.is_boolean, types.is_null)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What takes the place of a value that Python has none for."""

    reason: str


def refused(type_: Any) -> str | None:
    """What no record can hold, of a column or inside it; None where it can."""
    if is_uuid(type_):
        return None
    type_ = storage_of(type_)
    return next((what for is_such, what in REFUSED if is_such(type_)), None) or next(
        filter(None, map(refused, inner_types(type_))), None
    )


def inner_types(type_: Any) -> list[Any]:
    if types.is_dictionary(type_):
        return [type_.value_type]
    if types.is_map(type_):
        return [type_.key_type, type_.item_type]
    return [type_.field(number).type for number in range(type_.num_fields)] if types.is_nested(type_) else []


def is_uuid(type_: Any) -> bool:
    return getattr(type_, "extension_name", "") == "arrow.uuid"


def storage_of(type_: Any) -> Any:
    return type_.storage_type if isinstance(type_, pyarrow.BaseExtensionType) else type_


def column_values(column: Any) -> list[Any]:
    """The values of a column, Unreadable where there is none."""
    convert = converter(column.type)
    if isinstance(column, pyarrow.ExtensionArray) and not is_uuid(column.type):
        column = column.storage
    if (wanted := plain(column.type)) != column.type:
        column = column.cast(wanted, safe=False)
    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):  # a date beyond the years that Python has
        values = [readable(scalar) for scalar in column]
    return values if convert is None else [value if is_plain(value) else convert(value) for value in values]


def readable(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return Unreadable(f"cannot be a value of Python's: {error}")


def is_plain(value: Any) -> bool:
    return value is None or isinstance(value, Unreadable)


def plain(type_: Any) -> Any:
    """The type whose values Python can have without loss but of nanoseconds: in microseconds, in UTC, undivided."""
    if types.is_timestamp(type_):
        return pyarrow.timestamp("us", None if type_.tz is None else "UTC")
    if types.is_duration(type_):
        return pyarrow.duration("us")
    if types.is_time64(type_):
        return pyarrow.time64("us")
    if types.is_dictionary(type_):
        return plain(type_.value_type)
    if types.is_struct(type_):
        return pyarrow.struct([field.with_type(plain(field.type)) for field in fields_of(type_)])
    if types.is_map(type_):
        return pyarrow.map_(type_.key_type, plain(type_.item_type))
    if is_list(type_):
        return pyarrow.list_(plain(type_.value_type))
    return type_


def fields_of(type_: Any) -> list[Any]:
    return [type_.field(number) for number in range(type_.num_fields)]


def is_list(type_: Any) -> bool:
    kinds = types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view
    return any(is_such(type_) for is_such in kinds)


def converter(type_: Any) -> Convert | None:
    """Makes a value of this type, not null, one of JSON; None where it is one."""
    if is_uuid(type_):
        return str
    type_ = storage_of(type_)
    if any(is_such(type_) for is_such in AS_THEY_ARE):
        return None
    if types.is_dictionary(type_):
        return converter(type_.value_type)
    if types.is_map(type_):
        return map_converter(type_)
    if types.is_struct(type_):
        return struct_converter({field.name: converter(field.type) for field in fields_of(type_)})
    if is_list(type_):
        return list_converter(converter(type_.value_type))
    return scalar_converter(type_)


def scalar_converter(type_: Any) -> Convert:
    if types.is_floating(type_):
        return number_or_null
    if types.is_decimal(type_):
        if type_.precision > FLOAT_DIGITS:
            return "{:f}".format
        return int if type_.scale <= 0 else float
    if types.is_timestamp(type_) and type_.tz is not None:
        return utc_text
    if types.is_duration(type_):
        return seconds
    return iso_text


def number_or_null(value: float) -> float | None:
    return value if value == value else None


def utc_text(value: Any) -> str:
    return str(value.isoformat()).removesuffix("+00:00") + "Z"


def iso_text(value: Any) -> str:
    return str(value.isoformat())


def seconds(value: Any) -> float:
    return float(value.total_seconds())


def list_converter(inner: Convert | None) -> Convert | None:
    if inner is None:
        return None
    return lambda values: [None if value is None else inner(value) for value in values]


def struct_converter(inner: Mapping[str, Convert | None]) -> Convert | None:
    if not any(inner.values()):
        return None

    def convert(value: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: item if item is None or (made := inner[name]) is None else made(item) for name, item in value.items()
        }

    return convert


def map_converter(type_: Any) -> Convert:
    key, inner = converter(type_.key_type) or str, converter(type_.item_type)

    def convert(pairs: Any) -> dict[str, Any]:
        return {str(key(name)): item if item is None or inner is None else inner(item) for name, item in pairs}

    return convert
