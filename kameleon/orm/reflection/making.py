"""Makes a mapped class of a table in the database, which then is searched as declared classes are. Imports `errors`."""

from operator import attrgetter
from typing import Any

from sqlalchemy import Boolean, Connection, MetaData, Table, literal_column, type_coerce
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.orm import column_property, registry

from ...errors import InvalidInput
from ..declaration import ATTRIBUTE, Declaration
from .definition import TableDefinition

CONDITION = "kameleon_condition"
"""The attribute that has whether a row meets the condition of its definition."""


def make_class(connection: Connection, definition: TableDefinition) -> type:
    """Reflects the table. Raises InvalidInput for one that is not there, or cannot be searched as defined."""
    table = reflected(connection, definition)
    cls = type(definition.entity, (), {"__module__": "kameleon.tables"})
    names = list(definition.key) or [column.name for column in table.primary_key.columns]
    if not names:
        raise InvalidInput(f"{definition.table} has no primary key. Name the columns that are a record's id: key=")
    missing = [name for name in (*definition.key, *definition.text) if name not in table.c]
    if missing:
        raise InvalidInput(f"{definition.table} has no column {missing[0]!r}. It has: {', '.join(table.c.keys())}")
    properties: dict[str, Any] = {}
    if definition.where:
        condition = type_coerce(literal_column(f"({definition.where})"), Boolean)
        properties[CONDITION] = column_property(condition)
    registry().map_imperatively(cls, table, properties=properties, primary_key=[table.c[name] for name in names])
    when = attrgetter(CONDITION) if definition.where else None
    declaration = Declaration(definition.text, None, when, (), definition.entity, definition.tenant)
    setattr(cls, ATTRIBUTE, declaration)
    return cls


def reflected(connection: Connection, definition: TableDefinition) -> Table:
    try:
        return Table(
            definition.table, MetaData(), schema=definition.schema, autoload_with=connection, resolve_fks=False
        )
    except NoSuchTableError as error:
        raise InvalidInput(f"there is no table {definition.table} in this database") from error
