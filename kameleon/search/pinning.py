"""Puts the records that a query pins before all others, and finds those that it hides: its own, and those of the rule
for its words. Imports `forking`, `indexing`, `stores` and `values`.

Both are looked up in the scope of the search before its legs run, by one statement. A rule is for the words of the
query, so that its pinned records need none of them, but they are in the scope, and have what operators require.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from ..forking import lazy
from ..indexing.curation import NOTHING, Curated
from ..indexing.rules import Pair, Rule
from ..stores.protocols import Store
from ..stores.refs import ids_by_entity
from ..stores.values import Key, Scope
from ..values import Ref
from .fusion import total_weight
from .query import Query
from .ranking import Ranked


@dataclass(frozen=True)
class Picked:
    """What a query pins and hides; `rules` are those for its words, by tenant."""

    query: Query
    rules: Mapping[str, Rule]

    @lazy
    def pairs(self) -> set[Pair]:
        """The entities and ids of these records, whatever their tenants."""
        own = {(ref.entity, ref.id) for ref in (*self._pins, *self.query.hide)}
        return own.union(*(rule.pairs if self._has_pins else rule.hidden for rule in self.rules.values()))

    def is_hidden(self, ref: Ref) -> bool:
        if ref in self._hides or ref._replace(tenant="") in self._hides:
            return True
        rule = self._rule(ref)
        return rule is not None and ref[:2] in self._hidden[rule.tenant]

    def place(self, ref: Ref) -> int | None:
        """Where the record is among those that are pinned: the query's own come first."""
        places = [self._pins[one] for one in (ref, ref._replace(tenant="")) if one in self._pins]
        if places:
            return min(places)
        rule = self._rule(ref) if self._has_pins else None
        return len(self._pins) + rule.pinned.index(ref[:2]) if rule and ref[:2] in rule.pinned else None

    @property
    def _has_pins(self) -> bool:
        return not self.query.sort

    @lazy
    def _pins(self) -> Mapping[Ref, int]:
        return {ref: place for place, ref in enumerate(self.query.pin)}

    @lazy
    def _hides(self) -> frozenset[Ref]:
        return frozenset(self.query.hide)

    @lazy
    def _hidden(self) -> Mapping[str, frozenset[Pair]]:
        return {tenant: frozenset(rule.hidden) for tenant, rule in self.rules.items()}

    def _rule(self, ref: Ref) -> Rule | None:
        """A tenant's own, or that of all."""
        return self.rules.get(ref.tenant) or self.rules.get("")


def find_picked(
    store: Store, connection: Connection, query: Query, scope: Scope, curated: Curated = NOTHING
) -> tuple[Scope, dict[Key, Ref]]:
    """The scope without the hidden records, and the pinned ones in it, in their order."""
    is_ruled = query.like is None and not query.is_browse
    rules = curated.rules.of(query.text) if is_ruled else {}
    if not (query.pin or query.hide or rules):
        return scope, {}
    picked = Picked(query, rules)
    entities = {entity for entity, _ in picked.pairs}
    entities = entities.intersection(scope.entities) if scope.entities else entities
    ids = {id_ for entity, id_ in picked.pairs if entity in entities}
    ids = ids if scope.ids is None else ids.intersection(scope.ids)
    if not ids:
        return scope, {}
    narrowed = replace(scope, entities=tuple(sorted(entities)), ids=tuple(sorted(ids)))
    if scope.is_by_ids:
        narrowed = narrowed.for_ids(ids_by_entity(Ref(*pair) for pair in sorted(picked.pairs)))
    found = store.scopes.listed(connection, narrowed)
    hidden = {ref for _, ref in found if picked.is_hidden(ref)}
    places = {(doc, ref): place for doc, ref in found if (place := picked.place(ref)) is not None and ref not in hidden}
    pinned = dict(sorted(places, key=lambda one: (places[one], one[1])))
    return replace(scope, without=(*scope.without, *sorted(hidden))), pinned


def pinned_first(query: Query, ranked: Ranked) -> Ranked:
    """The ranking with the pinned records before all others; their scores are their own evidence, 0 for none."""
    pinned, ranking, legs = ranked.found.pinned, ranked.ranking, ranked.found.legs
    if not pinned:
        return ranked
    total = total_weight(legs)
    own = {key: sum(leg.weight / total * leg.evidence.get(key, 0.0) for leg in legs) for key in pinned}
    if callable(query.fusion):
        own |= {key: ranking.fused[key] for key in pinned if key in ranking.fused}
    ranking = replace(
        ranking,
        keys=[*pinned, *ranking.keys],
        refs={**ranking.refs, **pinned},
        scores={**ranking.scores, **own},
        fused={**ranking.fused, **dict.fromkeys(pinned, math.inf)},
        places={**ranking.places, **{key: place - len(pinned) for place, key in enumerate(pinned)}},
    )
    return replace(ranked, ranking=ranking)
