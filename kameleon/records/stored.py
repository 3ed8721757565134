"""Reads and writes the rows of `kdb_records`. Imports `values`, `errors`, `stores` and `indexing`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select, text, true

from ..errors import Outdated, RecordExists
from ..indexing.index import Index
from ..stores.filters import parse_filter
from .rows import Key, Row
from .values import Record


class StoredRows:
    def __init__(self, index: Index) -> None:
        self._index = index
        self.table = index.tables.records

    def taken(self, entity: str, rows: Sequence[Row], connection: Connection | None) -> set[Key]:
        with self._index.reading(connection, tuple(sorted({row.tenant for row in rows}))) as conn:
            return self._index.store.records.stored_ids(conn, entity, [row.key for row in rows])

    def current(self, connection: Connection, record: Record) -> Mapping[str, Any] | None:
        """The record's data, which no other transaction changes before this one ends."""
        current = select(self.table.c.data).where(*self._row_of(record))
        return connection.scalar(current.with_for_update())

    def _row_of(self, record: Record) -> tuple[ColumnElement[bool], ...]:
        columns = self.table.c
        return columns.tenant == record.tenant, columns.entity_name == record.entity, columns.id == record.id

    def change(self, connection: Connection, record: Record, row: Row) -> None:
        """Store a record as it is now, be it under another tenant. Raises RecordExists."""
        if row.tenant == record.tenant:
            self.write(connection, record.entity, [row], {row.key})
        else:
            self.move(connection, record, row)

    def move(self, connection: Connection, record: Record, row: Row) -> None:
        """Store a record under another tenant. Raises RecordExists."""
        table, now = self.table, datetime.now(UTC)
        if self.taken(record.entity, [row], connection):
            raise RecordExists(
                f"{record.entity} has a record {row.id!r:.80} of the tenant {row.tenant!r:.80} already", position=0
            )
        connection.execute(table.delete().where(*self._row_of(record)))
        self._index.store.records.add(connection, record.entity, [row], record.created_at)
        moved = self._row_of(replace(record, tenant=row.tenant))
        connection.execute(table.update().where(*moved).values(updated_at=now))

    def write(self, connection: Connection, entity: str, rows: Iterable[Row], taken: set[Key]) -> None:
        """Raises Outdated where a taken id was freed meanwhile."""
        now = datetime.now(UTC)
        table = self.table
        ordered = sorted(rows, key=attrgetter("key"))
        new = [row for row in ordered if row.key not in taken]
        changed = [
            {"owner": row.tenant, "key": row.id, "data": row.data, "updated_at": now}
            for row in ordered
            if row.key in taken
        ]
        if new:
            self._index.store.records.add(connection, entity, new, now)
        if changed:
            own = table.c.tenant == bindparam("owner"), table.c.entity_name == entity, table.c.id == bindparam("key")
            update = table.update().where(*own)
            if connection.execute(update, changed).rowcount != len(changed):
                raise Outdated(f"records of {entity} were deleted meanwhile. Try again")


def condition(index: Index, where: Mapping[str, Any], fields: Collection[str] | None) -> ColumnElement[bool]:
    """`where` as a condition on `kdb_records.data`. Raises InvalidFilter."""
    parsed = parse_filter(where, fields)
    if parsed is None:
        return true()
    sql, binds = index.store.records.filter_sql(parsed)
    return text(sql).bindparams(**binds)  # type: ignore[return-value]
