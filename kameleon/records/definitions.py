"""Reads which entities there are, and writes what records add to them. Imports `errors`, `content`, `stores` and
`indexing`."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from ..content import check_entity, check_tenant
from ..errors import InvalidInput, Outdated, UnknownEntity, seen
from ..indexing.index import Index
from ..stores.catalog import Entity
from .entities import divided, entity_named, infer_entity, with_fields


class Definitions:
    def __init__(self, index: Index, *, may_create: bool) -> None:
        self._index = index
        self._catalog = index.catalog
        self._may_create = may_create

    def all(self, connection: Connection | None = None) -> dict[str, Entity]:
        with self._index.reading(connection) as conn:
            return self._catalog.entities(conn)

    def of(self, name: str, connection: Connection | None = None) -> Entity:
        """Raises UnknownEntity, and InvalidInput for a table."""
        return entity_named(self._without_table(name, connection), name)

    def _without_table(self, name: object, connection: Connection | None) -> dict[str, Entity]:
        """The entities. Raises InvalidInput where the name is that of a table."""
        with self._index.reading(connection) as conn:
            entities = self._catalog.entities(conn)
            if name not in entities:
                check_no_table(self._index, conn, name)
        return entities

    def with_records(
        self,
        name: str,
        records: Sequence[Mapping[str, Any]],
        *,
        create: bool,
        tenant: object,
        tenant_field: str | None,
        connection: Connection | None,
    ) -> tuple[Entity | None, Entity]:
        """The entity as it is, None where it is missing, and as an insert of these records leaves it. Raises
        UnknownEntity, and InvalidInput for a table."""
        divides = "" if tenant_field is None and check_tenant(tenant) else tenant_field
        entities = self._without_table(name, connection)
        plain = [record for record in records if isinstance(record, Mapping)]
        if name in entities:
            return entities[name], self.grown(divided(entities[name], divides), plain)
        if not create or not self._may_create:
            raise UnknownEntity(
                f"unknown entity {seen(name)}. Known: {', '.join(entities) or 'none'}. "
                f"Make it: `kameleon entity create {shlex.quote(name)} --search FIELD`"
            )
        return None, infer_entity(check_entity(name), plain, divides)

    def grown(self, entity: Entity, records: Sequence[Mapping[str, Any]]) -> Entity:
        """The entity with the fields that its records add; a store of one tenant adds none that other tenants see."""
        return with_fields(entity, records) if self._may_create or not entity.has_tenants else entity

    def declare(self, connection: Connection, before: Entity | None, after: Entity) -> bool:
        """Write what is new about an entity; True if all of it is. Raises Outdated where it is not as it was read."""
        _check_same(self._catalog.entities(connection).get(after.name), before, after.name)
        if before is None:
            self._catalog.write_entity(connection, after, is_new=True)
        elif before != after:
            _check_same(self._catalog.locked_entity(connection, after.name), before, after.name)
            self._catalog.write_entity(connection, after, is_new=False)
        return before is None


def _check_same(stored: Entity | None, before: Entity | None, name: str) -> None:
    if stored != before:
        raise Outdated(f"the entity {name} kept being changed by others. Try again")


def check_no_table(index: Index, connection: Connection, name: object) -> None:
    """Raises InvalidInput for the name of a table entity."""
    table = index.tables.existing_tables
    rows = connection.execute(select(table.c.entity_name, table.c.definition))
    definition = next((row.definition for row in rows if row.entity_name == name), None)
    if definition is not None:
        where = ".".join(filter(None, (definition["schema"], definition["table"])))
        raise InvalidInput(
            f"{seen(name)} is the table {where}, whose rows are read and written with SQL: SELECT * FROM {where}. "
            f"`kameleon search --entity {shlex.quote(str(name))}` finds them"
        )
