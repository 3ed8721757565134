"""Reads the synonyms, the query rules and the boosts of entities that are kept with the index. Imports `forking`,
`analysis`, `stores`, `keywords` and `values`."""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple
from uuid import uuid4
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Table, select

from ..analysis.analyser import analyser
from ..forking import per_process
from ..keywords.expanding import SynonymRules
from ..stores.catalog import Entity, entity_of
from ..stores.own_connections import is_own
from ..stores.protocols import Store
from ..stores.settings import CURATION
from ..values import Tenants
from .rules import NO_RULES, RulesByWords

KEPT = 1_000
"""Bounds the sets of tenants whose synonyms and rules are in memory, all of one version. Chosen, not measured."""
RECENT = 8
"""Bounds the sets of synonyms that stay analysed where what was read is not kept, about 10 MB each with 10,000 rules.
Chosen, not measured."""


class Curated(NamedTuple):
    """Of the tenants of a search, and without a tenant: their synonyms, which for all tenants are those without one,
    and the query rules; `boosted` are the entities of the record store that have boosts, by name."""

    synonyms: Sequence[SynonymRules] = ()
    rules: RulesByWords = NO_RULES
    boosted: Mapping[str, Entity] = {}

    def of(self, *, synonyms: bool, rules: bool) -> "Curated":
        """Those that a search uses."""
        kept = self if synonyms else self._replace(synonyms=())
        return kept if rules else kept._replace(rules=NO_RULES)


NOTHING = Curated()
SHARED = ("",)
"""Whose rules those without a tenant are; they are read and parsed once, for all tenants."""


class Curation:
    """Of one engine. What was read is kept by the version of `kdb_meta`, which each change replaces, so that a change
    of any process has effect with the next query. Where policies decide what a caller's connection may read, that is
    not kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tables = store.tables
        self._settings = store.settings

    @per_process
    def _kept(self) -> "OrderedDict[tuple[str, Tenants], Curated]":
        return OrderedDict()

    @per_process
    def _analysed(self) -> "WeakValueDictionary[tuple[str, ...], SynonymRules]":
        """By rules: the same ones of several tenants, or read again, are analysed once."""
        return WeakValueDictionary()

    @per_process
    def _recent(self) -> "deque[SynonymRules]":
        return deque(maxlen=RECENT)

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def read(self, connection: Connection, version: str, tenants: Tenants) -> Curated:
        """Reads those of this version, which the transaction sees; "" has none."""
        if not version:
            return NOTHING
        if self._settings.protected_by and not is_own(connection):
            return self._read(connection, tenants)
        shared = self._once(connection, version, SHARED, None)
        return shared if tenants == SHARED else self._once(connection, version, tenants, shared)

    def _once(self, connection: Connection, version: str, tenants: Tenants, shared: Curated | None) -> Curated:
        wanted = version, tenants
        with self._lock:
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
                return self._kept[wanted]
        read = self._read(connection, tenants, shared)
        with self._lock:
            for other in [kept for kept in self._kept if kept[0] != version]:
                del self._kept[other]
            self._kept[wanted] = read
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return read

    def note_change(self, connection: Connection) -> None:
        """Gives what the transaction leaves another version; other changes wait until it ends."""
        self._store.connections.acquire_write_lock(connection)
        meta = self._tables.meta
        connection.execute(meta.update().where(meta.c.key == CURATION).values(value=uuid4().hex))

    def _read(self, connection: Connection, tenants: Tenants, shared: Curated | None = None) -> Curated:
        """Reads those of these tenants and without one; the latter are `shared` where these were read before."""
        rows = self._rows(connection, self._tables.synonyms, tenants or (), is_shared=shared is None)
        synonyms = [self._rules(tuple(row.rule for row in own)) for _, own in groupby(rows, attrgetter("tenant"))]
        rules = self._rows(connection, self._tables.query_rules, tenants, is_shared=shared is None)
        if shared is None:
            return Curated(synonyms, RulesByWords(self._store.language, rules), self._boosted(connection))
        by_words = RulesByWords(self._store.language, rules, shared.rules) if rules else shared.rules
        return Curated([*shared.synonyms, *synonyms], by_words, shared.boosted)

    def _rules(self, rules: tuple[str, ...]) -> SynonymRules:
        with self._lock:
            found = self._analysed.get(rules)
            if found is None:
                found = self._analysed[rules] = SynonymRules(analyser(self._store.language), rules)
            if found not in self._recent:
                self._recent.append(found)
        return found

    def _boosted(self, connection: Connection) -> dict[str, Entity]:
        named = self._tables.entities.c
        rows = connection.execute(select(named.name, named.definition).order_by(named.name))
        entities = (entity_of(name, definition) for name, definition in rows if definition.get("boost"))
        return {entity.name: entity for entity in entities}

    @staticmethod
    def _rows(connection: Connection, table: Table, tenants: Tenants, *, is_shared: bool) -> Sequence[Any]:
        """Those of the tenants and, if it `is_shared`, without one."""
        rows = select(table).order_by(*table.primary_key)
        if tenants is not None:
            names = {*tenants, *SHARED} if is_shared else set(tenants).difference(SHARED)
            return connection.execute(rows.where(table.c.tenant.in_(names))).all() if names else ()
        return connection.execute(rows if is_shared else rows.where(table.c.tenant.not_in(SHARED))).all()
