"""Scopes in PostgreSQL: conditions on a table of (tenant, entity_name, record_id), and the contents in them. Imports
`values`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from ...values import Ref, Tenants
from ..filters import Filter, holding
from ..refs import ids_by_entity
from ..values import Scope, after_record
from . import statements as sql
from .fetching import fetched, selected
from .templates import Templates
from .where import comparison

LOOKED_UP = 2_000
"""Bounds the rows of a table with row security that are looked up by their keys; for more all are read. At 20,000 rows
a page of 50 reads 8 blocks in .1 ms, all of them 190 in 4 to 20 ms."""
# Few rows have any of the ids, so that the other condition is for these.
IS_NOT_WITHOUT = """NOT ({alias}.record_id = ANY(CAST(:without_ids AS text[]))
      AND jsonb_build_array({alias}.tenant, {alias}.entity_name, {alias}.record_id) = ANY(CAST(:without AS jsonb[])))"""


@dataclass(eq=False)
class PostgreSQLScopes:
    _templates: Templates
    has_row_security: bool = field(default=True, init=False)

    def docs(self, connection: Connection, scope: Scope, most: int) -> list[int] | None:
        where, binds = self.sql(scope, "s")
        statement = self._templates.format(sql.IN_SCOPE, scope=where)
        docs = [row[0] for row in selected(connection, statement, {**binds, "most": most + 1})]
        return docs if len(docs) <= most else None

    def within(self, connection: Connection, scope: Scope, docs: Sequence[int]) -> list[int]:
        if scope.is_by_ids and len(docs) <= LOOKED_UP:
            rows = fetched(connection, self._templates.format(sql.REFS), {"docs": list(docs)})
            scope = scope.for_ids(ids_by_entity(Ref(*key) for _, *key in rows))
        where, binds = self.sql(scope, "s")
        statement = self._templates.format(sql.WHICH_IN_SCOPE, scope=where)
        return [row[0] for row in selected(connection, statement, {**binds, "docs": list(docs)})]

    def listed(
        self,
        connection: Connection,
        scope: Scope,
        *,
        after: Ref | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[tuple[int, Ref]]:
        where, binds = self.sql(scope, "s")
        columns, comes_after = after_record(scope, after, "s", binds)
        statement = self._templates.format(sql.LISTED, scope=f"{where} AND {comes_after}", columns=columns)
        rows = selected(connection, statement, {**binds, "most": limit, "offset": offset})
        return [(doc, Ref(*ref)) for doc, *ref in rows]

    def secured_tables(self, connection: Connection) -> frozenset[tuple[str | None, str]]:
        found = connection.exec_driver_sql(sql.SECURED_TABLES).all()
        visible = ((None, name) for _, name, is_visible in found if is_visible)
        return frozenset([*((schema, name) for schema, name, _ in found), *visible])

    def sql(self, scope: Scope, alias: str) -> tuple[str, dict[str, Any]]:
        """Renders a condition on `alias`."""
        of_scope, binds = of_tenants(scope.tenants, alias)
        conditions = [of_scope]
        if scope.entities:
            conditions.append(f"{alias}.entity_name = ANY(:scope)")
            binds["scope"] = list(scope.entities)
        if scope.filter is not None:
            records = self._templates.names["records"]
            passes = (
                f"EXISTS (SELECT 1 FROM {records} AS records WHERE records.tenant = {alias}.tenant "
                f"AND records.entity_name = {alias}.entity_name "
                f"AND records.id = {alias}.record_id AND {holding(scope.filter, binds, comparison)})"
            )
            if scope.unfiltered:
                passes = f"({alias}.entity_name = ANY(CAST(:unfiltered AS text[])) OR {passes})"
                binds["unfiltered"] = list(scope.unfiltered)
            conditions.append(passes)
        if scope.ids is not None:
            conditions.append(f"{alias}.record_id = ANY(CAST(:ids AS text[]))")
            binds["ids"] = list(scope.ids)
        if scope.among is not None:
            conditions.append(f"{alias}.record_id IN ({scope.among.sql})")
            binds |= scope.among.binds
        for place, (entity, among) in enumerate(scope.visible):
            conditions.append(f"({alias}.entity_name <> :secured{place} OR {alias}.record_id IN ({among.sql}))")
            binds |= {f"secured{place}": entity, **among.binds}
        if scope.without:
            conditions.append(IS_NOT_WITHOUT.format(alias=alias))
            binds["without_ids"] = sorted({ref.id for ref in scope.without})
            binds["without"] = [json.dumps(ref.key) for ref in scope.without]
        return " AND ".join(conditions), binds

    def of_records(self, filter_: Filter, scope: Scope, binds: dict[str, Any]) -> str:
        """Renders the same on `kdb_records AS records`, `:scope` being bound."""
        of_scope, own = of_tenants(scope.tenants, "records")
        binds |= own
        entities = " AND records.entity_name = ANY(:scope)" if scope.entities else ""
        return f"{of_scope}{entities} AND {holding(filter_, binds, comparison)}"


def of_tenants(tenants: Tenants, alias: str) -> tuple[str, dict[str, Any]]:
    """Renders a condition on the tenant of `alias`, and its binds."""
    if tenants is None:
        return "true", {}
    if len(tenants) == 1:
        return f"{alias}.tenant = :tenant", {"tenant": tenants[0]}
    return f"{alias}.tenant = ANY(CAST(:tenants AS text[]))", {"tenants": list(tenants)}
