"""kameleon's tables of any schema version on SQLite: copied aside, dropped, and their embeddings put back."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from ...values import Generation
from ..tables import is_own_table, kept_name

NAMES = text("SELECT name, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_master WHERE type = 'table' AND name GLOB 'kdb_*'")
KEEP_EMBEDDINGS = """
    INSERT INTO kdb_embedding_g{number} (search_id, content_hash, {columns})
    SELECT s.id, s.content_hash, {columns_of_e}
    FROM kdb_kept_embedding_g{number} AS e
    JOIN kdb_kept_search AS o ON o.id = e.search_id AND o.content_hash = e.content_hash
    JOIN kdb_search AS s ON s.entity_name = o.entity_name AND s.record_id = o.record_id AND s.content = o.content
"""


class SQLiteOldTables:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        found = {name: is_virtual for name, is_virtual in connection.execute(NAMES).all() if is_own_table(name)}
        self._names = sorted(found, key=lambda name: (not found[name], name))  # a virtual table drops its shadows
        self.columns: Mapping[str, Sequence[str]] = {
            name: self._columns(name) for name, is_virtual in found.items() if not is_virtual
        }

    def _columns(self, table: str) -> list[str]:
        return list(self._connection.execute(text(f"SELECT * FROM main.{table} LIMIT 0")).keys())

    def lock(self) -> None:
        """Whoever writes is alone."""

    def set_aside(self, tables: Sequence[str]) -> None:
        for name in tables:
            self._run(f"DROP TABLE IF EXISTS temp.{kept_name(name)}")
            self._run(f"CREATE TEMPORARY TABLE {kept_name(name)} AS SELECT * FROM main.{name}")
        for name in self._names:
            self._run(f"DROP TABLE IF EXISTS main.{name}")

    def grant_again(self) -> None:
        """SQLite has no roles."""

    def keep_embeddings(self, generation: Generation) -> bool:
        """Puts back what was made from the contents that are there; False where the table had another shape."""
        columns = self._columns(f"kdb_embedding_g{generation.number}")
        if set(columns) - set(self.columns.get(f"kdb_embedding_g{generation.number}", ())):
            return False
        names = [name for name in columns if name not in ("search_id", "content_hash")]
        own = ", ".join(f"e.{name}" for name in names)
        self._run(KEEP_EMBEDDINGS.format(number=generation.number, columns=", ".join(names), columns_of_e=own))
        return True

    def drop_kept(self, tables: Sequence[str]) -> None:
        for name in tables:
            self._run(f"DROP TABLE temp.{kept_name(name)}")

    def _run(self, statement: str) -> None:
        self._connection.execute(text(statement))
