"""Indexes on the declared fields of stored records: made and dropped, in a transaction or while work goes on. Imports
this package alone.

In a transaction the table is locked without waiting, or the indexes are left to `build`: a lock that is waited for
while others are held would be a deadlock.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..paths import Path, is_plain
from . import statements as sql
from . import statements_vectors as vectors_sql
from .connections import PostgreSQLConnections
from .errors import NOT_AVAILABLE
from .field_keys import KINDS, index_name, key, literal
from .templates import Templates

STATE = text("""
    SELECT pg_has_role(c.relowner, 'USAGE') AS is_owner, pg_is_in_recovery() AS is_replica, coalesce((
      SELECT jsonb_object_agg(n.relname, i.indisvalid) FROM pg_index AS i JOIN pg_class AS n ON n.oid = i.indexrelid
      WHERE i.indrelid = c.oid AND starts_with(n.relname, :begins)
    ), '{}') AS indexes
    FROM pg_class AS c WHERE c.oid = to_regclass(:records)
""")
LOCK = "LOCK TABLE {records} IN {mode} MODE NOWAIT"
CREATE = """
    CREATE INDEX {concurrently} IF NOT EXISTS {name} ON {records} (tenant, ({key}), entity_name) WHERE {key} IS NOT NULL
"""
DROP = "DROP INDEX {concurrently} IF EXISTS {prefix}{name}"
ANALYZE = "ANALYZE {records}"
Fields = Sequence[tuple[Path, str]]
"""Paths with the types of the fields there."""


def change(connection: Connection, templates: Templates, fields: Fields) -> None:
    """Makes and drops them in a transaction, where no other one is writing and the role may."""
    missing, surplus = _changes(connection, templates, fields)
    if not missing and not surplus:
        return
    try:
        with connection.begin_nested():
            mode = "ACCESS EXCLUSIVE" if surplus else "SHARE"
            connection.exec_driver_sql(templates.format(LOCK, mode=mode))
            for statement in (*surplus, *missing):
                connection.execute(text(statement))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != NOT_AVAILABLE:
            raise


def build(connections: PostgreSQLConnections, templates: Templates, fields: Fields) -> bool:
    """Makes and drops them while others write; True if there was something to do. Another process that builds them has
    a lock, in a transaction without a snapshot, which the build would wait for."""
    with connections.outside_transactions() as connection:
        if not any(_changes(connection, templates, fields)):
            return False
    with connections.at_read_committed() as guard:
        guard.exec_driver_sql(vectors_sql.NO_IDLE_LIMIT)
        lock = sql.TRY_LOCK.format(name=templates.names["records"].replace("'", "''"))
        if not guard.exec_driver_sql(lock).scalar():
            return False
        with connections.outside_transactions() as connection:
            missing, surplus = _changes(connection, templates, fields, "CONCURRENTLY")
            for statement in (*surplus, *missing):
                connection.execute(text(statement))
            connection.exec_driver_sql(templates.format(ANALYZE))
    return True


def _changes(
    connection: Connection, templates: Templates, fields: Fields, concurrently: str = ""
) -> tuple[list[str], list[str]]:
    """The statements that make what is missing, and those that drop what no field needs or a build left unfinished;
    none where the role does not own the table."""
    binds = {"records": templates.names["records"], "begins": f"{templates.own.prefix}records_by_"}
    row = connection.execute(STATE, binds).one_or_none()
    if row is None or not row.is_owner or row.is_replica:
        return [], []
    wanted = {
        index_name(templates.own.prefix, path, KINDS[type_]): key(literal("data", path), KINDS[type_])
        for path, type_ in fields
        if all(map(is_plain, path))
    }
    there = {name for name, is_valid in row.indexes.items() if is_valid and name in wanted}
    missing = [
        templates.format(CREATE, name=name, key=wanted[name], concurrently=concurrently)
        for name in sorted(wanted.keys() - there)
    ]
    surplus = [
        templates.format(DROP, name=name, concurrently=concurrently) for name in sorted(row.indexes.keys() - there)
    ]
    return missing, surplus
