"""Tables of the database that no mapped class describes, as entities: `search.tables`. Imports `content`, `errors`,
`indexing`, `orm` and `values`."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from .content import SearchFields, field_options
from .errors import InvalidInput, UnknownEntity, seen
from .indexing.index import Index
from .indexing.writer import Progress
from .orm.callers import sessions_of
from .orm.reflection.declared import TableEntities
from .orm.reflection.definition import TableDefinition
from .values import IndexReport


class ExistingTables:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._entities = index.part(TableEntities)

    def define(
        self,
        table: str,
        text: SearchFields,
        *,
        schema: str | None = None,
        key: Sequence[str] = (),
        where: str | None = None,
        tenant: str | None = None,
        name: str | None = None,
    ) -> type:
        """Keep the definition of a table, put triggers on it, and return its entity, the same one each time. `sync`
        indexes the rows. Raises InvalidInput for what cannot be searched, and for another definition of that name."""
        fields = field_options(text)
        definition = TableDefinition(name or table, table, schema, fields, tuple(key), where, tenant)
        with self._index.transaction() as connection:
            return self._define(connection, definition)

    def get(self, name: str) -> type:
        """The entity of a table. Raises UnknownEntity."""
        with self._index.reading() as connection:
            found = self._entities.declare(connection)
        if name not in found:
            raise UnknownEntity(f"no table was added as {seen(name)}. Added: {', '.join(found) or 'none'}")
        return found[name]

    def list(self) -> list[TableDefinition]:
        """The definitions, by name."""
        with self._index.reading() as connection:
            return list(self._entities.read(connection).values())

    def refresh(self, name: str, *, batch_size: int = 1000, progress: Progress | None = None) -> IndexReport:
        """Index all rows of a table as they are now, and remove the records whose rows are gone; what is as it was is
        not written."""
        from .orm.redefined import Redefined

        self.get(name)
        classes = self._index.part(Redefined)
        mapped = classes.named(name)
        return classes.index(mapped, batch_size, progress) + classes.remove_gone(mapped, batch_size)

    def remove(self, name: str) -> None:
        """Drop the triggers, the definition, and what the index has of the table, which is left as it is."""
        cls = self.get(name)
        sessions_of(self._index).tracking.untrack(cls)
        self._index.committed(partial(self._entities.delete, entity=name))
        with self._index.reading() as connection:
            self._entities.declare(connection)

    def _define(self, connection: Connection, definition: TableDefinition) -> type:
        found = self._entities.read(connection).get(definition.entity)
        if found is not None and found != definition:
            raise InvalidInput(f"{definition.entity} is defined otherwise. Remove it first: `kameleon table remove`")
        if found is None:
            self._entities.write(connection, definition)
        cls = self._entities.declare(connection)[definition.entity]
        self._set_triggers(connection, cls)
        return cls

    def _set_triggers(self, connection: Connection, cls: type) -> None:
        """Those of a table; a view has none."""
        sessions = sessions_of(self._index)
        mapped = sessions.mappings.searchable(cls)
        if sessions.tracking.may_track(connection, mapped):
            sessions.tracking.set(connection, mapped)
