"""The embeddings that a store keeps in memory, of one tenant or of all. Imports `values` and `forking`."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from ...forking import per_process
from ...values import Generation
from ..names import Names
from ..own_connections import is_own
from .embedding_log import Now, read_now

if TYPE_CHECKING:
    from .mirror import Mirror

MIRROR_BYTES = 512 << 20
"""Bounds the mirrors that stay. Chosen, not measured."""
MIRRORS_KEPT = 2
"""Mirrors that stay whatever their size: of the active generation, and of one that is built or compared."""
SEARCHED_KEPT = 10_000
"""Bounds the generations and tenants of which it is remembered that they were searched. Chosen, not measured."""

Key = tuple[int, str, str | None]


class Mirrors:
    """Those that were used last, by generation and tenant."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._mirrors: OrderedDict[Key, Mirror] = OrderedDict()
        self._sizes: dict[Key, int] = {}
        self._bytes = 0
        self._searched: OrderedDict[tuple[int, str | None], None] = OrderedDict()
        self._read_by: WeakKeyDictionary[object, Now] = WeakKeyDictionary()

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def now(self, connection: Connection) -> Now:
        """The end of the log; a transaction of kameleon's own sees one state of the database, which is read once."""
        transaction = connection.get_transaction() if is_own(connection) else None
        known = self._read_by.get(transaction) if transaction is not None else None
        if known is None:
            known = read_now(self._names, connection)
            if transaction is not None:
                self._read_by[transaction] = known
        return known

    def known(self, generation: Generation, tenant: str | None) -> "Mirror | None":
        return self._mirrors.get((generation.number, generation.fingerprint, tenant))

    def of(self, generation: Generation, tenant: str | None) -> "Mirror":
        from .mirror import Mirror  # NumPy loads with the first vector, a keyword search does without

        key = (generation.number, generation.fingerprint, tenant)
        with self._lock:
            if key not in self._mirrors:
                self._mirrors[key] = Mirror(self._names, generation.number, generation.dimensions, tenant)
            self._mirrors.move_to_end(key)
            return self._mirrors[key]

    def is_first(self, generation: Generation, tenants: Sequence[str | None]) -> bool:
        """Whether one of these is searched for the first time. What was not searched for longest is forgotten."""
        keys = [(generation.number, tenant) for tenant in tenants]
        with self._lock:
            is_first = any(key not in self._searched for key in keys)
            for key in keys:
                self._searched[key] = None
                self._searched.move_to_end(key)
            while len(self._searched) > SEARCHED_KEPT:
                self._searched.popitem(last=False)
        return is_first

    def measure(self, generation: Generation, tenant: str | None) -> None:
        """Counts what this one takes by now, and lets those go that were not used for longest."""
        key = (generation.number, generation.fingerprint, tenant)
        with self._lock:
            if key in self._mirrors:
                self._count(key, self._mirrors[key].size)
            while self._bytes > MIRROR_BYTES and len(self._mirrors) > MIRRORS_KEPT:
                oldest, _ = self._mirrors.popitem(last=False)
                self._count(oldest, 0)

    def forget(self, tenant: str) -> None:
        """Lets those of a tenant go, and those of all tenants."""
        with self._lock:
            for key in [key for key in self._mirrors if key[2] in (tenant, None)]:
                del self._mirrors[key]
                self._count(key, 0)

    def _count(self, key: Key, size: int) -> None:
        self._bytes += size - self._sizes.pop(key, 0)
        if size:
            self._sizes[key] = size
