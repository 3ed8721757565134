"""Reads of the index's records in PostgreSQL. Imports `values`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ...values import Generation, Ref, Tenants, TenantStatus
from ..values import Entry, Hit, Matches, Scope, State, bound, embedded_text, make_hit, stored_entry
from . import statements as sql
from . import statements_vectors as vector_sql
from .copy import adapt
from .fetching import fetched
from .rows import by_key, packed
from .scope import PostgreSQLScopes
from .templates import Templates


@dataclass(eq=False)
class PostgreSQLContents:
    _templates: Templates
    _scopes: PostgreSQLScopes

    def states(self, connection: Connection, refs: Sequence[Ref], generation: Generation | None) -> dict[Ref, State]:
        statement = self._with_embedded(sql.STATES, generation)
        return dict(map(state_of, by_key(connection, statement, refs)))

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        rows = by_key(connection, self._templates.format(sql.ENTRIES), refs)
        return [stored_entry(Ref(*row[:3]), *row[3:]) for row in rows]

    def located(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> list[tuple[Ref, State]]:
        statement = self._with_embedded(sql.LOCATED, generation)
        return list(map(state_of, by_key(connection, statement, {Ref(ref.entity, ref.id) for ref in refs})))

    def _with_embedded(self, template: str, generation: Generation | None) -> str:
        join = self._templates.format(sql.JOIN_EMBEDDING, generation) if generation else ""
        return self._templates.format(template, join=join, embedded="e.content_hash" if generation else "NULL")

    def entities(self, connection: Connection, tenants: Tenants = None) -> list[str]:
        statement = sql.ENTITIES if tenants is None else sql.ENTITIES_OF
        binds = {} if tenants is None else {"tenants": list(tenants)}
        return list(connection.execute(self._templates.text(statement), binds).scalars())

    def tenants(self, connection: Connection, limit: int) -> list[TenantStatus]:
        return [TenantStatus(*row) for row in connection.execute(self._templates.text(sql.TENANTS), {"limit": limit})]

    def named(
        self, connection: Connection, tenants: Sequence[str], entities: Sequence[str], ids: Sequence[str]
    ) -> dict[int, str]:
        of = sql.OF_NAMES if entities else ""
        binds = {"tenants": list(tenants), "entities": list(entities), "ids": list(ids)}
        return dict(fetched(connection, self._templates.format(sql.NAMED, of=of), binds))  # type: ignore[arg-type]

    def refs(self, connection: Connection, docs: Sequence[int]) -> dict[int, Ref]:
        rows = fetched(connection, self._templates.format(sql.REFS), {"docs": list(docs)})
        return {doc: Ref(*key) for doc, *key in rows}

    def hits(
        self, connection: Connection, docs: Sequence[int], generation: Generation | None = None, vector: Any = None
    ) -> dict[int, Hit]:
        binds: dict[str, Any] = {"docs": list(docs)}
        passage = sql.NO_PASSAGE
        if generation is not None:
            distance = self._templates.format(vector_sql.DISTANCE, generation, bind="%(vector)s")
            passage = self._templates.format(sql.PASSAGE, generation, distance=distance)
            binds["vector"] = packed(generation, vector)
            adapt(connection)
        rows = fetched(connection, self._templates.format(sql.HITS, passage=passage), binds)
        return {
            doc: make_hit(Ref(entity, id_, tenant), content, layout, data, places or ())
            for doc, entity, id_, tenant, content, data, places, layout in rows
        }

    def texts(
        self, connection: Connection, generation: Generation | None, *, after: int, limit: int
    ) -> list[tuple[int, str]]:
        join, joined = sql.WITHOUT_PASSAGES, "true"
        if generation is not None:
            join, joined = self._templates.format(sql.JOIN_PASSAGES, generation), sql.PASSAGES_JOINED
        statement = self._templates.format(sql.TEXTS, join=join, joined=joined)
        rows = connection.exec_driver_sql(statement, (after, limit))
        return [(doc, embedded_text(content, layout)[start:end]) for doc, content, layout, start, end in rows]

    def matches(self, scope: Scope, docs: Sequence[int] | None = None) -> Matches:
        where, binds = self._scopes.sql(scope, "s")
        if docs is None:
            return Matches(self._templates.format(sql.ALL_MATCHES, scope=where), binds)
        return Matches(self._templates.format(sql.MATCHES, scope=where), {**binds, "docs": list(docs)})

    def count(self, connection: Connection, matches: Matches, docs: Sequence[int] | None = None) -> int:
        """Row security may hide some of `docs`: they are counted."""
        statement, binds = bound(text(sql.COUNT.format(matches=matches.sql)), matches.binds)
        return connection.scalar(statement, binds) or 0


def state_of(row: Sequence[Any]) -> tuple[Ref, State]:
    return Ref(*row[:3]), State(*row[3:])
