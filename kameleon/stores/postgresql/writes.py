"""Writes of records and of the queue in PostgreSQL. Imports `values` and `content`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from ...content import layout_as_text
from ...values import Generation, Ref
from .. import claims
from ..protocols import NOTHING
from ..tables import Tables, parts
from ..values import Entry, Written
from . import copy as binary
from . import statements as sql
from .rows import by_key
from .templates import Templates

ROWS_A_STATEMENT = 1_000
ROWS_UPSERTED = 200
"""More rows than this are copied to a temporary table, which takes a while to make. Chosen, not measured."""
ROWS_A_COPY = 10_000
"""Bounds the rows that are encoded at once. Chosen, not measured."""


def columns_of(entry: Entry) -> tuple[str, ...]:
    return *entry.ref, entry.content, entry.content_hash, layout_as_text(entry.gaps, entry.extent)


@dataclass(eq=False)
class PostgreSQLWrites:
    _templates: Templates
    _tables: Tables
    _copying: binary.Copy

    def upsert(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        generations: Sequence[Generation],
        now: datetime,
        kept: Mapping[Ref, str] = NOTHING,
    ) -> dict[Ref, Written]:
        """In the order of the keys: two writers in other orders could deadlock."""
        entries = sorted(entries, key=lambda entry: entry.ref.key)
        copies = len(entries) > ROWS_UPSERTED and self._copying.can_load(connection)
        rows = self._copy(connection, entries, now) if copies else self._insert(connection, entries, now)
        written = {Ref(*row[:3]): Written(*row[3:]) for row in rows}
        replaced = [ref for ref, made in written.items() if made.replaced is not None]
        hashes = [
            (*e.ref, kept[e.ref], e.content_hash)
            for e in entries
            if e.ref in kept and written[e.ref].replaced is not None
        ]
        for generation in generations if replaced else ():
            if hashes:
                columns = tuple(map(list, zip(*hashes, strict=True)))
                connection.exec_driver_sql(self._templates.format(sql.KEEP_EMBEDDINGS, generation), columns)
            by_key(connection, self._templates.format(sql.DELETE_STALE, generation), replaced)
        return written

    def _insert(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> Iterator[Sequence[Any]]:
        if len(entries) == 1:
            entry = entries[0]
            statement = self._templates.format(sql.UPSERT, rows=sql.ONE)
            yield from connection.exec_driver_sql(statement, (*columns_of(entry), now, now))
            return
        statement = self._templates.format(sql.UPSERT, rows=sql.GIVEN)
        for part in parts(entries, ROWS_A_STATEMENT):
            columns = zip(*map(columns_of, part), strict=True)
            yield from connection.exec_driver_sql(statement, (*map(list, columns), now))

    def _copy(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> Iterator[Sequence[Any]]:
        stamp = binary.timestamp(now)
        statement = self._templates.format(sql.UPSERT, rows=sql.LOADED)
        connection.exec_driver_sql(sql.LOADING)
        for part in parts(entries, ROWS_A_COPY):
            rows = ((*map(str.encode, columns_of(entry)), stamp) for entry in part)
            self._copying.into(connection, "kdb_loading", sql.LOADING_COLUMNS, binary.encoded(rows))
            yield from connection.exec_driver_sql(statement).all()
            connection.exec_driver_sql("TRUNCATE kdb_loading")
        connection.exec_driver_sql("DROP TABLE kdb_loading")

    def delete(
        self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]
    ) -> list[tuple[Ref, int]]:
        """Deletes embeddings of those records alone that this transaction deleted."""
        deleted = [(Ref(*row[:3]), row[3]) for row in by_key(connection, self._templates.format(sql.DELETE), refs)]
        for generation in generations:
            gone = [ref for ref, _ in deleted]
            by_key(connection, self._templates.format(sql.DELETE_EMBEDDINGS, generation), gone)
        return deleted

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(*claims.replacing(insert(self._tables.queue), rows))
