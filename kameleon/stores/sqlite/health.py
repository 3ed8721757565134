"""Checks and repairs of an index in SQLite. Imports `values`."""

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Engine, text

from ...values import Generation, Ref, Sizes
from ..keyword_faults import keyword_faults
from ..names import Names
from ..tables import Tables
from ..values import Fault
from . import statements as sql
from .vectors import SQLiteVectors

REFS_AFTER = text("""
    SELECT * FROM (
      SELECT entity_name, record_id, tenant FROM kdb_search
      WHERE tenant = :tenant AND entity_name = :entity AND record_id > :id ORDER BY record_id LIMIT :limit
    )
    UNION ALL
    SELECT * FROM (
      SELECT entity_name, record_id, tenant FROM kdb_search
      WHERE tenant > :tenant AND entity_name = :entity ORDER BY tenant, entity_name, record_id LIMIT :limit
    )
    LIMIT :limit
""")
DUPLICATES = text("""
    SELECT entity_name, record_id, tenant FROM kdb_search
    WHERE (tenant, entity_name, record_id) > (:tenant, :entity, :id)
    GROUP BY tenant, entity_name, record_id HAVING count(*) > 1
    ORDER BY tenant, entity_name, record_id LIMIT :limit
""")
SIZE = text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
LEFTOVERS = """
    SELECT DISTINCT e.search_id FROM kdb_embedding_g{number} AS e
    WHERE e.search_id > :after AND NOT EXISTS (SELECT 1 FROM kdb_search AS s WHERE s.id = e.search_id)
    ORDER BY e.search_id LIMIT :limit
"""
VECTORS = """
    SELECT search_id, passage, embedding FROM kdb_embedding_g{number}
    WHERE (search_id, passage) > (:id, :passage) AND embedding IS NOT NULL
    ORDER BY search_id, passage LIMIT :limit
"""


@dataclass(eq=False)
class SQLiteHealth:
    _engine: Engine
    _tables: Tables
    _vectors: SQLiteVectors

    @property
    def _names(self) -> Names:
        return self._tables.names

    def sizes(self, connection: Connection) -> Sizes:
        return Sizes(int(connection.execute(SIZE).scalar_one()), {})

    def faults(self, connection: Connection, *, has_provider: bool) -> list[Fault]:
        found = []
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        if connection.scalar(sql.FILE) and mode != "wal":
            found.append(
                Fault(
                    "no-wal",
                    "warning",
                    f"the file's journal is {mode!r}: readers and the writer wait for each other",
                    "kameleon.create_engine(url) sets write-ahead logging, and so does PRAGMA journal_mode = wal",
                )
            )
        if has_provider and self._vectors.is_extension_missing(connection):
            found.append(
                Fault(
                    "no-extension",
                    "note",
                    "this Python's sqlite3 cannot load sqlite-vec, so a process's first query reads all embeddings",
                    "results are the same. To load it, pip install 'kameleon[sqlite]' and "
                    "kameleon.create_engine(url, module=pysqlite3)",
                )
            )
        return found

    def index_faults(self, connection: Connection) -> list[Fault]:
        """SQLite's indexes do not break by themselves."""
        return []

    def keyword_faults(self, connection: Connection) -> list[Fault]:
        contents = self._names("SELECT tenant, entity_name, id FROM kdb_search")
        return keyword_faults(connection, contents, self._tables.keywords)

    def mend(self, fault: Fault) -> None:
        if fault.check == "no-wal":
            set_wal(self._engine)

    def refs_after(self, connection: Connection, entity: str, after: Ref | None, limit: int) -> list[Ref]:
        binds = {**(after or Ref(entity, ""))._asdict(), "limit": limit}
        return [Ref(*row) for row in connection.execute(self._names(REFS_AFTER), binds)]

    def duplicates(self, connection: Connection, after: Ref | None, limit: int) -> tuple[list[Ref], Ref | None]:
        binds = {**(after or Ref("", ""))._asdict(), "limit": limit}
        found = [Ref(*row) for row in connection.execute(self._names(DUPLICATES), binds)]
        return found, found[-1] if found else None

    def leftovers(
        self, connection: Connection, generation: Generation, after: int | None, limit: int
    ) -> tuple[list[int], int | None]:
        statement = text(self._names(LEFTOVERS).format(number=generation.number))
        binds = {"after": -(2**63) if after is None else after, "limit": limit}
        found = list(connection.execute(statement, binds).scalars())
        return found, found[-1] if found else None

    def bad_vectors(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[list[int], Any]:
        """Among the next `limit` embeddings."""
        statement = text(self._names(VECTORS).format(number=generation.number))
        id_, passage = after or (-(2**63), 0)
        rows = connection.execute(statement, {"id": id_, "passage": passage, "limit": limit}).all()
        is_good = good([row.embedding for row in rows], generation.dimensions)
        bad = dict.fromkeys(row.search_id for row, good_ in zip(rows, is_good, strict=True) if not good_)
        return list(bad), (rows[-1].search_id, rows[-1].passage) if rows else None

    def unused_index(self, connection: Connection, generation: Generation) -> str:
        return ""


def set_wal(engine: Engine) -> None:
    """Outside any transaction. A file that cannot be changed now stays as it is."""
    with closing(engine.raw_connection()) as connection, suppress(cast(Any, engine.dialect.dbapi).OperationalError):
        connection.cursor().execute("PRAGMA journal_mode = wal")


def good(blobs: Sequence[Any], dimensions: int) -> list[bool]:
    """Whether each is that many numbers and of length 1."""
    import numpy as np

    whole = [isinstance(blob, bytes) and len(blob) == 4 * dimensions for blob in blobs]
    joined = b"".join(blob for blob, is_whole in zip(blobs, whole, strict=True) if is_whole)
    vectors = np.frombuffer(joined, "<f4").reshape(-1, dimensions).astype(np.float64)
    lengths = iter(np.einsum("ij,ij->i", vectors, vectors).tolist())
    return [is_whole and 0.98 < next(lengths) < 1.02 for is_whole in whole]
