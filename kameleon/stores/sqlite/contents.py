"""Reads of the index's records in SQLite. Imports `values`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ...values import Generation, Ref
from ..values import Entry, Hit, Key, Matches, Scope, State, Term, bound
from . import fts5
from . import statements as sql
from .rows import as_json, by_entity, of_entity
from .scope import SQLiteScopes

PASSAGES_AT_ONCE = 4_096
"""Passages whose vectors are compared in one piece. Chosen, not measured."""


@dataclass(eq=False)
class SQLiteContents:
    _scopes: SQLiteScopes

    def states(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> dict[tuple[str, str], State]:
        join = sql.JOIN_EMBEDDING.format(number=generation.number) if generation else ""
        statement = text(sql.STATES.format(join=join, embedded="e.content_hash" if generation else "NULL"))
        return {
            (entity, id_): State(content_hash, embedded_hash)
            for entity, group in by_entity(refs).items()
            for id_, content_hash, embedded_hash in connection.execute(statement, of_entity(entity, group)).all()
        }

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        return [
            Entry(Ref(row.entity_name, row.record_id), row.content, row.content_hash)
            for entity, group in by_entity(refs).items()
            for row in connection.execute(sql.ENTRIES, of_entity(entity, group))
        ]

    def entities(self, connection: Connection) -> list[str]:
        return list(connection.execute(sql.ENTITIES).scalars())

    def refs(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Ref]:
        rows = connection.execute(sql.REFS, {"keys": json.dumps(keys)})
        return {row.id: Ref(row.entity_name, row.record_id) for row in rows}

    def hits(
        self, connection: Connection, keys: Sequence[Key], generation: Generation | None = None, vector: Any = None
    ) -> dict[Key, Hit]:
        places = _nearest_passages(connection, generation, vector, keys) if generation else {}
        rows = connection.execute(sql.HITS, {"keys": json.dumps(keys)})
        return {row.id: Hit(row.content, row.data, places.get(row.id)) for row in rows}

    def matches(self, terms: Sequence[Term], scope: Scope, keys: Sequence[Key]) -> Matches:
        where, binds = self._scopes.sql(scope)
        binds["keys"] = as_json(keys)
        if terms:
            binds["match"] = fts5.match_any(terms)
        return Matches(sql.MATCHES.format(holding=sql.HOLDING if terms else "", scope=where), binds)

    def count(self, connection: Connection, matches: Matches) -> int:
        statement, binds = bound(text(sql.COUNT.format(matches=matches.sql)), matches.binds)
        return connection.scalar(statement, binds) or 0


def _nearest_passages(
    connection: Connection, generation: Generation, vector: Any, keys: Sequence[Key]
) -> dict[Key, tuple[int, int]]:
    rows = connection.execute(text(sql.PASSAGES.format(number=generation.number)), {"keys": json.dumps(keys)})
    best: dict[Key, tuple[float, int, int]] = {}
    for part in rows.partitions(PASSAGES_AT_ONCE):
        for row, cosine in zip(part, cosines([row.embedding for row in part], vector), strict=True):
            if row.search_id not in best or cosine > best[row.search_id][0]:
                best[row.search_id] = (cosine, row.start_at, row.end_at)
    return {key: (start, end) for key, (_, start, end) in best.items()}


def cosines(embeddings: Sequence[bytes], vector: Any) -> list[float]:
    import numpy as np  # loads with the first vector, a keyword search does without

    found: list[float] = (np.frombuffer(b"".join(embeddings), "<f4").reshape(len(embeddings), -1) @ vector).tolist()
    return found
