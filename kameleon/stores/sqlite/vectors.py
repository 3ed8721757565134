"""The vector leg in SQLite: embeddings compared in memory by NumPy, or by sqlite-vec. Imports `values` and `errors`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from ...errors import StorageError
from ...values import Generation
from ..own_connections import is_own, own_driver
from ..values import Candidates, Progress, Scope, bound
from . import statements as sql
from .contents import cosines
from .rows import as_json
from .scope import SQLiteScopes

if TYPE_CHECKING:
    from .mirror import Mirror

VECTOR_SEARCHES = ("auto", "numpy", "sqlite-vec")
FEW = 5_000
"""Bounds the records of the entities whose numbers sqlite-vec is given. Chosen, not measured."""
MIRRORS_KEPT = 2
"""Generations whose embeddings stay in memory: the active one, and one that is built or compared."""


class SQLiteVectors:
    """`vector_search`: numpy keeps the embeddings in memory, sqlite-vec reads them in each query; auto takes sqlite-vec
    for a store's first query, where the extension loads, and NumPy from the second on."""

    def __init__(self, scopes: SQLiteScopes, vector_search: str) -> None:
        self._scopes = scopes
        self._vector_search = vector_search
        self._mirrors: dict[tuple[int, str], Mirror] = {}
        self._has_answered = False

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
        found = self._nearest(connection, generation, vector, scope, limit, docs, excluded)
        beside = [doc for doc in beside if doc not in found.scores]
        return replace(found, others=self._cosines(connection, generation, vector, beside)) if beside else found

    def _nearest(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        limit: int,
        docs: Sequence[int] | None,
        excluded: Sequence[int],
    ) -> Candidates:
        if self._uses_extension(connection):
            if docs is None and scope.is_all and scope.entities:
                docs = self._scopes.docs(connection, scope, FEW)
            return self._by_extension(connection, generation, vector, scope, limit, docs, excluded)
        accept = None if scope.is_all or docs is not None else partial(self._scopes.within, connection, scope)
        mirror = self._mirror(generation)
        found = mirror.best(
            connection, vector, limit, entities=scope.entities, allowed=docs, accept=accept, excluded=excluded
        )
        return Candidates(found.scores, is_exact=found.is_exact, how="numpy", scanned=found.scanned)

    def _by_extension(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        limit: int,
        docs: Sequence[int] | None,
        excluded: Sequence[int],
    ) -> Candidates:
        where, binds = self._scopes.sql(scope)
        join = "" if where == "1" else "JOIN kdb_search AS s ON s.id = e.search_id"
        statement = sql.BY_VECTOR.format(number=generation.number, join=join, scope=where)
        if docs is not None:
            statement, binds = sql.BY_VECTOR_AMONG.format(number=generation.number), {"docs": as_json(docs)}
        asked, binds = bound(text(statement), binds)
        binds |= {"vector": vector.tobytes(), "limit": limit, "excluded": as_json(excluded)}
        rows = connection.execute(asked, binds)
        return Candidates({row.search_id: row.score for row in rows}, how="sqlite-vec")

    def _cosines(
        self, connection: Connection, generation: Generation, vector: Any, docs: Sequence[int]
    ) -> dict[int, float]:
        """Of the embeddings in memory, where a query has read them."""
        mirror = self._mirrors.get((generation.number, generation.fingerprint))
        if not docs:
            return {}
        if mirror is not None:
            return mirror.scores(connection, vector, docs)
        return scores_of(connection, f"kdb_embedding_g{generation.number}", vector, docs)

    def _uses_extension(self, connection: Connection) -> bool:
        first, self._has_answered = not self._has_answered, True
        if self._vector_search == "numpy" or (self._vector_search == "auto" and not first):
            return False
        if load_extension(connection):
            return True
        if self._vector_search == "sqlite-vec":
            raise StorageError(
                "this Python's sqlite3 cannot load sqlite-vec. Use vector_search='numpy' (the same results), a Python "
                "built with loadable extensions, or pip install 'kameleon[sqlite]' and pass "
                "create_engine(..., module=pysqlite3)"
            )
        return False

    def _mirror(self, generation: Generation) -> "Mirror":
        from .mirror import Mirror  # NumPy loads with the first vector, a keyword search does without

        key = (generation.number, generation.fingerprint)
        mirror = self._mirrors.get(key) or Mirror(f"kdb_embedding_g{generation.number}", generation.dimensions)
        mirror = self._mirrors.setdefault(key, mirror)
        for oldest in [known for known in list(self._mirrors) if known != key][: 1 - MIRRORS_KEPT]:
            self._mirrors.pop(oldest, None)
        return mirror

    def is_extension_missing(self, connection: Connection) -> bool:
        return self._vector_search != "numpy" and not load_extension(connection)

    # the vector index

    def refusal(self, connection: Connection, dimensions: int) -> str:
        return ""

    def index_state(self, connection: Connection, generation: Generation) -> str:
        return "exact"

    def missing_index(self, connection: Connection, generation: Generation) -> str:
        return ""

    def build_index(
        self,
        generation: Generation,
        *,
        concurrently: bool = True,
        progress: Progress | None = None,
    ) -> bool:
        return False


def scores_of(connection: Connection, table: str, vector: Any, docs: Sequence[int]) -> dict[int, float]:
    """Reads the embeddings and compares them."""
    rows = connection.exec_driver_sql(sql.EMBEDDINGS_OF.format(table=table), (as_json(docs),)).all()
    best: dict[int, float] = {}
    for (doc, _), cosine in zip(rows, cosines([row[1] for row in rows], vector), strict=True):
        best[doc] = max(cosine, best.get(doc, cosine))
    return best


def load_extension(connection: Connection) -> bool:
    """Loads sqlite-vec into this connection, once; False where the driver cannot load extensions."""
    if "kameleon_sqlite_vec" not in connection.info:
        connection.info["kameleon_sqlite_vec"] = _load(connection)
    return bool(connection.info["kameleon_sqlite_vec"])


def _load(connection: Connection) -> bool:
    driver: Any = own_driver(connection) if is_own(connection) else connection.connection.dbapi_connection
    try:
        driver.enable_load_extension(True)
    except AttributeError:  # neither has a Python built without it, nor an asynchronous connection of the application's
        return False
    import sqlite_vec

    try:
        sqlite_vec.load(driver)
    finally:
        driver.enable_load_extension(False)
    return True
