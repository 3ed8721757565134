"""Reads the synonyms, the query rules and the boosts of entities that are kept with the index. Imports `forking`,
`stores` and `values`."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, Table, select

from ..forking import per_process
from ..stores.catalog import Entity, entity_of
from ..stores.own_connections import is_own
from ..stores.protocols import Store
from ..stores.settings import CURATION
from ..values import Tenants

KEPT = 1_000
"""Bounds the sets of tenants whose synonyms and rules are in memory. Chosen, not measured."""


class Curated(NamedTuple):
    """The rows of `kdb_synonym` and `kdb_query_rule` of the tenants of a search, and of those without a tenant, in the
    order of their keys; `boosted` are the entities of the record store that have boosts, by name."""

    synonyms: Sequence[Any] = ()
    rules: Sequence[Any] = ()
    boosted: Mapping[str, Entity] = {}


NOTHING = Curated()


class Curation:
    """Of one engine. What was read is kept by the version of `kdb_meta`, which each change replaces, so that a change
    of any process has effect with the next query. Where policies decide what a caller's connection may read, that is
    not kept."""

    def __init__(self, store: Store) -> None:
        self._tables = store.tables
        self._settings = store.settings

    @per_process
    def _kept(self) -> "OrderedDict[tuple[str, Tenants], Curated]":
        return OrderedDict()

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def read(self, connection: Connection, version: str, tenants: Tenants) -> Curated:
        """Reads those of this version, which the transaction sees; "" has none."""
        if not version:
            return NOTHING
        if self._settings.protected_by and not is_own(connection):
            return self._read(connection, tenants)
        wanted = version, tenants
        with self._lock:
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
                return self._kept[wanted]
        read = self._read(connection, tenants)
        with self._lock:
            self._kept[wanted] = read
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return read

    def note_change(self, connection: Connection) -> None:
        """Gives what the transaction leaves another version."""
        meta = self._tables.meta
        connection.execute(meta.update().where(meta.c.key == CURATION).values(value=uuid4().hex))

    def _read(self, connection: Connection, tenants: Tenants) -> Curated:
        tables = self._tables.synonyms, self._tables.query_rules
        synonyms, rules = (self._rows(connection, table, tenants) for table in tables)
        return Curated(synonyms, rules, self._boosted(connection))

    def _boosted(self, connection: Connection) -> dict[str, Entity]:
        named = self._tables.entities.c
        rows = connection.execute(select(named.name, named.definition).order_by(named.name))
        entities = (entity_of(name, definition) for name, definition in rows if definition.get("boost"))
        return {entity.name: entity for entity in entities}

    @staticmethod
    def _rows(connection: Connection, table: Table, tenants: Tenants) -> Sequence[Any]:
        rows = select(table).order_by(*table.primary_key)
        if tenants is not None:
            rows = rows.where(table.c.tenant.in_({"", *tenants}))
        return connection.execute(rows).all()
