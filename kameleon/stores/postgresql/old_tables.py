"""Old tables in PostgreSQL. Imports `errors`."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from ...errors import StorageError
from ..old_tables import OldTables
from .templates import Templates

NAMES = text("""
    SELECT c.relname FROM pg_class AS c
    WHERE c.relkind IN ('r', 'p') AND c.relname LIKE 'kdb\\_%'
      AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:search))
    ORDER BY 1
""")
POLICIES = text("""
    SELECT p.polname || ' on ' || c.relname FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
    WHERE c.oid = ANY(SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name) ORDER BY 1
""")
GRANTS = text("""
    SELECT a.name, 'GRANT ' || string_agg(a.privilege_type, ', ') || ' ON ' || a.name || ' TO '
      || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    FROM (SELECT t.name, (aclexplode(c.relacl)).* FROM unnest(CAST(:tables AS text[])) AS t (name)
          JOIN pg_class AS c ON c.oid = to_regclass(t.name)) AS a
    WHERE pg_get_userbyid(a.grantee) <> current_user
    GROUP BY a.name, a.grantee ORDER BY 1
""")
IS_THERE = text("SELECT to_regclass(:name) IS NOT NULL")
KEEP_EMBEDDINGS = """
    INSERT INTO {prefix}kdb_embedding_g{number} (tenant, doc, content_hash, {columns})
    SELECT s.tenant, s.doc, s.content_hash, {columns_of_e}
    FROM kdb_kept_embedding_g{number} AS e
    JOIN kdb_kept_search AS o ON o.entity_name = e.entity_name AND o.record_id = e.record_id
      AND o.content_hash = e.content_hash AND {tenant} = {of_e}
    JOIN {prefix}kdb_search AS s
      ON s.tenant = {tenant} AND s.entity_name = e.entity_name AND s.record_id = e.record_id AND s.content = o.content
"""


class PostgreSQLOldTables(OldTables):
    _keep_sql = KEEP_EMBEDDINGS

    def __init__(self, connection: Connection, templates: Templates) -> None:
        super().__init__(connection, templates.prefix, templates.own)
        found = connection.execute(NAMES, {"search": templates.names["search"]}).scalars().all()
        self._names = [name for name in found if self.names.is_own(name)]
        self.columns = {name: self._columns(name) for name in self._names}
        self._grants: list[tuple[str, str]] = []

    @property
    def _qualified(self) -> list[str]:
        return [self._prefix + name for name in self._names]

    def lock(self) -> None:
        """Locks them, so that nobody writes between the copy and the drop."""
        if self._names:
            self._run(f"LOCK TABLE {', '.join(self._qualified)} IN ACCESS EXCLUSIVE MODE")

    def set_aside(self, tables: Sequence[str]) -> None:
        named = {"tables": self._qualified}
        if policies := self._connection.execute(POLICIES, named).scalars().all():
            raise StorageError(
                f"row-level security would be lost with the tables: {', '.join(policies)}. Take kameleon's own off "
                "with `kameleon tenants unprotect` and put them on again afterwards; save others, drop them, "
                "rebuild, and create them again"
            )
        self._grants = [(name, grant) for name, grant in self._connection.execute(GRANTS, named)]
        for name in tables:
            self._run(
                f"CREATE TEMPORARY TABLE {self.names.kept(name)} ON COMMIT DROP AS SELECT * FROM {self._prefix}{name}"
            )
        self._run(f"DROP TABLE {', '.join(self._qualified)}")

    def grant_again(self) -> None:
        for name, grant in self._grants:
            if self._connection.scalar(IS_THERE, {"name": name}):
                self._run(grant)

    def drop_kept(self, tables: Sequence[str]) -> None:
        """The commit drops them."""

    def _run(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement.replace("%", "%%"))
