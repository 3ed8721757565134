"""Describes tables and columns that are not in the database, with those of similar names. Imports `errors`
and `stores`."""

from collections.abc import Iterable
from difflib import get_close_matches

from sqlalchemy import Connection, inspect

from ...errors import InvalidInput, seen
from ...stores.names import PREFIX

NAMES_SHOWN = 30
"""Bounds the tables and columns that an error lists. Chosen, not measured."""


def no_table(connection: Connection, schema: str | None, name: str) -> InvalidInput:
    """The error for a table that is not there."""
    here = inspect(connection)
    schemas = here.get_schema_names()
    if schema and schema not in schemas:
        return InvalidInput(f"there is no schema {seen(schema)} in this database. {instead(schema, schemas)}")
    names = sorted({*here.get_table_names(schema), *here.get_view_names(schema)})
    names = [each for each in names if not each.startswith(PREFIX)]
    where = f"in the schema {seen(schema)}" if schema else "in this database"
    elsewhere = [] if schema else [each for each in schemas if here.has_table(name, each)]
    if elsewhere:
        return InvalidInput(f"there is no table {seen(name)} here, but one in the schema {elsewhere[0]}: schema=")
    return InvalidInput(f"there is no table {seen(name)} {where}. {instead(name, names)}")


def no_column(table: str, name: str, names: Iterable[str]) -> InvalidInput:
    """The error for a column that a table does not have."""
    return InvalidInput(f"{table} has no column {seen(name)}. {instead(name, list(names))}")


def instead(name: str, names: list[str]) -> str:
    """The names that there are; of many, those that are similar."""
    if len(names) <= NAMES_SHOWN:
        return f"It has: {', '.join(names) or 'none'}"
    lower = {each.lower(): each for each in names}
    near = [lower[each] for each in get_close_matches(name.lower(), lower, n=5)]
    return f"Similar: {', '.join(near)}" if near else f"It has: {', '.join(names[:NAMES_SHOWN])}, …"
