"""Makes a mapped class of a table in the database, which then is searched as declared classes are. Imports `errors`."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import Boolean, Connection, MetaData, Table, and_, literal_column, type_coerce
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.orm import column_property, foreign, registry, relationship, remote

from ...errors import InvalidInput
from ..declaration import ATTRIBUTE, Declaration
from .definition import TableDefinition
from .joins import Link, Links

CONDITION = "kameleon_condition"
"""The attribute that has whether a row meets the condition of its definition."""


def make_class(connection: Connection, definition: TableDefinition) -> type:
    """Reflects the table, and those that paths lead to. Raises InvalidInput for one that is not there, or cannot be
    searched as defined."""
    return Making(connection, definition).make()


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
        table = self._reflected(definition.schema, definition.table)
        cls = self._map_searched(table)
        paths = [name for name in definition.text if name not in table.c and "." in name]
        for path in paths:
            setattr(cls, path, property(Values(self._relate(cls, path))))
        missing = [name for name in (*definition.key, *definition.text) if name not in table.c and name not in paths]
        if missing:
            raise InvalidInput(f"{definition.table} has no column {missing[0]!r}. It has: {', '.join(table.c.keys())}")
        self._registry.configure()
        depends_on = tuple(dict.fromkeys(path.rpartition(".")[0] for path in paths))
        when = attrgetter(CONDITION) if definition.where else None
        declaration = Declaration(definition.text, None, when, depends_on, definition.entity, definition.tenant)
        setattr(cls, ATTRIBUTE, declaration)
        return cls

    def _map_searched(self, table: Table) -> type:
        definition = self._definition
        names = list(definition.key) or [column.name for column in table.primary_key.columns]
        if not names:
            raise InvalidInput(f"{definition.table} has no primary key. Name the columns that are a record's id: key=")
        properties: dict[str, Any] = {}
        if definition.where:
            condition = type_coerce(literal_column(f"({definition.where})"), Boolean)
            properties[CONDITION] = column_property(condition)
        return self._map(definition.entity, table, [table.c[name] for name in names], properties)

    def _relate(self, cls: Any, path: str) -> Sequence[str]:
        """Add the relationships of a path whose last part is a column. Returns its parts."""
        *names, column = path.split(".")
        for name in names:
            if name not in cls.__mapper__.relationships:
                self._add_relationship(cls, name)
            cls = cls.__mapper__.relationships[name].entity.class_
        if column not in (own := cls.__table__.c):
            raise InvalidInput(f"{cls.__table__.name} has no column {column!r}. It has: {', '.join(own.keys())}")
        return (*names, column)

    def _add_relationship(self, cls: Any, name: str) -> None:
        table = cls.__table__
        link = self._links.follow(table.schema, table.name, table.c.keys(), name)
        target: Any = self._class_of(link)
        other = target.__table__
        order = [] if not link.is_reverse else list(target.__mapper__.primary_key)
        condition = and_(*equalities(link, table, other))
        cls.__mapper__.add_property(
            name,
            relationship(target, primaryjoin=condition, uselist=link.is_reverse, order_by=order, viewonly=True),
        )

    def _class_of(self, link: Link) -> type:
        found = self._classes.get((link.schema, link.table))
        if found is None:
            table = self._reflected(link.schema, link.table)
            found = self._map(link.table, table, list(table.primary_key.columns) or list(table.c), {})
        return found

    def _map(self, name: str, table: Table, key: Sequence[Any], properties: dict[str, Any]) -> type:
        cls: Any = type(name, (), {"__module__": "kameleon.tables"})
        self._registry.map_imperatively(cls, table, properties=properties, primary_key=key)
        cls.__table__ = table
        self._classes[table.schema, table.name] = cls
        return cls  # type: ignore[no-any-return]

    def _reflected(self, schema: str | None, name: str) -> Table:
        try:
            return Table(name, MetaData(), schema=schema, autoload_with=self._connection, resolve_fks=False)
        except NoSuchTableError as error:
            raise InvalidInput(f"there is no table {name} in this database") from error


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
