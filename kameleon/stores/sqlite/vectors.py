"""The vector leg in SQLite: embeddings compared in memory by NumPy, or by sqlite-vec. Imports `values` and `errors`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, text

from ...errors import StorageError
from ...values import Generation
from ..own_connections import is_own, own_driver
from ..values import Candidates, Key, Progress, Scope, bound
from . import statements as sql
from .keywords import SQLiteKeywords
from .scope import ResolvedScope, SQLiteScopes

if TYPE_CHECKING:
    from .mirror import Mirror

VECTOR_SEARCHES = ("auto", "numpy", "sqlite-vec")
MIRRORS_KEPT = 2
"""Generations whose embeddings stay in memory: the active one, and one that is built or compared."""


class SQLiteVectors:
    """`vector_search`: numpy keeps the embeddings in memory, sqlite-vec reads them in each query; auto takes sqlite-vec
    for a store's first query, where the extension loads, and NumPy from the second on."""

    def __init__(self, keywords: SQLiteKeywords, scopes: SQLiteScopes, vector_search: str) -> None:
        self._keywords = keywords
        self._scopes = scopes
        self._vector_search = vector_search
        self._mirrors: dict[tuple[int, str], Mirror] = {}
        self._has_answered = False

    def by_vector(
        self, connection: Connection, generation: Generation, vector: Any, scope: Scope, limit: int, keyword: Candidates
    ) -> tuple[Candidates, Candidates]:
        resolved = keyword.totals or self._scopes.resolve(connection, scope)
        own = self._nearest(connection, generation, vector, resolved, limit)
        cosines = self._vector_scores(
            connection, generation, vector, [key for key in keyword.scores if key not in own.scores], own.how
        )
        scores = self._keywords.keyword_scores(
            connection, keyword.terms, [key for key in own.scores if key not in keyword.scores]
        )
        return replace(keyword, others=scores), replace(own, others=cosines)

    def _nearest(
        self, connection: Connection, generation: Generation, vector: Any, resolved: ResolvedScope, limit: int
    ) -> Candidates:
        if self._uses_extension(connection):
            where, binds = resolved.where, resolved.binds
            if resolved.ids is not None:
                where, binds = "s.id IN (SELECT value FROM json_each(:ids))", {"ids": json.dumps(resolved.ids)}
            join = "" if resolved.is_all else "JOIN kdb_search AS s ON s.id = e.search_id"
            statement = text(sql.BY_VECTOR.format(number=generation.number, join=join, scope=where))
            statement, binds = bound(statement, binds)
            rows = connection.execute(statement, {"vector": vector.tobytes(), "limit": limit, **binds})
            return Candidates({row.search_id: row.score for row in rows}, how="sqlite-vec")
        is_listed = resolved.is_all or resolved.ids is not None
        accept = None if is_listed else partial(self._scopes.within, connection, resolved)
        found = self._mirror(generation).best(connection, vector, limit, allowed=resolved.ids, accept=accept)
        nearest = cast(Mapping[Key, float], found.scores)
        return Candidates(nearest, is_exact=found.is_exact, how="numpy", scanned=found.scanned)

    def _vector_scores(
        self, connection: Connection, generation: Generation, vector: Any, keys: Sequence[Key], how: str
    ) -> dict[Key, float]:
        if not keys:
            return {}
        if how == "numpy":
            return cast(dict[Key, float], self._mirror(generation).scores(connection, vector, cast(Any, keys)))
        statement = text(sql.VECTOR_SCORES.format(number=generation.number))
        rows = connection.execute(statement, {"vector": vector.tobytes(), "keys": json.dumps(keys)})
        return {row[0]: row[1] for row in rows}

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

    def build_index(
        self, generation: Generation, *, concurrently: bool = True, progress: Progress | None = None
    ) -> bool:
        return False


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
