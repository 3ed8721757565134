"""kameleon's tables of any schema version, copied to temporary tables and dropped while the index is rebuilt. Imports
`values`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from ..values import Generation
from .names import Names

OF_CONTENT = ("search_id", "doc", "content_hash", "tenant")
"""Columns of embeddings that are the rebuilt content's."""


class OldTables(ABC):
    """The tables of another schema version, in a transaction that rebuilds the index. `columns` are those of each table
    that can be copied. `prefix` is the schema's, quoted and with its dot, or empty."""

    _keep_sql: str
    columns: Mapping[str, Sequence[str]]

    def __init__(self, connection: Connection, prefix: str, names: Names) -> None:
        self._connection = connection
        self._prefix = prefix
        self.names = names

    @abstractmethod
    def lock(self) -> None:
        """Waits for the tables' writers, and locks out others until the transaction ends."""

    @abstractmethod
    def set_aside(self, tables: Sequence[str]) -> None:
        """Copies these to temporary tables and drops all."""

    @abstractmethod
    def grant_again(self) -> None:
        """Restores the rights of other roles to the tables of the same names."""

    @abstractmethod
    def drop_kept(self, tables: Sequence[str]) -> None:
        """Drops the copies."""

    def keep_embeddings(self, generation: Generation) -> bool:
        """Restores the embeddings that were made from the present contents; False where their table had other
        columns."""
        table = self.names.embeddings(generation.number)
        columns = self._columns(table)
        names = [name for name in columns if name not in OF_CONTENT]
        if set(names) - set(self.columns.get(table, ())):
            return False
        own = ", ".join(f"e.{name}" for name in names)
        of_record, of_embedding = (
            f"{alias}.tenant" if "tenant" in self.columns[name] else "''"
            for alias, name in (("o", self.names("kdb_search")), ("e", table))
        )
        named = {"prefix": self._prefix, "number": generation.number, "tenant": of_record, "of_e": of_embedding}
        self._run(self.names(self._keep_sql).format(**named, columns=", ".join(names), columns_of_e=own))
        return True

    def _columns(self, table: str) -> list[str]:
        return list(self._connection.execute(text(f"SELECT * FROM {self._prefix}{table} LIMIT 0")).keys())

    @abstractmethod
    def _run(self, statement: str) -> None:
        """Executes a statement without binds."""
