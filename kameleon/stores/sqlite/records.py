"""The record store's table in SQLite: JSON as text. Imports `values`."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from ...values import Ref
from ..counting import most_frequent
from ..filters import Filter, bind, condition, counting
from ..moments import day_of
from ..tables import dump
from ..values import Matches, MomentAt, NumberAt, Probe, bound
from . import statements as sql
from .rows import as_json, fetched, timestamp
from .where import DATA, Field, comparison, json_path, moment


class SQLiteRecords:
    def values(self, connection: Connection, refs: Sequence[Ref], path: Sequence[str]) -> dict[Ref, Any]:
        rows = connection.execute(sql.VALUES, {"refs": json.dumps([ref.key for ref in refs]), "path": json_path(path)})
        return {Ref(*key): value for key, value in ordered(rows).items()}

    def values_among(
        self, connection: Connection, matches: Matches, path: Sequence[str]
    ) -> dict[tuple[str, str, str], Any]:
        statement, binds = bound(text(sql.VALUES_AMONG.format(matches=matches.sql)), matches.binds)
        return ordered(connection.execute(statement, {**binds, "path": json_path(path)}).all())

    def values_of(self, connection: Connection, docs: Sequence[int], path: Sequence[str]) -> dict[int, Any]:
        rows = fetched(connection, sql.VALUES_OF, {"docs": as_json(docs), "path": json_path(path)})
        return {doc: from_json(value, kind) for doc, value, kind in rows if kind not in (None, "null")}

    def probed(
        self, connection: Connection, docs: Sequence[int], probes: Sequence[Probe]
    ) -> dict[int, Sequence[float | None]]:
        binds: dict[str, Any] = {}
        columns = ", ".join(_probe(probe, binds) for probe in probes)
        rows = fetched(connection, sql.PROBED.format(columns=columns), {**binds, "docs": as_json(docs)})
        return {doc: values for doc, *values in rows}

    def facets(
        self, connection: Connection, matches: Matches, paths: Sequence[Sequence[str]], limit: int
    ) -> list[list[tuple[Any, int]]]:
        read = [*paths, *paths[: len(paths) == 1]]  # of one path json_extract returns no array
        binds = {f"path{place}": json_path(path) for place, path in enumerate(read)}
        rendered = sql.FACETS.format(paths=", ".join(f":{name}" for name in binds), matches=matches.sql)
        statement, others = bound(text(rendered), matches.binds)
        return most_frequent(connection.execute(statement, {**others, **binds}), len(read), limit)[: len(paths)]

    def count_each(
        self,
        connection: Connection,
        matches: Matches,
        conditions: Sequence[Mapping[str, Any]],
        fields: Collection[str] | None = None,
    ) -> Sequence[int]:
        counts, binds = counting(conditions, matches.binds, comparison, fields)
        statement, plain = bound(text(sql.COUNT_EACH.format(counts=counts, matches=matches.sql)), binds)
        return tuple(connection.execute(statement, plain).one())

    def days(self, connection: Connection, matches: Matches, path: Sequence[str]) -> dict[date, int]:
        at = Field(DATA, ":path")
        days = sql.DAYS.format(moment=moment(at.value, at.kind), matches=matches.sql)
        statement, binds = bound(text(days), matches.binds)
        rows = connection.execute(statement, {**binds, "path": json_path(path)})
        return {day: row.records for row in rows if (day := day_of(row.day)) is not None}

    def stored_ids(self, connection: Connection, entity: str, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        rows = connection.execute(sql.STORED_IDS, {"entity": entity, "keys": as_json(keys)})
        return {(tenant, id_) for tenant, id_ in rows}

    def add(
        self, connection: Connection, entity: str, rows: Sequence[tuple[str, str, Mapping[str, Any]]], now: datetime
    ) -> None:
        stamp = timestamp(now)
        connection.exec_driver_sql(
            sql.ADD_RECORD, [(tenant, entity, id_, dump(data), stamp, stamp) for tenant, id_, data in rows]
        )

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        binds: dict[str, Any] = {}
        return condition(filter_, binds, comparison), binds


def _probe(probe: Probe, binds: dict[str, Any]) -> str:
    """Renders what is read of `kdb_records.data`."""
    if not isinstance(probe, NumberAt | MomentAt):
        return condition(probe, binds, comparison)
    field = Field(DATA, bind(binds, json_path(probe.path)))
    if isinstance(probe, MomentAt):
        return moment(field.value, field.kind)
    return f"CASE WHEN {field.kind} IN ('integer', 'real') THEN {field.value} END"


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
