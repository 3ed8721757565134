"""Reads and writes the rows of `kdb_records`. Imports `values`, `errors`, `stores` and `indexing`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select, text, true, tuple_

from ..errors import Outdated, RecordExists
from ..indexing.index import Index
from ..stores.catalog import Entity
from ..stores.filters import parse_filter
from ..stores.paths import FieldNames
from ..stores.refs import ids_by_tenant
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import Ref, Tenants
from .rows import Key, OnConflict, Row
from .tenants import of_tenants
from .values import Record, make_record


class StoredRows:
    def __init__(self, index: Index) -> None:
        self._index = index
        self.table = index.tables.records

    def taken(
        self, entity: str, rows: Sequence[Row], connection: Connection | None, on_conflict: OnConflict = "error"
    ) -> Mapping[Key, Mapping[str, Any]]:
        """Those of the rows that are there; what is stored of them where rows are merged."""
        tenants = tuple(sorted({row.tenant for row in rows}))
        with self._index.reading(connection, tenants) as conn:
            if on_conflict == "merge":
                return self.data(conn, [Ref(entity, row.id, row.tenant) for row in rows])
            there = self._index.store.records.stored_ids(conn, entity, [row.key for row in rows])
            return {key: {} for key in there}

    def check_taken(
        self,
        connection: Connection,
        entity: str,
        rows: Sequence[Row],
        taken: Mapping[Key, Mapping[str, Any]],
        on_conflict: OnConflict,
    ) -> None:
        """Raises Outdated where ids were taken or freed since, or what is merged with was changed."""
        if on_conflict == "merge" and taken:
            self.check_unchanged(connection, {Ref(entity, id_, tenant): data for (tenant, id_), data in taken.items()})
        if self.taken(entity, rows, connection).keys() != taken.keys():
            raise Outdated(f"the ids of this insert into {entity} kept being taken and freed by others. Try again")

    def data(self, connection: Connection, refs: Iterable[Ref], *, locks: bool = False) -> dict[Key, Mapping[str, Any]]:
        """The data of records of one entity, which no other transaction changes before this one ends if it `locks`."""
        columns = self.table.c
        found: dict[Key, Mapping[str, Any]] = {}
        ordered = sorted(refs, key=attrgetter("key"))
        for tenant, ids in ids_by_tenant(ordered).items():
            own = columns.tenant == tenant, columns.entity_name == ordered[0].entity
            for part in parts(list(ids), IDS_A_STATEMENT):
                statement = select(columns.id, columns.data).where(*own, columns.id.in_(part)).order_by(columns.id)
                rows = connection.execute(statement.with_for_update() if locks else statement)
                found.update({(tenant, id_): data for id_, data in rows})
        return found

    def page(
        self,
        connection: Connection,
        entity: Entity,
        tenants: Tenants,
        where: ColumnElement[bool],
        after: Key,
        limit: int,
    ) -> list[Record]:
        """The next records by tenant and id."""
        columns = self.table.c
        statement = self.table.select().where(*of_tenants(self.table, entity, tenants), where)
        statement = statement.where(tuple_(columns.tenant, columns.id) > after)
        return list(map(make_record, connection.execute(statement.order_by(columns.tenant, columns.id).limit(limit))))

    def check_unchanged(self, connection: Connection, records: Mapping[Ref, Mapping[str, Any]]) -> None:
        """Lock records to the end of the transaction. Raises Outdated where one is not as it was read."""
        wanted = {(ref.tenant, ref.id): data for ref, data in records.items()}
        if self.data(connection, records, locks=True) != wanted:
            first = next(iter(records))
            named = f"{first.entity} {first.id}" if len(records) == 1 else f"records of {first.entity}"
            raise Outdated(f"{named} kept being changed by others. Try again")

    def change(self, connection: Connection, records: Sequence[Record], rows: Sequence[Row]) -> None:
        """Store records as they are now, be it under another tenant. Raises RecordExists."""
        moved = [(record, row) for record, row in zip(records, rows, strict=True) if row.tenant != record.tenant]
        for record, row in moved:
            self.move(connection, record, row)
        staying = [row for record, row in zip(records, rows, strict=True) if row.tenant == record.tenant]
        if staying:
            self.write(connection, records[0].entity, staying, {row.key for row in staying})

    def _row_of(self, record: Record) -> tuple[ColumnElement[bool], ...]:
        columns = self.table.c
        return columns.tenant == record.tenant, columns.entity_name == record.entity, columns.id == record.id

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

    def write(self, connection: Connection, entity: str, rows: Iterable[Row], taken: Collection[Key]) -> None:
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


def condition(index: Index, where: Mapping[str, Any] | None, fields: FieldNames) -> ColumnElement[bool]:
    """`where` as a condition on `kdb_records.data`. Raises InvalidFilter."""
    parsed = parse_filter(where, fields)
    if parsed is None:
        return true()
    sql, binds = index.store.records.filter_sql(parsed)
    return text(sql).bindparams(**binds)  # type: ignore[return-value]
