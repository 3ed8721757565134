"""The embedding cache in the index's own database. Imports `values`, `errors`, `embeddings` and `stores`.

What was paid for is written in a transaction of its own as soon as it arrives, so that work which fails afterwards pays
nothing again. Where no second connection can write beside the caller's transaction (SQLite, which has one writer; an
exhausted pool), the rows wait and are written with it, and a rollback takes them along.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Table, bindparam, delete, func, select, tuple_, update

from ..errors import StorageError
from ..stores.protocols import Store
from ..stores.tables import utc
from ..stores.transactions import Transactions
from ..stores.values import Cached
from ..values import CacheStatus, Tenants

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

log = logging.getLogger("kameleon.embeddings")

USE_IS_NOTED_AFTER = timedelta(days=1)
"""Bounds how often a cached embedding's use is written down."""
EVICT_EVERY = 1_000
"""Bounds how many texts are written until the surplus is counted, which costs a scan."""
EVICTED_AT_ONCE, BATCHES_AT_ONCE = 500, 4  # texts a transaction, which holds SQLite's write lock; and of those a write
FORGOTTEN_AT_ONCE = 5_000
"""Bounds how long a transaction that drops cached embeddings makes other writers wait."""


class Evictor:
    """Keeps the cache at about `limit` texts, those unused for longest going first, to the day. Counting costs a scan,
    so it is due once for every tenth of the limit written, 1,000 texts at most; one evictor serves an engine. What
    other processes leave over goes with the next `sync`, or with a worker."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._step = self._left = min(EVICT_EVERY, limit // 10)
        self._is_due = False

    def written(self, texts: int) -> None:
        self._left -= texts
        self._is_due = self._is_due or self._left <= 0

    def evict_if_due(self, open_: Transactions, table: Table) -> None:
        """Some of the surplus; the rest is due at once."""
        if self._is_due:
            self.evict(open_, table, BATCHES_AT_ONCE)

    def evict(self, open_: Transactions, table: Table, batches: int | None = None) -> int:
        """The surplus, or `batches` of it, each in a transaction of its own; returns how many texts went."""
        self._left, self._is_due = self._step, False
        with open_.reading() as connection:
            surplus = (connection.scalar(select(func.count()).select_from(table)) or 0) - self._limit
        gone = 0
        while gone < surplus and (batches is None or gone < batches * EVICTED_AT_ONCE):
            with open_.transaction() as connection:
                deleted = evict(connection, table, min(EVICTED_AT_ONCE, surplus - gone))
            if not deleted:
                break
            gone += deleted
        self._is_due = self._is_due or gone < surplus
        return gone


class StoredCache:
    """An EmbeddingCache of one call, whose rows are those of one tenant: `owners` are the tenants of each text, by its
    key; a text without has none. What one of them had embedded is found.

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
        self.owners: Mapping[str, Collection[str]] = {}
        self.waiting: dict[tuple[str, str], bytes] = {}

    def get(self, fingerprint: str, keys: Sequence[str]) -> "Mapping[str, Vector]":
        import numpy as np

        with self._open.reading(self._connection, self._tenants) as connection:
            found = self._store.embeddings.cached(connection, fingerprint, self._owned(keys))
        self._note_use(fingerprint, found)
        return {row.key: np.frombuffer(row.vector, "<f4") for row in found}

    def put(self, fingerprint: str, vectors: "Mapping[str, Vector]") -> None:
        made = {key: vector.astype("<f4", copy=False).tobytes() for key, vector in vectors.items()}
        rows = {owned: made[owned[1]] for owned in self._owned(made)}
        if self._waits:
            self.waiting.update(rows)
            return
        try:
            with self._open.transaction(tenants=self._tenants) as connection:
                self.write(connection, fingerprint, rows)
            self._evictor.evict_if_due(self._open, self._table)
        except StorageError as error:
            log.warning("embed_batch:cache_skipped texts=%d: %s", len(rows), error)

    def write(self, connection: Connection, fingerprint: str, rows: Mapping[tuple[str, str], bytes]) -> None:
        if rows:
            ordered = [(*owned, vector) for owned, vector in sorted(rows.items())]
            self._store.embeddings.cache(connection, fingerprint, ordered, datetime.now(UTC))
        self._evictor.written(len(rows))

    @property
    def _tenants(self) -> Tenants:
        return tuple(sorted({tenant for tenants in self.owners.values() for tenant in tenants}))

    def _owned(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        """Each key with its tenants."""
        owners = self.owners
        return [(tenant, key) for key in keys for tenant in owners.get(key, ("",))]

    def _note_use(self, fingerprint: str, found: Sequence[Cached]) -> None:
        """Once a day for each text, so that looking up stays reading."""
        now = datetime.now(UTC)
        stale = sorted((row.tenant, row.key) for row in found if now - row.used_at > USE_IS_NOTED_AFTER)
        if not stale or self._waits:
            return
        table = self._table
        row = (table.c.tenant == bindparam("owner"), table.c.text_hash == bindparam("key"))
        noted = update(table).where(*row, table.c.fingerprint == fingerprint)
        try:
            with self._open.transaction(tenants=self._tenants) as connection:
                connection.execute(noted.values(used_at=now), [{"owner": tenant, "key": key} for tenant, key in stale])
        except StorageError as error:
            log.warning("embed_batch:cache_skipped texts=%d: %s", len(stale), error)


def evict(connection: Connection, table: Table, texts: int) -> int:
    """Drop so many, those unused for longest; returns how many went."""
    key = (table.c.tenant, table.c.text_hash, table.c.fingerprint)
    oldest = select(*key).order_by(table.c.used_at, *key).limit(texts)
    return connection.execute(delete(table).where(tuple_(*key).in_(oldest))).rowcount


def forget(connection: Connection, table: Table, fingerprint: str) -> int:
    """Drop some of a model's embeddings, as many as one transaction may; returns how many texts that were."""
    of_model, key = table.c.fingerprint == fingerprint, (table.c.tenant, table.c.text_hash)
    first = select(*key).where(of_model).order_by(*key).limit(FORGOTTEN_AT_ONCE)
    return connection.execute(delete(table).where(of_model, tuple_(*key).in_(first))).rowcount


def clear(connection: Connection, table: Table, unused_since: datetime | None) -> int:
    """All of it, or what was last used before a moment; returns how many texts that were."""
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
