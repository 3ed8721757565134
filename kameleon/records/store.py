"""The built-in record store: records as JSON, kept in the same transaction as their index. Imports `values`, `errors`,
`content`, `stores`, `indexing` and `orm`.

For those without tables of their own, and behind `kameleon data …`. A record's `id` is its key; its other keys are
fields. The searchable ones, in the entity's order, are the record's content.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ..content import Content, check_entity, check_id, check_tenant
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
from ..indexing.index import HasIndex
from ..orm.callers import connection_within, on_a_thread
from ..stores.catalog import Entity
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import Ref, tenants_of
from .rows import (
    OnConflict,
    changed_row,
    checked_rows,
    declared_entity,
    divided,
    fields_of,
    infer_entity,
    record_entry,
    resolve,
    with_fields,
)
from .stored import StoredRows, condition
from .tenants import bound_to, of_tenants, tenant_named, tenants_named
from .values import InsertReport as InsertReport
from .values import Record as Record
from .values import make_record

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

ON_CONFLICT = ("error", "upsert", "skip")

MAX_LIMIT = 2**53
"""Bounds `limit` and `offset` to what JSON can hold exactly."""


class RecordStore:
    """Records of declared entities in the database of a SearchEngine; of one tenant, those of a
    `search.for_tenant("t1")`.

    The records of an entity that has tenants are named by tenant and id. `tenant` is a text, a whole number, a UUID or
    an Enum with such a value; without it a call for such an entity raises TenantRequired. "" are records without one.
    """

    def __init__(self, search: HasIndex) -> None:
        self.search: Any = search
        self._bound: str | None = getattr(search, "tenant", None)
        self.index = search.index
        self._table = self.index.tables.records
        self._rows = StoredRows(self.index)
        self._catalog = self.index.catalog

    # entities

    def create_entity(
        self,
        name: str,
        *,
        search: Sequence[str] | Mapping[str, float] = (),
        fields: Mapping[str, str] | None = None,
        tenant_field: str | None = None,
    ) -> Entity:
        """Declare an entity: `search` names its searchable fields, as a mapping with weights (whole numbers from 1 to
        10), `fields` maps a name to a type that is checked. `tenant_field` divides its records: the field whose value
        is a record's tenant, or "" where every call gives `tenant`."""
        if self._bound is not None:
            raise InvalidInput("an entity is declared for all tenants: RecordStore(search).create_entity(...)")
        entity = declared_entity(name, search, fields or {}, tenant_field)

        def attempt() -> Entity:
            with self.index.transaction() as connection:
                if name in self._catalog.entities(connection):
                    raise EntityExists(
                        f"entity {seen(name)} exists already. See it: `kameleon entity describe {shlex.quote(name)}`"
                    )
                self._catalog.write_entity(connection, entity, is_new=True)
                if entity.has_tenants:
                    self.index.store.schema.add_tenanted(connection, [name])
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
        tenant: object = None,
        tenant_field: str | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
        ahead: Ahead | None = None,
    ) -> InsertReport:
        """Store records and index them, in one transaction and with one call of the embedding service.

        A record without `id` gets a random one. An id that is taken raises RecordExists ("error"), replaces the record
        ("upsert") or leaves it ("skip"). A missing entity is made from these records, unless `create=False`
        (UnknownEntity). `connection` or `session` stores them inside the caller's transaction. `ahead` is what
        `embed_ahead` brought. Raises InvalidRecord with the record's position before anything is written.

        `tenant` is that of all records, and is not needed where a field of theirs names it: one that lacks that field
        is refused, and of one in which it is null the tenant is "". `tenant_field` names that field of an entity that
        is made.
        """
        if not isinstance(on_conflict, str) or on_conflict not in ON_CONFLICT:
            raise InvalidInput(f"unknown on_conflict {seen(on_conflict)}. Known: {', '.join(ON_CONFLICT)}")
        check_entity(entity)
        records = list(records)
        connection = connection_within(self.index, connection, session, "ainsert")
        tenant = bound_to(self._bound, tenant)
        define = partial(self.definition, entity, records, create=create, tenant=tenant, tenant_field=tenant_field)
        attempt = partial(self._insert, define, records, on_conflict, tenant=tenant, ahead=ahead, connection=connection)
        report = self.index.retried(attempt, connection)
        self.index.maintain_keywords(connection)
        return report

    def _insert(
        self,
        define: Callable[..., Entity],
        records: Sequence[Mapping[str, Any]],
        on_conflict: OnConflict,
        *,
        tenant: object,
        ahead: Ahead | None,
        connection: Connection | None,
    ) -> InsertReport:
        """Raises Outdated where another writer changed the entity or took an id since it was read."""
        definition = define(connection=connection)
        entity = definition.name
        rows = checked_rows(definition, records, tenant)
        taken = self._rows.taken(entity, rows, connection)
        chosen = resolve(entity, rows, taken, on_conflict)
        entries = [record_entry(definition, row.id, row.data, row.tenant) for row in chosen.values()]
        plan = self.index.plan(entries, connection=connection, ahead=ahead)
        with self.index.transaction(connection, tenants_of(entry.ref for entry in entries)) as conn:
            if define(connection=conn) != definition or self._rows.taken(entity, rows, conn) != taken:
                raise Outdated(f"the ids of this insert into {entity} kept being taken and freed by others. Try again")
            is_new = self._declare(conn, definition)
            self._rows.write(conn, entity, chosen.values(), taken)
            self.index.check_current(plan, conn)
            index = self.index.apply(plan, conn)
        updated = sum(key in taken for key in chosen)
        made = definition if is_new else None
        return InsertReport(len(chosen) - updated, updated, len(rows) - len(chosen), index, made)

    def embed_ahead(
        self,
        entity: Entity,
        records: Sequence[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        tenant: object = None,
        callers: int = 1,
    ) -> Ahead | None:
        """Embed what a later `insert` of these records will need, on any thread, while another batch is written.

        `entity` is what `definition` gives for the first records. `callers` such calls at a time share the provider's
        concurrency. What `insert` will refuse or leave is not embedded; what changes in between, it embeds itself.
        Raises ProviderError as `insert` does.
        """
        tenant = bound_to(self._bound, tenant)
        rows = checked_rows(with_fields(entity, records), records, tenant, leaves_invalid=True)
        taken = self._rows.taken(entity.name, rows, None)
        chosen = resolve(entity.name, rows, taken, "upsert" if on_conflict == "upsert" else "skip")
        entries = [record_entry(entity, row.id, row.data, row.tenant) for row in chosen.values()]
        contents = {e.ref: Content(e.content, e.emphasis, e.gaps, e.ref.tenant) for e in entries if e.content}
        return embed_ahead(self.index, contents, [], connection=None, indexing="sync", callers=callers)

    def batches_ahead(self, batch_size: int) -> int:
        """How many batches of so many records `embed_ahead` is to be called for at a time, on threads; 0 where that
        gains nothing."""
        return batches_ahead(self.index, batch_size)

    def get(
        self,
        entity: str,
        id: str | int,
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Record:
        """Raises UnknownEntity, RecordMissing."""
        connection = connection_within(self.index, connection, session, "aget")
        definition = self.entity(entity, connection=connection)
        owner = tenant_named(definition, bound_to(self._bound, tenant))
        own = of_tenants(self._table, definition, (owner,))
        with self.index.reading(connection, (owner,)) as conn:
            row = conn.execute(self._table.select().where(*own, self._table.c.id == check_id(id))).one_or_none()
        if row is None:
            raise RecordMissing(f"{entity} has no record {str(id)!r:.80}")
        return make_record(row)

    def list(
        self,
        entity: str,
        *,
        where: Mapping[str, Any] | None = None,
        tenant: object = None,
        limit: int = 100,
        offset: int = 0,
    ) -> "list[Record]":
        """Records by id, those of `where`; of one tenant, of several or of all. Raises UnknownEntity, InvalidFilter."""
        for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
            if not isinstance(value, int) or not least <= value <= MAX_LIMIT:
                raise InvalidInput(f"{name} is a whole number from {least} to {MAX_LIMIT}, not {seen(value, 40)}")
        definition = self.entity(entity)
        table = self._table
        tenants = tenants_named(definition, bound_to(self._bound, tenant))
        statement = table.select().where(*of_tenants(table, definition, tenants))
        if where:
            statement = statement.where(condition(self.index, where, fields_of(definition)))
        order = [table.c.id] if tenants is not None and len(tenants) == 1 else [table.c.id, table.c.tenant]
        with self.index.reading(tenants=tenants or ()) as connection:
            rows = connection.execute(statement.order_by(*order).limit(limit).offset(offset)).all()
        return [make_record(row) for row in rows]

    def update(
        self,
        entity: str,
        id: str | int,
        changes: Mapping[str, Any],
        *,
        replace_all: bool = False,
        tenant: object = None,
    ) -> Record:
        """Set the fields of `changes`, keeping the others unless `replace_all`. Indexes it if its content changed. A
        record whose field for the tenant is set to another one moves there; RecordExists where that has its id."""
        definition = self.entity(entity)
        if not isinstance(changes, Mapping):
            raise InvalidRecord(f"changes are an object such as {{'status': 'open'}}, not {seen(changes)}")
        if "id" in changes and check_id(changes["id"]) != check_id(id):
            raise InvalidRecord(
                f"an update cannot change the id {str(id)!r:.80}. Insert the record again and delete this one"
            )
        patch = {name: value for name, value in changes.items() if name != "id"}

        def attempt() -> str:
            before = self.get(entity, id, tenant=tenant)
            row = changed_row(definition, before.tenant, before.id, before.data, patch, replace_all=replace_all)
            if self._bound not in (None, row.tenant):
                raise InvalidRecord(f"{entity} {before.id!r:.80} would leave the tenant that this store is for")
            grown = with_fields(definition, [row.data])
            old, new = (Ref(entity, before.id, tenant) for tenant in (before.tenant, row.tenant))
            former = {} if old == new else {new: old}
            plan = self.index.plan([record_entry(grown, row.id, row.data, row.tenant)], former=former)
            with self.index.transaction(tenants=tuple(sorted({before.tenant, row.tenant}))) as connection:
                self._declare(connection, grown)
                if self._rows.current(connection, before) != before.data:
                    raise Outdated(f"{entity} {id} kept being changed by others. Try again")
                self.index.check_current(plan, connection)
                self._rows.change(connection, before, row)
                self.index.apply(plan, connection)
            return row.tenant

        now = self.index.retried(attempt)
        return self.get(entity, id, tenant=None if self._bound is not None else now)

    def delete(self, entity: str, ids: Iterable[str | int], *, tenant: object = None) -> int:
        """Delete records and their index rows in one transaction; returns how many there were. Raises UnknownEntity."""
        definition = self.entity(entity)
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise InvalidInput(f"ids is a list; for one, use [{seen(ids)}]")
        wanted = sorted({check_id(id_) for id_ in ids})
        table = self._table
        tenants = tenants_named(definition, bound_to(self._bound, tenant))
        own = of_tenants(table, definition, tenants)

        def attempt() -> int:
            with self.index.transaction(tenants=tenants or ()) as connection:
                deleted: list[Ref] = []
                for part in parts(wanted, IDS_A_STATEMENT):
                    gone = table.delete().where(*own, table.c.id.in_(part))
                    rows = connection.execute(gone.returning(table.c.id, table.c.tenant))
                    deleted += (Ref(entity, row.id, row.tenant) for row in rows)
                self.index.delete(deleted, connection)
            return len(deleted)

        return self.index.retried(attempt)

    def definition(
        self,
        name: str,
        records: Sequence[Mapping[str, Any]],
        *,
        create: bool = True,
        tenant: object = None,
        tenant_field: str | None = None,
        connection: Connection | None = None,
    ) -> Entity:
        """The entity as an insert of these records leaves it: as it is plus the fields that they add, or what they make
        of a missing one. Raises UnknownEntity without `create`."""
        divides = "" if tenant_field is None and check_tenant(tenant) else tenant_field
        with self.index.reading(connection) as conn:
            entities = self._catalog.entities(conn)
        plain = [record for record in records if isinstance(record, Mapping)]
        if name in entities:
            return with_fields(divided(entities[name], divides), plain)
        if not create or self._bound is not None:
            raise UnknownEntity(
                f"unknown entity {seen(name)}. Known: {', '.join(entities) or 'none'}. "
                f"Make it: `kameleon entity create {shlex.quote(name)} --search FIELD`"
            )
        return infer_entity(check_entity(name), plain, divides)

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
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> InsertReport:
        """`insert`, as `aentity`."""
        insert = partial(self.insert, entity, records, on_conflict=on_conflict, create=create, tenant=tenant)
        return await on_a_thread(self.index, insert, session)

    async def aget(
        self, entity: str, id: str | int, *, tenant: object = None, session: "AsyncSession | None" = None
    ) -> Record:
        """`get`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.get, entity, id, tenant=tenant), session)

    # steps

    def _declare(self, connection: Connection, entity: Entity) -> bool:
        """Write what is new about an entity; True if all of it is. What another writer added meanwhile stays."""
        stored = self._catalog.entities(connection).get(entity.name)
        if stored is None:
            self._catalog.write_entity(connection, entity, is_new=True)
            return True
        if set(entity.field_names) <= set(stored.field_names) and stored.tenant_field == entity.tenant_field:
            return False
        stored = divided(self._catalog.locked_entity(connection, entity.name) or stored, entity.tenant_field)
        added = tuple(replace(f, is_searchable=False) for f in entity.fields if f.name not in stored.field_names)
        self._catalog.write_entity(connection, replace(stored, fields=stored.fields + added), is_new=False)
        return False
