"""Updates and deletes records with their index. Imports `values`, `errors`, `content`, `stores` and `indexing`."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection

from ..content import check_id
from ..errors import InvalidInput, InvalidRecord, seen
from ..indexing.index import Index
from ..stores.catalog import Entity
from ..stores.tables import IDS_A_STATEMENT, parts
from ..values import IndexReport, Ref, Tenants
from .administering import Administering
from .definitions import Definitions
from .entities import fields_of, record_entry, searchable_since
from .reading import checked_ids
from .rows import Key, Row, changed_row
from .stored import StoredRows, condition
from .tenants import of_tenants, tenants_named
from .values import Record

UPDATED_AT_ONCE = 1_000
"""Bounds the records of one transaction of an update by condition. Chosen, not measured."""


class Changing:
    """The records of one database; of the tenant that a store is `bound` to, if it is to one."""

    def __init__(self, index: Index, definitions: Definitions, bound: str | None) -> None:
        self._index = index
        self._definitions = definitions
        self._bound = bound
        self._rows = StoredRows(index)

    def update(
        self,
        entity: str,
        where: Mapping[str, Any],
        changes: Mapping[str, Any] | None,
        tenant: object,
        connection: Connection | None,
        *,
        replaces: bool,
    ) -> int:
        """Change the records that match, a batch a transaction; how many that changed."""
        patch = checked_patch(changes)
        definition = self._definitions.of(entity, connection)
        tenants = tenants_named(definition, tenant)
        matching = self._matching(definition, where)
        changed, after = 0, ("", "")
        while True:
            batch = partial(self._update_batch, entity, tenants, matching, after, patch, connection, replaces=replaces)
            count, last, grown = self._index.retried(batch, connection)
            self._index.maintain_keywords(connection)
            if grown is not None:
                self.index(grown, connection)
            changed += count
            if last is None:
                return changed
            after = last

    def _update_batch(
        self,
        entity: str,
        tenants: Tenants,
        where: ColumnElement[bool],
        after: Key,
        patch: Mapping[str, Any],
        connection: Connection | None,
        *,
        replaces: bool,
    ) -> tuple[int, Key | None, Entity | None]:
        definition = self._definitions.of(entity, connection)
        with self._index.reading(connection, tenants or ()) as conn:
            found = self._rows.page(conn, definition, tenants, where, after, UPDATED_AT_ONCE)
        last = (found[-1].tenant, found[-1].id) if len(found) == UPDATED_AT_ONCE else None
        rows, grown = self.change(definition, found, patch, connection, replaces=replaces)
        return len(rows), last, grown

    def change(
        self,
        definition: Entity,
        records: Sequence[Record],
        patch: Mapping[str, Any],
        connection: Connection | None,
        *,
        replaces: bool,
    ) -> tuple[list[Row], Entity | None]:
        """Set the fields of `patch` in one transaction, and index the records whose content that changes; returns those
        that it changed, and the entity if all others are to be indexed by it, too. Raises InvalidRecord, and Outdated
        where others changed one meanwhile."""
        pairs = [
            (each, changed_row(definition, each.tenant, each.id, each.data, patch, replace_all=replaces))
            for each in records
        ]
        pairs = [(each, row) for each, row in pairs if (row.tenant, row.data) != (each.tenant, each.data)]
        if not pairs:
            return [], None
        before, rows = [each for each, _ in pairs], [row for _, row in pairs]
        if out := next((row for row in rows if self._bound not in (None, row.tenant)), None):
            raise InvalidRecord(f"{definition.name} {out.id!r:.80} would leave the tenant that this store is for")
        grown = self._definitions.grown(definition, [row.data for row in rows])
        entries = [record_entry(grown, row.id, row.data, row.tenant) for row in rows]
        refs = [tuple(Ref(each.entity, each.id, tenant) for tenant in (each.tenant, row.tenant)) for each, row in pairs]
        former = {new: old for old, new in refs if old != new}
        plan = self._index.plan(entries, connection=connection, former=former)
        tenants = tuple(sorted({*(each.tenant for each in before), *(row.tenant for row in rows)}))
        with self._index.transaction(connection, tenants) as conn:
            self._definitions.declare(conn, definition, grown)
            read = {Ref(each.entity, each.id, each.tenant): each.data for each in before}
            self._rows.check_unchanged(conn, read)
            self._index.check_current(plan, conn)
            self._rows.change(conn, before, rows)
            self._index.apply(plan, conn)
        return rows, searchable_since(definition, grown)

    def index(self, entity: Entity, connection: Connection | None) -> IndexReport:
        """Index the records of an entity that has got its first searchable field."""
        return self._index.part(Administering).reindex(entity, connection=connection)

    def delete(
        self,
        entity: str,
        ids: Iterable[str | int] | None,
        where: Mapping[str, Any] | None,
        tenant: object,
        connection: Connection | None,
    ) -> int:
        """Delete records of these ids, or those that match, in one transaction; how many there were."""
        if (ids is None) == (where is None):
            raise InvalidInput("name the records to delete by ids or by where=, and not by both; where={} is all")
        definition = self._definitions.of(entity, connection)
        tenants = tenants_named(definition, tenant)
        own = of_tenants(self._rows.table, definition, tenants)
        chosen = [self._matching(definition, where)] if ids is None else self._of_ids(ids)

        def attempt() -> int:
            with self._index.transaction(connection, tenants or ()) as conn:
                self._index.store.connections.acquire_write_lock(conn)
                deleted: list[Ref] = []
                for these in chosen:
                    deleted += self._deleted(conn, entity, [*own, these])
                self._index.delete(deleted, conn)
            return len(deleted)

        count = self._index.retried(attempt, connection)
        self._index.maintain_keywords(connection)
        return count

    def _deleted(self, connection: Connection, entity: str, these: Sequence[ColumnElement[bool]]) -> list[Ref]:
        table = self._rows.table
        gone = table.delete().where(*these).returning(table.c.id, table.c.tenant)
        return [Ref(entity, row.id, row.tenant) for row in connection.execute(gone)]

    def _of_ids(self, ids: Iterable[str | int]) -> list[ColumnElement[bool]]:
        wanted = sorted(set(checked_ids(ids)))
        return [self._rows.table.c.id.in_(part) for part in parts(wanted, IDS_A_STATEMENT)]

    def _matching(self, definition: Entity, where: Mapping[str, Any] | None) -> ColumnElement[bool]:
        return condition(self._index, where, fields_of(definition))


def checked_patch(changes: Any, id_: str | int | None = None) -> dict[str, Any]:
    """What an update sets. Raises InvalidRecord."""
    if not isinstance(changes, Mapping):
        raise InvalidRecord(f"changes are an object such as {{'status': 'open'}}, not {seen(changes)}")
    if "id" in changes and (id_ is None or check_id(changes["id"]) != check_id(id_)):
        named = "an id" if id_ is None else f"the id {str(id_)!r:.80}"
        raise InvalidRecord(f"an update cannot change {named}. Insert the record again and delete this one")
    return {name: value for name, value in changes.items() if name != "id"}
