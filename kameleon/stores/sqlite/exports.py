"""Reads whole records of a tenant, with their embeddings, from SQLite. Imports `values`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ...values import Generation, Ref
from ..names import Names
from ..tables import parts
from ..values import TRIED, Embedding, Stored, stored_entry
from .rows import ROWS_A_STATEMENT, as_json, present, readable

RECORDS = """
    SELECT s.id, s.entity_name, s.record_id, CAST(s.content AS BLOB), s.content_hash, s.gaps, r.data
    FROM kdb_search AS s
      LEFT JOIN kdb_records AS r ON r.tenant = s.tenant AND r.entity_name = s.entity_name AND r.id = s.record_id
    WHERE s.tenant = :tenant AND (s.entity_name, s.record_id) > (:entity, :id)
    ORDER BY s.entity_name, s.record_id LIMIT :limit
"""
EMBEDDINGS = """
    SELECT search_id, content_hash, embedding, reason, message, passage, start_at, end_at
    FROM kdb_embedding_g{number} WHERE search_id IN (SELECT value FROM json_each(:docs)) ORDER BY search_id, passage
"""


@dataclass(eq=False)
class SQLiteExports:
    _names: Names

    def records(self, connection: Connection, after: Ref, limit: int) -> list[Stored]:
        binds = {"tenant": after.tenant, "entity": after.entity, "id": after.id, "limit": limit}
        rows = connection.exec_driver_sql(self._names(RECORDS), binds)
        return [
            Stored(
                doc, stored_entry(Ref(entity, id_, after.tenant), readable(content), *stored), data and json.loads(data)
            )
            for doc, entity, id_, content, *stored, data in rows
        ]

    def embeddings(self, connection: Connection, generation: Generation, docs: Mapping[int, Ref]) -> list[Embedding]:
        statement = self._names(EMBEDDINGS).format(number=generation.number)
        rows = connection.exec_driver_sql(statement, {"docs": as_json(docs)})
        return [Embedding(docs[doc], hash_.lstrip(TRIED), *rest) for doc, hash_, *rest in rows]

    def embeddings_of(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Embedding]:
        found: list[Embedding] = []
        for part in parts(refs, ROWS_A_STATEMENT):
            docs = {row.doc: ref for ref, row in present(self._names, connection, part).items()}
            found += self.embeddings(connection, generation, docs)
        return found
