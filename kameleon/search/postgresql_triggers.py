"""Triggers that mark rows, in PostgreSQL's words: a function for each table, run with the rights of who made it."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Table

from .tables import quoted_text

FUNCTION = """
    CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $kdb$
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
    $kdb$
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
    connection: Connection, table: Table, entities: Sequence[str], id_of: Callable[[str], str], search: str
) -> None:
    """`id_of` gives the id of the row OLD or NEW as SQL, `search` names the index's table."""
    home = connection.exec_driver_sql(HOME, (search,)).scalar_one()
    names = {
        "function": _function(connection, table, home),
        "table": _table(connection, table),
        "dirty": f"{home}.kdb_dirty",
        "search": f"{home}.kdb_search",
        "entities": f"ARRAY[{', '.join(map(quoted_text, entities))}]::text[]",
        "old": id_of("OLD"),
        "new": id_of("NEW"),
    }
    for statement in (FUNCTION, ROWS, WHOLE):
        connection.exec_driver_sql(statement.format(**names))


def drop(connection: Connection, table: Table, search: str) -> None:
    home = connection.exec_driver_sql(HOME, (search,)).scalar_one()
    for name in ("kdb_track", "kdb_track_truncate"):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {_table(connection, table)}")
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_function(connection, table, home)}()")


def _table(connection: Connection, table: Table) -> str:
    name: str = connection.dialect.identifier_preparer.format_table(table)
    return name


def _function(connection: Connection, table: Table, home: str) -> str:
    name = connection.dialect.identifier_preparer.quote(f"kdb_track_{table.fullname.replace('.', '_')}"[:63])
    return f"{home}.{name}"
