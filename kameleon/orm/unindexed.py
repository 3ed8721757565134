"""Counts and indexes rows of searchable classes that are not in the index: those from before sessions were attached to
it or triggers set, and those that were written past both. Imports `values`, `errors`, `stores` and `indexing`."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Text,
    cast,
    column,
    exists,
    func,
    inspect,
    literal_column,
    select,
    table,
)

from ..errors import InvalidInput, InvalidRecord
from ..indexing.index import Index
from ..stores.tables import key
from ..values import IndexReport, Tenants
from .callers import sessions_of
from .identity import is_after, key_attributes
from .mapping import Mapped, objects
from .rows import index_rows

ROWS_A_PAGE = 1_000
"""Bounds the objects in memory while rows are counted one by one. Chosen, not measured."""

NOTHING: Any = literal_column("''")
"""No bind: the index of records with tenants is a partial one."""


class Unindexed:
    """Of the searchable classes that this process has imported and whose tables are in this database."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._records = table(
            index.tables.names("kdb_search"),
            column("tenant", key),
            column("entity_name", key),
            column("record_id", key),
            schema=index.tables.metadata.schema,
        )

    def counts(self, connection: Connection, tenants: Tenants = None) -> dict[str, int]:
        """Rows by entity, without those that `when` keeps out."""
        return {mapped.entity: self._count(connection, mapped, tenants) for mapped in self.classes(connection)}

    def index(self, batch_size: int) -> IndexReport:
        """Index them, `batch_size` a transaction. One whose content fails is logged and left out."""
        report = IndexReport()
        with self._index.reading() as connection:
            found = [mapped for mapped in self.classes(connection) if self._count(connection, mapped)]
        for mapped in found:
            for page in self._pages(mapped, batch_size):
                ids = [mapped.ref_of(obj).id for obj in page if is_record(mapped, obj)]
                report += index_rows(self._index, mapped, ids)
        return report

    def classes(self, connection: Connection) -> list[Mapped]:
        """Those that this process has imported and whose tables are in this database."""
        mappings = sessions_of(self._index).mappings
        found = []
        for name in mappings.names():
            with suppress(InvalidInput):  # of a class that cannot be indexed: `attach` and `doctor` report it
                mapped = mappings.named(name)
                if mapped and is_here(connection, mapped):
                    found.append(mapped)
        return found

    def _count(self, connection: Connection, mapped: Mapped, tenants: Tenants = None) -> int:
        if tenants is not None and not mapped.has_tenants:
            tenants = None if "" in tenants else ()
        if tenants == ():
            return 0
        if tenants is not None or not has_only_records(mapped):
            pages = self._pages(mapped, ROWS_A_PAGE, connection)
            return sum(is_record(mapped, obj) and is_of(tenants, mapped, obj) for page in pages for obj in page)
        rows = self._missing(mapped, mapped.meeting(select(*key_attributes(mapped.owner))))
        return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0

    def _pages(self, mapped: Mapped, size: int, connection: Connection | None = None) -> Iterator[list[Any]]:
        """The objects that are not in the index: SQL does not show which of them `when` keeps out."""
        keys = key_attributes(mapped.owner)
        rows = query = self._missing(mapped, mapped.rows()).limit(size)
        while True:
            with self._index.reading(connection) as conn:
                page = list(objects(conn, rows))
            yield page
            if len(page) < size:
                return
            after = tuple(mapped.key_of(page[-1]))
            rows = query.where(is_after(keys, after))

    def _missing(self, mapped: Mapped, statement: Select[Any]) -> Select[Any]:
        """Rows of a class that got tenants later are in the index under none, so they are among them; whether those of
        a class whose tenant is made in Python are is for `doctor` to find."""
        cls = mapped.owner.class_
        statement = mapped.without_concrete(statement, cls)
        id_ = self._index.store.keys.id_text(mapped.id_columns(cls))
        held = (self._records.c.entity_name == mapped.entity) & (self._records.c.record_id == id_)
        without = exists().select_from(self._records).where(held, self._records.c.tenant == NOTHING)
        within = exists().select_from(self._records).where(held, self._records.c.tenant != NOTHING)
        if not mapped.has_tenants:
            return statement.where(~without)
        if (tenant := mapped.tenant_column(cls)) is not None:
            without = without & (func.coalesce(cast(tenant, Text), NOTHING) == NOTHING)
        return statement.where(~within, ~without)


def is_here(connection: Connection, mapped: Mapped) -> bool:
    """Whether the class's tables are in this database."""
    here = inspect(connection)
    return all(here.has_table(one.name, schema=one.schema) for one in mapped.owner.tables)


def is_of(tenants: Tenants, mapped: Mapped, obj: Any) -> bool:
    """Whether an object is one of the tenants'; False where that cannot be made out."""
    with suppress(InvalidRecord):
        return tenants is None or mapped.tenant_of(obj) in tenants
    return False


def has_only_records(mapped: Mapped) -> bool:
    """Whether each row of the class's table is a record of its entity."""
    inner = (mapper.class_ for mapper in mapped.owner.self_and_descendants)
    return mapped.declaration.when is None and all(map(mapped.is_of, inner))


def is_record(mapped: Mapped, obj: Any) -> bool:
    when = mapped.declaration.when
    return mapped.is_of(type(obj)) and (when is None or bool(when(obj)))
