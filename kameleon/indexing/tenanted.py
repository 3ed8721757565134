"""Remembers which entities have records with tenants, and which are tables. Imports `forking` and `stores`."""

import time
import weakref
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, RootTransaction

from ..forking import per_process
from ..stores.database_protocols import Schema

READ_EVERY_S = 1.0
"""Bounds how long an entity that another process gave tenants to, or made of a table, is unknown here. Chosen, not
measured."""


class Tenanted:
    """Of one engine. An entity that is known to have tenants keeps them; what a transaction of this process has noted
    is known once another one reads it, for it may be rolled back. `tables` are the table entities with the times of
    their definitions, as they were read last."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.known: frozenset[str] = frozenset()
        self.tables: Mapping[str, datetime] = {}
        self._noted: dict[str, weakref.ref[RootTransaction]] = {}

    @per_process
    def _read_next(self) -> float:
        return 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to read them: each second, and after a transaction has noted some."""
        return bool(self._noted) or time.monotonic() >= self._read_next

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
            if (current := connection.get_transaction()) is not None:
                self._noted.update(dict.fromkeys(missing, weakref.ref(current)))

    def _read(self, connection: Connection) -> set[str]:
        found, self.tables = self._schema.known_entities(connection)
        self._noted = {name: noted for name, noted in self._noted.items() if _is_open(noted())}
        current = connection.get_transaction()
        self.known |= {name for name in found if name not in self._noted or self._noted[name]() is not current}
        return found


def _is_open(transaction: RootTransaction | None) -> bool:
    return transaction is not None and transaction.is_active
