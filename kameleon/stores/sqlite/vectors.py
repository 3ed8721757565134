"""The vector leg in SQLite: embeddings compared in memory by NumPy, or by sqlite-vec. Imports `values` and `errors`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from ...errors import StorageError
from ...values import Generation
from ..names import Names
from ..own_connections import is_own, own_driver
from ..values import Candidates, Progress, Scope, bound, nearest_of
from . import statements as sql
from .contents import cosines
from .embedding_log import Now
from .mirrors import Mirrors
from .rows import as_json
from .scope import SQLiteScopes

VECTOR_SEARCHES = ("auto", "numpy", "sqlite-vec")
FEW = 5_000
"""Bounds the records of the entities whose numbers sqlite-vec is given. Chosen, not measured."""


class Read(NamedTuple):
    """What a query reads: the mirrors of these `tenants`, None for that of all, and the `scope` in them."""

    now: Now
    tenants: Sequence[str | None]
    scope: Scope


class SQLiteVectors:
    """`vector_search`: numpy keeps the embeddings in memory, sqlite-vec reads them in each query; auto takes sqlite-vec
    for the first query of a generation's mirror, where the extension loads, and NumPy from the second on.

    Each tenant has a mirror of its own, so that what other tenants write changes nothing for it. While no record has a
    tenant, there is one of all, which a search of all tenants reads, too."""

    def __init__(self, names: Names, scopes: SQLiteScopes, vector_search: str) -> None:
        self._names = names
        self._scopes = scopes
        self._vector_search = vector_search
        self._mirrors = Mirrors(names)

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
        read = self._read(connection, scope)
        if not read.tenants:
            return Candidates({})
        if self._uses_extension(connection, generation, read.tenants):
            found = self._by_extension(connection, generation, vector, read.scope, limit, docs, excluded)
        else:
            found = self._in_memory(connection, generation, vector, read, limit, docs, excluded)
        beside = [doc for doc in beside if doc not in found.scores]
        return replace(found, others=self._cosines(connection, generation, vector, read, beside)) if beside else found

    def _read(self, connection: Connection, scope: Scope) -> Read:
        """Without a condition on tenants where there are none, if the transaction is one that sees a single state."""
        now = self._mirrors.now(connection)
        if scope.tenants is not None and (now.is_divided or not scope.tenants):
            return Read(now, scope.tenants, scope)
        is_free = scope.tenants == ("",) and is_own(connection)
        return Read(now, (None,), replace(scope, tenants=None) if is_free else scope)

    def _in_memory(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        read: Read,
        limit: int,
        docs: Sequence[int] | None,
        excluded: Sequence[int],
    ) -> Candidates:
        scope, parts = read.scope, []
        accept = None if scope.is_all or docs is not None else partial(self._scopes.within, connection, scope)
        for tenant in read.tenants:
            found = self._mirrors.of(generation, tenant).best(
                connection,
                vector,
                limit,
                now=read.now,
                tenants=scope.tenants if tenant is None else None,
                entities=scope.entities,
                allowed=docs,
                accept=accept,
                excluded=excluded,
            )
            self._mirrors.measure(generation, tenant)
            parts.append(Candidates(found.scores, is_exact=found.is_exact, how="numpy", scanned=found.scanned))
        return parts[0] if len(parts) == 1 else nearest_of(parts, limit)

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
        if docs is None and scope.is_all and (scope.entities or scope.tenants is not None):
            docs = self._scopes.docs(connection, scope, FEW)
        where, binds = self._scopes.sql(scope)
        join = "" if where == "1" else self._names(sql.JOIN_CONTENT)
        statement = self._names(sql.BY_VECTOR).format(number=generation.number, join=join, scope=where)
        if docs is not None:
            statement, binds = (
                self._names(sql.BY_VECTOR_AMONG).format(number=generation.number),
                {"docs": as_json(docs)},
            )
        asked, binds = bound(text(statement), binds)
        binds |= {"vector": vector.tobytes(), "limit": limit, "excluded": as_json(excluded)}
        rows = connection.execute(asked, binds)
        return Candidates({row.search_id: row.score for row in rows}, how="sqlite-vec")

    def _cosines(
        self, connection: Connection, generation: Generation, vector: Any, read: Read, docs: Sequence[int]
    ) -> dict[int, float]:
        """Of the embeddings in memory, where a query has read them."""
        known = [self._mirrors.known(generation, tenant) for tenant in read.tenants]
        mirrors = [mirror for mirror in known if mirror is not None]
        if len(mirrors) < len(known):
            return scores_of(connection, self._names.embeddings(generation.number), vector, docs)
        return {doc: score for mirror in mirrors for doc, score in mirror.scores(connection, vector, docs).items()}

    def forget(self, tenant: str) -> None:
        """Lets go of a tenant's embeddings in memory."""
        self._mirrors.forget(tenant)

    def _uses_extension(self, connection: Connection, generation: Generation, tenants: Sequence[str | None]) -> bool:
        is_first = self._mirrors.is_first(generation, tenants)
        if self._vector_search == "numpy" or (self._vector_search == "auto" and not is_first):
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
