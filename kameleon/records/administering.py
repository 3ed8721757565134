"""Declares, alters, renames and drops entities, with their records and their index. Imports `values`, `errors`,
`boosts`, `content`, `stores`, `keywords` and `indexing`."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection, Table, delete, func, select, update

from ..boosts import Boosts
from ..content import SearchFields, check_entity
from ..errors import EntityExists, seen
from ..indexing import judgements, rules
from ..indexing.dropping import drop_entity
from ..indexing.index import Index
from ..indexing.writer import Progress
from ..stores.catalog import Entity
from ..values import IndexReport, Ref
from .definitions import check_no_table
from .entities import altered, boosted, declared_entity, difference, entity_named, record_entry
from .stored import StoredRows
from .values import AlterReport

REINDEXED_AT_ONCE = 1_000
"""Bounds the records of a transaction that indexes an entity again. Chosen, not measured."""


class Administering:
    """The entities of one database."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._catalog = index.catalog
        self._rows = StoredRows(index)

    def create(
        self,
        name: str,
        search: SearchFields,
        fields: Mapping[str, str],
        tenant_field: str | None,
        boosts: Boosts,
        filters: str,
        connection: Connection | None,
        *,
        exist_ok: bool,
    ) -> Entity:
        entity = boosted(declared_entity(name, search, fields, tenant_field, filters), boosts)

        def attempt(connection: Connection) -> Entity:
            if (stored := self._catalog.entities(connection).get(name)) is not None:
                if exist_ok and not (problem := difference(stored, entity)):
                    return stored
                raise EntityExists(exists(name, problem if exist_ok else ""))
            check_no_table(self._index, connection, name)
            self._catalog.write_entity(connection, entity, is_new=True)
            self._catalog.index_fields(connection)
            self._note_boosts(connection, entity)
            if entity.has_tenants:
                self._index.store.schema.add_tenanted(connection, [name])
            return entity

        return self._index.committed(attempt, connection=connection)

    def drop(self, name: str, connection: Connection | None) -> int:
        """Delete an entity with its records; how many there were."""

        def attempt(connection: Connection) -> int:
            self._note_boosts(connection, self._changed(connection, name))
            drop_entity(self._index, connection, name)
            count = connection.execute(delete(self._rows.table).where(self._rows.table.c.entity_name == name)).rowcount
            entities = self._index.tables.entities
            connection.execute(delete(entities).where(entities.c.name == name))
            self._catalog.index_fields(connection)
            return count

        made = self._index.committed(attempt, None, connection)
        self._index.forget()
        return made

    def rename(self, name: str, new_name: str, connection: Connection | None) -> Entity:
        """Rename an entity with its records, index and embeddings."""
        from ..keywords import renaming

        check_entity(new_name)

        def attempt(connection: Connection) -> Entity:
            entity = replace(self._changed(connection, name), name=new_name)
            check_no_table(self._index, connection, new_name)
            known = [*self._catalog.entities(connection), *self._index.store.contents.entities(connection)]
            if new_name in known:
                raise EntityExists(f"entity {seen(new_name)} exists already: {seen(name)} cannot have its name")
            tenants, tables = self._tenants(connection, name), self._index.tables.keywords
            renaming.rename(connection, self._index.store.postings, tables, tenants, name, new_name)
            self._index.store.schema.rename_entity(connection, name, new_name, self._catalog.with_tables(connection))
            for kept in (rules, judgements):
                kept.rename_entity(self._index, connection, name, new_name)
            for table in (self._rows.table, *self._beside):
                own = update(table).where(table.c.entity_name == name)
                connection.execute(own.values(entity_name=new_name))
            entities = self._index.tables.entities
            connection.execute(update(entities).where(entities.c.name == name).values(name=new_name))
            self._note_boosts(connection, entity)
            return entity

        made = self._index.committed(attempt, None, connection)
        self._index.forget()
        return made

    @property
    def _beside(self) -> tuple[Table, ...]:
        """The tables with an entity's name, but for those of its records and its index."""
        tables = self._index.tables
        return tables.tenanted, tables.queue, tables.dirty

    def _changed(self, connection: Connection, name: str) -> Entity:
        """The entity, which no other transaction reads before this one ends. Raises UnknownEntity."""
        self._index.store.schema.lock_entities(connection)
        return entity_named(self._catalog.entities(connection), name)

    def _note_boosts(self, connection: Connection, *entities: Entity) -> None:
        """Gives searches the boosts that are there from now on, where one of the entities has any."""
        if any(entity.boosts for entity in entities):
            self._index.curation.note_change(connection)

    def _tenants(self, connection: Connection, name: str) -> list[str]:
        table = self._rows.table.c
        of_entity = select(table.tenant).where(table.entity_name == name).distinct()
        return sorted(connection.scalars(of_entity))

    # altering

    def alter(
        self,
        name: str,
        search: SearchFields,
        unsearch: Iterable[str],
        fields: Mapping[str, str],
        batch_size: int,
        progress: Progress | None,
        boosts: Boosts | None,
        connection: Connection | None,
    ) -> AlterReport:
        """Change how fields are searched, and index again what that changes; boosts need no index."""

        def attempt(connection: Connection) -> Entity:
            before = self._changed(connection, name)
            entity = boosted(altered(before, search, unsearch, fields), boosts)
            if entity != before:
                self._catalog.write_entity(connection, entity, is_new=False)
                self._catalog.index_fields(connection)
            if entity.boosts != before.boosts:
                self._note_boosts(connection, before, entity)
            return entity

        entity = self._index.committed(attempt, connection=connection)
        if boosts is not None and not (search or unsearch or fields):
            return AlterReport(entity, IndexReport())
        return AlterReport(entity, self.reindex(entity, batch_size, progress, connection))

    def reindex(
        self,
        entity: Entity,
        batch_size: int = REINDEXED_AT_ONCE,
        progress: Progress | None = None,
        connection: Connection | None = None,
    ) -> IndexReport:
        """Index the records as the entity is now, a batch a transaction or all in the caller's. After an outage the
        rest is pending."""
        table = self._rows.table
        with self._index.reading(connection, None) as conn:
            tenants = self._tenants(conn, entity.name)
            of_entity = table.c.entity_name == entity.name
            total = conn.scalar(select(func.count()).select_from(table).where(of_entity)) or 0
        report, done = IndexReport(), 0
        for tenant in tenants:
            after: Ref | None = Ref(entity.name, "", tenant)
            while after is not None:
                attempt = partial(self._reindex_batch, entity, after, connection, is_deferred=bool(report.outage))
                batch, count, after = self._index.retried_with_less(attempt, batch_size, connection)
                report, done = report + batch, done + count
                self._index.maintain_keywords(connection)
                if progress:
                    progress(done, total)
        return report

    def _reindex_batch(
        self, entity: Entity, after: Ref, connection: Connection | None, limit: int, *, is_deferred: bool
    ) -> tuple[IndexReport, int, Ref | None]:
        """What was done of the next records, how many they are, and the last of them."""
        with self._index.reading(connection, (after.tenant,)) as conn:
            page = self._index.store.exports.records(conn, after, limit)
            own = [each for each in page if each.entry.ref.entity == entity.name]
            stored = [each for each in own if each.data is not None]
            entries = [record_entry(entity, s.entry.ref.id, s.data or {}, after.tenant) for s in stored]
        last = own[-1].entry.ref if len(own) == limit else None
        if not entries:
            return IndexReport(), len(own), last
        plan = self._index.plan(entries, connection=connection, is_altered=True, is_deferred=is_deferred)
        if not plan.changed and not plan.to_embed:
            return IndexReport(unchanged=len(entries)), len(own), last
        with self._index.transaction(connection, (after.tenant,)) as conn:
            self._rows.check_unchanged(conn, {each.entry.ref: each.data or {} for each in stored})
            self._index.check_current(plan, conn)
            return self._index.apply(plan, conn), len(own), last


def exists(name: str, difference: str) -> str:
    """Why an entity cannot be declared, with the next step."""
    shown = shlex.quote(name)
    if not difference:
        return f"entity {seen(name)} exists already. See it: `kameleon entity describe {shown}`"
    return (
        f"entity {seen(name)} exists and is another: {difference}. Declare it as it is, or change it: alter_entity, "
        f"`kameleon entity update {shown}`"
    )
