"""Checks and repairs of an index in PostgreSQL. Imports `values`."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, text

from ...values import Generation, Ref, Sizes
from ..keyword_faults import keyword_faults, server_faults
from ..settings import Settings
from ..tables import Tables
from ..values import Fault, Key
from . import hnsw
from . import statements_vectors as sql
from .connections import PostgreSQLConnections
from .rows import after_key
from .templates import Templates
from .vectors import PostgreSQLVectors

# 0.8.2: a parallel build of HNSW wrote past its buffer. 0.8.3: a vacuum could corrupt HNSW. 0.8.4: it repairs graphs.
SOUND_SINCE = (0, 8, 4)
HALF_BUILT = ("_ccnew", "_ccold")

INVALID_INDEXES = text("""
    SELECT CAST(CAST(i.indexrelid AS regclass) AS text) AS name, t.relname AS table
    FROM pg_index AS i JOIN pg_class AS t ON t.oid = i.indrelid
    WHERE NOT i.indisvalid AND starts_with(t.relname, 'kdb_')
      AND t.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:search))
      AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid)
    ORDER BY name
""")

SIZES = text("""
    SELECT c.relname, pg_total_relation_size(c.oid), pg_database_size(current_database())
    FROM pg_class AS c
    WHERE c.relkind = 'r' AND starts_with(c.relname, 'kdb_')
      AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:search))
    ORDER BY 2 DESC, 1
""")

REFS_AFTER = """
    (SELECT entity_name, record_id, tenant FROM {search}
     WHERE tenant = :tenant AND entity_name = :entity AND record_id > :id ORDER BY record_id LIMIT :limit)
    UNION ALL
    (SELECT entity_name, record_id, tenant FROM {search}
     WHERE tenant > :tenant AND entity_name = :entity ORDER BY tenant, entity_name, record_id LIMIT :limit)
"""
DUPLICATES = """
    SELECT entity_name, record_id, tenant FROM {search}
    WHERE (tenant, entity_name, record_id) > (:tenant, :entity, :id)
    GROUP BY tenant, entity_name, record_id HAVING count(*) > 1
    ORDER BY tenant, entity_name, record_id LIMIT :limit
"""
TERMS_FAULTS = """
    SELECT entity_name, count(s.doc), count(t.doc)
    FROM {search} AS s FULL JOIN {terms} AS t USING (tenant, entity_name, record_id)
    WHERE s.doc IS DISTINCT FROM t.doc GROUP BY entity_name ORDER BY entity_name
"""
EMBEDDINGS = """
    SELECT DISTINCT e.doc FROM {embedding} AS e WHERE e.doc > :after AND {condition} ORDER BY e.doc LIMIT :limit
"""
IS_LEFT_OVER = """NOT EXISTS (
      SELECT 1 FROM {search} AS s WHERE s.doc = e.doc AND s.tenant = e.tenant AND s.record_id = e.record_id
    )"""
IS_BAD = """
    e.embedding IS NOT NULL AND CASE WHEN {vector_dims}(e.embedding) = {dimensions}
      THEN NOT -(e.embedding {ip} e.embedding) BETWEEN 0.98 AND 1.02 ELSE true END
"""
NEAREST = """
    EXPLAIN SELECT e.entity_name, e.record_id FROM {embedding} AS e WHERE e.embedding IS NOT NULL{part}
    ORDER BY {distance} LIMIT 10
"""

ONES = "array_fill(CAST(1 AS real), ARRAY[{}])"


@dataclass(eq=False)
class PostgreSQLHealth:
    _connections: PostgreSQLConnections
    _templates: Templates
    _tables: Tables
    _vectors: PostgreSQLVectors
    _settings: Settings

    def sizes(self, connection: Connection) -> Sizes:
        rows = connection.execute(SIZES, {"search": self._templates.names["search"]}).all()
        own = {name: size for name, size, _ in rows if self._templates.own.is_own(name)}
        return Sizes(rows[0][2] if rows else 0, own)

    def faults(self, connection: Connection, *, has_provider: bool) -> list[Fault]:
        self._templates.pgvector = None
        found = self._templates.load_extensions(connection)
        if found is None:
            return [no_pgvector()] if has_provider else []
        return [unsound(found.version)] if found.version < SOUND_SINCE else []

    def index_faults(self, connection: Connection) -> list[Fault]:
        found = connection.execute(INVALID_INDEXES, {"search": self._templates.names["search"]})
        return [
            Fault(
                "invalid-index", "error", f"the index {name} is not valid", f"REINDEX INDEX CONCURRENTLY {name};", name
            )
            for name, table in found
            if self._templates.own.is_own(table)
        ]

    def keyword_faults(self, connection: Connection) -> list[Fault]:
        if self._settings.keyword_search == "server":
            return server_faults(connection.exec_driver_sql(self._templates.format(TERMS_FAULTS)))
        contents = self._templates.format("SELECT tenant, entity_name, doc FROM {search}")
        return keyword_faults(connection, contents, self._tables.keywords)

    def mend(self, fault: Fault) -> None:
        """Concurrently, which takes a connection outside any transaction."""
        if fault.check != "invalid-index":
            return
        verb = "DROP" if fault.name.strip('"').endswith(HALF_BUILT) else "REINDEX"
        with self._connections.outside_transactions() as connection:
            connection.exec_driver_sql(f"{verb} INDEX CONCURRENTLY {fault.name}".replace("%", "%%"))

    def refs_after(self, connection: Connection, entity: str, after: Ref | None, limit: int) -> list[Ref]:
        binds = {**after_key((after or Ref(entity, "")).key), "limit": limit}
        found = [Ref(*row) for row in connection.execute(self._templates.text(REFS_AFTER), binds)]
        return sorted(found, key=attrgetter("key"))[:limit]

    def duplicates(self, connection: Connection, after: Ref | None, limit: int) -> tuple[list[Ref], Ref | None]:
        binds = {**after_key(after.key if after else None), "limit": limit}
        found = [Ref(*row) for row in connection.execute(self._templates.text(DUPLICATES), binds)]
        return found, found[-1] if found else None

    def leftovers(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        condition = self._templates.format(IS_LEFT_OVER)
        return self._embeddings(connection, generation, condition, after, limit)

    def bad_vectors(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        found = self._templates.load_extensions(connection)
        if found is None:
            return [], None
        condition = self._templates.format(IS_BAD, generation, vector_dims=f"{found.schema}.vector_dims")
        return self._embeddings(connection, generation, condition, after, limit)

    def _embeddings(
        self, connection: Connection, generation: Generation, condition: str, after: Any, limit: int
    ) -> tuple[list[int], Any]:
        statement = self._templates.text(EMBEDDINGS, generation, condition=condition)
        found = list(connection.execute(statement, {"after": after or 0, "limit": limit}).scalars())
        return found, found[-1] if found else None

    def unused_index(self, connection: Connection, generation: Generation) -> str:
        """With the settings of a search."""
        self._connections.prepare_search(connection)
        self._vectors.prepare(connection, limit=10)
        if problem := self._vectors.missing_index(connection, generation):
            return problem
        there = hnsw.states(connection, self._templates, generation)
        for index in hnsw.wanted(connection, self._templates, generation, there):
            if there.get(index.name) == hnsw.BUILT and not self._is_used(connection, generation, index):
                whose = f" of the embeddings of {index.tenant}" if index.tenant else ""
                return f"the planner leaves the HNSW index{whose} aside and reads all embeddings"
        return ""

    def _is_used(self, connection: Connection, generation: Generation, index: hnsw.Wanted) -> bool:
        distance = self._templates.format(sql.INDEXED_DISTANCE, generation, bind=ONES.format(generation.dimensions))
        part, binds = "", {}
        if index.number is not None:
            part, binds = f" AND e.tenant = :tenant AND {hnsw.condition(index, 'e.')}", {"tenant": index.tenant}
        plan = connection.execute(self._templates.text(NEAREST, generation, part=part, distance=distance), binds)
        return any(f"{index.name} " in f"{line} " for line in plan.scalars())


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
