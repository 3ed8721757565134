"""Reads of the index's records in SQLite. Imports `values`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ...values import Generation, Ref, Tenants, TenantStatus
from ..names import Names
from ..values import Entry, Hit, Matches, Scope, State, bound, embedded_text, make_hit, stored_entry
from . import statements as sql
from .rows import as_json, fetched, keys_of, readable
from .scope import SQLiteScopes

PASSAGES_AT_ONCE = 4_096
"""Passages whose vectors are compared in one piece. Chosen, not measured."""


@dataclass(eq=False)
class SQLiteContents:
    _names: Names
    _scopes: SQLiteScopes

    def states(self, connection: Connection, refs: Sequence[Ref], generation: Generation | None) -> dict[Ref, State]:
        join = self._names(sql.JOIN_EMBEDDING).format(number=generation.number) if generation else ""
        statement = self._names(sql.STATES).format(join=join, embedded="e.content_hash" if generation else "NULL")
        rows = connection.exec_driver_sql(statement, keys_of(refs))
        return {refs[place]: State(*hashes) for place, *hashes in rows}

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        rows = connection.exec_driver_sql(self._names(sql.ENTRIES), keys_of(refs))
        return [stored_entry(refs[place], *stored) for place, *stored in rows]

    def located(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> list[tuple[Ref, State]]:
        join = self._names(sql.JOIN_EMBEDDING).format(number=generation.number) if generation else ""
        statement = self._names(sql.LOCATED).format(join=join, embedded="e.content_hash" if generation else "NULL")
        rows = connection.exec_driver_sql(statement, {"refs": as_json(dict.fromkeys(ref[:2] for ref in refs))})
        return [(Ref(entity, id_, tenant), State(*hashes)) for entity, id_, tenant, *hashes in rows]

    def entities(self, connection: Connection, tenants: Tenants = None) -> list[str]:
        these = self._names(sql.OF_ALL_TENANTS) if tenants is None else sql.OF_TENANTS
        binds = {} if tenants is None else {"tenants": as_json(tenants)}
        return list(connection.exec_driver_sql(self._names(sql.ENTITIES).format(tenants=these), binds).scalars())

    def tenants(self, connection: Connection, limit: int) -> list[TenantStatus]:
        return [TenantStatus(*row) for row in connection.execute(text(self._names(sql.TENANTS)), {"limit": limit})]

    def named(
        self, connection: Connection, tenants: Sequence[str], entities: Sequence[str], ids: Sequence[str]
    ) -> dict[int, str]:
        binds = {"tenants": as_json(tenants), "entities": as_json(entities), "ids": as_json(ids)}
        return dict(fetched(connection, self._names(sql.NAMED if entities else sql.NAMED_ANYWHERE), binds))  # type: ignore[arg-type]

    def refs(self, connection: Connection, docs: Sequence[int]) -> dict[int, Ref]:
        rows = fetched(connection, self._names(sql.REFS), {"docs": as_json(docs)})
        return {doc: Ref(*ref) for doc, *ref in rows}

    def hits(
        self, connection: Connection, docs: Sequence[int], generation: Generation | None = None, vector: Any = None
    ) -> dict[int, Hit]:
        statement = self._names(sql.HITS) + (
            self._names(sql.PASSAGES).format(number=generation.number) if generation else ""
        )
        rows = fetched(connection, statement, {"docs": as_json(docs)})
        places = _passages([row for row in rows if row[1] is None], vector)
        return {
            doc: make_hit(Ref(*ref), content, layout, data and json.loads(data), places.get(doc, ()))
            for doc, *ref, content, data, layout in rows
            if ref[0] is not None
        }

    def texts(
        self, connection: Connection, generation: Generation | None, *, after: int, limit: int
    ) -> list[tuple[int, str]]:
        join = self._names(sql.JOIN_PASSAGES).format(number=generation.number) if generation else sql.WITHOUT_PASSAGES
        rows = connection.exec_driver_sql(self._names(sql.TEXTS).format(join=join), (after, limit))
        return [(doc, embedded_text(readable(content), layout)[start:end]) for doc, content, layout, start, end in rows]

    def matches(self, scope: Scope, docs: Sequence[int] | None = None) -> Matches:
        if docs is None:
            source, binds = self._scopes.source(scope)
            return Matches(sql.ALL_MATCHES.format(source=source), binds)
        where, binds = self._scopes.sql(scope)
        return Matches(self._names(sql.MATCHES).format(scope=where), {**binds, "docs": as_json(docs)})

    def count(self, connection: Connection, matches: Matches, docs: Sequence[int] | None = None) -> int:
        if docs is not None:
            return len(docs)
        statement, binds = bound(text(sql.COUNT.format(matches=matches.sql)), matches.binds)
        return connection.scalar(statement, binds) or 0


def _passages(rows: Sequence[Sequence[Any]], vector: Any) -> dict[int, list[tuple[int, int, float]]]:
    """The nearest first, each with its cosine."""
    found: dict[int, list[tuple[float, int, int]]] = {}
    for first in range(0, len(rows), PASSAGES_AT_ONCE):
        part = rows[first : first + PASSAGES_AT_ONCE]
        for (doc, _, _, start, end, *_), cosine in zip(part, cosines([row[5] for row in part], vector), strict=True):
            found.setdefault(doc, []).append((-cosine, start, end))
    return {doc: [(start, end, -far) for far, start, end in sorted(places)] for doc, places in found.items()}


def cosines(embeddings: Sequence[bytes], vector: Any) -> list[float]:
    import numpy as np  # loads with the first vector, a keyword search does without

    if not embeddings:
        return []
    matrix = np.frombuffer(b"".join(embeddings), "<f4").reshape(len(embeddings), -1)
    found: list[float] = np.einsum("ij,j->i", matrix, vector).tolist()
    return found
