"""The record store's table in PostgreSQL: JSONB. Imports `values` and `moments`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from ...moments import day_of
from ...values import Ref
from ..counting import most_frequent
from ..filters import Filter, condition, counting, holding
from ..paths import ANY, FieldNames
from ..tables import Tables
from ..values import Matches, Probe, Probed, ValueAt, bound
from . import copy as binary
from . import statements as sql
from . import statements_fields as field_sql
from .fetching import selected
from .field_keys import DATA, moment
from .rows import by_key
from .templates import Templates
from .where import at, comparison

ROWS_INSERTED = 50
"""More rows than this are copied. Chosen, not measured."""


@dataclass(eq=False)
class PostgreSQLRecords:
    _templates: Templates
    _tables: Tables
    _copying: binary.Copy

    def values(self, connection: Connection, refs: Sequence[Ref], path: Sequence[str]) -> dict[Ref, Any]:
        place, names = steps(path, "%({})s")
        rows = by_key(connection, self._templates.format(field_sql.VALUES, path=place), refs, **names)
        return {Ref(*row[:3]): row.value for row in rows}

    def values_among(
        self, connection: Connection, matches: Matches, path: Sequence[str]
    ) -> dict[tuple[str, str, str], Any]:
        place, names = steps(path)
        template = self._templates.text(field_sql.VALUES_AMONG, path=place, matches=matches.sql)
        statement, binds = bound(template, matches.binds)
        rows = connection.execute(statement, {**binds, **names})
        return {(entity, id_, tenant): value for entity, id_, tenant, value in rows.all()}

    def values_of(self, connection: Connection, docs: Sequence[int], path: Sequence[str]) -> dict[int, Any]:
        place, names = steps(path)
        rows = connection.execute(self._templates.text(field_sql.VALUES_OF, path=place), {"docs": list(docs), **names})
        return {row.doc: row.value for row in rows}

    def probed(self, connection: Connection, docs: Sequence[int], probes: Sequence[Probe]) -> Probed:
        binds: dict[str, Any] = {}
        columns = "".join(f", {_probe(probe, binds)}" for probe in probes)
        statement = self._templates.format(field_sql.PROBED, columns=columns)
        rows = selected(connection, statement, {**binds, "docs": list(docs)})
        found, entities, ids, tenants, are_stored, *values = list(zip(*rows, strict=True)) or [()] * (5 + len(probes))
        return Probed(found, list(map(Ref, entities, ids, tenants)), are_stored, values)

    def facets(
        self, connection: Connection, matches: Matches, paths: Sequence[Sequence[str]], limit: int
    ) -> list[list[tuple[Any, int]]]:
        found = [steps(path, prefix=f"step{place}_") for place, path in enumerate(paths)]
        places = ", ".join(f"r.data{place}" for place, _ in found)
        statement, binds = bound(
            self._templates.text(field_sql.FACETS, paths=places, matches=matches.sql), matches.binds
        )
        for _, names in found:
            binds |= names
        return most_frequent(connection.execute(statement, binds), len(paths), limit)

    def count_each(
        self,
        connection: Connection,
        matches: Matches,
        conditions: Sequence[Mapping[str, Any]],
        fields: FieldNames = ANY,
    ) -> Sequence[int]:
        counts, binds = counting(conditions, matches.binds, comparison, fields)
        statement, plain = bound(self._templates.text(field_sql.COUNT_EACH, counts=counts, matches=matches.sql), binds)
        return tuple(connection.execute(statement, plain).one())

    def days(self, connection: Connection, matches: Matches, path: Sequence[str]) -> dict[date, int]:
        place, names = steps(path)
        days = self._templates.text(field_sql.DAYS, moment=moment(f"({DATA}{place})"), matches=matches.sql)
        statement, binds = bound(days, matches.binds)
        rows = connection.execute(statement, {**binds, **names})
        return {day: row.records for row in rows if (day := day_of(row.day)) is not None}

    def stored_ids(self, connection: Connection, entity: str, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        refs = [Ref(entity, id_, tenant) for tenant, id_ in keys]
        return {(tenant, id_) for tenant, id_ in by_key(connection, self._templates.format(sql.STORED_IDS), refs)}

    def add(
        self, connection: Connection, entity: str, rows: Sequence[tuple[str, str, Mapping[str, Any]]], now: datetime
    ) -> None:
        if len(rows) <= ROWS_INSERTED or not self._copying.is_possible(connection):
            names = {"entity_name": entity, "created_at": now, "updated_at": now}
            added = [{**names, "tenant": tenant, "id": id_, "data": data} for tenant, id_, data in rows]
            connection.execute(insert(self._tables.records), added)
            return
        name, stamp = entity.encode(), binary.timestamp(now)
        encoded = binary.encoded(
            (tenant.encode(), name, id_.encode(), binary.jsonb(data), stamp, stamp) for tenant, id_, data in rows
        )
        self._copying.into(connection, self._templates.names["records"], sql.RECORD_COLUMNS, encoded)

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        binds: dict[str, Any] = {}
        return self._templates.own.on_table(holding(filter_, binds, comparison)), binds


def _probe(probe: Probe, binds: dict[str, Any]) -> str:
    """Renders what is read of `kdb_records.data`."""
    if not isinstance(probe, ValueAt):
        return condition(probe, binds, comparison)
    value = at(DATA, probe.path, binds)
    return f"CASE WHEN jsonb_typeof({value}) IN ('number', 'string') THEN {value} END"


def steps(path: Sequence[str], mark: str = ":{}", prefix: str = "step") -> tuple[str, dict[str, str]]:
    """Renders a path into a document, and its binds."""
    names = {f"{prefix}{place}": name for place, name in enumerate(path)}
    return "".join(f" -> CAST({mark.format(bind)} AS text)" for bind in names), names
