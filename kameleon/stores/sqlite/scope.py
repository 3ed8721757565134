"""Scopes in SQLite: conditions on `kdb_search AS s`, and the contents in them. Imports `values`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import BindParameter, Connection, text

from ...values import Ref
from ..filters import condition, holding
from ..names import Names
from ..values import Scope, after_record, bound
from . import statements as sql
from .rows import as_json, fetched
from .where import comparison, is_looked_up


@dataclass(eq=False)
class SQLiteScopes:
    _names: Names
    has_row_security: bool = field(default=False, init=False)

    def docs(self, connection: Connection, scope: Scope, most: int) -> list[int] | None:
        source, binds = self.source(scope)
        statement = sql.UP_TO.format(select=f"SELECT s.id {source}")
        ((found,),) = _fetched(connection, statement, {**binds, "most": most + 1})
        docs: list[int] = json.loads(found)
        return docs if len(docs) <= most else None

    def within(self, connection: Connection, scope: Scope, docs: Sequence[int]) -> list[int]:
        where, binds = self.sql(scope)
        ((found,),) = _fetched(
            connection, self._names(sql.WHICH_IN_SCOPE).format(scope=where), {**binds, "docs": as_json(docs)}
        )
        inside: list[int] = json.loads(found)
        return inside

    def listed(
        self,
        connection: Connection,
        scope: Scope,
        *,
        after: Ref | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[tuple[int, Ref]]:
        source, binds = self.source(scope)
        columns, comes_after = after_record(scope, after, "s", binds)
        binds |= {"most": -1 if limit is None else limit, "offset": offset}
        rows = _fetched(connection, sql.LISTED.format(source=f"{source} AND {comes_after}", columns=columns), binds)
        return [(doc, Ref(*ref)) for doc, *ref in rows]

    def secured_tables(self, connection: Connection) -> frozenset[tuple[str | None, str]]:
        return frozenset()

    def source(self, scope: Scope) -> tuple[str, dict[str, Any]]:
        """Renders the FROM and WHERE of all in the scope. A filter by itself is looked up in the records."""
        if scope.filter is None or scope.is_mixed or not replace(scope, filter=None).is_all:
            where, binds = self.sql(scope)
            return self._names(sql.OF_SCOPE).format(scope=where), binds
        binds = {}
        partitions = partitions_of("records", scope, binds)
        is_of_tenant = scope.has_one_tenant and is_looked_up(scope.filter)
        holds = holding(scope.filter, binds, partial(comparison, is_of_tenant=is_of_tenant))
        if is_of_tenant:
            partitions[0] = f"+{partitions[0]}"  # no index is used for this one, but for those in the alternatives
        return self._names(sql.OF_FILTER).format(scope=" AND ".join([*partitions, holds])), binds

    def sql(self, scope: Scope) -> tuple[str, dict[str, Any]]:
        """Renders a condition on `s`, "1" for every record."""
        binds: dict[str, Any] = {}
        conditions = partitions_of("s", scope, binds)
        if scope.filter is not None:
            passes = self._names(sql.HAS_RECORD) + f"AND {condition(scope.filter, binds, comparison)})"
            if scope.unfiltered:
                passes = f"(s.entity_name IN ({listed(scope.unfiltered, 'unfiltered', binds)}) OR {passes})"
            conditions.append(passes)
        if scope.ids is not None:
            conditions.append("s.record_id IN (SELECT value FROM json_each(:ids))")
            binds["ids"] = as_json(scope.ids)
        if scope.among is not None:
            conditions.append(f"s.record_id IN ({scope.among.sql})")
            binds |= scope.among.binds
        for place, (entity, among) in enumerate(scope.visible):
            conditions.append(f"(s.entity_name <> :visible{place} OR s.record_id IN ({among.sql}))")
            binds |= {f"visible{place}": entity, **among.binds}
        if scope.without:
            conditions.append(sql.IS_NOT_WITHOUT)
            binds["without_ids"] = as_json({ref.id for ref in scope.without})
            binds["without"] = as_json([ref.key for ref in scope.without])
        return " AND ".join(conditions) or "1", binds


def partitions_of(table: str, scope: Scope, binds: dict[str, Any]) -> list[str]:
    """Renders the conditions on the tenants and entities of a table's rows, none for all."""
    conditions = []
    for column, names in (("tenant", scope.tenants), ("entity_name", scope.entities or None)):
        if names is not None:
            conditions.append(f"{table}.{column} IN ({listed(names, column, binds)})")
    return conditions


def listed(names: Sequence[str], prefix: str, binds: dict[str, Any]) -> str:
    binds |= {f"{prefix}{n}": name for n, name in enumerate(names)}
    return ", ".join(f":{prefix}{n}" for n in range(len(names)))


def _fetched(connection: Connection, statement: str, binds: dict[str, Any]) -> Sequence[Sequence[Any]]:
    """The binds of a mapped class's columns are typed, and SQLAlchemy's."""
    if any(isinstance(value, BindParameter) for value in binds.values()):
        clause, plain = bound(text(statement), binds)
        return connection.execute(clause, plain).all()
    return fetched(connection, statement, binds)
