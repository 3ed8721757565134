"""The part of RecordStore that reads records: `get`, `get_many`, `count` and `list`. Imports `values`, `errors`,
`content`, `indexing`, `orm` and `stores`."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, func, select, tuple_

from ..content import bound_tenant, check_id, check_tenant
from ..errors import InvalidInput, RecordMissing, seen
from ..indexing.index import Index
from ..orm.callers import connection_within
from ..stores.catalog import Entity, active
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import Ref
from .entities import fields_of
from .stored import condition
from .tenants import of_tenants, tenant_named, tenants_named
from .values import Record, make_record

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MAX_LIMIT = 2**53
"""Bounds `limit` and `offset` to what JSON can hold exactly."""


class Store(Protocol):
    """What reading needs of a record store."""

    _bound: str | None
    index: Index

    def entity(self, name: str, *, connection: Connection | None = None) -> Entity: ...
    def get_many(self, *args: Any, **options: Any) -> "list[Record]": ...


class Reading:
    """Records as they are stored; in the transaction of `connection` or `session`, if one is given."""

    def get(
        self: Store,
        entity: str,
        id: str | int,
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Record:
        """Raises UnknownEntity, RecordMissing."""
        connection = connection_within(self.index, connection, session, "aget")
        found = self.get_many(entity, [id], tenant=tenant, connection=connection)
        if not found:
            raise RecordMissing(f"{entity} has no record {str(id)!r:.80}")
        return found[0]

    def get_many(
        self: Store,
        entity: str,
        ids: Iterable[str | int],
        *,
        vectors: bool = False,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> "list[Record]":
        """The records with these ids, in the order of the ids and one for each, without those that are missing; read by
        one statement a thousand. With `vectors`, by one more, each has its `vector`. Raises UnknownEntity."""
        connection = connection_within(self.index, connection, session, "aget_many")
        wanted = checked_ids(ids)
        definition = self.entity(entity, connection=connection)
        owner = tenant_named(definition, bound_tenant(self._bound, tenant))
        table, found = self.index.tables.records, dict[str, Record]()
        own = of_tenants(table, definition, (owner,))
        with self.index.reading(connection, (owner,)) as conn:
            for part in parts(list(dict.fromkeys(wanted)), IDS_A_STATEMENT):
                rows = conn.execute(table.select().where(*own, table.c.id.in_(part)))
                found.update((row.id, make_record(row)) for row in rows)
            records = [found[id_] for id_ in wanted if id_ in found]
            return with_vectors(self.index, conn, records) if vectors else records

    def count(
        self: Store,
        entity: str,
        *,
        where: Mapping[str, Any] | None = None,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """How many records there are, those of `where`; of one tenant, of several or of all. Raises UnknownEntity,
        InvalidFilter."""
        connection = connection_within(self.index, connection, session, "acount")
        definition = self.entity(entity, connection=connection)
        tenants = tenants_named(definition, bound_tenant(self._bound, tenant))
        table = self.index.tables.records
        statement = select(func.count()).select_from(table).where(*of_tenants(table, definition, tenants))
        statement = statement.where(condition(self.index, where, fields_of(definition)))
        with self.index.reading(connection, tenants or ()) as conn:
            return conn.execute(statement).scalar_one()

    def list(
        self: Store,
        entity: str,
        *,
        where: Mapping[str, Any] | None = None,
        tenant: object = None,
        limit: int = 100,
        offset: int = 0,
        after: Record | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> "list[Record]":
        """Records by id, those of `where`; of one tenant, of several or of all. `after` is the last record of the page
        before, however many these are. Raises UnknownEntity, InvalidFilter."""
        for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
            if not isinstance(value, int) or not least <= value <= MAX_LIMIT:
                raise InvalidInput(f"{name} is a whole number from {least} to {MAX_LIMIT}, not {seen(value, 40)}")
        connection = connection_within(self.index, connection, session, "alist")
        definition = self.entity(entity, connection=connection)
        table = self.index.tables.records
        tenants = tenants_named(definition, bound_tenant(self._bound, tenant))
        statement = table.select().where(*of_tenants(table, definition, tenants))
        statement = statement.where(condition(self.index, where, fields_of(definition)))
        order = [table.c.id] if tenants is not None and len(tenants) == 1 else [table.c.id, table.c.tenant]
        if after is not None:
            statement = statement.where(
                tuple_(table.c.id, table.c.tenant) > (check_id(after.id), check_tenant(after.tenant))
            )
        with self.index.reading(connection, tenants or ()) as conn:
            rows = conn.execute(statement.order_by(*order).limit(limit).offset(offset)).all()
        return [make_record(row) for row in rows]


def checked_ids(ids: Any) -> list[str]:
    """Raises InvalidInput for what is no list, InvalidRecord for what is no id."""
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise InvalidInput(f"ids is a list; for one, use [{seen(ids)}]")
    return [check_id(id_) for id_ in ids]


def with_vectors(index: Index, connection: Connection, records: Sequence[Record]) -> list[Record]:
    """The records, each with the vector that searches compare, of the first passage where its text has several."""
    generation = active(index.catalog.generations(connection))
    if generation is None or not records:
        return list(records)
    refs = list(dict.fromkeys(Ref(each.entity, each.id, each.tenant) for each in records))
    stored = index.store.embeddings.vectors_at(connection, generation, refs)
    vectors = {ref.id: tuple(array("f", vector)) for ref, vector in stored.items()}
    return [replace(each, vector=vectors.get(each.id)) for each in records]
