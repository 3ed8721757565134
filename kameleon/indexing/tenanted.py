"""Remembers which entities have records with tenants. Imports `forking` and `stores`."""

import time
import weakref
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from ..forking import per_process
from ..stores.protocols import Schema

READ_EVERY_S = 1.0
"""Bounds how long an entity that another process gave tenants to is unknown here. Chosen, not measured."""


class Tenanted:
    """Of one engine. An entity that is known to have tenants keeps them; what a transaction of this process has noted
    is known once another one reads it, for it may be rolled back."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.known: frozenset[str] = frozenset()
        self._noted: dict[str, weakref.ref[Any]] = {}

    @per_process
    def _read_next(self) -> float:
        return 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to read them."""
        return time.monotonic() >= self._read_next

    def read(self, connection: Connection) -> frozenset[str]:
        """Reads those that are known, and those that this transaction has noted."""
        self._read_next = time.monotonic() + READ_EVERY_S
        return self.known | self._read(connection)

    def add(self, connection: Connection, entities: Collection[str]) -> None:
        """Notes these entities where they are not known."""
        if self.known.issuperset(entities):
            return
        missing = set(entities) - self._read(connection)
        if missing:
            self._schema.add_tenanted(connection, sorted(missing))
            self._noted.update(dict.fromkeys(missing, weakref.ref(connection.get_transaction() or connection)))

    def _read(self, connection: Connection) -> set[str]:
        found = self._schema.tenanted(connection)
        current = connection.get_transaction() or connection
        own = {name for name in found if name in self._noted and self._noted[name]() is current}
        self.known |= found - own
        return found
