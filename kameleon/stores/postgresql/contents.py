"""Reads of the index's records in PostgreSQL. Imports `values`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, text

from ...values import Generation, Ref
from ..values import Entry, Hit, Key, Matches, Scope, State, Term, bound
from . import statements as sql
from .keywords import any_of
from .rows import by_entity, packed, pairs_of
from .scope import PostgreSQLScopes
from .templates import Templates


@dataclass(eq=False)
class PostgreSQLContents:
    _templates: Templates
    _scopes: PostgreSQLScopes

    def states(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> dict[tuple[str, str], State]:
        join = self._templates.format(sql.JOIN_EMBEDDING, generation) if generation else ""
        statement = self._templates.text(sql.STATES, join=join, embedded="e.content_hash" if generation else "NULL")
        return {
            (entity, id_): State(content_hash, embedded_hash)
            for entity, ids in by_entity(refs)
            for id_, content_hash, embedded_hash in connection.execute(statement, {"entity": entity, "ids": ids}).all()
        }

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        return [
            Entry(Ref(row.entity_name, row.record_id), row.content, row.content_hash)
            for entity, ids in by_entity(refs)
            for row in connection.execute(self._templates.text(sql.ENTRIES), {"entity": entity, "ids": ids})
        ]

    def entities(self, connection: Connection) -> list[str]:
        return list(connection.execute(self._templates.text(sql.ENTITIES)).scalars())

    def refs(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Ref]:
        return {key: cast(Ref, key) for key in keys}

    def hits(
        self, connection: Connection, keys: Sequence[Key], generation: Generation | None = None, vector: Any = None
    ) -> dict[Key, Hit]:
        binds: dict[str, Any] = pairs_of(keys)
        passage = sql.NO_PASSAGE
        if generation is not None:
            distance = self._templates.format(sql.DISTANCE, generation)
            passage = self._templates.format(sql.PASSAGE, generation, distance=distance)
            binds["vector"] = packed(generation, vector)
        rows = connection.execute(self._templates.text(sql.HITS, passage=passage), binds)
        return {
            Ref(row.entity_name, row.record_id): Hit(
                row.content, row.data, None if row.start_at is None else (row.start_at, row.end_at)
            )
            for row in rows
        }

    def matches(self, terms: Sequence[Term], scope: Scope, keys: Sequence[Key]) -> Matches:
        where, binds = self._scopes.sql(scope, "s")
        binds |= pairs_of(keys)
        if terms:
            binds["match"] = any_of(terms)
        holding = self._templates.format(sql.HOLDING) if terms else ""
        return Matches(self._templates.format(sql.MATCHES, holding=holding, scope=where), binds)

    def count(self, connection: Connection, matches: Matches) -> int:
        statement, binds = bound(text(sql.COUNT.format(matches=matches.sql)), matches.binds)
        return connection.scalar(statement, binds) or 0
