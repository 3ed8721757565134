"""Triggers that mark rows, in PostgreSQL: a function for each entity and table, run with the rights of its owner.
Imports `errors`.

Row triggers of a partitioned table are on its partitions, too, also on those that are attached later; those of
TRUNCATE, and of tables that inherit another, are made for each.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, text
from sqlalchemy.exc import DBAPIError

from ...errors import InvalidInput, TransactionConflict
from ..marking import EVENTS, Marking, Marks, Trigger, by_table, digest_of, trigger_name
from ..tables import quoted_text, schema_map, schema_of
from .errors import NOT_AVAILABLE
from .templates import Templates

FUNCTION = """
    CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {tag}
    BEGIN
      IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {dirty} (tenant, entity_name, record_id)
        SELECT tenant, entity_name, record_id FROM {search} WHERE entity_name IN ({entities});
      {events}
      END IF;
      RETURN NULL;
    END
    {tag}
"""
EVENT = "ELSIF TG_OP = '{event}' THEN\n        {statements}"
GUARDED = "IF {} THEN {} END IF;"
ROWS = """
    CREATE OR REPLACE TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {function}()
"""
WHOLE = """
    CREATE OR REPLACE TRIGGER {name}_truncate AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}()
"""
OWN_SCHEMA = """
    SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(%s)
"""
RIGHT = "SELECT current_user, has_table_privilege(to_regclass(%s), %s)"
RELATION = """
    SELECT c.relkind::text, n.nspname
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)
"""
INNER = """
    WITH RECURSIVE parts AS (
      SELECT to_regclass(%s)::oid AS oid, true AS has_rows
      UNION ALL
      SELECT c.oid, parts.has_rows AND NOT c.relispartition FROM parts
      JOIN pg_inherits AS i ON i.inhparent = parts.oid JOIN pg_class AS c ON c.oid = i.inhrelid
      WHERE c.relkind IN ('r', 'p')
    )
    SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, parts.has_rows
    FROM parts JOIN pg_class AS c ON c.oid = parts.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace ORDER BY name
"""
PRESENT = """
    SELECT quote_ident(n.nspname) || '.' || p.proname AS name, p.prosrc,
      string_agg(pg_get_triggerdef(t.oid) || CAST(t.tgenabled AS text), ' ' ORDER BY t.tgrelid, t.tgname) AS triggers
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    JOIN pg_trigger AS t ON t.tgfoid = p.oid AND t.tgparentid = 0
    WHERE p.proname LIKE 'kdb\\_%' AND quote_ident(n.nspname) || '.' || p.proname IN :names
    GROUP BY p.oid, n.nspname, p.proname, p.prosrc
"""
SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"
LOCK_TIMEOUT = "400ms"
"""Less than the second that deadlock_timeout is by default, after which PostgreSQL ends a transaction. Chosen, not
measured."""
REFUSED = {"v": "is a view", "m": "is a materialized view", "f": "is a foreign table"}


@dataclass(eq=False)
class PostgreSQLTriggers:
    _templates: Templates

    def refusal(self, connection: Connection, table: Table) -> str:
        return REFUSED.get(relation(connection, table).relkind, "")

    def plan(self, connection: Connection, markings: Sequence[Marking]) -> list[Trigger]:
        search = self._templates.names["search"]
        own_schema = connection.exec_driver_sql(OWN_SCHEMA, (search,)).scalar_one()
        return [self._planned(connection, table, of_table, own_schema) for table, of_table in by_table(markings)]

    def _planned(self, connection: Connection, table: Table, markings: Sequence[Marking], own_schema: str) -> Trigger:
        read = {other for marking in markings for other in marking.others}
        dirty, search = (f"{own_schema}.{self._templates.own(name)}" for name in ("kdb_dirty", "kdb_search"))
        marks = Marks(connection.dialect, dirty, differs, changed, GUARDED.format, schemas(connection, read))
        name = trigger_name(self._templates.own, markings[0].entity, schema_of(table, connection), table.name)
        function = f"{own_schema}.{name}"
        statements = {event: "\n        ".join(marks.statements(markings, event)) for event in EVENTS}
        named = {
            "function": function,
            "dirty": marks.dirty,
            "search": search,
            "entities": ", ".join(sorted({_text(marking.entity) for marking in markings})),
            "events": "\n      ".join(EVENT.format(event=e, statements=sql) for e, sql in statements.items()),
        }
        tag = _tag("".join(named.values()))
        inner = connection.exec_driver_sql(INNER, (_table(connection, table),)).all()
        made = [FUNCTION.format(**named, tag=tag)]
        if relation(connection, table).relkind != "p":  # who attaches a partition needs it: triggers are made there
            made.append(f"REVOKE EXECUTE ON FUNCTION {function}() FROM PUBLIC")
        for one, has_rows in inner:
            on = {"name": name, "table": one.replace("%", "%%"), "function": function}
            made += [each.format(**on) for each in ([ROWS] if has_rows else []) + [WHOLE]]
        rights = [("TRIGGER", _table(connection, table)), *(("SELECT", _table(connection, one)) for one in read)]
        return Trigger(function, table.name, tuple(made), tuple(sorted(set(rights), reverse=True)))

    def make(self, connection: Connection, trigger: Trigger) -> None:
        for right, table in trigger.rights:
            check_right(connection, right, table)
        with waiting_shortly(connection):
            for statement in trigger.statements:
                connection.exec_driver_sql(statement)

    def drop(self, connection: Connection, names: Sequence[str]) -> None:
        """With a function go its triggers, whoever is the tables' owner."""
        with waiting_shortly(connection):
            for name in names:
                connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {name}() CASCADE")

    def present(self, connection: Connection, names: Sequence[str]) -> Mapping[str, str]:
        query = text(PRESENT).bindparams(bindparam("names", list(names), expanding=True))
        return {row.name: digest_of(row.prosrc, row.triggers) for row in connection.execute(query)}

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        return False

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        return nullcontext(list)


def differs(one: str, other: str) -> str:
    """As texts: types such as json cannot be compared, and citext has equal values that differ."""
    return f"{one}::text IS DISTINCT FROM {other}::text"


def changed(name: str) -> str:
    """A column that was renamed since is taken for changed, and the update is not refused."""
    old, new = (f"(to_jsonb({row}) -> {_text(name)})::text" for row in ("OLD", "NEW"))
    return f"{new} IS NULL OR {old} <> {new}"


@contextmanager
def waiting_shortly(connection: Connection) -> Iterator[None]:
    """Bounds how long the lock of a table is waited for: all who write it wait behind, and of two transactions that
    wait for each other the application's is not to be the one that is ended. Raises TransactionConflict."""
    before = connection.exec_driver_sql("SELECT current_setting('lock_timeout')").scalar_one()
    connection.exec_driver_sql(SET_LOCK_TIMEOUT, (LOCK_TIMEOUT,))
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != NOT_AVAILABLE:
            raise
        raise TransactionConflict(
            f"a table was not free for its triggers within {LOCK_TIMEOUT}: a transaction that wrote it is still open, "
            "and others would have to wait behind. Try again when it has ended; pg_stat_activity lists those that are "
            "idle in transaction"
        ) from error
    connection.exec_driver_sql(SET_LOCK_TIMEOUT, (before,))


def relation(connection: Connection, table: Table) -> Any:
    """Raises InvalidInput for one that is not there."""
    name = _table(connection, table)
    found = connection.exec_driver_sql(RELATION, (name,)).first()
    if found is None:
        raise InvalidInput(f"there is no table {name} in this database")
    return found


def check_right(connection: Connection, right: str, table: str) -> None:
    """Raises InvalidInput where the role lacks it."""
    role, has_right = connection.exec_driver_sql(RIGHT, (table, right)).one()
    if not has_right:
        raise InvalidInput(
            f"the role {role} has no right {right} on {table}, which triggers that mark its rows need. As its owner: "
            f'GRANT {right} ON {table} TO "{role}";'
        )


def schemas(connection: Connection, tables: set[Table]) -> dict[str | None, str | None]:
    """What the schemas of these tables are to a function that has no search path. Raises InvalidInput where tables
    without a schema are in several."""
    found: dict[str | None, str | None] = dict(schema_map(connection))
    without = {relation(connection, table).nspname for table in tables if schema_of(table, connection) is None}
    if len(without) > 1:
        names = ", ".join(sorted(without))
        raise InvalidInput(f"tables that are searched together are in the schemas {names}: map them with their schemas")
    return {**found, **({None: without.pop()} if without else {})}


def _table(connection: Connection, table: Table) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return ".".join(quote(name) for name in (schema_of(table, connection), table.name) if name).replace("%%", "%")


def _text(entity: str) -> str:
    """For the driver, to which % begins a bind."""
    return quoted_text(entity).replace("%", "%%")


def _tag(body: str) -> str:
    """A dollar quote that nothing in the body ends."""
    return next(tag for number in itertools.count() if (tag := f"$kdb{number or ''}$") not in body)
