"""Orders hits by a field, or groups them by entity. Pure. Imports `errors`."""

from collections.abc import Mapping, Sequence
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
SORT_SHAPE = "sort is a field, or -field for the greatest first"


@dataclass(frozen=True, slots=True)
class Sort:
    field: str
    is_descending: bool = False


def read_sort(value: object) -> Sort | None:
    """Raises InvalidInput."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.removeprefix("-"):
        raise InvalidInput(f"{SORT_SHAPE}; got {seen(value)}")
    return Sort(value.removeprefix("-"), value.startswith("-"))


def by_field(ranked: Sequence[Item], values: Mapping[Item, Any], sort: Sort) -> list[Item]:
    """`ranked` by their values, equal ones in the order they came, those without one last. Numbers come before texts;
    lists and objects count for none, and members of an Enum by their names."""
    plain = {item: value.name if isinstance(value, Enum) else value for item, value in values.items()}
    kinds = {item: kind for item in ranked if (kind := kind_of(plain.get(item)))}
    comparable = sorted(kinds, key=lambda item: (kinds[item], plain[item]), reverse=sort.is_descending)
    return [*comparable, *(item for item in ranked if item not in kinds)]


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
