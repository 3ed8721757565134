"""Triggers that mark rows, in PostgreSQL's words: a function for each table, run with the rights of who made it."""

import hashlib
import itertools
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Table

from ..tables import quoted_text

NAME_BYTES, NAME_SHOWN = 63, 8

FUNCTION = """
    CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {tag}
    BEGIN
      IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {dirty} (entity_name, record_id)
        SELECT entity_name, record_id FROM {search} WHERE entity_name = ANY({entities});
        RETURN NULL;
      END IF;
      IF TG_OP <> 'INSERT' THEN
        INSERT INTO {dirty} (entity_name, record_id) SELECT e, {old} FROM unnest({entities}) AS e;
      END IF;
      IF TG_OP <> 'DELETE' THEN
        INSERT INTO {dirty} (entity_name, record_id) SELECT e, {new} FROM unnest({entities}) AS e;
      END IF;
      RETURN NULL;
    END
    {tag}
"""
ROWS = """
    CREATE OR REPLACE TRIGGER kdb_track AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {function}()
"""
WHOLE = """
    CREATE OR REPLACE TRIGGER kdb_track_truncate AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}()
"""
HOME = """
    SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(%s)
"""


def create(
    connection: Connection,
    table: Table,
    schema: str | None,
    entities: Sequence[str],
    id_of: Callable[[str], str],
    search: str,
) -> None:
    """`id_of` gives the id of the row OLD or NEW as SQL, `search` names the index's table. The table stands in
    `schema`, or where the search path finds it."""
    home = connection.exec_driver_sql(HOME, (search,)).scalar_one()
    names = {
        "function": _function(connection, table, schema, home),
        "table": _table(connection, table, schema),
        "dirty": f"{home}.kdb_dirty",
        "search": f"{home}.kdb_search",
        "entities": f"ARRAY[{', '.join(map(_text, entities))}]::text[]",
        "old": id_of("OLD"),
        "new": id_of("NEW"),
    }
    names["tag"] = _tag("".join(names.values()))
    for statement in (FUNCTION, ROWS, WHOLE):
        connection.exec_driver_sql(statement.format(**names))


def drop(connection: Connection, table: Table, schema: str | None, search: str) -> None:
    home = connection.exec_driver_sql(HOME, (search,)).scalar_one()
    for name in ("kdb_track", "kdb_track_truncate"):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {_table(connection, table, schema)}")
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_function(connection, table, schema, home)}()")


def _table(connection: Connection, table: Table, schema: str | None) -> str:
    """As the driver reads it, to which % begins a bind."""
    quote = connection.dialect.identifier_preparer.quote
    return ".".join(quote(name) for name in (schema, table.name) if name)


def _function(connection: Connection, table: Table, schema: str | None, home: str) -> str:
    """One a table: PostgreSQL cuts longer names to NAME_BYTES, and then two of them may be the same."""
    name = f"kdb_track_{schema}.{table.name}" if schema else f"kdb_track_{table.name}"
    if schema or len(name.encode()) > NAME_BYTES:
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        name = f"kdb_track_{table.name[:NAME_SHOWN]}_{digest}"
    return f"{home}.{connection.dialect.identifier_preparer.quote(name)}"


def _text(entity: str) -> str:
    """As the driver reads it, to which % begins a bind."""
    return quoted_text(entity).replace("%", "%%")


def _tag(body: str) -> str:
    """A dollar quote that nothing in the body ends."""
    return next(tag for number in itertools.count() if (tag := f"$kdb{number or ''}$") not in body)
