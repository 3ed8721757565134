"""Orders hits by fields, or groups them by entity. Pure. Imports `errors`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from ..errors import InvalidInput, seen

Item = TypeVar("Item")

ORDERED: dict[str, type] = {
    "text": str,
    "time": datetime,
    "day": date,
    "time of day": time,
    "interval": timedelta,
    "uuid": UUID,
    "bytes": bytes,
}
SORT_SHAPE = "sort is a field, or -field for the greatest first; several in one text with commas, or in a list"
MAX_SORTS = 5
"""Bounds the fields of one sort, each of which is read by a statement of its own. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Sort:
    field: str
    is_descending: bool = False


def read_sort(value: object) -> tuple[Sort, ...]:
    """The fields of `sort`, the first of which decides first; none for None. Raises InvalidInput."""
    if value is None:
        return ()
    named = value.split(",") if isinstance(value, str) else value
    if not isinstance(named, list | tuple) or not named:
        raise InvalidInput(f"{SORT_SHAPE}; got {seen(value)}")
    if len(named) > MAX_SORTS:
        raise InvalidInput(f"sort takes {MAX_SORTS} fields at most, not {len(named)}")
    return tuple(_read_one(name.strip() if isinstance(value, str) else name) for name in named)


def _read_one(name: object) -> Sort:
    if not isinstance(name, str) or not name.removeprefix("-"):
        raise InvalidInput(f"{SORT_SHAPE}; got {seen(name)}")
    return Sort(name.removeprefix("-"), name.startswith("-"))


def by_fields(
    ranked: Sequence[Item],
    values: Sequence[Mapping[Item, Any]],
    sorts: Sequence[Sort],
    text_key: Callable[[str], Any],
) -> list[Item]:
    """`ranked` by the values of each field in turn; equal ones stay in the order they came."""
    ordered = list(ranked)
    for sort, of_field in reversed(list(zip(sorts, values, strict=True))):
        ordered = by_field(ordered, of_field, sort, text_key)
    return ordered


def by_field(
    ranked: Sequence[Item], values: Mapping[Item, Any], sort: Sort, text_key: Callable[[str], Any]
) -> list[Item]:
    """`ranked` by their values, equal ones in the order they came, those without one last. Numbers come before texts,
    which `text_key` orders; lists and objects count for none, and members of an Enum by their names."""
    plain = {item: plain_value(value) for item, value in values.items()}
    kinds = {item: kind for item in ranked if (kind := kind_of(plain.get(item)))}
    keys = {item: (kind, text_key(plain[item]) if kind == "text" else plain[item]) for item, kind in kinds.items()}
    comparable = sorted(keys, key=keys.__getitem__, reverse=sort.is_descending)
    return [*comparable, *(item for item in ranked if item not in kinds)]


def plain_value(value: Any) -> Any:
    """What a value is compared by."""
    return value.name if isinstance(value, Enum) else value


def kind_of(value: Any) -> str:
    """Values of one kind can be compared; empty for what has no order."""
    if value != value:
        return ""
    if isinstance(value, int | float | Decimal):
        return " number"
    return next((name for name, type_ in ORDERED.items() if isinstance(value, type_)), "")


def by_group(ranked: Sequence[Item], groups: Mapping[Item, str], size: int) -> dict[str, list[Item]]:
    """The first `size` of each group, in the order in which the groups come up."""
    grouped: dict[str, list[Item]] = {}
    for item in ranked:
        members = grouped.setdefault(groups[item], [])
        if len(members) < size:
            members.append(item)
    return grouped
