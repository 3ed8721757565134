"""The embedding cache in the index's own database.

What was paid for is written in a transaction of its own as soon as it arrives, so that work which fails afterwards pays
nothing again. Where no second connection can write beside the caller's transaction (SQLite, which has one writer; an
exhausted pool), the rows wait and are written with it, and a rollback takes them along.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection, Table, bindparam, delete, func, select, update

from ..errors import StorageError
from ..values import CacheStatus
from .store import Cached, Store
from .tables import utc

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

log = logging.getLogger("kameleon.embeddings")

USE_IS_NOTED_AFTER = timedelta(days=1)
EVICT_EVERY = 1_000
FORGOTTEN_AT_ONCE = 5_000
"""Bounds how long a transaction that drops cached embeddings makes other writers wait."""


class Transactions(Protocol):
    def reading(self, connection: Connection | None = None) -> AbstractContextManager[Connection]: ...
    def transaction(self, connection: Connection | None = None) -> AbstractContextManager[Connection]: ...


class Evictor:
    """Keeps the cache at about `limit` texts, those unused for longest going first, to the day. Counting costs a scan,
    so it is done once for every tenth of the limit written, 1,000 texts at most; one evictor serves an engine."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._until_next = 0

    def written(self, connection: Connection, table: Table, texts: int) -> None:
        self._until_next -= texts
        if self._until_next <= 0:
            self._until_next = min(EVICT_EVERY, self._limit // 10)
            evict(connection, table, self._limit)


class StoredCache:
    """An EmbeddingCache of one call.

    `connection` is the caller's, to read with. With `waits`, new rows are kept in `waiting`, for `write` inside the
    caller's transaction.
    """

    def __init__(
        self,
        store: Store,
        open_: Transactions,
        evictor: Evictor,
        *,
        connection: Connection | None = None,
        waits: bool = False,
    ) -> None:
        self._store = store
        self._table = store.tables.embedding_cache
        self._open = open_
        self._evictor = evictor
        self._connection = connection
        self._waits = waits
        self.waiting: dict[str, bytes] = {}

    def get(self, fingerprint: str, keys: Sequence[str]) -> "Mapping[str, Vector]":
        import numpy as np

        with self._open.reading(self._connection) as connection:
            found = self._store.cached(connection, fingerprint, keys)
        self._note_use(fingerprint, found)
        return {row.key: np.frombuffer(row.vector, "<f4") for row in found}

    def put(self, fingerprint: str, vectors: "Mapping[str, Vector]") -> None:
        rows = {key: vector.astype("<f4", copy=False).tobytes() for key, vector in vectors.items()}
        if self._waits:
            self.waiting.update(rows)
            return
        try:
            with self._open.transaction() as connection:
                self.write(connection, fingerprint, rows)
        except StorageError as error:
            log.warning("embed_batch:cache_skipped texts=%d: %s", len(rows), error)

    def write(self, connection: Connection, fingerprint: str, rows: Mapping[str, bytes]) -> None:
        if rows:
            self._store.cache(connection, fingerprint, sorted(rows.items()), datetime.now(UTC))
        self._evictor.written(connection, self._table, len(rows))

    def _note_use(self, fingerprint: str, found: Sequence[Cached]) -> None:
        """Once a day for each text, so that looking up stays reading."""
        now = datetime.now(UTC)
        stale = sorted(row.key for row in found if now - row.used_at > USE_IS_NOTED_AFTER)
        if not stale or self._waits:
            return
        table = self._table
        noted = update(table).where(table.c.text_hash == bindparam("key"), table.c.fingerprint == fingerprint)
        try:
            with self._open.transaction() as connection:
                connection.execute(noted.values(used_at=now), [{"key": key} for key in stale])
        except StorageError as error:
            log.warning("embed_batch:cache_skipped texts=%d: %s", len(stale), error)


def evict(connection: Connection, table: Table, limit: int) -> int:
    """Down to `limit` texts, those unused for longest first; tells how many went."""
    surplus = (connection.scalar(select(func.count()).select_from(table)) or 0) - limit
    if surplus <= 0:
        return 0
    oldest = select(table.c.text_hash, table.c.fingerprint).order_by(table.c.used_at, table.c.text_hash).limit(surplus)
    rows = [{"key": key, "whose": whose} for key, whose in sorted(map(tuple, connection.execute(oldest)))]
    gone = delete(table).where(table.c.text_hash == bindparam("key"), table.c.fingerprint == bindparam("whose"))
    connection.execute(gone, rows)
    return len(rows)


def forget(connection: Connection, table: Table, fingerprint: str) -> int:
    """Drop some of a model's embeddings, as many as one transaction may; tells how many texts that were."""
    whose = table.c.fingerprint == fingerprint
    keys = connection.scalars(
        select(table.c.text_hash).where(whose).order_by(table.c.text_hash).limit(FORGOTTEN_AT_ONCE)
    )
    found = list(keys)
    if found:
        connection.execute(delete(table).where(whose, table.c.text_hash.in_(found)))
    return len(found)


def clear(connection: Connection, table: Table, unused_since: datetime | None) -> int:
    """All of it, or what was last used before a moment; tells how many texts that were."""
    statement = delete(table)
    if unused_since is not None:
        statement = statement.where(table.c.used_at < unused_since)
    return connection.execute(statement).rowcount


def status(connection: Connection, table: Table) -> list[CacheStatus]:
    found = connection.execute(
        select(
            table.c.fingerprint,
            func.count().label("texts"),
            func.sum(func.length(table.c.embedding)).label("size"),
            func.max(table.c.used_at).label("used"),
        )
        .group_by(table.c.fingerprint)
        .order_by(table.c.fingerprint)
    )
    return [CacheStatus(row.fingerprint, row.texts, row.size, utc(row.used)) for row in found]
