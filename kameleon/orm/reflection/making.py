"""Makes a mapped class of a table in the database, which then is searched as declared classes are. Imports `content`
and `errors`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, and_
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import foreign, load_only, registry, relationship, remote, selectinload

from ...content import check_entity
from ...errors import InvalidInput
from ..declaration import ATTRIBUTE, Declaration, OfTable
from ..mapping import Mapped
from .definition import TableDefinition
from .joins import Link, Links
from .tables import attributes, check_columns, check_key, check_where, condition, key_of, reflected


def make_class(connection: Connection, definition: TableDefinition) -> type:
    """Reflects the table, and those that paths lead to. Raises InvalidInput for one that is not there, or cannot be
    searched as defined."""
    return mapped_of(connection, definition).mapper.class_


def mapped_of(connection: Connection, definition: TableDefinition) -> Mapped:
    """The mapping of the class that `make_class` makes. No index has it yet."""
    check_entity(definition.entity)
    cls: Any = Making(connection, definition).make()
    return Mapped(cls.__mapper__, cls.__mapper__, getattr(cls, ATTRIBUTE), connection.dialect)


def checked(connection: Connection, definition: TableDefinition) -> Mapped:
    """The mapping as `mapped_of` returns it. Raises InvalidInput also where rows have no id of their own, and for a
    condition that is none."""
    mapped = mapped_of(connection, definition)
    table: Any = mapped.mapper.local_table
    if definition.where:
        check_where(connection, table, definition.where)
    check_key(connection, table, list(mapped.mapper.primary_key))
    return mapped


@dataclass(slots=True)
class Reading:
    """Which columns of a class's rows are read for a content, and of which related ones."""

    columns: dict[str, None] = field(default_factory=dict)
    related: dict[str, "Reading"] = field(default_factory=dict)

    def options(self, cls: Any) -> Iterator[Any]:
        """What has SQLAlchemy load these alone: a column that nothing is made of may hold what Python cannot read."""
        links = [cls.__mapper__.relationships[name] for name in self.related]
        local = [cls.__mapper__.get_property_by_column(column).key for link in links for column in link.local_columns]
        names = dict.fromkeys([*self.columns, *local])
        yield load_only(*(getattr(cls, name) for name in names or [cls.__mapper__.primary_key[0].key]))
        for link in links:
            inner = self.related[link.key].options(link.entity.class_)
            yield selectinload(getattr(cls, link.key)).options(*inner)


class Making:
    """The class of one definition, and those of the tables that its paths lead to."""

    def __init__(self, connection: Connection, definition: TableDefinition) -> None:
        self._connection = connection
        self._definition = definition
        self._links = Links(connection)
        self._registry = registry()
        self._classes: dict[tuple[str | None, str], type] = {}

    def make(self) -> type:
        definition = self._definition
        table = reflected(self._connection, definition.schema, definition.table)
        key = key_of(table, definition.key)
        cls: Any = self._map(definition.entity, table, key)
        own = [name for name in definition.text if name in table.c or "." not in name]
        read = [*own, *filter(None, [definition.tenant])]
        check_columns(table, read)
        reading = Reading(dict.fromkeys(read))
        paths = [name for name in definition.text if name not in own]
        for path in paths:
            setattr(cls, path, property(Values(self._relate(cls, path, reading))))
        self._configure()
        of_table = OfTable(
            tuple(reading.options(cls)),
            tuple(column.is_not(None) for column in key if column.nullable),
            condition(definition.where) if definition.where else None,
        )
        depends_on = tuple(dict.fromkeys(path.rpartition(".")[0] for path in paths))
        declaration = Declaration(
            definition.text,
            depends_on=depends_on,
            name=definition.entity,
            tenant=definition.tenant,
            of_table=of_table,
        )
        setattr(cls, ATTRIBUTE, declaration)
        return cls  # type: ignore[no-any-return]

    def _configure(self) -> None:
        """Raises InvalidInput at once, where the mappers of other classes would fail with these."""
        try:
            self._registry.configure()
        except (ArgumentError, InvalidRequestError) as error:
            self._registry.dispose()
            raise InvalidInput(f"{self._definition.table} cannot be searched so: {error}") from error

    def _relate(self, cls: Any, path: str, reading: Reading) -> Sequence[str]:
        """Add the relationships of a path whose last part is a column, and what is read of it. Returns its parts."""
        *names, column = path.split(".")
        for name in names:
            if name not in cls.__mapper__.relationships:
                self._add_relationship(cls, name)
            cls = cls.__mapper__.relationships[name].argument
            reading = reading.related.setdefault(name, Reading())
        check_columns(cls.__table__, [column])
        reading.columns[column] = None
        return (*names, column)

    def _add_relationship(self, cls: Any, name: str) -> None:
        table = cls.__table__
        link = self._links.follow(table.schema, table.name, table.c.keys(), name)
        target: Any = self._class_of(link)
        order = [] if not link.is_reverse else list(target.__mapper__.primary_key)
        condition = and_(*equalities(link, table, target.__table__))
        cls.__mapper__.add_property(
            name, relationship(target, primaryjoin=condition, uselist=link.is_reverse, order_by=order, viewonly=True)
        )

    def _class_of(self, link: Link) -> type:
        found = self._classes.get((link.schema, link.table))
        if found is None:
            table = reflected(self._connection, link.schema, link.table)
            found = self._map(link.table, table, list(table.primary_key.columns) or list(table.c))
        return found

    def _map(self, name: str, table: Table, key: Sequence[Any]) -> type:
        cls: Any = type(name, (), {"__module__": "kameleon.tables"})
        properties, replaced = attributes(self._connection, table, [column.name for column in key])
        self._registry.map_imperatively(cls, table, properties=properties, primary_key=key, exclude_properties=replaced)
        cls.__table__ = table
        self._classes[table.schema, table.name] = cls
        return cls  # type: ignore[no-any-return]


def equalities(link: Link, table: Table, other: Table) -> Iterator[Any]:
    """Of the columns of a foreign key, as SQLAlchemy takes it for a relationship from the first table."""
    for column, referred in zip(link.columns, link.referred, strict=True):
        if link.is_reverse:
            yield remote(foreign(other.c[column])) == table.c[referred]
        else:
            yield foreign(table.c[column]) == remote(other.c[referred])


class Values:
    """Returns the value at the end of a path over relationships, a list where one of them leads to several rows."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts

    def __call__(self, obj: Any) -> Any:
        values, is_several = [obj], False
        for name in self._parts:
            found = [getattr(one, name) for one in values if one is not None]
            is_several = is_several or any(isinstance(one, list) for one in found)
            values = [item for one in found for item in (one if isinstance(one, list) else [one])]
        return values if is_several else next(iter(values), None)
