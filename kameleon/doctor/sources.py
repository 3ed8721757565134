"""The tables that an index is made from: of mapped classes, and the record store's. Imports `values`, `content`,
`stores`, `indexing`, `orm` and `records`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Select, inspect, select, tuple_

from ..content import Content
from ..indexing.entries import make_entry
from ..indexing.index import Index
from ..orm.callers import sessions_of
from ..orm.identity import is_after, key_attributes
from ..orm.mapping import Mapped, objects
from ..orm.redefined import Redefined
from ..orm.table_entities import declare_tables, problems_of_tables
from ..records.entities import record_entry
from ..stores.catalog import Entity
from ..stores.database_protocols import Connections
from ..stores.refs import ids_by_tenant
from ..stores.tables import IDS_A_STATEMENT, parts
from ..stores.values import Entry
from ..values import Ref
from .findings import Finding
from .scan import Scan

OF_ENTRY = ("tenant", "id", "data")

Contents = dict[Ref, Entry | None]


class Source(Protocol):
    """A table whose rows the index should hold."""

    @property
    def entity(self) -> str: ...
    @property
    def is_unique(self) -> bool:
        """Whether an id has one record, in whichever tenant."""

    def page(self, connection: Connection, after: Any, limit: int) -> tuple[list[Entry], Any]:
        """The records of the next `limit` rows, without those kept out; and where to go on, None at the end."""

    def lock(self, connections: Connections, connection: Connection, refs: Sequence[Ref]) -> None:
        """Locks their rows where that keeps them from moving to another tenant meanwhile."""

    def contents(self, connection: Connection, refs: Sequence[Ref]) -> Contents:
        """These records; None for those that are not there, of another tenant, or kept out."""


@dataclass(frozen=True, slots=True)
class MappedSource:
    mapped: Mapped

    @property
    def entity(self) -> str:
        return self.mapped.entity

    @property
    def is_unique(self) -> bool:
        return self.mapped.has_tenants

    def page(self, connection: Connection, after: Any, limit: int) -> tuple[list[Entry], Any]:
        mapped = self.mapped
        keys = key_attributes(mapped.mapper)
        statement = mapped.rows().limit(limit)
        if after is not None:
            statement = statement.where(is_after(keys, after))
        found: list[Entry] = []
        last = None
        for obj in objects(connection, statement):
            last = tuple(mapped.key_of(obj))
            if mapped.is_of(type(obj)) and (content := mapped.content_of(obj)) is not None:
                found.append(make_entry(mapped.ref(last), *content))
        return found, last

    def lock(self, connections: Connections, connection: Connection, refs: Sequence[Ref]) -> None:
        self.mapped.lock(connections, connection, [ref.id for ref in refs])

    def contents(self, connection: Connection, refs: Sequence[Ref]) -> Contents:
        loaded = self.mapped.load(connection, list(dict.fromkeys(ref.id for ref in refs)))
        return {ref: self._entry(ref, loaded[ref.id]) for ref in refs}

    @staticmethod
    def _entry(ref: Ref, content: Content | None) -> Entry | None:
        return make_entry(ref, *content) if content is not None and content.tenant == ref.tenant else None


@dataclass(frozen=True, slots=True)
class StoredSource:
    table: Any
    declared: Entity

    @property
    def entity(self) -> str:
        return self.declared.name

    @property
    def is_unique(self) -> bool:
        return False

    def page(self, connection: Connection, after: Any, limit: int) -> tuple[list[Entry], Any]:
        columns = self.table.c
        key = columns.tenant, columns.entity_name, columns.id
        statement = select(*columns[OF_ENTRY]).where(columns.entity_name == self.entity)
        if after is not None:
            statement = statement.where(tuple_(*key) > after)
        found = self._entries(connection, statement.order_by(*key).limit(limit))
        return found, found[-1].ref.key if found else None

    def lock(self, connections: Connections, connection: Connection, refs: Sequence[Ref]) -> None:
        """Their ids are of several tenants."""

    def contents(self, connection: Connection, refs: Sequence[Ref]) -> Contents:
        columns = self.table.c
        found: Contents = dict.fromkeys(refs)
        for tenant, ids in ids_by_tenant(refs).items():
            for part in parts(ids, IDS_A_STATEMENT):
                of_tenant = columns.tenant == tenant, columns.entity_name == self.entity, columns.id.in_(part)
                for entry in self._entries(connection, select(*columns[OF_ENTRY]).where(*of_tenant)):
                    found[entry.ref] = entry
        return found

    def _entries(self, connection: Connection, statement: Select[Any]) -> list[Entry]:
        rows = connection.execute(statement)
        return [record_entry(self.declared, row.id, row.data, row.tenant) for row in rows]


def changed_tables(scan: Scan) -> Iterator[Finding]:
    """Tables that were added and are not as they were; nothing else is made of their definitions meanwhile."""
    with scan.index.reading() as connection:
        declare_tables(scan.index, connection, again=True)
    for entity, problem in problems_of_tables(scan.index).items():
        message, _, cure = problem.rpartition(". ")
        yield Finding("changed-table", entity, 1, message, cure)


def untracked(scan: Scan) -> Iterator[Finding]:
    """Entities whose triggers are not as they should be; with `fix` they are set again."""
    sessions = sessions_of(scan.index)
    with scan.index.reading() as connection:
        found = sessions.tracking.problems(connection)
    for entity, problem in found.items():
        mapped = sessions.mappings.named(entity)
        is_fixed = scan.fix and mapped is not None
        if mapped is not None and is_fixed:
            sessions.tracking.track(mapped.owner.class_)
        message = f"{problem}: rows that were written since may differ from the index"
        cure = "`kameleon doctor --fix`" if mapped else "`kameleon doctor --fix --import MODULE`"
        yield Finding("untracked", entity, 1, message, cure, is_fixed=is_fixed)


def redefined(scan: Scan) -> Iterator[Finding]:
    """Classes whose records were indexed by another declaration; with `fix` all of their rows are indexed again."""
    classes = scan.index.part(Redefined)
    with scan.index.reading() as connection:
        found = {entity: problem for entity, problem in classes.problems(connection).items() if problem}
    for entity, problem in found.items():
        is_fixed = scan.fix and scan.tenants is None
        if is_fixed:
            classes.index(classes.named(entity), scan.batch_size)
        message, _, cure = problem.rpartition(": ")
        yield Finding("redeclared", entity, 1, message, cure, severity="warning", is_fixed=is_fixed)


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
