"""The part of RecordStore that reads records: `get`, `get_many`, `count` and `list`. Imports `values`, `errors`,
`analysis`, `content`, `indexing`, `orm`, `search` and `stores`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, func, select, tuple_

from ..analysis.collation import sort_key
from ..content import bound_tenant, check_id, check_tenant
from ..errors import InvalidInput, RecordMissing, seen
from ..indexing.index import Index
from ..orm.callers import connection_within
from ..search.ordering import Sort, by_fields, read_sort
from ..search.sources import StoredFields
from ..stores.catalog import Entity, active
from ..stores.paths import path_of
from ..stores.refs import ids_by_tenant
from ..stores.tables import IDS_A_STATEMENT, parts
from ..stores.values import numbers
from ..values import Ref
from .entities import fields_of
from .rows import value_at
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
        with self.index.reading(connection, (owner,)) as conn:
            records = stored(self.index, conn, [Ref(entity, id_, owner) for id_ in wanted])
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
        sort: str | Sequence[str] | None = None,
        tenant: object = None,
        limit: int = 100,
        offset: int = 0,
        after: Record | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> "list[Record]":
        """Records by id, those of `where`; of one tenant, of several or of all. `sort` orders them by fields, as in a
        search, which reads these of all of them. `after` is the last record of the page before, however many these are.
        Raises UnknownEntity, InvalidFilter."""
        for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
            if not isinstance(value, int) or not least <= value <= MAX_LIMIT:
                raise InvalidInput(f"{name} is a whole number from {least} to {MAX_LIMIT}, not {seen(value, 40)}")
        connection = connection_within(self.index, connection, session, "alist")
        definition = self.entity(entity, connection=connection)
        tenants = tenants_named(definition, bound_tenant(self._bound, tenant))
        table = self.index.tables.records
        matching = [*of_tenants(table, definition, tenants), condition(self.index, where, fields_of(definition))]
        order = [table.c.id] if tenants is not None and len(tenants) == 1 else [table.c.id, table.c.tenant]
        sorts = read_sort(sort)
        with self.index.reading(connection, tenants or ()) as conn:
            if sorts:
                refs = Sorted(self.index, definition, sorts).refs(conn, matching, after)
                return stored(self.index, conn, refs[offset : offset + limit])
            statement = table.select().where(*matching).order_by(*order).limit(limit).offset(offset)
            if after is not None:
                last = check_id(after.id), check_tenant(after.tenant)
                statement = statement.where(tuple_(table.c.id, table.c.tenant) > last)
            return list(map(make_record, conn.execute(statement)))


@dataclass(frozen=True)
class Sorted:
    """Records of an entity by the values of fields, those of equal values by id. The databases order texts neither
    alike nor as searches do, so the values of all that match are read."""

    index: Index
    entity: Entity
    sorts: Sequence[Sort]

    def refs(self, connection: Connection, matching: Iterable[Any], after: Record | None) -> list[Ref]:
        table, fields = self.index.tables.records.c, fields_of(self.entity)
        found = connection.execute(select(table.id, table.tenant).where(*matching))
        refs = [Ref(self.entity.name, id_, tenant) for id_, tenant in found]
        read = StoredFields(self.index.store.records, fields)
        values = [dict(read.values(connection, refs, sort.field)) for sort in self.sorts]
        end = None if after is None else Ref("", check_id(after.id), check_tenant(after.tenant))
        if end is not None and after is not None:
            refs.append(end)
            for sort, of_field in zip(self.sorts, values, strict=True):
                path = path_of(sort.field, fields)
                of_field |= read.ordered(path, {end: value_at(after.data, path)})
        refs.sort(key=lambda ref: (ref.id, ref.tenant, ref is end))
        ordered = by_fields(refs, values, self.sorts, sort_key(self.index.store.language))
        return ordered if end is None else ordered[ordered.index(end) + 1 :]


def stored(index: Index, connection: Connection, refs: Sequence[Ref]) -> list[Record]:
    """The records of one entity that are there, in the order of the refs and one for each."""
    table, found = index.tables.records, dict[Ref, Record]()
    for tenant, ids in ids_by_tenant(dict.fromkeys(refs)).items():
        own = table.c.tenant == tenant, table.c.entity_name == refs[0].entity
        for part in parts(ids, IDS_A_STATEMENT):
            for row in connection.execute(table.select().where(*own, table.c.id.in_(part))):
                found[Ref(row.entity_name, row.id, row.tenant)] = make_record(row)
    return [found[ref] for ref in refs if ref in found]


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
    refs = [Ref(each.entity, each.id, each.tenant) for each in records]
    found = index.store.embeddings.vectors_at(connection, generation, list(dict.fromkeys(refs)))
    vectors = {ref: numbers(vector) for ref, vector in found.items()}
    return [replace(each, vector=vectors.get(ref)) for each, ref in zip(records, refs, strict=True)]
