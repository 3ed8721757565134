"""Writes of records and of the queue in SQLite. Imports `values`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert

from ...values import Generation, Ref
from .. import claims
from ..tables import Tables, parts
from ..values import Entry, Key
from . import statements as sql
from .embeddings import log_change
from .keywords import SQLiteKeywords, keyword_terms
from .rows import ROWS_A_STATEMENT, keys_of, timestamp


@dataclass(eq=False)
class SQLiteWrites:
    _tables: Tables
    _keywords: SQLiteKeywords

    def upsert(
        self, connection: Connection, entries: Sequence[Entry], generations: Sequence[Generation], now: datetime
    ) -> dict[tuple[str, str], Key]:
        written: dict[tuple[str, str], Key] = {}
        tokens: set[str] = set()
        for part in parts(entries, ROWS_A_STATEMENT):
            keys = self._upsert(connection, part, timestamp(now), tokens)
            stale = [(keys[entry.ref], entry.content_hash) for entry in part]
            deleted = [
                connection.exec_driver_sql(sql.DELETE_STALE.format(number=generation.number), stale).rowcount
                for generation in generations
            ]
            if any(deleted):
                log_change(connection, list(keys.values()))
            written.update(keys)
        self._keywords.learn(connection, tokens)
        return written

    def _upsert(
        self, connection: Connection, entries: Sequence[Entry], stamp: str, tokens: set[str]
    ) -> dict[tuple[str, str], int]:
        refs = [entry.ref for entry in entries]
        if present := keys_of(connection, refs):
            self._keywords.unindex(connection, present.values())
        rows = [
            (*ref, content, keyword_terms(content, emphasis), hash_, stamp, stamp)
            for ref, content, hash_, emphasis in entries
        ]
        connection.exec_driver_sql(sql.UPSERT, rows)
        keys = keys_of(connection, refs)
        with self._keywords.vocabulary.reading([entry.content for entry in entries], tokens):
            self._keywords.index(connection, keys.values())
        return keys

    def delete(self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]) -> int:
        deleted = 0
        for part in parts(refs, ROWS_A_STATEMENT):
            keys = list(keys_of(connection, part).values())
            if not keys:
                continue
            deleted += len(keys)
            self._keywords.unindex(connection, keys)
            rows = [(key,) for key in keys]
            connection.exec_driver_sql(sql.DELETE_RECORDS, rows)
            for generation in generations:
                connection.exec_driver_sql(sql.DELETE_EMBEDDINGS.format(number=generation.number), rows)
            if generations:
                log_change(connection, keys)
        return deleted

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(*claims.replacing(insert(self._tables.queue), rows))
