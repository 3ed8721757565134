"""The tables that an index is made from: of mapped classes, and the record store's. Imports `values`, `content`,
`stores`, `indexing`, `orm` and `records`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, inspect, select, tuple_

from ..content import Content
from ..indexing.entries import make_entry
from ..indexing.index import Index
from ..orm.callers import sessions_of
from ..orm.identity import key_attributes
from ..orm.mapping import Mapped, objects
from ..records.rows import record_entry
from ..stores.catalog import Entity
from ..stores.tables import IDS_A_STATEMENT, parts
from ..stores.values import Entry
from ..values import Ref
from .findings import Finding

Contents = dict[str, Entry | None]


class Source(Protocol):
    """A table whose rows the index should hold."""

    @property
    def entity(self) -> str: ...
    def page(self, connection: Connection, after: Any, limit: int) -> tuple[Contents, Any]:
        """The contents of the next `limit` rows by id, None for those kept out; and where to go on, None at the end."""

    def contents(self, connection: Connection, ids: Sequence[str]) -> Contents:
        """The contents of these rows; None for those that are not there or kept out."""


@dataclass(frozen=True, slots=True)
class MappedSource:
    mapped: Mapped

    @property
    def entity(self) -> str:
        return self.mapped.entity

    def page(self, connection: Connection, after: Any, limit: int) -> tuple[Contents, Any]:
        mapped = self.mapped
        keys = key_attributes(mapped.mapper)
        statement = mapped.rows().limit(limit)
        if after is not None:
            statement = statement.where(tuple_(*keys) > after if len(keys) > 1 else keys[0] > after[0])
        found: Contents = {}
        last = None
        for obj in objects(connection, statement):
            last = tuple(mapped.key_of(obj))
            if mapped.is_of(type(obj)):
                id_ = mapped.identity.id_of(last)
                found[id_] = self._entry(id_, mapped.content_of(obj))
        return found, last

    def contents(self, connection: Connection, ids: Sequence[str]) -> Contents:
        return {id_: self._entry(id_, content) for id_, content in self.mapped.load(connection, ids).items()}

    def _entry(self, id_: str, content: Content | None) -> Entry | None:
        return make_entry(Ref(self.entity, id_), *content) if content is not None else None


@dataclass(frozen=True, slots=True)
class StoredSource:
    table: Any
    declared: Entity

    @property
    def entity(self) -> str:
        return self.declared.name

    def page(self, connection: Connection, after: Any, limit: int) -> tuple[Contents, Any]:
        table = self.table
        statement = select(table.c.id, table.c.data).where(table.c.entity_name == self.entity)
        following = statement.where(table.c.id > (after or "")).order_by(table.c.id).limit(limit)
        rows = connection.execute(following).all()
        return self._entries(rows), rows[-1].id if rows else None

    def contents(self, connection: Connection, ids: Sequence[str]) -> Contents:
        table = self.table
        found: Contents = dict.fromkeys(ids)
        for part in parts(ids, IDS_A_STATEMENT):
            wanted = select(table.c.id, table.c.data).where(table.c.entity_name == self.entity, table.c.id.in_(part))
            found |= self._entries(connection.execute(wanted).all())
        return found

    def _entries(self, rows: Sequence[Any]) -> Contents:
        return {row.id: record_entry(self.declared, row.id, row.data) for row in rows}


def sources_of(index: Index) -> Iterator[Source | Finding]:
    """The sources of this database by entity; a finding where two have one name."""
    with index.reading() as connection:
        here = inspect(connection)
        mapped: Mapping[str, Mapped] = {
            mapped.entity: mapped
            for mapped in sessions_of(index).mappings.all()
            if all(here.has_table(table.name, schema=table.schema) for table in mapped.owner.tables)
        }
        stored = index.catalog.entities(connection)
    for entity in sorted({*mapped, *stored}):
        if entity in mapped and entity in stored:
            cls = mapped[entity].owner.class_.__qualname__
            message = f"the class {cls} and an entity of the record store have one name in the index"
            yield Finding("duplicate", entity, 1, message, "give the class another: @searchable(..., name='…')")
        elif entity in mapped:
            yield MappedSource(mapped[entity])
        else:
            yield StoredSource(index.tables.records, stored[entity])
