"""The vector leg in PostgreSQL: pgvector's HNSW index, or an exact scan. Imports `values` and `errors`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast

from sqlalchemy import Connection, text

from ...errors import VectorsUnavailable
from ...values import Generation, Ref
from ..bm25 import best_first
from ..values import Candidates, Key, Progress, Scope, bound
from . import hnsw
from . import statements as sql
from .connections import PostgreSQLConnections
from .copy import adapt
from .keywords import BM25, ONES, PostgreSQLKeywords
from .rows import packed, pairs_of
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
    _keywords: PostgreSQLKeywords
    _scopes: PostgreSQLScopes
    _ef_search: int

    def by_vector(
        self, connection: Connection, generation: Generation, vector: Any, scope: Scope, limit: int, keyword: Candidates
    ) -> tuple[Candidates, Candidates]:
        self.prepare(connection, limit)
        statement, binds = self._statement(generation, scope, keyword)
        binds |= {"vector": packed(generation, vector), "hnsw": self._templates.hnsw(generation)}
        rows = read(connection, statement, binds, limit)
        own, nearest = nearest_of(rows, limit)
        scores: dict[Key, float] = {
            ref: row.score for ref, row in nearest.items() if row.score and ref not in keyword.scores
        }
        return replace(keyword, others=scores), own

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

    def _statement(self, generation: Generation, scope: Scope, keyword: Candidates) -> tuple[str, dict[str, Any]]:
        """Renders the query of both legs' scores; `:vector`, `:hnsw` and `:limit` are left to be bound."""
        where, binds = self._scopes.sql(scope, "e")
        distance, score, others = self._templates.format(sql.DISTANCE, generation), "NULL", ""
        names, parts = self._parts(scope, binds)
        if keyword.terms:
            score = BM25.format(ones=ONES, terms="all_terms", weights="all_weights")
            binds |= self._keywords.bm25_binds(keyword.terms, keyword.totals, "all")
        if keyword.scores:
            others = self._templates.format(sql.OTHERS, generation, distance=distance)
            binds |= pairs_of(keyword.scores)
        names |= {"distance": distance, "scope": where}
        ctes = ", ".join(self._templates.format(part, generation, **names) for part in parts)
        return self._templates.format(sql.BY_VECTOR, ctes=ctes, score=score) + others, binds

    def _parts(self, scope: Scope, binds: dict[str, Any]) -> tuple[dict[str, str], Sequence[str]]:
        """Chooses the CTEs, and fills in those of a scope that may leave few records."""
        has_phrases = bool(scope.phrases or scope.excluded)
        if scope.filter is None and scope.among is None and not has_phrases:
            return {"if_wide": "", "and_wide": ""}, (sql.INDEX, sql.NEAR, sql.WHOLE, sql.NEAREST, sql.BEST)
        allowed = (
            sql.ALLOWED_BY_PHRASES if has_phrases else sql.ALLOWED if scope.filter is not None else sql.ALLOWED_AMONG
        )
        names = {"if_wide": f" WHERE {sql.IS_WIDE}", "and_wide": f" AND {sql.IS_WIDE}", "is_wide": sql.IS_WIDE}
        names["condition"] = self._scopes.of_records(scope.filter, scope.entities, binds) if scope.filter else ""
        names["among"] = scope.among.sql if scope.among else ""
        names["phrases"] = self._scopes.sql(scope, "s")[0] if has_phrases else ""
        binds["narrow"] = NARROW
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
        self, generation: Generation, *, concurrently: bool = True, progress: Progress | None = None
    ) -> bool:
        return hnsw.build(self._connections, self._templates, generation, concurrently, progress)


def read(connection: Connection, statement: str, binds: dict[str, Any], limit: int) -> Sequence[Any]:
    """Reads more passages until they are of `limit` records, or there are no more."""
    depth = limit
    while True:
        rows = connection.execute(*bound(text(statement), {**binds, "limit": depth})).all()
        next_depth = deeper([row for row in rows if row.is_nearest], limit, depth)
        if not next_depth:
            return rows
        depth = next_depth


def deeper(nearest: Sequence[Any], wanted: int, depth: int) -> int:
    """Returns how many passages to read next, where the `depth` nearest are of fewer records than wanted; 0 where these
    are all there are."""
    if len(nearest) >= wanted or not nearest or nearest[0].looked_at < depth:
        return 0
    return max(2 * depth, 3 * depth * wanted // (2 * len(nearest)))


def nearest_of(rows: Sequence[Any], limit: int) -> tuple[Candidates, dict[Ref, Any]]:
    """Returns the vector leg, best first, and the rows of its records."""
    nearest = {Ref(row.entity_name, row.record_id): row for row in rows if row.is_nearest}
    others = {Ref(row.entity_name, row.record_id): row.cosine for row in rows if not row.is_nearest}
    best = best_first({ref: row.cosine for ref, row in nearest.items()})
    chosen = {ref: nearest[ref] for ref in islice(cast("dict[Ref, float]", best), limit)}
    is_hnsw = any(row.is_hnsw for row in chosen.values())
    leg = Candidates(
        {ref: row.cosine for ref, row in chosen.items()},
        {ref: cosine for ref, cosine in others.items() if ref not in chosen},
        is_exact=not is_hnsw,
        how="hnsw" if is_hnsw else "exact",
    )
    return leg, chosen
