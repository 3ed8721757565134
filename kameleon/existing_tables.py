"""Tables of the database that no mapped class describes, as entities: `search.tables`. Imports `content`, `errors`,
`indexing`, `orm`, `stores`, `table_plans` and `values`."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypedDict, Unpack

from sqlalchemy import Connection, distinct, func, select

from .content import SearchFields, check_entity, field_options
from .errors import EntityExists, InvalidInput, SchemaMissing, UnknownEntity, seen
from .indexing.dropping import drop_entity
from .indexing.index import Index
from .indexing.writer import Progress
from .orm import syncing
from .orm.callers import sessions_of
from .orm.redefined import Redefined
from .orm.reflection.declared import TableEntities
from .orm.reflection.definition import TableDefinition
from .orm.reflection.making import checked
from .stores.names import PREFIX
from .table_plans import TablePlan, count_rows, plan_table
from .values import IndexReport, IndexStatus


class TableOptions(TypedDict, total=False):
    """Options of `define`: `key` are the columns that make a record's id, those of the primary key by default; `where`
    is SQL on the table's columns that a record meets; `tenant` the column that is its tenant; `name` the entity's, the
    table's own by default."""

    schema: str | None
    key: Sequence[str]
    where: str | None
    tenant: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class TableStatus:
    """`rows` meet the condition, of `rows_in_table`; `marked` rows changed since they were indexed, and wait for `sync`
    or a worker. `has_triggers` is False of a view, whose rows `refresh` alone indexes again. `problem` explains why the
    table is to be indexed again, else it is empty."""

    definition: TableDefinition
    rows: int
    rows_in_table: int
    index: IndexStatus
    marked: int
    has_triggers: bool
    problem: str


class ExistingTables:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._entities = index.part(TableEntities)

    def define(
        self,
        table: str,
        text: SearchFields,
        *,
        replace: bool = False,
        **options: Unpack[TableOptions],
    ) -> type:
        """Keep the definition of a table, put triggers on it, and return its entity, the same one each time. `add` and
        `sync` index the rows. Another definition of that name is kept instead with `replace`, else it raises
        InvalidInput, as for what cannot be searched."""
        definition = defined(table, text, **options)
        if replace and self._has_other_records(definition):
            with self._index.reading() as connection:
                checked(connection, definition)
            self.remove(definition.entity)
        return self._index.committed(lambda connection: self._define(connection, definition, replace=replace))

    def plan(
        self,
        table: str,
        text: SearchFields,
        *,
        rate: float | None = None,
        price_per_million: float | None = None,
        replace: bool = False,
        **options: Unpack[TableOptions],
    ) -> TablePlan:
        """What `add` would do and cost, and some records as they will be. Writes nothing: the engine may be one with
        `create_tables=False`. `rate` is in records a second, the price is that of a million tokens. Raises InvalidInput
        as `define`."""
        definition, found = defined(table, text, **options), None
        with suppress(SchemaMissing), self._index.reading() as connection:
            found = self._check_same(connection, definition, replace=replace)
        is_embedded_again = found is not None and embedded_texts(found) != embedded_texts(definition)
        return plan_table(
            self._index,
            definition,
            rate=rate,
            price_per_million=price_per_million,
            is_embedded_again=is_embedded_again,
        )

    def add(
        self,
        table: str,
        text: SearchFields,
        *,
        batch_size: int = 1000,
        progress: Progress | None = None,
        replace: bool = False,
        **options: Unpack[TableOptions],
    ) -> IndexReport:
        """`define` a table, and index all of its rows, `batch_size` a transaction. One that was interrupted is
        completed by another: what is in the index is neither embedded nor written again. `progress(done, total)` counts
        rows."""
        cls = self.define(table, text, replace=replace, **options)
        classes = self._index.part(Redefined)
        return classes.index(classes.named(cls), batch_size, progress)

    def status(self, name: str) -> TableStatus:
        """How much of a table is indexed. Raises UnknownEntity."""
        cls, sessions = self.get(name), sessions_of(self._index)
        mapped = sessions.mappings.searchable(cls)
        found = syncing.status(self._index, name, logs=False)
        with self._index.reading() as connection:
            total, rows = count_rows(connection, mapped)
            dirty = self._index.tables.dirty
            marks = select(func.count(distinct(dirty.c.record_id))).where(dirty.c.entity_name == name)
            return TableStatus(
                self._entities.read(connection)[name],
                rows=rows,
                rows_in_table=total,
                index=found[0] if found else IndexStatus(name, 0, 0, None),
                marked=connection.scalar(marks) or 0,
                has_triggers=sessions.tracking.may_track(connection, cls),
                problem=self._index.part(Redefined).problems(connection).get(name, ""),
            )

    def get(self, name: str) -> type:
        """The entity of a table. Raises UnknownEntity."""
        with self._index.reading() as connection:
            return self._made(connection, name)

    def list(self) -> list[TableDefinition]:
        """The definitions, by name."""
        with self._index.reading() as connection:
            return list(self._entities.read(connection).values())

    def refresh(self, name: str, *, batch_size: int = 1000, progress: Progress | None = None) -> IndexReport:
        """Index all rows of a table as they are now, and remove the records whose rows are gone; what is as it was is
        not written."""
        self.get(name)
        classes = self._index.part(Redefined)
        mapped = classes.named(name)
        return classes.index(mapped, batch_size, progress) + classes.remove_gone(mapped, batch_size)

    def remove(self, name: str) -> None:
        """Drop the triggers, the definition, and what the index has of the table, which is left as it is."""
        with self._index.reading() as connection:
            self._entities.declare(connection)
        if name not in self._entities.problems:
            self.get(name)

        def attempt(connection: Connection) -> None:
            self._entities.delete(connection, name)
            sessions_of(self._index).tracking.drop(connection, name)
            drop_entity(self._index, connection, name)

        self._index.committed(attempt, None)
        self._index.forget()
        with self._index.reading() as connection:
            self._entities.declare(connection)

    def _define(self, connection: Connection, definition: TableDefinition, *, replace: bool) -> type:
        found = self._check_same(connection, definition, replace=replace)
        if found != definition:
            checked(connection, definition)
            self._entities.write(connection, definition)
        cls = self._made(connection, definition.entity)
        tracking = sessions_of(self._index).tracking
        if tracking.may_track(connection, cls):
            tracking.track(cls, connection)
        return cls

    def _made(self, connection: Connection, name: str) -> type:
        """Raises InvalidInput for a table that was changed since, UnknownEntity."""
        found = self._entities.declare(connection)
        if problem := self._entities.problems.get(name):
            raise InvalidInput(problem)
        if name not in found:
            added = ", ".join(found) or "none. `kameleon table add TABLE --text COLUMN` adds one"
            raise UnknownEntity(f"no table was added as {seen(name)}. Added: {added}")
        declared = sessions_of(self._index).mappings.named(name)
        return found[name] if declared is None else declared.owner.class_

    def _check_same(
        self, connection: Connection, definition: TableDefinition, *, replace: bool
    ) -> TableDefinition | None:
        """The definition of that name so far. Raises InvalidInput where it is another."""
        found = self._entities.read(connection).get(definition.entity)
        if found is None and definition.entity in self._index.catalog.entities(connection):
            raise EntityExists(
                f"entity {seen(definition.entity)} has stored records: give the table another name with --name (name=)"
            )
        if found is None or found == definition or replace:
            return found
        raise InvalidInput(
            f"{seen(definition.entity)} is defined otherwise ({', '.join(differences(found, definition))}). Change it "
            f"with --replace (replace=True), or give this one another name with --name (name=)"
        )

    def _has_other_records(self, definition: TableDefinition) -> bool:
        """Whether the entity has records of another table, or with other ids or tenants."""
        with self._index.reading() as connection:
            found = self._entities.read(connection).get(definition.entity)
        return found is not None and not OF_RECORDS.isdisjoint(differences(found, definition))


OF_RECORDS = frozenset({"table", "schema", "key", "tenant"})


def defined(
    table: str,
    text: SearchFields,
    *,
    schema: str | None = None,
    key: Sequence[str] = (),
    where: str | None = None,
    tenant: str | None = None,
    name: str | None = None,
) -> TableDefinition:
    """Raises InvalidInput."""
    fields = field_options(text)
    if not fields:
        raise InvalidInput(f"name the columns of {seen(table)} to search: text={{'title': 2, 'body': 1}}")
    if table.startswith(PREFIX):
        raise InvalidInput(f"{seen(table)} is a table of kameleon's own: name one of the application's")
    return TableDefinition(check_entity(name or table), table, schema, fields, tuple(key), where or None, tenant)


def differences(one: TableDefinition, other: TableDefinition) -> list[str]:
    """The options that two definitions give differently."""
    first, second = one.as_document(), other.as_document()
    return [name for name in first if first[name] != second[name]]


def embedded_texts(definition: TableDefinition) -> list[tuple[str, bool]]:
    """The texts that embeddings are made of, in order, and whether they are HTML."""
    return [(name, field.html) for name, field in definition.text.items() if field.index != "keyword"]
