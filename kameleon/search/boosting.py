"""Orders a ranking again by its records' boosts, whose values it reads for those that may come on the page. Imports
`boosts`, `stores` and `values`.

The fused score of a record is multiplied by the factors of its boosts, and so is its evidence, for its score. Which
records are hits was decided before.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from ..boosts import Boost
from ..stores.catalog import Entity
from ..stores.protocols import Store
from ..stores.tables import parts
from ..stores.values import Key, Probe
from ..values import LegScore, Ref
from .boost_sets import probes_of
from .evidence import levelled
from .query import Query
from .ranking import Ranked, Ranking, placed
from .sources import names_of, searched

PROBES_A_STATEMENT = 500
"""Bounds the columns of one statement: SQLite has 2,000 at most, PostgreSQL 1,664."""

Values = Sequence[float | None]


def boosted(
    store: Store, connection: Connection, query: Query, entities: Mapping[str, Entity], ranked: Ranked
) -> Ranked:
    """The ranking in the order of boosted scores. Records that were not read, which cannot come on the page whatever
    their factors, stay behind the others."""
    ranking = ranked.ranking
    read = [key for key in ranking.keys if key in ranking.refs]
    with ranked.found.timed("boosts"):
        values = Reading(store, connection, query, entities).values({key: ranking.refs[key] for key in read})
        return replace(ranked, ranking=_ordered(query, ranking, read, values))


def _ordered(query: Query, ranking: Ranking, read: Sequence[Key], values: Mapping[Key, Values]) -> Ranking:
    now_ms = time.time() * 1000
    factors, explained = dict[Key, float](), dict[Key, Sequence[LegScore]]()
    for key, own in values.items():
        boosts = query.boosts.of(ranking.refs[key].entity)
        shares = [boost.share(value, now_ms) for boost, value in zip(boosts, own, strict=True)]
        known = [(boost, share) for boost, share in zip(boosts, shares, strict=True) if share is not None]
        factors[key] = math.prod(boost.multiplier(share) for boost, share in known)
        if query.explain:
            explained[key] = list(_explained(boosts, own, shares, now_ms))
    fused = {**ranking.fused, **{key: ranking.fused[key] * factor for key, factor in factors.items()}}
    own_scores = {**ranking.own, **{key: ranking.own[key] * factor for key, factor in factors.items()}}
    pairs = {key: (-fused[key], -own_scores[key]) for key in ranking.keys}
    keys = sorted(read, key=lambda key: (pairs[key], ranking.refs[key]))
    keys += [key for key in ranking.keys if key not in ranking.refs]
    return replace(
        ranking,
        keys=keys,
        scores=levelled(keys, own_scores),
        fused=fused,
        own=own_scores,
        places=placed(keys, pairs),
        factors=factors,
        boosts=explained,
        most=query.boosts.bounds[1],
    )


def _explained(
    boosts: Sequence[Boost], values: Values, shares: Sequence[float | None], now_ms: float
) -> Iterable[LegScore]:
    """What each boost did for a record that has a value for it."""
    for boost, value, share in zip(boosts, values, shares, strict=True):
        if value is not None and share is not None:
            raw = boost.shown(value, now_ms)
            yield LegScore(boost.name, None, raw, boost.multiplier(share), boost.weight, share)


@dataclass(frozen=True)
class Reading:
    """Reads what the boosts of records are computed of: of all stored records with one statement, of the rows of each
    mapped class with another."""

    store: Store
    connection: Connection
    query: Query
    entities: Mapping[str, Entity]

    def values(self, refs: Mapping[Key, Ref]) -> dict[Key, Values]:
        """One for each boost of a record's entity; records without any, and those that are kept nowhere, are left
        out."""
        sets, found = self.query.boosts, dict[Key, Values]()
        if sets.given is not None:
            classes = set(self.query.of_classes)
            mapped = {key: ref for key, ref in refs.items() if ref.entity in classes}
            if mapped and self.query.columns is not None:
                found |= by_key(mapped, self.query.columns.boosting(self.connection, list(mapped.values()), sets.given))
            if self.query.has_stored:
                probes = probes_of(sets.given, names_of(searched(self.query, self.entities)))
                found |= self._stored({key: "" for key in refs if key not in mapped}, {"": probes})
            return found
        for each in sets.classes:
            own = {key: ref for key, ref in refs.items() if ref.entity == each.entity}
            if own:
                found |= by_key(own, each.fields.boosting(self.connection, list(own.values()), each.boosts))
        stored = {key: ref.entity for key, ref in refs.items() if ref.entity in sets.stored}
        named = {name: sets.stored[name] for name in set(stored.values())}
        return found | self._stored(
            stored, {name: probes_of(each.boosts, each.field_names) for name, each in named.items()}
        )

    def _stored(self, docs: Mapping[Key, str], probes: Mapping[str, Sequence[Probe]]) -> dict[Key, Values]:
        """Of stored records, by the probes of the entity of each; what several have is read once."""
        if not docs:
            return {}
        every: list[Probe] = []
        for wanted in probes.values():
            every += [probe for probe in wanted if probe not in every]
        rows: dict[Key, list[float | None]] = {}
        for part in parts(every, PROBES_A_STATEMENT):
            for doc, read in self.store.records.probed(self.connection, list(docs), part).items():
                rows.setdefault(doc, []).extend(read)
        places = {name: [every.index(probe) for probe in wanted] for name, wanted in probes.items()}
        return {doc: [read[place] for place in places[docs[doc]]] for doc, read in rows.items()}


def by_key(refs: Mapping[Key, Ref], values: Mapping[Ref, Values]) -> dict[Key, Values]:
    return {key: values[ref] for key, ref in refs.items() if ref in values}
