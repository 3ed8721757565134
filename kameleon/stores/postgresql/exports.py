"""Reads whole records of a tenant, with their embeddings, from PostgreSQL. Imports `values`."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from ...values import Generation, Ref
from ..values import TRIED, Embedding, Stored, stored_entry
from . import statements as sql
from .rows import by_key
from .templates import Templates

RECORDS = """
    SELECT s.doc, s.entity_name, s.record_id, s.content, s.content_hash, s.gaps, r.data
    FROM {search} AS s
      LEFT JOIN {records} AS r ON r.tenant = s.tenant AND r.entity_name = s.entity_name AND r.id = s.record_id
    WHERE s.tenant = :tenant AND (s.entity_name, s.record_id) > (:entity, :id)
    ORDER BY s.entity_name, s.record_id LIMIT :limit
"""
EMBEDDINGS = """
    SELECT doc, content_hash, CAST(embedding AS real[]), reason, message, passage, start_at, end_at
    FROM {embedding} WHERE doc = ANY(:docs) ORDER BY doc, passage
"""


@dataclass(eq=False)
class PostgreSQLExports:
    _templates: Templates

    def records(self, connection: Connection, after: Ref, limit: int) -> list[Stored]:
        binds = {"tenant": after.tenant, "entity": after.entity, "id": after.id, "limit": limit}
        return [
            Stored(doc, stored_entry(Ref(entity, id_, after.tenant), *stored), data)
            for doc, entity, id_, *stored, data in connection.execute(self._templates.text(RECORDS), binds)
        ]

    def embeddings(self, connection: Connection, generation: Generation, docs: Mapping[int, Ref]) -> list[Embedding]:
        rows = connection.execute(self._templates.text(EMBEDDINGS, generation), {"docs": list(docs)})
        return [
            Embedding(docs[doc], hash_.lstrip(TRIED), numbers and array("f", numbers).tobytes(), *rest)
            for doc, hash_, numbers, *rest in rows
        ]

    def embeddings_of(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Embedding]:
        rows = by_key(connection, self._templates.format(sql.HASHES, generation, lock=""), refs)
        return self.embeddings(connection, generation, {row.doc: Ref(*row[:3]) for row in rows})
