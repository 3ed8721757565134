"""Types of reflected columns, and texts in the place of columns whose values have no plain Python type. Imports
nothing."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, Connection, Enum, Table, Text, cast, types
from sqlalchemy.dialects.postgresql import DOMAIN

PLAIN = (
    *(types.Integer, types.Numeric, types.String, types.Boolean, types.Uuid, types.JSON, types.LargeBinary),
    *(types.Date, types.DateTime, types.Time),
)


def adapt(connection: Connection, table: Table, keys: Collection[str]) -> dict[str, Any]:
    """Set the types of a reflected table's columns: of a domain the one that it is of. Returns the expressions that are
    read in the place of columns, not of `keys`, by their names."""
    expressions: dict[str, Any] = {}
    for column in table.columns:
        column.type = based(column.type)
        if column.name in keys or is_plain(column.type):
            continue
        is_list = isinstance(column.type, ARRAY)
        if not is_plain(getattr(column.type, "item_type", None)):
            expressions[column.key] = cast(column, ARRAY(Text) if is_list else Text)
    return expressions


def based(type_: Any) -> Any:
    while isinstance(type_, DOMAIN):
        type_ = type_.data_type
    if isinstance(type_, ARRAY):
        return ARRAY(based(type_.item_type), dimensions=type_.dimensions)
    return type_


def is_plain(type_: Any) -> bool:
    return isinstance(type_, PLAIN) and not isinstance(type_, Enum)
