"""Reads fields of records that are kept in several places: of mapped classes, each in its own table, and of the record
store. Imports `boosts`, `facet_counts`, `moments`, `values` and `stores`."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import Connection

from ..boosts import Boost
from ..facet_counts import FacetCounts
from ..moments import instant_text, read_moment
from ..stores.catalog import Entity
from ..stores.counting import KINDS, Members, keys_of
from ..stores.paths import FieldNames, Path, path_of, together
from ..stores.protocols import Fields, Records
from ..stores.values import Key, Matches
from ..values import Ref
from .query import Query

T = TypeVar("T")

VALUES_OF_EACH = 10_000
"""Bounds the values that are counted in one of several places, so that few of their sums are too small. Chosen, not
measured."""


class Sources:
    """`NamedFields` of several places, each of which reads its own records alone."""

    def __init__(self, sources: Sequence[Fields]) -> None:
        self._sources = sources

    @property
    def names(self) -> Sequence[str]:
        """Those that all mapped classes have."""
        named = [source.names for source in self._sources if hasattr(source, "names")]
        return tuple(name for name in named[0] if all(name in names for names in named)) if named else ()

    def check(self, names: Sequence[str]) -> None:
        """Raises InvalidFilter for a name that one of the classes does not have."""
        for source in self._sources:
            if hasattr(source, "check"):
                source.check(names)

    def check_boosts(self, boosts: Sequence[Boost]) -> None:
        for source in self._sources:
            if hasattr(source, "check_boosts"):
                source.check_boosts(boosts)

    def boosting(
        self, connection: Connection, refs: Sequence[Ref], boosts: Sequence[Boost]
    ) -> tuple[Sequence[Ref], Sequence[Sequence[Any]]]:
        classes = [source for source in self._sources if hasattr(source, "boosting")]
        found = [each.boosting(connection, refs, boosts) for each in classes]
        columns = [
            [*chain.from_iterable(own)] for own in zip(*(columns for _, columns in found if columns), strict=True)
        ]
        return [ref for own, _ in found for ref in own], columns

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        return {ref: value for each in self._sources for ref, value in each.values(connection, refs, field).items()}

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[tuple[str, str, str], Any]:
        found = (source.values_among(connection, matches, field) for source in self._sources)
        return {ref: value for values in found for ref, value in values.items()}

    def members(self, connection: Connection, records: Mapping[Key, Ref], field: str) -> Mapping[Key, Members]:
        found = (source.members(connection, records, field) for source in self._sources)
        return {key: values for values_of in found for key, values in values_of.items()}

    def facets(
        self, connection: Connection, matches: Matches, fields: Sequence[str], limit: int
    ) -> dict[str, list[tuple[Any, int]]]:
        found = [source.facets(connection, matches, fields, VALUES_OF_EACH) for source in self._sources]
        counts = {field: FacetCounts(pair for each in found for pair in each[field]) for field in fields}
        return {field: sorted(each.items(), key=lambda pair: -pair[1])[:limit] for field, each in counts.items()}

    def count_each(
        self, connection: Connection, matches: Matches, conditions: Sequence[Mapping[str, Any]]
    ) -> Sequence[int]:
        counts = [source.count_each(connection, matches, conditions) for source in self._sources]
        return [sum(of_one) for of_one in zip(*counts, strict=True)]

    def days(self, connection: Connection, matches: Matches, field: str) -> Mapping[date, int]:
        counts: Counter[date] = Counter()
        for source in self._sources:
            counts.update(source.days(connection, matches, field))
        return counts


class StoredFields:
    """The fields of the record store, whose names may have dots: `declared` are those of the searched entities. Texts
    of fields that are declared datetime are ordered, counted and compared as the instants that they are."""

    def __init__(self, records: Records, declared: FieldNames) -> None:
        self._records = records
        self._declared = declared

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        path = path_of(field, self._declared)
        return self.ordered(path, self._records.values(connection, refs, path))

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[tuple[str, str, str], Any]:
        path = path_of(field, self._declared)
        return self.ordered(path, self._records.values_among(connection, matches, path))

    def members(self, connection: Connection, records: Mapping[Key, Ref], field: str) -> Mapping[Key, Members]:
        path = path_of(field, self._declared)
        values = self._records.values_of(connection, list(records), path)
        if path in self._declared.moments:
            values = {key: instant_text(value) for key, value in values.items()}
        return {key: members for key, value in values.items() if (members := keys_of(value))}

    def facets(
        self, connection: Connection, matches: Matches, fields: Sequence[str], limit: int
    ) -> dict[str, list[tuple[Any, int]]]:
        paths = [path_of(field, self._declared) for field in fields]
        has_moments = not self._declared.moments.isdisjoint(paths)
        found = self._records.facets(connection, matches, paths, sys.maxsize if has_moments else limit)
        counts = [self._counted(path, each)[:limit] for path, each in zip(paths, found, strict=True)]
        return dict(zip(fields, counts, strict=True))

    def count_each(
        self, connection: Connection, matches: Matches, conditions: Sequence[Mapping[str, Any]]
    ) -> Sequence[int]:
        return self._records.count_each(connection, matches, conditions, self._declared)

    def days(self, connection: Connection, matches: Matches, field: str) -> Mapping[date, int]:
        return self._records.days(connection, matches, path_of(field, self._declared))

    def ordered(self, path: Path, values: Mapping[T, Any]) -> Mapping[T, Any]:
        """The values, of datetimes the milliseconds; those that were stored before the field was declared may be none,
        and have no order."""
        if path not in self._declared.moments:
            return values
        moments = {key: read_moment(value) for key, value in values.items() if isinstance(value, str)}
        return {key: moment.ms for key, moment in moments.items() if moment is not None}

    def _counted(self, path: Path, counts: list[tuple[Any, int]]) -> list[tuple[Any, int]]:
        """The counts with those of one instant summed, the greatest first."""
        if path not in self._declared.moments:
            return counts
        summed = FacetCounts((instant_text(value), count) for value, count in counts)
        return sorted(summed.items(), key=lambda pair: (-pair[1], KINDS[type(pair[0])], pair[0]))


def fields_of(query: Query, records: Records, entities: Mapping[str, Entity]) -> Fields:
    """The fields of what is searched; `records` is the record store's, `entities` are its."""
    if query.columns is not None and not (query.has_stored and entities):
        return query.columns
    stored = StoredFields(records, names_of(query, entities))
    return stored if query.columns is None else Sources([query.columns, stored])


def searched(query: Query, entities: Mapping[str, Entity]) -> list[Entity]:
    """The entities of the record store that are searched."""
    if not query.entities:
        return list(entities.values())
    return [entities[name] for name in query.entities if name in entities and name not in query.of_classes]


def names_of(query: Query, entities: Mapping[str, Entity]) -> FieldNames:
    """The names of fields that stored records of what is searched may have, and those that are searched with them."""
    return together((entity.names for entity in searched(query, entities)), query.shared)
