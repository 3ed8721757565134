"""The vector leg in PostgreSQL: pgvector's HNSW index, or an exact scan. Imports `values` and `errors`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ...errors import VectorsUnavailable
from ...values import Generation
from ..values import Candidates, Progress, Scope, bound
from . import hnsw
from . import statements as sql
from .connections import PostgreSQLConnections
from .copy import adapt
from .rows import packed
from .scope import PostgreSQLScopes
from .templates import MAX_HALFVEC, MAX_VECTOR, Templates

HALFVEC_SINCE, ITERATIVE_SINCE = (0, 7), (0, 8)
"""Versions of pgvector."""
MAX_EF_SEARCH = 1_000
"""The largest `hnsw.ef_search` that pgvector takes."""
NARROW = 10_000
"""Records that a filter leaves at most to be compared one by one. Chosen, not measured."""


@dataclass(eq=False)
class PostgreSQLVectors:
    _connections: PostgreSQLConnections
    _templates: Templates
    _scopes: PostgreSQLScopes
    _ef_search: int

    def nearest(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        limit: int,
        *,
        docs: Sequence[int] | None = None,
        excluded: Sequence[int] = (),
    ) -> Candidates:
        self.prepare(connection, limit)
        statement, binds = self._statement(generation, scope, docs, excluded)
        binds |= {"vector": packed(generation, vector), "hnsw": self._templates.hnsw(generation)}
        return leg_of(read(connection, statement, binds, limit), limit)

    def cosines(
        self, connection: Connection, generation: Generation, vector: Any, docs: Sequence[int]
    ) -> dict[int, float]:
        if not docs:
            return {}
        adapt(connection)
        statement = self._templates.text(sql.COSINES, generation, distance=self._distance(generation))
        rows = connection.execute(statement, {"docs": list(docs), "vector": packed(generation, vector)})
        return {row[0]: row[1] for row in rows}

    def prepare(self, connection: Connection, limit: int) -> None:
        """Settings of this transaction. pgvector may have been installed after this store was made."""
        found = self._templates.pgvector or self._templates.load_extensions(connection)
        if found is None:
            raise VectorsUnavailable("pgvector was dropped from this database: CREATE EXTENSION vector;")
        adapt(connection)
        settings = [f"hnsw.ef_search = {min(MAX_EF_SEARCH, max(self._ef_search, limit))}"]
        if found.version >= ITERATIVE_SINCE:
            settings.append("hnsw.iterative_scan = relaxed_order")
        self._connections.set_local(connection, *settings)

    def _statement(
        self, generation: Generation, scope: Scope, docs: Sequence[int] | None, excluded: Sequence[int]
    ) -> tuple[str, dict[str, Any]]:
        """Renders the query; `:vector`, `:hnsw` and `:limit` are left to be bound."""
        where, binds = self._scopes.sql(scope if docs is None else Scope(), "e")
        if len(excluded):
            where += " AND e.doc <> ALL(CAST(:excluded AS bigint[]))"
            binds["excluded"] = list(excluded)
        names, parts = self._parts(scope, docs, binds)
        if docs is not None:
            names["near"] = f"{where} AND e.doc = ANY(CAST(:docs AS bigint[]))"
        names |= {"distance": self._distance(generation), "scope": where}
        ctes = ", ".join(self._templates.format(part, generation, **{"near": where, **names}) for part in parts)
        return self._templates.format(sql.BY_VECTOR, ctes=ctes), binds

    def _distance(self, generation: Generation) -> str:
        return self._templates.format(sql.DISTANCE, generation, bind=":vector")

    def _parts(
        self, scope: Scope, docs: Sequence[int] | None, binds: dict[str, Any]
    ) -> tuple[dict[str, str], Sequence[str]]:
        """Chooses the CTEs, and fills in those of a scope that may leave few records."""
        if docs is None and scope.filter is None and scope.among is None:
            return {"if_wide": "", "and_wide": ""}, (sql.INDEX, sql.NEAR, sql.WHOLE, sql.NEAREST, sql.BEST)
        names = {"if_wide": f" WHERE {sql.IS_WIDE}", "and_wide": f" AND {sql.IS_WIDE}", "is_wide": sql.IS_WIDE}
        names["joined"] = sql.OF_RECORDS if docs is None else sql.OF_DOCS
        binds["narrow"] = NARROW
        if docs is not None:
            allowed = sql.ALLOWED_DOCS
            binds["docs"] = list(docs)
        elif scope.filter is not None:
            allowed = sql.ALLOWED
            names["condition"] = self._scopes.of_records(scope.filter, scope.entities, binds)
        else:
            allowed = sql.ALLOWED_AMONG
            names["among"] = scope.among.sql if scope.among else ""
        return names, (sql.INDEX, allowed, sql.NEAR, sql.WHOLE, sql.FEW, sql.NEAREST_OR_FEW, sql.BEST)

    # the vector index

    def refusal(self, connection: Connection, dimensions: int) -> str:
        if dimensions > MAX_HALFVEC:
            raise VectorsUnavailable(
                f"the model makes {dimensions:,} dimensions, pgvector indexes {MAX_HALFVEC:,} at most. Ask the model "
                "for fewer (OpenAIProvider(dimensions=1024)), or use another"
            )
        found = self._templates.pgvector or self._templates.load_extensions(connection)
        if found is None:
            return (
                "PostgreSQL has no pgvector here. An administrator installs its package on the server and runs in this "
                "database: CREATE EXTENSION vector;  then `kameleon embeddings sync` fills what is pending"
            )
        if dimensions > MAX_VECTOR and found.version < HALFVEC_SINCE:
            return (
                f"{dimensions:,} dimensions need pgvector 0.7 or later, this is "
                f"{'.'.join(map(str, found.version))}. An administrator runs: ALTER EXTENSION vector UPDATE;"
            )
        return ""

    def index_state(self, connection: Connection, generation: Generation) -> str:
        return hnsw.state(connection, self._templates, generation)

    def build_index(
        self,
        generation: Generation,
        *,
        concurrently: bool = True,
        progress: Progress | None = None,
    ) -> bool:
        return hnsw.build(self._connections, self._templates, generation, concurrently, progress)


def read(connection: Connection, statement: str, binds: dict[str, Any], limit: int) -> Sequence[Any]:
    """Reads more passages until they are of `limit` records, or there are no more."""
    depth = limit
    while True:
        rows = connection.execute(*bound(text(statement), {**binds, "limit": depth})).all()
        next_depth = deeper(rows, limit, depth)
        if not next_depth:
            return rows
        depth = next_depth


def deeper(nearest: Sequence[Any], wanted: int, depth: int) -> int:
    """Returns how many passages to read next, where the `depth` nearest are of fewer records than wanted; 0 where these
    are all there are."""
    if len(nearest) >= wanted or not nearest or nearest[0].looked_at < depth:
        return 0
    return max(2 * depth, 3 * depth * wanted // (2 * len(nearest)))


def leg_of(rows: Sequence[Any], limit: int) -> Candidates:
    """Returns the vector leg, best first."""
    best = sorted(rows, key=lambda row: (-row.cosine, row.doc))[:limit]
    is_hnsw = any(row.is_hnsw for row in best)
    return Candidates({row.doc: row.cosine for row in best}, is_exact=not is_hnsw, how="hnsw" if is_hnsw else "exact")
