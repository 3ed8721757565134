"""The built-in record store: records as JSON, kept in the same transaction as their index. Imports `values`, `errors`,
`content`, `stores`, `indexing` and `orm`.

For those without tables of their own, and behind `kameleon data …`. A record's `id` is its key; its other keys are
fields. The searchable ones, in the entity's order, are the record's content.
"""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, bindparam, select, text, true

from ..content import Content, check_entity, check_id
from ..errors import (
    EntityExists,
    InvalidInput,
    InvalidRecord,
    Outdated,
    RecordMissing,
    UnknownEntity,
    seen,
)
from ..indexing.ahead import batches_ahead, embed_ahead
from ..indexing.embedded import Ahead
from ..indexing.index import HasIndex, Index
from ..orm.callers import connection_within, on_a_thread
from ..stores.catalog import Entity
from ..stores.filters import parse_filter
from ..stores.tables import IDS_A_STATEMENT, parts, utc
from ..values import IndexReport, Ref
from .rows import (
    OnConflict,
    check_data,
    checked_rows,
    declared_entity,
    infer_entity,
    record_entry,
    resolve,
    with_fields,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

ON_CONFLICT = ("error", "upsert", "skip")

MAX_LIMIT = 2**53
"""Bounds `limit` and `offset` to what JSON can hold exactly."""


@dataclass(frozen=True, slots=True)
class Record:
    entity: str
    id: str
    data: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class InsertReport:
    """What an insert did, in records; `index` is what became of their index rows."""

    inserted: int = 0
    updated: int = 0
    skipped: int = 0
    index: IndexReport = field(default_factory=IndexReport)
    created_entity: Entity | None = None

    def __add__(self, other: "InsertReport") -> "InsertReport":
        return InsertReport(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.skipped + other.skipped,
            self.index + other.index,
            self.created_entity or other.created_entity,
        )


class RecordStore:
    """Records of declared entities in the database of a SearchEngine."""

    def __init__(self, search: HasIndex) -> None:
        self.search: Any = search
        self.index = search.index
        self._table = self.index.tables.records
        self._catalog = self.index.catalog

    # entities

    def create_entity(
        self,
        name: str,
        *,
        search: Sequence[str] | Mapping[str, float] = (),
        fields: Mapping[str, str] | None = None,
    ) -> Entity:
        """Declare an entity: `search` names its searchable fields, as a mapping with weights (whole numbers from 1 to
        10), `fields` maps a name to a type that is checked."""
        entity = declared_entity(name, search, fields or {})

        def attempt() -> Entity:
            with self.index.transaction() as connection:
                if name in self._catalog.entities(connection):
                    raise EntityExists(
                        f"entity {seen(name)} exists already. See it: `kameleon entity describe {shlex.quote(name)}`"
                    )
                self._catalog.write_entity(connection, entity, is_new=True)
            return entity

        return self.index.retried(attempt)

    def entities(self) -> list[Entity]:
        with self.index.reading() as connection:
            return list(self._catalog.entities(connection).values())

    def entity(self, name: str, *, connection: Connection | None = None, session: "Session | None" = None) -> Entity:
        """Raises UnknownEntity."""
        connection = connection_within(self.index, connection, session, "aentity")
        with self.index.reading(connection) as conn:
            entities = self._catalog.entities(conn)
        if not isinstance(name, str) or name not in entities:
            raise UnknownEntity(f"unknown entity {seen(name)}. Known: {', '.join(entities) or 'none'}")
        return entities[name]

    # records

    def insert(
        self,
        entity: str,
        records: Iterable[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        create: bool = True,
        connection: Connection | None = None,
        session: "Session | None" = None,
        ahead: Ahead | None = None,
    ) -> InsertReport:
        """Store records and index them, in one transaction and with one call of the embedding service.

        A record without `id` gets a random one. An id that is taken raises RecordExists ("error"), replaces the record
        ("upsert") or leaves it ("skip"). A missing entity is made from these records, unless `create=False`
        (UnknownEntity). `connection` or `session` stores them inside the caller's transaction. `ahead` is what
        `embed_ahead` brought. Raises InvalidRecord with the record's position before anything is written.
        """
        if not isinstance(on_conflict, str) or on_conflict not in ON_CONFLICT:
            raise InvalidInput(f"unknown on_conflict {seen(on_conflict)}. Known: {', '.join(ON_CONFLICT)}")
        check_entity(entity)
        records = list(records)
        connection = connection_within(self.index, connection, session, "ainsert")

        attempt = partial(self._insert, entity, records, on_conflict, create=create, ahead=ahead, connection=connection)
        report = self.index.retried(attempt, connection)
        self.index.maintain_keywords(connection)
        return report

    def _insert(
        self,
        entity: str,
        records: Sequence[Mapping[str, Any]],
        on_conflict: OnConflict,
        *,
        create: bool,
        ahead: Ahead | None,
        connection: Connection | None,
    ) -> InsertReport:
        """Raises Outdated where another writer changed the entity or took an id since it was read."""
        definition = self.definition(entity, records, create=create, connection=connection)
        rows = checked_rows(definition, records)
        taken = self._taken(entity, rows, connection)
        chosen = resolve(entity, rows, taken, on_conflict)
        entries = [record_entry(definition, id_, data) for id_, data in chosen.items()]
        plan = self.index.plan(entries, connection=connection, ahead=ahead)
        with self.index.transaction(connection) as conn:
            now = self.definition(entity, records, create=create, connection=conn)
            if now != definition or self._taken(entity, rows, conn) != taken:
                raise Outdated(f"the ids of this insert into {entity} kept being taken and freed by others. Try again")
            is_new = self._declare(conn, definition)
            self._write(conn, entity, chosen, taken)
            self.index.check_current(plan, conn)
            index = self.index.apply(plan, conn)
        updated = sum(id_ in taken for id_ in chosen)
        made = definition if is_new else None
        return InsertReport(len(chosen) - updated, updated, len(rows) - len(chosen), index, made)

    def embed_ahead(
        self,
        entity: Entity,
        records: Sequence[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        callers: int = 1,
    ) -> Ahead | None:
        """Embed what a later `insert` of these records will need, on any thread, while another batch is written.

        `entity` is what `definition` gives for the first records. `callers` such calls at a time share the provider's
        concurrency. What `insert` will refuse or leave is not embedded; what changes in between, it embeds itself.
        Raises ProviderError as `insert` does.
        """
        rows = checked_rows(with_fields(entity, records), records, leaves_invalid=True)
        taken = self._taken(entity.name, rows, None)
        chosen = resolve(entity.name, rows, taken, "upsert" if on_conflict == "upsert" else "skip")
        entries = [record_entry(entity, id_, data) for id_, data in chosen.items()]
        contents = {e.ref: Content(e.content, e.emphasis, e.gaps) for e in entries if e.content}
        return embed_ahead(self.index, contents, [], connection=None, indexing="sync", callers=callers)

    def batches_ahead(self, batch_size: int) -> int:
        """How many batches of so many records `embed_ahead` is to be called for at a time, on threads; 0 where that
        gains nothing."""
        return batches_ahead(self.index, batch_size)

    def get(
        self, entity: str, id: str | int, *, connection: Connection | None = None, session: "Session | None" = None
    ) -> Record:
        """Raises UnknownEntity, RecordMissing."""
        connection = connection_within(self.index, connection, session, "aget")
        self.entity(entity, connection=connection)
        with self.index.reading(connection) as conn:
            table = self._table
            row = conn.execute(
                table.select().where(table.c.entity_name == entity, table.c.id == check_id(id))
            ).one_or_none()
        if row is None:
            raise RecordMissing(f"{entity} has no record {str(id)!r:.80}")
        return make_record(row)

    def list(
        self, entity: str, *, where: Mapping[str, Any] | None = None, limit: int = 100, offset: int = 0
    ) -> "list[Record]":
        """Records by id, those of `where`. Raises UnknownEntity, InvalidFilter."""
        for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
            if not isinstance(value, int) or not least <= value <= MAX_LIMIT:
                raise InvalidInput(f"{name} is a whole number from {least} to {MAX_LIMIT}, not {seen(value, 40)}")
        definition = self.entity(entity)
        table = self._table
        statement = table.select().where(table.c.entity_name == entity)
        if where:
            statement = statement.where(condition(self.index, where, definition.field_names))
        with self.index.reading() as connection:
            rows = connection.execute(statement.order_by(table.c.id).limit(limit).offset(offset)).all()
        return [make_record(row) for row in rows]

    def update(
        self,
        entity: str,
        id: str | int,
        changes: Mapping[str, Any],
        *,
        replace_all: bool = False,
    ) -> Record:
        """Set the fields of `changes`, keeping the others unless `replace_all`. Indexes it if its content changed."""
        definition = self.entity(entity)
        if not isinstance(changes, Mapping):
            raise InvalidRecord(f"changes are an object such as {{'status': 'open'}}, not {seen(changes)}")
        if "id" in changes and check_id(changes["id"]) != check_id(id):
            raise InvalidRecord(
                f"an update cannot change the id {str(id)!r:.80}. Insert the record again and delete this one"
            )
        patch = {name: value for name, value in changes.items() if name != "id"}

        def attempt() -> None:
            before = self.get(entity, id)
            data = check_data(definition, patch if replace_all else {**before.data, **patch})
            grown = with_fields(definition, [data])
            plan = self.index.plan([record_entry(grown, before.id, data)])
            with self.index.transaction() as connection:
                self._declare(connection, grown)
                if self._current(connection, before) != before.data:
                    raise Outdated(f"{entity} {id} kept being changed by others. Try again")
                self.index.check_current(plan, connection)
                self._write(connection, entity, {before.id: data}, {before.id})
                self.index.apply(plan, connection)

        self.index.retried(attempt)
        return self.get(entity, id)

    def delete(self, entity: str, ids: Iterable[str | int]) -> int:
        """Delete records and their index rows in one transaction; returns how many there were. Raises UnknownEntity."""
        self.entity(entity)
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise InvalidInput(f"ids is a list; for one, use [{seen(ids)}]")
        wanted = sorted({check_id(id_) for id_ in ids})
        table = self._table

        def attempt() -> int:
            with self.index.transaction() as connection:
                deleted: list[str] = []
                for part in parts(wanted, IDS_A_STATEMENT):
                    gone = table.delete().where(table.c.entity_name == entity, table.c.id.in_(part))
                    deleted += connection.execute(gone.returning(table.c.id)).scalars()
                self.index.delete([Ref(entity, id_) for id_ in deleted], connection)
            return len(deleted)

        return self.index.retried(attempt)

    def definition(
        self,
        name: str,
        records: Sequence[Mapping[str, Any]],
        *,
        create: bool = True,
        connection: Connection | None = None,
    ) -> Entity:
        """The entity as an insert of these records leaves it: as it is plus the fields that they add, or what they make
        of a missing one. Raises UnknownEntity without `create`."""
        with self.index.reading(connection) as conn:
            entities = self._catalog.entities(conn)
        plain = [record for record in records if isinstance(record, Mapping)]
        if name in entities:
            return with_fields(entities[name], plain)
        if not create:
            raise UnknownEntity(
                f"unknown entity {seen(name)}. Known: {', '.join(entities) or 'none'}. "
                f"Make it: `kameleon entity create {shlex.quote(name)} --search FIELD`"
            )
        return infer_entity(check_entity(name), plain)

    # asyncio

    async def aentity(self, name: str, *, session: "AsyncSession | None" = None) -> Entity:
        """`entity` for coroutines, on a thread; in the transaction of a `session`, if one is given."""
        return await on_a_thread(self.index, partial(self.entity, name), session)

    async def ainsert(
        self,
        entity: str,
        records: Iterable[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        create: bool = True,
        session: "AsyncSession | None" = None,
    ) -> InsertReport:
        """`insert`, as `aentity`."""
        insert = partial(self.insert, entity, records, on_conflict=on_conflict, create=create)
        return await on_a_thread(self.index, insert, session)

    async def aget(self, entity: str, id: str | int, *, session: "AsyncSession | None" = None) -> Record:
        """`get`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.get, entity, id), session)

    # steps

    def _declare(self, connection: Connection, entity: Entity) -> bool:
        """Write what is new about an entity; True if all of it is. What another writer added meanwhile stays."""
        stored = self._catalog.entities(connection).get(entity.name)
        if stored is None:
            self._catalog.write_entity(connection, entity, is_new=True)
            return True
        if set(entity.field_names) <= set(stored.field_names):
            return False
        stored = self._catalog.locked_entity(connection, entity.name) or stored
        added = tuple(replace(f, is_searchable=False) for f in entity.fields if f.name not in stored.field_names)
        self._catalog.write_entity(connection, replace(stored, fields=stored.fields + added), is_new=False)
        return False

    def _taken(
        self, entity: str, rows: Sequence[tuple[str, Mapping[str, Any]]], connection: Connection | None
    ) -> set[str]:
        with self.index.reading(connection) as conn:
            keys = [("", id_) for id_, _ in rows]
            return {id_ for _, id_ in self.index.store.records.stored_ids(conn, entity, keys)}

    def _current(self, connection: Connection, record: Record) -> Mapping[str, Any] | None:
        """The record's data, which no other transaction changes before this one ends."""
        table = self._table
        current = select(table.c.data).where(table.c.entity_name == record.entity, table.c.id == record.id)
        return connection.scalar(current.with_for_update())

    def _write(
        self, connection: Connection, entity: str, rows: Mapping[str, Mapping[str, Any]], taken: set[str]
    ) -> None:
        """Raises Outdated where a taken id was freed meanwhile."""
        now = datetime.now(UTC)
        table = self._table
        ordered = sorted(rows.items(), key=lambda row: row[0])
        new = [row for row in ordered if row[0] not in taken]
        changed = [{"key": id_, "data": data, "updated_at": now} for id_, data in ordered if id_ in taken]
        if new:
            self.index.store.records.add(connection, entity, [("", *row) for row in new], now)
        if changed:
            update = table.update().where(table.c.entity_name == entity, table.c.id == bindparam("key"))
            if connection.execute(update, changed).rowcount != len(changed):
                raise Outdated(f"records of {entity} were deleted meanwhile. Try again")


def make_record(row: Any) -> Record:
    return Record(row.entity_name, row.id, row.data, utc(row.created_at), utc(row.updated_at))


def condition(index: Index, where: Mapping[str, Any], fields: Collection[str]) -> ColumnElement[bool]:
    """`where` as a condition on `kdb_records.data`. Raises InvalidFilter."""
    parsed = parse_filter(where, fields)
    if parsed is None:
        return true()
    sql, binds = index.store.records.filter_sql(parsed)
    return text(sql).bindparams(**binds)  # type: ignore[return-value]
