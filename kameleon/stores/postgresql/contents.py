"""Reads of the index's records in PostgreSQL. Imports `values`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ...values import Generation, Ref, Tenants
from ..values import Entry, Hit, Matches, Scope, State, bound
from . import statements as sql
from .copy import adapt
from .fetching import fetched
from .rows import by_entity, packed
from .scope import PostgreSQLScopes
from .templates import Templates


@dataclass(eq=False)
class PostgreSQLContents:
    _templates: Templates
    _scopes: PostgreSQLScopes

    def states(self, connection: Connection, refs: Sequence[Ref], generation: Generation | None) -> dict[Ref, State]:
        join = self._templates.format(sql.JOIN_EMBEDDING, generation) if generation else ""
        statement = self._templates.format(sql.STATES, join=join, embedded="e.content_hash" if generation else "NULL")
        return {
            Ref(entity, id_): State(content_hash, embedded_hash)
            for entity, ids in by_entity(refs)
            for id_, content_hash, embedded_hash in connection.exec_driver_sql(
                statement, {"entity": entity, "ids": ids}
            )
        }

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        return [
            Entry(Ref(row.entity_name, row.record_id), row.content, row.content_hash)
            for entity, ids in by_entity(refs)
            for row in connection.execute(self._templates.text(sql.ENTRIES), {"entity": entity, "ids": ids})
        ]

    def located(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> list[tuple[Ref, State]]:
        raise NotImplementedError  # TODO(21)

    def entities(self, connection: Connection, tenants: Tenants = None) -> list[str]:
        return list(connection.execute(self._templates.text(sql.ENTITIES)).scalars())

    def refs(self, connection: Connection, docs: Sequence[int]) -> dict[int, Ref]:
        rows = fetched(connection, self._templates.format(sql.REFS), {"docs": list(docs)})
        return {doc: Ref(entity, id_) for doc, entity, id_ in rows}

    def hits(
        self, connection: Connection, docs: Sequence[int], generation: Generation | None = None, vector: Any = None
    ) -> dict[int, Hit]:
        binds: dict[str, Any] = {"docs": list(docs)}
        passage = sql.NO_PASSAGE
        if generation is not None:
            distance = self._templates.format(sql.DISTANCE, generation, bind="%(vector)s")
            passage = self._templates.format(sql.PASSAGE, generation, distance=distance)
            binds["vector"] = packed(generation, vector)
            adapt(connection)
        rows = fetched(connection, self._templates.format(sql.HITS, passage=passage), binds)
        return {
            doc: Hit(Ref(entity, id_), content, data, tuple(map(tuple, places or ())))
            for doc, entity, id_, content, data, places in rows
        }

    def texts(
        self, connection: Connection, generation: Generation | None, *, after: int, limit: int
    ) -> list[tuple[int, str]]:
        join, joined = sql.WITHOUT_PASSAGES, "true"
        if generation is not None:
            join, joined = self._templates.format(sql.JOIN_PASSAGES, generation), sql.PASSAGES_JOINED
        statement = self._templates.format(sql.TEXTS, join=join, joined=joined)
        rows = connection.exec_driver_sql(statement, (after, limit))
        return [(doc, content[start:end]) for doc, content, start, end in rows]

    def matches(self, scope: Scope, docs: Sequence[int]) -> Matches:
        where, binds = self._scopes.sql(scope, "s")
        return Matches(self._templates.format(sql.MATCHES, scope=where), {**binds, "docs": list(docs)})

    def count(self, connection: Connection, matches: Matches, docs: Sequence[int] | None = None) -> int:
        """Row security may hide some of `docs`: they are counted."""
        statement, binds = bound(text(sql.COUNT.format(matches=matches.sql)), matches.binds)
        return connection.scalar(statement, binds) or 0
