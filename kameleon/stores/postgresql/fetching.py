"""Reads rows in the fewest bytes: as binary, with arrays as text, on kameleon's own connections. Imports this package
alone."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import BindParameter, Connection, text
from sqlalchemy.dialects import registry

from ..own_connections import is_own, own_driver
from ..values import bound

COMPILED_KEPT = 1_000
"""Bounds the statements that are remembered as the driver takes them. Chosen, not measured."""
PSYCOPG = registry.load("postgresql.psycopg")()


def fetched(connection: Connection, statement: str, binds: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """Returns the rows of a statement with the driver's `%(name)s` binds. Results are binary on kameleon's own
    connections, whatever cursors and rows the application has these make: bytes in text are twice as long."""
    if not is_own(connection):
        return connection.exec_driver_sql(statement, dict(binds)).all()
    given = {name: literal(value) if isinstance(value, list) else value for name, value in binds.items()}
    with binary_cursor(own_driver(connection)) as cursor:
        return cursor.execute(statement, given, prepare=False).fetchall()  # type: ignore[no-any-return]


def binary_cursor(driver: Any) -> Any:
    """Opens a plain cursor; that of an asynchronous engine's connection is made by the connection."""
    if not isinstance(driver, psycopg.Connection):
        return driver.cursor(binary=True)
    cursor = psycopg.Cursor(driver, row_factory=tuple_row)
    cursor.format = psycopg.pq.Format.BINARY
    return cursor


def selected(connection: Connection, statement: str, binds: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """Returns the rows of a statement with SQLAlchemy's `:name` binds, which may be typed."""
    if is_own(connection) and not any(isinstance(value, BindParameter) for value in binds.values()):
        return fetched(connection, compiled(statement), binds)
    return connection.execute(*bound(text(statement), binds)).all()


@lru_cache(COMPILED_KEPT)
def compiled(statement: str) -> str:
    return str(text(statement).compile(dialect=PSYCOPG))


def literal(values: Sequence[Any]) -> str:
    """Renders an array of integers, floats or texts, whose type the statement has: the driver takes ten times as long
    to dump its elements."""
    return "{" + ",".join([quoted(value) if isinstance(value, str) else repr(value) for value in values]) + "}"


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
