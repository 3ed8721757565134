"""Row-level security: policies on the tables of an index. Imports `values` and `errors`.

A policy shows a role the rows of one tenant, which a setting names, and those without a tenant. FORCE makes them hold
for the tables' owner, too; no policy holds for superusers and roles with BYPASSRLS. Roles of workers have a policy of
their own, which shows all rows.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from ...errors import InvalidInput, StorageError
from ...values import Tenants
from ..settings import Settings
from ..tables import quoted_text
from ..values import Fault
from . import statements as sql
from .templates import Templates

TENANTED = (
    *("search", "records", "queue", "embedding_cache", "tail", "dead", "segment", "word", "posting", "terms"),
    *("synonym", "query_rule", "judgement"),
)
"""The tables that have a tenant, beside those of embeddings and of marks."""
MARKS = "dirty"
"""Triggers on tables of the application write it with the rights of its owner, for which policies do not hold there."""
SETTING = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+")
# A transaction's setting is empty after its end, and NULL before the connection's first.
TENANT = "tenant = coalesce(current_setting({setting}, true), '')"
CREATE = (
    "CREATE POLICY kdb_tenant ON {table} USING ({tenant}) WITH CHECK ({tenant})",
    "CREATE POLICY kdb_shared ON {table} FOR SELECT USING (tenant = '')",
)
CREATE_WORKERS = "CREATE POLICY kdb_worker ON {table} TO {roles} USING (true) WITH CHECK (true)"
ENABLE, FORCE = "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", "ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
DISABLE = "ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY"
POLICIES = text("""
    SELECT t.name, p.polname FROM unnest(CAST(:tables AS text[])) AS t (name)
    JOIN pg_policy AS p ON p.polrelid = to_regclass(t.name)
    WHERE p.polname IN ('kdb_tenant', 'kdb_shared', 'kdb_worker') ORDER BY 1, 2
""")
WORKERS = text("""
    SELECT DISTINCT pg_get_userbyid(r.role) AS role FROM pg_policy AS p CROSS JOIN unnest(p.polroles) AS r (role)
    WHERE p.polrelid = to_regclass(:search) AND p.polname = 'kdb_worker' ORDER BY 1
""")
UNKNOWN = text("""
    SELECT role FROM unnest(CAST(:roles AS text[])) AS role WHERE NOT EXISTS (
      SELECT 1 FROM pg_roles AS r WHERE r.rolname = role
    ) ORDER BY 1
""")
EXISTING = text("""
    SELECT t.name FROM unnest(CAST(:tables AS text[])) WITH ORDINALITY AS t (name, place)
    WHERE to_regclass(t.name) IS NOT NULL ORDER BY t.place
""")
STATES = text("""
    SELECT t.name, c.relrowsecurity AS is_enabled, c.relforcerowsecurity AS is_forced,
      EXISTS (SELECT 1 FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'kdb_tenant') AS has_policy
    FROM unnest(CAST(:tables AS text[])) AS t (name) JOIN pg_class AS c ON c.oid = to_regclass(t.name)
    ORDER BY 1
""")
ROLE = text("""
    SELECT r.rolname AS name, r.rolsuper OR r.rolbypassrls AS is_exempt, pg_has_role(c.relowner, 'USAGE') AS is_owner
    FROM pg_roles AS r CROSS JOIN pg_class AS c
    WHERE r.rolname = current_user AND c.oid = to_regclass(:search)
""")
# The rows of a worker's role are all of the table's, unless a policy of somebody else's takes some away.
HIDES_ROWS = """
    row_security_active(CAST({table} AS text)) AND NOT (
      SELECT coalesce(bool_and(p.polpermissive) AND bool_or(p.polname = 'kdb_worker' AND EXISTS (
        SELECT 1 FROM unnest(p.polroles) AS r (role) WHERE pg_has_role(r.role, 'USAGE')
      )), false) FROM pg_policy AS p WHERE p.polrelid = to_regclass({table})
    )
"""
# EXPLAIN estimates by statistics of all rows, for every role, whatever policies show: with comparisons of a column a
# role could read the texts in its histogram. To alter a type, if only to the same, drops what ANALYZE has collected.
TEXTS = """
    SELECT string_agg({change}, ', ') FROM pg_attribute AS a
      LEFT JOIN pg_collation AS c ON c.oid = a.attcollation LEFT JOIN pg_namespace AS n ON n.oid = c.collnamespace
    WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped
      AND a.atttypid = ANY(CAST(ARRAY['text', 'bytea', 'jsonb', 'tsvector'] AS regtype[]))
      AND NOT a.attname = ANY(:kept)
      AND (a.attstattarget IS DISTINCT FROM 0) = :is_collected
"""
KEPT = ("tenant", "entity_name", "fingerprint")
"""Columns of texts whose statistics stay: without those of tenants each would be expected to have as many rows."""
BY_CITUS = ("record_id", "id", "text_hash")
"""Columns that Citus may distribute a table by, whose type it does not let alter."""
COLUMN = "'ALTER ' || quote_ident(a.attname)"
COLLECT = text(TEXTS.format(change=f"{COLUMN} || ' SET STATISTICS -1'"))
FORGET = text(
    TEXTS.format(
        change=f"""
    {COLUMN} || ' TYPE ' || format_type(a.atttypid, a.atttypmod)
      || coalesce(' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(c.collname), '')
      || ', ' || {COLUMN} || ' SET STATISTICS 0'
"""
    )
)
IS_HIDING = text(f"SELECT {HIDES_ROWS.format(table=':search')}")
ACTING_FOR = text(f"""
    SELECT coalesce(current_setting(:setting, true), '') WHERE {HIDES_ROWS.format(table=":search")}
""")
ACT_FOR = text("SELECT set_config(:setting, :tenant, true)")


@dataclass(eq=False)
class PostgreSQLPolicies:
    _templates: Templates
    _settings: Settings

    def protect(self, connection: Connection, setting: str, workers: Sequence[str]) -> list[str]:
        check_setting(setting)
        if unknown := connection.execute(UNKNOWN, {"roles": list(workers)}).scalars().all():
            raise InvalidInput(f"there is no role {', '.join(unknown)}. CREATE ROLE makes one")
        connection.execute(sql.LOCK, {"what": "tables"})
        tables = self._tables(connection)
        self._drop(connection, tables)
        for table in tables:
            self._create(connection, table, setting, workers)
        self._settings.protect(connection, setting)
        return tables

    def unprotect(self, connection: Connection) -> list[str]:
        connection.execute(sql.LOCK, {"what": "tables"})
        tables = self._drop(connection, self._tables(connection))
        for table in tables:
            connection.exec_driver_sql(DISABLE.format(table=table))
            self._alter(connection, table, COLLECT, is_collected=False)
        self._settings.protect(connection, "")
        return tables

    def apply_to(self, connection: Connection, table: str) -> None:
        """Refused where the new table would be filled with a part of the records."""
        if not (setting := self._settings.read_protection(connection)):
            return
        self._refuse_hidden(connection, "a generation of embeddings is made from all records")
        workers = connection.execute(WORKERS, self._search).scalars().all()
        self._create(connection, table, setting, workers)

    def faults(self, connection: Connection) -> list[Fault]:
        if not self._settings.read_protection(connection):
            return []
        states = connection.execute(STATES, {"tables": self._tables(connection)})
        found = [unprotected(row.name) for row in states if not self._is_protected(row)]
        return [*found, *self._role_faults(connection)]

    def _role_faults(self, connection: Connection) -> Iterator[Fault]:
        role = connection.execute(ROLE, self._search).one()
        if role.is_exempt or role.is_owner:
            exempt = "is a superuser or has BYPASSRLS: no policy holds for it"
            reason = exempt if role.is_exempt else "owns kameleon's tables: it may take the policies off"
            cure = "let applications connect as another role; docs/tenants.md lists the rights that it needs"
            yield Fault("unprotected", "warning", f"the role {role.name} {reason}", cure)
        if connection.scalar(IS_HIDING, self._search):
            yield Fault(
                "hidden",
                "error",
                f"row-level security hides records from the role {role.name}: what is checked here are the others",
                "run the doctor as a worker's role, one that `kameleon tenants protect` was given",
            )

    def act_for(self, connection: Connection, tenants: Tenants) -> None:
        if not (setting := self._settings.protected_by):
            return
        if tenants is not None and len(tenants) == 1:
            connection.execute(ACT_FOR, {"setting": setting, "tenant": tenants[0]})
        else:
            self._refuse_hidden(connection, "this concerns several tenants")

    def acting_for(self, connection: Connection) -> str | None:
        if not (setting := self._settings.protected_by):
            return None
        own: str | None = connection.scalar(ACTING_FOR, {"setting": setting, **self._search})
        return own

    def _refuse_hidden(self, connection: Connection, reason: str) -> None:
        if connection.scalar(IS_HIDING, self._search):
            raise StorageError(
                f"{reason}, and row-level security shows this role one tenant at a time. Run it as a worker's role, "
                "one that `kameleon tenants protect` was given"
            )

    # tables

    @property
    def _search(self) -> dict[str, str]:
        return {"search": self._templates.names["search"]}

    def _tables(self, connection: Connection) -> list[str]:
        """The tables with a tenant that are there."""
        numbers = sorted(connection.execute(self._templates.own(sql.EMBEDDING_TABLES), self._search).scalars())
        prefix, names = self._templates.prefix, self._templates.names
        embeddings = [prefix + self._templates.own.embeddings(number) for number in numbers]
        tables = [*(names[name] for name in TENANTED), *embeddings, names[MARKS]]
        return list(connection.execute(EXISTING, {"tables": tables}).scalars())

    def _create(self, connection: Connection, table: str, setting: str, workers: Sequence[str]) -> None:
        self._alter(connection, table, FORGET, is_collected=True)
        tenant = TENANT.format(setting=quoted_text(setting))
        quote = connection.dialect.identifier_preparer.quote
        statements = [ENABLE, *([] if is_of_marks(table) else [FORCE]), *CREATE, *([CREATE_WORKERS] if workers else [])]
        for statement in statements:
            rendered = statement.format(table=table, tenant=tenant, roles=", ".join(map(quote, workers)))
            connection.exec_driver_sql(rendered.replace("%", "%%"))

    def _alter(self, connection: Connection, table: str, changes: TextClause, *, is_collected: bool) -> None:
        kept = [*KEPT, *(BY_CITUS if self._templates.has_citus else ())]
        if changed := connection.scalar(changes, {"table": table, "kept": kept, "is_collected": is_collected}):
            connection.exec_driver_sql(f"ALTER TABLE {table} {changed}")

    def _drop(self, connection: Connection, tables: Sequence[str]) -> list[str]:
        """Drops kameleon's own policies, and returns the tables that had them."""
        found = connection.execute(POLICIES, {"tables": list(tables)}).all()
        for table, policy in found:
            connection.exec_driver_sql(f"DROP POLICY {policy} ON {table}".replace("%", "%%"))
        return sorted({table for table, _ in found})

    def _is_protected(self, row: Row[Any]) -> bool:
        is_forced = row.is_forced or is_of_marks(row.name)
        return bool(row.is_enabled and is_forced and row.has_policy)


def is_of_marks(table: str) -> bool:
    return table.endswith(f"_{MARKS}")


def check_setting(setting: object) -> None:
    """Raises InvalidInput for what is no name of a setting of an application's own."""
    if not isinstance(setting, str) or not SETTING.fullmatch(setting):
        raise InvalidInput(f"a setting is named like app.tenant, in small letters, not {setting!r:.80}")


def unprotected(table: str) -> Fault:
    return Fault(
        "unprotected",
        "error",
        f"the table {table} shows every tenant's rows to every role that may read it",
        "`kameleon tenants protect` puts the policies on all tables",
        table,
    )
