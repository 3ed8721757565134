"""Writes of records and of the queue in PostgreSQL. Imports `values`."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from ...values import Generation, Ref
from .. import claims
from ..tables import Tables, parts
from ..values import Entry, Key
from . import copy as binary
from . import statements as sql
from .keywords import PostgreSQLKeywords
from .rows import by_entity
from .templates import Templates

ROWS_A_STATEMENT = 1_000
ROWS_UPSERTED = 200
"""More rows than this are copied to a temporary table, which takes a while to make. Chosen, not measured."""
ROWS_A_COPY = 4_000
"""Rows of a piece that is encoded while PostgreSQL indexes the one before. Chosen, not measured."""


@dataclass(eq=False)
class PostgreSQLWrites:
    _templates: Templates
    _tables: Tables
    _keywords: PostgreSQLKeywords
    _copying: binary.Copy

    def upsert(
        self, connection: Connection, entries: Sequence[Entry], generations: Sequence[Generation], now: datetime
    ) -> dict[tuple[str, str], Key]:
        """In the order of the keys: two writers in other orders could deadlock."""
        entries = sorted(entries, key=lambda entry: entry.ref)
        tokens: set[str] = set()
        with self._keywords.vocabulary.reading([entry.content for entry in entries], tokens):
            if len(entries) > ROWS_UPSERTED and self._copying.can_load(connection):
                self._copy(connection, entries, now)
            else:
                self._insert(connection, entries, now)
        self._keywords.learn(connection, tokens)
        for generation in generations:
            statement = self._templates.text(sql.DELETE_STALE, generation)
            for entity, ids in by_entity([entry.ref for entry in entries]):
                connection.execute(statement, {"entity": entity, "ids": ids})
        return {entry.ref: entry.ref for entry in entries}

    def _insert(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> None:
        words = self._keywords.words(connection)
        statement = self._templates.format(sql.UPSERT, rows=self._templates.format(sql.ROWS, rows=sql.GIVEN))
        for part in parts(entries, ROWS_A_STATEMENT):
            rows = [(*ref, text_, *words.indexed(text_, emphasis), hash_) for ref, text_, hash_, emphasis in part]
            connection.exec_driver_sql(statement, (*map(list, zip(*rows, strict=True)), now))

    def _copy(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> None:
        """Encodes a piece while PostgreSQL makes the tsvectors of the one before."""
        words = self._keywords.words(connection)
        stamp = binary.timestamp(now)

        def encode(part: Sequence[Entry]) -> bytes:
            rows = []
            for (entity, id_), content, hash_, emphasis in part:
                read, again, length = words.indexed(content, emphasis)
                texts = (entity, id_, content, read, again, hash_)
                rows.append((*map(str.encode, texts), binary.integer(length), stamp))
            return binary.encoded(rows)

        upsert = self._templates.text(sql.UPSERT, rows=self._templates.format(sql.ROWS, rows=sql.LOADED))
        connection.execute(text(sql.LOADING))
        with ThreadPoolExecutor(1) as ahead:
            rest = parts(entries, ROWS_A_COPY)
            next_piece: Future[bytes] | None = ahead.submit(encode, next(rest))
            while next_piece is not None:
                piece = next_piece.result()
                part = next(rest, None)
                next_piece = ahead.submit(encode, part) if part else None
                self._copying.into(connection, "kdb_loading", sql.LOADING_COLUMNS, piece)
                connection.execute(upsert)
                connection.execute(text("TRUNCATE kdb_loading"))
        connection.execute(text("DROP TABLE kdb_loading"))

    def delete(self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]) -> int:
        """Deletes embeddings of those records alone that this transaction deleted."""
        deleted = 0
        for entity, ids in by_entity(refs):
            gone = connection.execute(self._templates.text(sql.DELETE), {"entity": entity, "ids": ids}).scalars().all()
            deleted += len(gone)
            for generation in generations:
                statement = self._templates.text(sql.DELETE_EMBEDDINGS, generation)
                connection.execute(statement, {"entity": entity, "ids": list(gone)})
        return deleted

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(*claims.replacing(insert(self._tables.queue), rows))
