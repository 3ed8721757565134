"""The fields of table entities where a search names no entity, so that records of others, which have other fields, are
searched with their rows. Imports `boosts`, `errors`, `search`, `stores` and `values`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, inspect
from sqlalchemy.orm import Mapper

from ..boosts import Boost
from ..errors import InvalidFilter
from ..search.sources import Sources
from ..stores.filters import Comparison, Filter, Group, parse_filter, typed
from ..stores.values import Matches
from ..values import Ref
from .columns import ClassFields
from .criteria import condition_of

T = TypeVar("T")

ALL, NONE = Group("$and", ()), Group("$or", ())


class PartialFields:
    """`NamedFields` of a class, in whose rows a field that the class does not have, or that cannot be read so, has no
    value."""

    def __init__(self, fields: ClassFields) -> None:
        self._fields = fields

    def check(self, names: Sequence[str]) -> None:
        """Refuses nothing."""

    def check_boosts(self, boosts: Sequence[Boost]) -> None:
        """Refuses nothing."""

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        return read_or(partial(self._fields.values, connection, refs, field), {})

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[tuple[str, str, str], Any]:
        return read_or(partial(self._fields.values_among, connection, matches, field), {})

    def members(
        self, connection: Connection, records: Mapping[int, Ref], field: str
    ) -> dict[int, set[tuple[bool, Any]]]:
        return read_or(partial(self._fields.members, connection, records, field), {})

    def facets(
        self, connection: Connection, matches: Matches, fields: Sequence[str], limit: int
    ) -> dict[str, list[tuple[Any, int]]]:
        found: dict[str, list[tuple[Any, int]]] = {field: [] for field in fields}
        for field in fields:
            none: dict[str, list[tuple[Any, int]]] = {}
            found |= read_or(partial(self._fields.facets, connection, matches, [field], limit), none)
        return found

    def count_each(
        self, connection: Connection, matches: Matches, conditions: Sequence[Mapping[str, Any]]
    ) -> Sequence[int]:
        return read_or(partial(self._fields.count_each, connection, matches, conditions), [0] * len(conditions))

    def days(self, connection: Connection, matches: Matches, field: str) -> Mapping[date, int]:
        return read_or(partial(self._fields.days, connection, matches, field), {})

    def boosting(
        self, connection: Connection, refs: Sequence[Ref], boosts: Sequence[Boost]
    ) -> tuple[Sequence[Ref], Sequence[Sequence[Any]]]:
        own = [boost for boost in boosts if read_or(partial(self._is_readable, boost), False)]
        found, columns = self._fields.boosting(connection, refs, own) if own else ((), ())
        values = dict(zip(map(id, own), columns, strict=False))
        return found, [values.get(id(boost), [None] * len(found)) for boost in boosts]

    def _is_readable(self, boost: Boost) -> bool:
        self._fields.check_boosts([boost])
        return True


class PartialSources(Sources):
    """Of all table entities."""

    def __init__(self, fields: Mapping[type, ClassFields]) -> None:
        super().__init__([PartialFields(own) for own in fields.values()])
        self._mappers: Sequence[Mapper[Any]] = [inspect(cls) for cls in fields]
        self.classes: Sequence[type] = tuple(fields)

    @property
    def columns(self) -> set[str]:
        return {one.key for mapper in self._mappers for one in mapper.column_attrs}

    @property
    def names(self) -> Sequence[str]:
        """Those of columns, and of the relationships that paths begin with."""
        return (*self.columns, *(one.key for mapper in self._mappers for one in mapper.relationships))


def read_or(read: Callable[[], T], otherwise: T) -> T:
    """What a call returns, or this where it raises InvalidFilter."""
    try:
        return read()
    except InvalidFilter:
        return otherwise


def partial_condition(where: Mapping[str, Any], cls: type) -> ColumnElement[bool]:
    """`where` on a class that has some of its fields alone. Raises InvalidFilter for what is no filter."""
    parsed = parse_filter(where, read=typed)
    return condition_of(ALL if parsed is None else _known(parsed, cls), cls)


def _known(given: Filter, cls: type) -> Filter:
    """The filter with what its comparisons by other fields come to, which are missing."""
    if isinstance(given, Group):
        return replace(given, members=tuple(_known(member, cls) for member in given.members))
    if read_or(partial(condition_of, given, cls), None) is not None:
        return given
    return ALL if holds_for_missing(given) else NONE


def holds_for_missing(given: Comparison) -> bool:
    """Whether a comparison holds for a record without the field."""
    match given.operator:
        case "$eq":
            return given.value is None
        case "$ne":
            return given.value is not None
        case "$in":
            return None in given.value
        case "$nin":
            return None not in given.value
        case "$exists":
            return not given.value
    return False
