"""Reads a table, or a view, from the database: its columns, and what of it may be a record's id. Imports `errors`."""

import warnings
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, MetaData, Table, func, inspect, literal_column, null, select
from sqlalchemy.exc import DBAPIError, NoSuchTableError, SAWarning
from sqlalchemy.orm import column_property

from ...errors import InvalidInput, seen
from .missing import no_column, no_table

RESERVED = ("__", "_sa_")
"""How the names begin of attributes that are Python's or SQLAlchemy's own."""
EXAMPLES = 5
"""Bounds the rows that a refusal names. Chosen, not measured."""


def reflected(connection: Connection, schema: str | None, name: str) -> Table:
    """The table. Raises InvalidInput for one that is not there."""
    if schema and schema not in inspect(connection).get_schema_names():
        raise no_table(connection, schema, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # types that SQLAlchemy has no name for are read as texts
            return Table(name, MetaData(), schema=schema, autoload_with=connection, resolve_fks=False)
    except NoSuchTableError as error:
        raise no_table(connection, schema, name) from error


def attributes(connection: Connection, table: Table, keys: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Set the types of a table's columns. Returns the attributes of a mapper that are not the column of their name, and
    the names of these columns: expressions are in the place of some that are no `keys`, and other names for those that
    a class cannot have."""
    own = {column.name for column in table.c if column.primary_key or column.foreign_keys}
    adapt = import_module(f"kameleon.stores.{connection.dialect.name}.column_types").adapt
    expressions: dict[str, Any] = adapt(connection, table, {*keys, *own})
    found: dict[str, Any] = {name: column_property(expression) for name, expression in expressions.items()}
    for column in table.c:
        if column.key.startswith(RESERVED):
            found[f"column{column.key}"] = found.pop(column.key, column)
    return found, list(expressions)


def key_of(table: Table, given: Sequence[str]) -> list[Any]:
    """The columns that make a record's id. Raises InvalidInput."""
    if not given:
        if keys := list(table.primary_key.columns):
            return keys
        columns = ", ".join(table.c.keys())
        raise InvalidInput(
            f"{table.name} has no primary key. Name the columns whose values no two rows share: key=[…], --id. It has: "
            f"{columns}"
        )
    check_columns(table, given)
    return [table.c[name] for name in given]


def check_columns(table: Table, names: Sequence[str]) -> None:
    """Raises InvalidInput for a name that no column has."""
    for name in names:
        if name not in table.c:
            raise no_column(table.name, name, table.c.keys())


def check_key(connection: Connection, table: Table, key: Sequence[Any]) -> None:
    """Raises InvalidInput where rows have one id, or none."""
    if is_unique(connection, table, {column.name for column in key}) and not any(column.nullable for column in key):
        return
    names = ", ".join(column.name for column in key)
    without = connection.scalar(select(func.count()).select_from(table).where(_is_null(key)))
    if without:
        raise InvalidInput(
            f"{without:,} rows of {table.name} have no {names}, so they have no id. Fill them, leave them out with "
            "where=, or name other columns: key=[…], --id"
        )
    several = select(*key, func.count()).group_by(*key).having(func.count() > 1).limit(EXAMPLES)
    if found := connection.execute(several).all():
        rows = "; ".join(f"{', '.join(map(str, values))} ({count} rows)" for *values, count in found)
        raise InvalidInput(
            f"rows of {table.name} share their {names}: {rows}. A record's id is one row's: name more columns, or "
            "others: key=[…], --id"
        )


def is_unique(connection: Connection, table: Table, names: Collection[str]) -> bool:
    """Whether the database keeps two rows from having the same values."""
    inspector, schema = inspect(connection), table.schema
    found = [set(table.primary_key.columns.keys())]
    found += [set(one["column_names"]) for one in inspector.get_unique_constraints(table.name, schema=schema)]
    for index in inspector.get_indexes(table.name, schema=schema):
        is_partial = any(name.endswith("_where") for name in index.get("dialect_options", {}))
        if index["unique"] and not is_partial and None not in index["column_names"]:
            found.append({str(name) for name in index["column_names"]})
    return any(columns and columns <= set(names) for columns in found)


def check_where(connection: Connection, table: Table, where: str) -> None:
    """Raises InvalidInput for SQL that is no condition on the table's rows, or not one alone: what closes the
    parenthesis around it and opens another is no argument of a function."""
    whole = func.coalesce(null(), literal_column(f"{where}\n"), null())
    try:
        with connection.begin_nested():
            connection.execute(
                select(literal_column("1")).select_from(table).where(condition(where), whole).limit(literal_column("0"))
            ).all()
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        raise InvalidInput(f"where={seen(where, 200)} is no condition on the rows of {table.name}: {reason}") from error


def condition(where: str) -> Any:
    return literal_column(f"({where}\n)")


def _is_null(key: Sequence[Any]) -> Any:
    first, *others = (column.is_(None) for column in key)
    for other in others:
        first = first | other
    return first
