"""What may be wrong with an index in PostgreSQL, and mending it."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, cast

from sqlalchemy import Connection, text

from ...values import Generation, Ref
from ..protocols import Fault, Key
from . import schema as postgresql_schema
from . import statements as sql
from .schema import Schema

# 0.8.2: a parallel build of HNSW wrote past its buffer. 0.8.3: a vacuum could corrupt HNSW. 0.8.4: it repairs graphs.
SOUND_SINCE = (0, 8, 4)
HALF_BUILT = ("_ccnew", "_ccold")

INVALID_INDEXES = text("""
    SELECT CAST(CAST(i.indexrelid AS regclass) AS text) AS name
    FROM pg_index AS i JOIN pg_class AS t ON t.oid = i.indrelid
    WHERE NOT i.indisvalid AND starts_with(t.relname, 'kdb_')
      AND t.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:search))
      AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid)
    ORDER BY name
""")
EMBEDDING_TABLES = text("""
    SELECT CAST(substring(c.relname FROM '^kdb_embedding_g([0-9]+)$') AS integer)
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'embedding'
    WHERE c.relkind IN ('r', 'p') AND c.relname ~ '^kdb_embedding_g[0-9]+$'
      AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:search))
""")

IDS_AFTER = """
    SELECT record_id FROM {search}
    WHERE entity_name = :entity AND record_id > :after ORDER BY record_id LIMIT :limit
"""
DUPLICATES = """
    SELECT entity_name, record_id FROM {search}
    WHERE (entity_name, record_id) > (:entity, :id)
    GROUP BY entity_name, record_id HAVING count(*) > 1
    ORDER BY entity_name, record_id LIMIT :limit
"""
EMBEDDINGS = """
    SELECT DISTINCT e.entity_name, e.record_id FROM {embedding} AS e
    WHERE (e.entity_name, e.record_id) > (:entity, :id) AND {condition}
    ORDER BY e.entity_name, e.record_id LIMIT :limit
"""
IS_LEFT_OVER = """
    NOT EXISTS (SELECT 1 FROM {search} AS s WHERE s.entity_name = e.entity_name AND s.record_id = e.record_id)
"""
IS_BAD = """
    e.embedding IS NOT NULL AND CASE WHEN {vector_dims}(e.embedding) = {dimensions}
      THEN NOT -(e.embedding {ip} e.embedding) BETWEEN 0.98 AND 1.02 ELSE true END
"""
NEAREST = """
    EXPLAIN SELECT e.entity_name, e.record_id FROM {embedding} AS e WHERE e.embedding IS NOT NULL
    ORDER BY e.embedding {ip} CAST(array_fill(CAST(1 AS real), ARRAY[{dimensions}]) AS {vector}) LIMIT 10
"""


class Health(Schema):
    def faults(self, connection: Connection, *, has_provider: bool) -> list[Fault]:
        self._pgvector = None
        found = self._load_extensions(connection)
        if found is None:
            return [no_pgvector()] if has_provider else []
        return [unsound(found.version)] if found.version < SOUND_SINCE else []

    def index_faults(self, connection: Connection) -> list[Fault]:
        names = connection.execute(INVALID_INDEXES, {"search": self._names["search"]}).scalars()
        return [
            Fault(
                "invalid-index", "error", f"the index {name} is not valid", f"REINDEX INDEX CONCURRENTLY {name};", name
            )
            for name in names
        ]

    def mend(self, fault: Fault) -> None:
        """Concurrently, which takes a connection outside any transaction."""
        if fault.check != "invalid-index":
            return
        verb = "DROP" if fault.name.strip('"').endswith(HALF_BUILT) else "REINDEX"
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"{verb} INDEX CONCURRENTLY {fault.name}".replace("%", "%%"))

    def embedding_tables(self, connection: Connection) -> set[int]:
        return set(connection.execute(EMBEDDING_TABLES, {"search": self._names["search"]}).scalars())

    def restore_generation(self, connection: Connection, generation: Generation) -> None:
        """Where pgvector was dropped, a table without its vectors is left."""
        connection.execute(self._text(sql.DROP_TABLE, generation))
        self.add_generation(connection, generation)

    def ids_after(self, connection: Connection, entity: str, after: str, limit: int) -> list[str]:
        binds = {"entity": entity, "after": after, "limit": limit}
        return list(connection.execute(self._text(IDS_AFTER), binds).scalars())

    def duplicates(self, connection: Connection, after: Ref | None, limit: int) -> tuple[list[Ref], Ref | None]:
        return self._refs_of(connection, self._format(DUPLICATES), after, limit)

    def leftovers(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        statement = self._format(EMBEDDINGS, generation, condition=self._format(IS_LEFT_OVER))
        return self._refs_of(connection, statement, after, limit)

    def bad_vectors(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        found = self._load_extensions(connection)
        if found is None:
            return [], None
        condition = self._format(IS_BAD, generation, vector_dims=f"{found.schema}.vector_dims")
        return self._refs_of(connection, self._format(EMBEDDINGS, generation, condition=condition), after, limit)

    def drop_embeddings(self, connection: Connection, generation: Generation, keys: Sequence[Key]) -> None:
        statement = self._text(sql.DELETE_EMBEDDINGS, generation)
        for entity, refs in groupby(sorted(cast(Sequence[Ref], keys)), key=lambda ref: ref.entity):
            connection.execute(statement, {"entity": entity, "ids": [ref.id for ref in refs]})

    def _refs_of(
        self, connection: Connection, statement: str, after: Ref | None, limit: int
    ) -> tuple[list[Ref], Ref | None]:
        entity, id_ = after or ("", "")
        rows = connection.execute(text(statement), {"entity": entity, "id": id_, "limit": limit})
        found = [Ref(*row) for row in rows]
        return found, found[-1] if found else None

    def _why_unused(self, connection: Connection, generation: Generation) -> str:
        """With the settings of a search."""
        fewest = postgresql_schema.INDEXED_FROM
        many = connection.scalar(self._text(sql.COUNT_EMBEDDINGS, generation), {"many": fewest}) or 0
        state = self.vector_index(connection, generation)
        if many < fewest or state not in ("exact", "hnsw"):
            return ""
        if state == "exact":
            return f"{fewest:,} embeddings or more have no HNSW index, so each search reads all of them"
        plan = connection.execute(self._text(NEAREST, generation)).scalars()
        if any(f"kdb_embedding_g{generation.number}_hnsw" in line for line in plan):
            return ""
        return "the planner leaves the HNSW index aside and reads all embeddings"


def no_pgvector() -> Fault:
    message = "PostgreSQL has no pgvector here: nothing is searched by meaning"
    return Fault("no-extension", "warning", message, "an administrator runs: CREATE EXTENSION vector;")


def unsound(version: Sequence[int]) -> Fault:
    return Fault(
        "pgvector-version",
        "warning",
        f"pgvector {'.'.join(map(str, version))} has known faults that can corrupt an HNSW index (0.8.2: parallel "
        "builds, 0.8.3: vacuum, 0.8.4: repair)",
        "install 0.8.4 or later on the server, then run: ALTER EXTENSION vector UPDATE;  and REINDEX the HNSW indexes",
    )
