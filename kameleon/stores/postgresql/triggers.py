"""Triggers that mark rows, in PostgreSQL: a function for each table, run with the rights of its owner. Imports this
package alone."""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Table

from ..tables import quoted_text, schema_of
from ..values import row_id, row_tenant
from .keys import PostgreSQLKeys
from .templates import Templates

NAME_BYTES, NAME_SHOWN = 63, 8

FUNCTION = """
    CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {tag}
    BEGIN
      IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {dirty} (tenant, entity_name, record_id)
        SELECT tenant, entity_name, record_id FROM {search} WHERE entity_name = ANY({entities});
        RETURN NULL;
      END IF;
      IF TG_OP <> 'INSERT' THEN
        INSERT INTO {dirty} (tenant, entity_name, record_id) SELECT {was}, e, {old} FROM unnest({entities}) AS e;
      END IF;
      IF TG_OP <> 'DELETE' THEN
        INSERT INTO {dirty} (tenant, entity_name, record_id) SELECT {now}, e, {new} FROM unnest({entities}) AS e;
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
OWN_SCHEMA = """
    SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(%s)
"""


@dataclass(eq=False)
class PostgreSQLTriggers:
    _templates: Templates
    _keys: PostgreSQLKeys

    def set(
        self,
        connection: Connection,
        table: Table,
        key: Sequence[tuple[Any, str]],
        entities: Sequence[str],
        tenant: tuple[Any, str] | None = None,
    ) -> None:
        schema, search = schema_of(table, connection), self._templates.names["search"]
        if entities:
            id_of = partial(row_id, self._keys.id_text, connection.dialect, key)
            tenant_of = partial(row_tenant, self._keys.id_text, connection.dialect, tenant)
            create(connection, table, schema, entities, id_of, tenant_of, search)
        else:
            drop(connection, table, schema, search)

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        return False

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        return nullcontext(list)


def create(
    connection: Connection,
    table: Table,
    schema: str | None,
    entities: Sequence[str],
    id_of: Callable[[str], str],
    tenant_of: Callable[[str], str],
    search: str,
) -> None:
    """`id_of` and `tenant_of` render the id and the tenant of the row OLD or NEW as SQL, `search` names the index's
    table. The table is in `schema`, or where the search path finds it."""
    own_schema = connection.exec_driver_sql(OWN_SCHEMA, (search,)).scalar_one()
    names = {
        "function": _function(connection, table, schema, own_schema),
        "table": _table(connection, table, schema),
        "dirty": f"{own_schema}.kdb_dirty",
        "search": f"{own_schema}.kdb_search",
        "entities": f"ARRAY[{', '.join(map(_text, entities))}]::text[]",
        "old": id_of("OLD"),
        "new": id_of("NEW"),
        "was": tenant_of("OLD"),
        "now": tenant_of("NEW"),
    }
    names["tag"] = _tag("".join(names.values()))
    for statement in (FUNCTION, ROWS, WHOLE):
        connection.exec_driver_sql(statement.format(**names))


def drop(connection: Connection, table: Table, schema: str | None, search: str) -> None:
    own_schema = connection.exec_driver_sql(OWN_SCHEMA, (search,)).scalar_one()
    for name in ("kdb_track", "kdb_track_truncate"):
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {_table(connection, table, schema)}")
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_function(connection, table, schema, own_schema)}()")


def _table(connection: Connection, table: Table, schema: str | None) -> str:
    """For the driver, to which % begins a bind."""
    quote = connection.dialect.identifier_preparer.quote
    return ".".join(quote(name) for name in (schema, table.name) if name)


def _function(connection: Connection, table: Table, schema: str | None, own_schema: str) -> str:
    """One a table: PostgreSQL truncates longer names to NAME_BYTES, and then two of them may be the same."""
    name = f"kdb_track_{schema}.{table.name}" if schema else f"kdb_track_{table.name}"
    if schema or len(name.encode()) > NAME_BYTES:
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        name = f"kdb_track_{table.name[:NAME_SHOWN]}_{digest}"
    return f"{own_schema}.{connection.dialect.identifier_preparer.quote(name)}"


def _text(entity: str) -> str:
    """For the driver, to which % begins a bind."""
    return quoted_text(entity).replace("%", "%%")


def _tag(body: str) -> str:
    """A dollar quote that nothing in the body ends."""
    return next(tag for number in itertools.count() if (tag := f"$kdb{number or ''}$") not in body)
