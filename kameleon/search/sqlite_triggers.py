"""Triggers that mark rows, in SQLite's words."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Table

from .tables import quoted_text

CREATE = """
    CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON {table} FOR EACH ROW
    BEGIN
      {marks}
    END
"""
MARK = "INSERT INTO kdb_dirty (entity_name, record_id) VALUES ({entity}, {id});"
EVENTS = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}


def create(connection: Connection, table: Table, entities: Sequence[str], id_of: Callable[[str], str]) -> None:
    """`id_of` gives the id of the row OLD or NEW as SQL."""
    drop(connection, table)
    quote = connection.dialect.identifier_preparer.quote
    for event, rows in EVENTS.items():
        marks = [MARK.format(entity=quoted_text(entity), id=id_of(row)) for row in rows for entity in entities]
        names = {"name": _name(connection, table, event), "event": event, "table": quote(table.name)}
        connection.exec_driver_sql(CREATE.format(**names, marks="\n      ".join(marks)))


def drop(connection: Connection, table: Table) -> None:
    for event in EVENTS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {_name(connection, table, event)}")


def _name(connection: Connection, table: Table, event: str) -> str:
    name: str = connection.dialect.identifier_preparer.quote(f"kdb_track_{table.name}_{event.lower()}")
    return name
