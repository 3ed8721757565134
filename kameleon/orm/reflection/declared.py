"""The classes that were made of tables, of one index: read from `kdb_table`, made where they are new or changed.
Imports `forking` and `indexing`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from threading import RLock

from sqlalchemy import Connection, select

from ...forking import per_process
from ...indexing.index import Index
from ..callers import sessions_of
from .definition import TableDefinition, definition_of
from .making import make_class


class TableEntities:
    """Threads share it."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._table = index.tables.existing_tables
        self._known: dict[str, tuple[TableDefinition, type]] = {}

    @per_process
    def _lock(self) -> RLock:
        return RLock()

    def read(self, connection: Connection) -> dict[str, TableDefinition]:
        """The definitions by entity, as the transaction has them."""
        rows = connection.execute(select(self._table.c.entity_name, self._table.c.definition))
        return {name: definition_of(name, document) for name, document in sorted(map(tuple, rows))}

    def write(self, connection: Connection, definition: TableDefinition) -> None:
        moment, table = datetime.now(UTC), self._table
        connection.execute(table.delete().where(table.c.entity_name == definition.entity))
        row = {"definition": definition.as_document(), "created_at": moment, "updated_at": moment}
        connection.execute(table.insert(), {"entity_name": definition.entity, **row})

    def delete(self, connection: Connection, entity: str) -> None:
        connection.execute(self._table.delete().where(self._table.c.entity_name == entity))

    def declare(self, connection: Connection) -> Mapping[str, type]:
        """The classes by entity, made of the definitions that the transaction has."""
        mappings = sessions_of(self._index).mappings
        with self._lock:
            definitions = self.read(connection)
            for entity in self._known.keys() - definitions.keys():
                mappings.discard(entity)
                del self._known[entity]
            for entity, definition in definitions.items():
                if entity not in self._known or self._known[entity][0] != definition:
                    cls = make_class(connection, definition)
                    self._known[entity] = definition, cls
                    mappings.add(entity, cls)
            return {entity: cls for entity, (_, cls) in self._known.items()}
