"""The vector leg in PostgreSQL: pgvector's HNSW index, or an exact scan. Imports `values` and `errors`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ...errors import VectorsUnavailable
from ...values import Generation
from ..own_connections import is_own
from ..values import Candidates, Progress, Scope, nearest_of
from . import hnsw
from . import statements_vectors as sql
from .connections import PostgreSQLConnections
from .copy import adapt
from .fetching import selected
from .rows import packed
from .scope import PostgreSQLScopes
from .scope import of_tenants as sql_of_tenants
from .templates import HALFVEC_SINCE, MAX_HALFVEC, MAX_VECTOR, Templates

NEAR, WIDENED = 10, 5
"""How many of the nearest are to be found, and how many times as far a search looks again that may have missed some."""
LEAST_CONTRAST = 1.15
"""A search of HNSW may have missed some where its last passage is less than so many times as far (1 - cosine) as the
tenth (He, Kumar and Chang, "On the difficulty of nearest neighbor search", 2012). Of queries above it recall@10 is .98
to 1 at an `ef_search` of 100, of those below .83 to .92; stress/README.md has the figures."""
NARROW = 10_000
"""Records that a filter leaves at most to be compared one by one. Chosen, not measured."""
NUMBERS_KEPT = 10_000
"""Bounds the tenants whose numbers, and the indexes whose presence, are remembered. Chosen, not measured."""


class Passage(NamedTuple):
    """`doc` is None where the content it is of is there no more; `is_hnsw` whether the HNSW index was read."""

    doc: int | None
    cosine: float
    is_hnsw: bool


Found = tuple[Sequence[Passage], dict[int, float]]


@dataclass(eq=False)
class PostgreSQLVectors:
    """`_has_index` is whether there was an HNSW index of that name when it was last looked for; `_numbers` are those
    of tenants."""

    _connections: PostgreSQLConnections
    _templates: Templates
    _scopes: PostgreSQLScopes
    _has_index: dict[str, bool] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

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
        beside: Sequence[int] = (),
    ) -> Candidates:
        """A tenant's are found in an index of its own, or compared one by one."""
        if scope.tenants is not None and len(scope.tenants) != 1:
            parts = [replace(scope, tenants=(tenant,)) for tenant in scope.tenants]
            one = partial(self.nearest, connection, generation, vector, docs=docs, excluded=excluded, beside=beside)
            return nearest_of([one(part, limit) for part in parts], limit) if parts else Candidates({})
        self.prepare(connection, limit)
        search = self._search(connection, generation, vector, scope, docs, excluded)
        nearest, others = search(limit, beside)
        if may_miss(nearest):
            self.look_as_far_as(connection, WIDENED * max(limit, self._templates.ef_search))
            nearest, _ = search(limit, ())
        return leg_of(nearest, limit, others)

    def prepare(self, connection: Connection, limit: int) -> None:
        """Settings of this transaction, with some of which our own began. pgvector may have been installed after this
        store was made."""
        if self._templates.pgvector is None or not is_own(connection) or limit > self._templates.ef_search:
            if self._templates.pgvector is None and self._templates.load_extensions(connection) is None:
                raise VectorsUnavailable("pgvector was dropped from this database: CREATE EXTENSION vector;")
            self.look_as_far_as(connection, max(limit, self._templates.ef_search))
        adapt(connection)

    def look_as_far_as(self, connection: Connection, ef_search: int) -> None:
        self._connections.set_local(connection, *self._templates.hnsw_settings(ef_search))

    def _search(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        docs: Sequence[int] | None,
        excluded: Sequence[int],
    ) -> Callable[[int, Sequence[int]], Found]:
        """Returns what reads the nearest, and the cosines of those beside them."""
        of_tenants, binds = sql_of_tenants(scope.tenants, "s")
        scanned = replace(scope, tenants=None) if scope.is_undivided else scope
        where, of_scope = self._scopes.sql(scanned if docs is None else Scope(tenants=scanned.tenants), "e")
        if len(excluded):
            where += " AND e.doc <> ALL(CAST(:excluded AS bigint[]))"
            binds["excluded"] = list(excluded)
        number = self._number(connection, scanned)
        hnsw = self._templates.hnsw(generation, number)
        binds |= {**of_scope, "vector": packed(generation, vector), "hnsw": hnsw}
        names = {
            **self._distances(generation),
            "of_tenants": of_tenants,
            "beside": sql_of_tenants(scanned.tenants, "e")[0],
            "part": "" if number is None else " AND " + sql.OF_TENANT.format(alias="e.", number=number),
        }
        if docs is None and scope.filter is None and scope.among is None and scope.ids is None:
            return partial(self._read, connection, generation, {**names, "scope": where}, binds)
        names |= self._filtered(scope, docs, where, binds)
        ctes = [self._templates.format(part, generation, **names) for part in (sql.INDEX, *self._parts(scope, docs))]
        names |= {"ctes": f"WITH {', '.join(ctes)}", "nearest": sql.NEAREST_IN_FILTER}
        return partial(read, connection, self._templates.format(sql.BY_VECTOR, generation, **names), binds)

    def _number(self, connection: Connection, scope: Scope) -> int | None:
        """Returns the number of the scope's tenant, whose index is named by it; None where the scope is of all."""
        if scope.tenants is None:
            return None
        (tenant,) = scope.tenants
        if tenant not in self._numbers:
            if len(self._numbers) >= NUMBERS_KEPT:
                self._numbers.clear()
            self._numbers[tenant] = connection.scalar(sql.TENANT_NUMBER, {"tenant": tenant}) or 0
        return self._numbers[tenant]

    def _distances(self, generation: Generation) -> dict[str, str]:
        distance = self._templates.format(sql.DISTANCE, generation, bind=":vector")
        return {
            "distance": distance,
            "exact_distance": sql.EXACT_DISTANCE.format(distance=distance),
            "indexed_distance": self._templates.format(sql.INDEXED_DISTANCE, generation, bind=":vector"),
            "has_index": sql.HAS_INDEX,
        }

    def _read(
        self,
        connection: Connection,
        generation: Generation,
        names: dict[str, str],
        binds: dict[str, Any],
        limit: int,
        beside: Sequence[int],
    ) -> Found:
        """Reads the HNSW index, unless the generation had none when it was last searched. What was read of none, or
        has not enough, is read again from all embeddings."""
        hnsw = binds["hnsw"]
        for by_index in (True, False) if self._has_index.get(hnsw, True) else (False,):
            order = {"order": names["indexed_distance" if by_index else "exact_distance"]}
            if not by_index:
                order["part"] = ""
            nearest = self._templates.format(sql.NEAREST, generation, **{**names, **order})
            statement = self._templates.format(sql.BY_VECTOR, generation, ctes="", nearest=nearest, **names)
            found, others = read(connection, statement, binds, limit, beside)
            has_index = any(passage.is_hnsw for passage in found)
            self._has_index[hnsw] = has_index
            if by_index and has_index and len({passage.doc for passage in found} - {None}) >= limit:
                return found, others
        return [passage._replace(is_hnsw=False) for passage in found] if has_index else found, others

    def _filtered(self, scope: Scope, docs: Sequence[int] | None, where: str, binds: dict[str, Any]) -> dict[str, str]:
        """What the CTEs of a scope that may leave few records are filled in with."""
        names = {"is_wide": sql.IS_WIDE, "scope": where, "near": where}
        names["joined"] = sql.OF_RECORDS if docs is None else sql.OF_DOCS
        binds["narrow"] = NARROW
        if docs is not None:
            names["near"] = f"{where} AND e.doc = ANY(CAST(:docs AS bigint[]))"
            binds["docs"] = list(docs)
        elif scope.filter is not None and not scope.is_mixed:
            names["condition"] = self._scopes.of_records(scope.filter, scope, binds)
        elif scope.tenants is None or scope.is_mixed:
            names["of_records"], of_scope = self._scopes.sql(scope, "s")
            binds |= of_scope
        else:
            names["among"] = scope.among.sql if scope.among else ""
        return names

    @staticmethod
    def _parts(scope: Scope, docs: Sequence[int] | None) -> Sequence[str]:
        of_all = scope.tenants is None or scope.is_mixed
        among = sql.ALLOWED_OF_ALL if of_all else sql.ALLOWED_AMONG
        allowed = sql.ALLOWED if scope.filter is not None and not scope.is_mixed else among
        return (
            sql.ALLOWED_DOCS if docs is not None else allowed,
            sql.NEAR,
            sql.WHOLE,
            sql.FEW,
        )

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

    def missing_index(self, connection: Connection, generation: Generation) -> str:
        return hnsw.missing(connection, self._templates, generation)

    def build_index(
        self,
        generation: Generation,
        *,
        concurrently: bool = True,
        progress: Progress | None = None,
    ) -> bool:
        self._has_index.clear()
        return hnsw.build(self._connections, self._templates, generation, concurrently, progress)


def read(connection: Connection, statement: str, binds: dict[str, Any], limit: int, beside: Sequence[int]) -> Found:
    """Reads more passages until they are of `limit` records, or there are no more."""
    depth = limit
    while True:
        rows = selected(connection, statement, {**binds, "limit": depth, "beside": list(beside)})
        found = [Passage(*row) for row in rows if row[2] is not None]
        others = {doc: cosine for doc, cosine, is_hnsw in rows if is_hnsw is None}
        next_depth = deeper(found, limit, depth)
        if not next_depth:
            return found, others
        depth = next_depth


def deeper(found: Sequence[Passage], wanted: int, depth: int) -> int:
    """Returns how many passages to read next, where the `depth` nearest are of fewer records than wanted; 0 where these
    are all there are."""
    records = len({passage.doc for passage in found} - {None})
    if records >= wanted or len(found) < depth:
        return 0
    return max(2 * depth, 3 * depth * wanted // (2 * records) if records else 0)


def may_miss(found: Sequence[Passage]) -> bool:
    """Whether a search of HNSW may have missed some of the nearest: those that it found are about as far as each
    other."""
    if len(found) <= NEAR or not found[0].is_hnsw:
        return False
    distances = sorted(1 - passage.cosine for passage in found)
    return distances[-1] < LEAST_CONTRAST * distances[NEAR - 1]


def leg_of(found: Sequence[Passage], limit: int, others: dict[int, float]) -> Candidates:
    """Returns the vector leg, best first, a record by its nearest passage."""
    cosines: dict[int, float] = {}
    for doc, cosine, _ in found:
        if doc is not None and cosine > cosines.get(doc, -2.0):
            cosines[doc] = cosine
    best = dict(sorted(cosines.items(), key=lambda item: (-item[1], item[0]))[:limit])
    is_hnsw = any(passage.is_hnsw for passage in found)
    others = {doc: cosine for doc, cosine in others.items() if doc not in best}
    return Candidates(best, others, is_exact=not is_hnsw, how="hnsw" if is_hnsw else "exact")
