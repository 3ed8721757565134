"""Old tables in SQLite. Imports this package alone."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from ..names import Names
from ..old_tables import OldTables

NAMES = text("SELECT name, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_master WHERE type = 'table' AND name GLOB 'kdb_*'")
KEEP_EMBEDDINGS = """
    INSERT INTO kdb_embedding_g{number} (search_id, content_hash, {columns})
    SELECT s.id, s.content_hash, {columns_of_e}
    FROM kdb_kept_embedding_g{number} AS e
    JOIN kdb_kept_search AS o ON o.id = e.search_id AND o.content_hash = e.content_hash
    JOIN kdb_search AS s ON s.tenant = {tenant} AND s.entity_name = o.entity_name AND s.record_id = o.record_id
      AND s.content = o.content
"""


class SQLiteOldTables(OldTables):
    _keep_sql = KEEP_EMBEDDINGS

    def __init__(self, connection: Connection, names: Names) -> None:
        super().__init__(connection, "main.", names)
        found = {name: is_virtual for name, is_virtual in connection.execute(NAMES).all() if names.is_own(name)}
        self._names = sorted(found, key=lambda name: (not found[name], name))  # a virtual table drops its shadows
        self.columns = {name: self._columns(name) for name, is_virtual in found.items() if not is_virtual}

    def lock(self) -> None:
        """There is no other writer."""

    def set_aside(self, tables: Sequence[str]) -> None:
        for name in tables:
            self._run(f"DROP TABLE IF EXISTS temp.{self.names.kept(name)}")
            self._run(f"CREATE TEMPORARY TABLE {self.names.kept(name)} AS SELECT * FROM main.{name}")
        for name in self._names:
            self._run(f"DROP TABLE IF EXISTS main.{name}")

    def grant_again(self) -> None:
        """SQLite has no roles."""

    def drop_kept(self, tables: Sequence[str]) -> None:
        for name in tables:
            self._run(f"DROP TABLE temp.{self.names.kept(name)}")

    def _run(self, statement: str) -> None:
        self._connection.execute(text(statement))
