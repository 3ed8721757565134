"""Reads tables of an application's that have columns of pgvector's. Imports nothing of kameleon's."""

from collections.abc import Generator, Sequence
from typing import Any

from sqlalchemy import Connection, Text, cast, column, func, select, table, text

COLUMNS = text("""
    SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type
    FROM pg_attribute AS a WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
""")
KEY = text("""
    SELECT a.attname FROM pg_index AS i
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
    WHERE i.indrelid = to_regclass(:name) AND i.indisprimary ORDER BY a.attnum
""")


def columns_of(connection: Connection, name: str, schema: str | None) -> dict[str, str]:
    """Returns the types of a table's columns; nothing where there is no such table."""
    rows = connection.execute(COLUMNS, {"name": quoted(connection, name, schema)})
    return {row.attname: row.type for row in rows}


def key_of(connection: Connection, name: str, schema: str | None) -> list[str]:
    return list(connection.execute(KEY, {"name": quoted(connection, name, schema)}).scalars())


def count_rows(connection: Connection, name: str, schema: str | None) -> int:
    return connection.scalar(select(func.count()).select_from(table(name, schema=schema))) or 0


def read_rows(
    connection: Connection, name: str, schema: str | None, names: Sequence[str], vector: str, size: int
) -> Generator[Sequence[Any], None, None]:
    """Reads the rows, so many at a time, through a cursor of the server: the columns, and the vector as text."""
    columns: list[Any] = [column(each) for each in names]
    statement = select(*columns, cast(column(vector), Text)).select_from(table(name, schema=schema))
    streamed = connection.execution_options(stream_results=True, max_row_buffer=size)
    with streamed.execute(statement) as result:
        yield from result.partitions(size)


def quoted(connection: Connection, name: str, schema: str | None) -> str:
    quote = connection.dialect.identifier_preparer.quote_identifier
    return ".".join(quote(part) for part in (schema, name) if part is not None)
