"""The classes that were made of tables, of one index: read from `kdb_table`, made where they are new or changed.
Imports `errors`, `forking` and `indexing`."""

import shlex
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from threading import RLock

from sqlalchemy import Connection, select

from ...errors import InvalidInput
from ...forking import per_process
from ...indexing.index import Index
from ..callers import sessions_of
from .definition import TableDefinition, definition_of
from .making import make_class


class TableEntities:
    """`problems` are why no class can be made of a table any more, by entity. Threads share it."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._table = index.tables.existing_tables
        self._known: dict[str, tuple[TableDefinition, type]] = {}
        self.problems: dict[str, str] = {}
        self._names: Collection[str] = ()
        self._times: Mapping[str, datetime] = {}

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

    def current(self, times: Mapping[str, datetime], connection: Connection | None) -> Mapping[str, type]:
        """The classes by entity, read again where the definitions are of other times than before; a declared class in
        place of one that was made."""
        if times != self._times or times.keys() != set(self._names):
            with self._index.preserving(connection) as conn:
                self.declare(conn)
            self._times = times
        mappings = sessions_of(self._index).mappings
        found = {entity: mappings.named(entity) for entity in self._known}
        return {entity: mapped.owner.class_ for entity, mapped in found.items() if mapped is not None}

    def declare(self, connection: Connection, *, again: bool = False) -> Mapping[str, type]:
        """The classes by entity, made of the definitions that the transaction has; those whose tables were changed are
        among `problems`. `again` finds these among the classes that are made already."""
        with self._lock:
            definitions = self.read(connection)
            self._names = tuple(definitions)
            for entity in (self._known.keys() | self.problems.keys()) - definitions.keys():
                self._forget(entity, "")
            for entity, definition in definitions.items():
                is_known = entity in self._known and self._known[entity][0] == definition
                if again or not is_known:
                    self._declare(connection, definition, is_known=is_known)
            return {entity: cls for entity, (_, cls) in self._known.items()}

    def _declare(self, connection: Connection, definition: TableDefinition, *, is_known: bool) -> None:
        entity = definition.entity
        try:
            cls = make_class(connection, definition)
        except InvalidInput as error:
            self._forget(
                entity,
                f"the table of {entity} is not as it was added: {error}. Add it as it is now: `kameleon table add …"
                f" --replace`, or `kameleon table remove {shlex.quote(entity)}`",
            )
            return
        if not is_known:
            self._forget(entity, "")
            self._known[entity] = definition, cls
            sessions_of(self._index).mappings.add(entity, cls)

    def _forget(self, entity: str, problem: str) -> None:
        if self._known.pop(entity, None):
            sessions_of(self._index).mappings.discard(entity)
        if problem or self.problems.pop(entity, ""):
            self._index.services.notices.report(f"table {entity}", problem)
        if problem:
            self.problems[entity] = problem
