"""Writes of records and of the queue in SQLite. Imports `values` and `content`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert

from ...content import layout_as_text
from ...values import Generation, Ref
from .. import claims
from ..names import Names
from ..protocols import NOTHING
from ..tables import Tables, parts
from ..values import Entry, Written
from . import statements as sql
from .embedding_log import log_change, tenant_of
from .rows import ROWS_A_STATEMENT, Present, as_json, keys_of, timestamp


@dataclass(eq=False)
class SQLiteWrites:
    _names: Names
    _tables: Tables

    def upsert(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        generations: Sequence[Generation],
        now: datetime,
        kept: Mapping[Ref, str] = NOTHING,
    ) -> dict[Ref, Written]:
        written: dict[Ref, Written] = {}
        for part in parts(entries, ROWS_A_STATEMENT):
            written.update(_upsert(self._names, connection, part, generations, timestamp(now), kept))
        return written

    def delete(
        self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]
    ) -> list[tuple[Ref, int]]:
        deleted: list[tuple[Ref, int]] = []
        for part in parts(refs, ROWS_A_STATEMENT):
            found = _delete(self._names, connection, part)
            if found and generations:
                docs = [doc for _, doc in found]
                for generation in generations:
                    statement = self._names(sql.DELETE_EMBEDDINGS_OF).format(number=generation.number)
                    connection.exec_driver_sql(statement, (as_json(docs),))
                log_change(self._names, connection, docs, tenant_of(ref for ref, _ in found))
            deleted += found
        return deleted

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(*claims.replacing(insert(self._tables.queue), rows))


def _upsert(
    names: Names,
    connection: Connection,
    entries: Sequence[Entry],
    generations: Sequence[Generation],
    stamp: str,
    kept: Mapping[Ref, str],
) -> dict[Ref, Written]:
    before = _take_replaced(names, connection, entries)
    created = {ref: row.created_at for ref, row in before.items()}
    rows = [
        (*e.ref.key, e.content, e.content_hash, layout_as_text(e.gaps, e.extent), created.get(e.ref, stamp), stamp)
        for e in entries
    ]
    first = _insert(names, connection, rows)
    if before and generations:
        _replace_embeddings(names, connection, entries, first, before, generations, kept)
    return {
        entry.ref: Written(doc, before[entry.ref].doc if entry.ref in before else None)
        for doc, entry in enumerate(entries, first)
    }


def _take_replaced(names: Names, connection: Connection, entries: Sequence[Entry]) -> dict[Ref, Present]:
    """Deletes what there is of these records, and returns it."""
    rows = connection.exec_driver_sql(names(sql.TAKE_REPLACED), keys_of(entry.ref for entry in entries)).all()
    return {Ref(*row[:3]): Present(*row[3:]) for row in rows}


def _insert(names: Names, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Gives consecutive numbers to contents; returns the first."""
    if len(rows) == 1:
        return int(connection.exec_driver_sql(names(sql.INSERT_NEXT), rows[0]).lastrowid)
    first = reserve(names, connection, len(rows))
    connection.exec_driver_sql(names(sql.INSERT), [(doc, *row) for doc, row in enumerate(rows, first)])
    return first


def reserve(names: Names, connection: Connection, count: int) -> int:
    """Takes so many numbers that no content has had, and the write lock; returns the first."""
    last = connection.exec_driver_sql(names(sql.RESERVE), (count,)).scalar()
    if last is None:  # nothing was ever written
        connection.exec_driver_sql(names(sql.BEGIN_NUMBERS))
        last = connection.exec_driver_sql(names(sql.RESERVE), (count,)).scalar_one()
    return int(last) - count + 1


def _replace_embeddings(
    names: Names,
    connection: Connection,
    entries: Sequence[Entry],
    first: int,
    before: Mapping[Ref, Present],
    generations: Sequence[Generation],
    kept: Mapping[Ref, str],
) -> None:
    """Deletes those of other contents; those of a content that was written again, or is kept, go to its new number."""
    moved = [
        (doc, entry.content_hash, before[entry.ref].doc, before[entry.ref].content_hash)
        for doc, entry in enumerate(entries, first)
        if entry.ref in before
        and before[entry.ref].content_hash in (entry.content_hash, kept.get(entry.ref, entry.content_hash))
    ]
    docs = [row.doc for row in before.values()]
    changed = 0
    for generation in generations:
        if moved:
            moving = names(sql.MOVE_EMBEDDINGS).format(number=generation.number)
            changed += connection.exec_driver_sql(moving, moved).rowcount
        deleting = names(sql.DELETE_EMBEDDINGS_OF).format(number=generation.number)
        changed += connection.exec_driver_sql(deleting, (as_json(docs),)).rowcount
    if changed:
        log_change(names, connection, [*docs, *(new for new, *_ in moved)], tenant_of(before))


def _delete(names: Names, connection: Connection, refs: Sequence[Ref]) -> list[tuple[Ref, int]]:
    return [
        (Ref(*ref), doc) for *ref, doc in connection.exec_driver_sql(names(sql.DELETE_RECORDS), keys_of(refs)).all()
    ]
