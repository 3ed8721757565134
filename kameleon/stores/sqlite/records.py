"""The record store's table in SQLite: JSON as text. Imports `values` and `moments`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from ...moments import day_of
from ...values import Ref
from ..counting import most_frequent
from ..filters import Filter, bind, condition, counting, holding
from ..names import Names
from ..paths import ANY, FieldNames
from ..tables import dump, parts
from ..values import Matches, Probe, Probed, ValueAt, bound
from . import statements as sql
from .rows import as_json, fetched, timestamp
from .where import DATA, Field, comparison, json_path, moment

PATHS_AT_ONCE = 100
"""Bounds the paths of one `json_extract`: SQLite's functions have 127 arguments at most."""


@dataclass(eq=False)
class SQLiteRecords:
    _names: Names

    def values(self, connection: Connection, refs: Sequence[Ref], path: Sequence[str]) -> dict[Ref, Any]:
        rows = connection.execute(
            self._names(sql.VALUES), {"refs": json.dumps([ref.key for ref in refs]), "path": json_path(path)}
        )
        return {Ref(*key): value for key, value in ordered(rows).items()}

    def values_among(
        self, connection: Connection, matches: Matches, path: Sequence[str]
    ) -> dict[tuple[str, str, str], Any]:
        statement, binds = bound(text(self._names(sql.VALUES_AMONG).format(matches=matches.sql)), matches.binds)
        return ordered(connection.execute(statement, {**binds, "path": json_path(path)}).all())

    def values_of(self, connection: Connection, docs: Sequence[int], path: Sequence[str]) -> dict[int, Any]:
        rows = fetched(connection, self._names(sql.VALUES_OF), {"docs": as_json(docs), "path": json_path(path)})
        return {doc: from_json(value, kind) for doc, value, kind in rows if kind not in (None, "null")}

    def probed(self, connection: Connection, docs: Sequence[int], probes: Sequence[Probe]) -> Probed:
        binds: dict[str, Any] = {}
        paths = [bind(binds, json_path(probe.path)) for probe in probes if isinstance(probe, ValueAt)]
        filters = [condition(probe, binds, comparison) for probe in probes if not isinstance(probe, ValueAt)]
        together = list(parts(paths, PATHS_AT_ONCE))
        values = [f"json_extract({DATA}, '$.\"\"', {', '.join(part)})" for part in together]
        statement = self._names(sql.PROBED).format(columns=", ".join([f"{DATA} IS NOT NULL", *values, *filters]))
        rows = fetched(connection, statement, {**binds, "docs": as_json(docs)})
        empty = [()] * (5 + len(values) + len(filters))
        found, entities, ids, tenants, are_stored, *columns = list(zip(*rows, strict=True)) or empty
        refs = list(map(Ref, entities, ids, tenants))
        arrays = (
            array for part, column in zip(together, columns, strict=False) for array in of_arrays(column, len(part))
        )
        others = iter(columns[len(values) :])
        return Probed(
            found, refs, are_stored, [next(arrays if isinstance(probe, ValueAt) else others) for probe in probes]
        )

    def facets(
        self, connection: Connection, matches: Matches, paths: Sequence[Sequence[str]], limit: int
    ) -> list[list[tuple[Any, int]]]:
        read = [*paths, *paths[: len(paths) == 1]]  # of one path json_extract returns no array
        binds = {f"path{place}": json_path(path) for place, path in enumerate(read)}
        rendered = self._names(sql.FACETS).format(paths=", ".join(f":{name}" for name in binds), matches=matches.sql)
        statement, others = bound(text(rendered), matches.binds)
        return most_frequent(connection.execute(statement, {**others, **binds}), len(read), limit)[: len(paths)]

    def count_each(
        self,
        connection: Connection,
        matches: Matches,
        conditions: Sequence[Mapping[str, Any]],
        fields: FieldNames = ANY,
    ) -> Sequence[int]:
        counts, binds = counting(conditions, matches.binds, comparison, fields)
        statement, plain = bound(text(self._names(sql.COUNT_EACH).format(counts=counts, matches=matches.sql)), binds)
        return tuple(connection.execute(statement, plain).one())

    def days(self, connection: Connection, matches: Matches, path: Sequence[str]) -> dict[date, int]:
        at = Field(DATA, ":path")
        days = self._names(sql.DAYS).format(moment=moment(at.value, at.kind), matches=matches.sql)
        statement, binds = bound(text(days), matches.binds)
        rows = connection.execute(statement, {**binds, "path": json_path(path)})
        return {day: row.records for row in rows if (day := day_of(row.day)) is not None}

    def stored_ids(self, connection: Connection, entity: str, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        rows = connection.execute(self._names(sql.STORED_IDS), {"entity": entity, "keys": as_json(keys)})
        return {(tenant, id_) for tenant, id_ in rows}

    def add(
        self, connection: Connection, entity: str, rows: Sequence[tuple[str, str, Mapping[str, Any]]], now: datetime
    ) -> None:
        stamp = timestamp(now)
        connection.exec_driver_sql(
            self._names(sql.ADD_RECORD), [(tenant, entity, id_, dump(data), stamp, stamp) for tenant, id_, data in rows]
        )

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        binds: dict[str, Any] = {}
        return self._names.on_table(holding(filter_, binds, comparison)), binds


def of_arrays(column: Sequence[str | None], paths: int) -> Sequence[Sequence[Any]]:
    """The columns of one of arrays, a column a path, None for those that are NULL. Each array begins with the value of
    no path: of one path `json_extract` returns no array."""
    made = json.loads(f"[{','.join([array or 'null' for array in column])}]")
    missing = [None] * (1 + paths)
    return (list(zip(*[array or missing for array in made], strict=True)) or [()] * (1 + paths))[1:]


def ordered(rows: Iterable[Any]) -> dict[tuple[str, str, str], Any]:
    """The values that have an order, by record."""
    unordered = (None, "null", "array", "object")
    return {
        (entity, id_, tenant): from_json(value, kind)
        for entity, id_, tenant, value, kind in rows
        if kind not in unordered
    }


def from_json(value: Any, kind: str) -> Any:
    """SQLite has 1 and 0 for true and false, and gives lists and objects as JSON."""
    if kind in ("array", "object"):
        return json.loads(value)
    return kind == "true" if kind in ("true", "false") else value
