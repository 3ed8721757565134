"""Names the records of a ranking and orders them by their boosts, whose values it reads for those that may come on the
page. Imports `boosts`, `stores` and `values`.

What the fused score of a record is above that of an unrelated one is multiplied by the factors of its boosts, and so is
its evidence, for its score: a weighted fusion measures cosines from -1, so that else a record would be raised by what
any has. Which records are hits was decided before. A record that the greatest factor would not bring to the score of
the page's last cannot come on it: the values of the first show how many others have to be read.
"""

import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from operator import mul
from typing import Any

from sqlalchemy import Connection

from ..boosts import Boost
from ..stores.catalog import Entity
from ..stores.paths import FieldNames
from ..stores.protocols import Store
from ..stores.values import Key
from ..values import LegScore, Ref
from .boost_sets import StoredProbes
from .evidence import levelled
from .fusion import unrelated_score
from .naming import needs_all, read_refs
from .query import BOOSTED, Query
from .ranking import Ranked, Ranking, placed
from .sources import names_of

FIRST = 30
"""Bounds from below how many records are read first, whose scores bound how many more are. Chosen, not measured."""
UNREAD = Ref("", "")
"""The ref of each record that is not read, behind the page."""


def boosted(
    store: Store, connection: Connection, query: Query, entities: Mapping[str, Entity], ranked: Ranked
) -> tuple[Ranked, bool]:
    """The ranking with refs, in the order of boosted scores, and whether none of its contents is gone. Records that
    were not read, which cannot come on the page whatever their factors, stay behind the others."""
    fields = names_of(query, entities)
    ranking = replace(ranked.ranking, floor=unrelated_score(ranked.found.legs, query.fusion))
    with ranked.found.timed("boosts"):
        ranking, is_whole = Boosting(store, connection, query, fields, ranking).run()
    return replace(ranked, ranking=ranking), is_whole


class Boosting:
    """Of one ranking; `fields` are the names of those of the searched entities of the record store."""

    def __init__(
        self, store: Store, connection: Connection, query: Query, fields: FieldNames, ranking: Ranking
    ) -> None:
        self._store = store
        self._connection = connection
        self._query = query
        self._sets = query.boosts
        self._ranking = ranking
        self._probes = StoredProbes(self._sets, fields, has_stored=query.has_stored)
        self._now_ms = time.time() * 1000
        self._sought: set[Key] = set()
        self._refs: dict[Key, Ref] = {}
        self._others: dict[Key, Ref] = {}
        self._factors: dict[Key, float] = {}
        self._explained: dict[Key, list[LegScore]] = {}

    def run(self) -> tuple[Ranking, bool]:
        keys, query = self._ranking.keys, self._query
        end = max(query.end, query.window if query.rerank else 0)
        most = len(keys) if query.group_by else max(BOOSTED, 2 * end)
        first = keys[: most if needs_all(query) else max(FIRST, 2 * end)]
        is_whole, rest = self._read(first), keys[len(first) : most]
        if rest:
            edge, factor = self._edge(end), self._sets.bounds[1]
            rest = list(takewhile(lambda key: self._ranking.raised(self._ranking.fused[key], factor) >= edge, rest))
            is_whole &= self._read(rest)
        if len(keys) > most and (needs_all(query) or not is_whole):
            named = read_refs(self._store, self._connection, query, keys[most:])
            is_whole &= len(named) == len(keys) - most
            self._others = {key: ref for key, ref in named.items() if ref != query.like}
        return self._ordered(keys[most:]), is_whole

    def _edge(self, end: int) -> float:
        """The boosted score of the page's last, of those that were read."""
        fused, factor_of, raised = self._ranking.fused, self._factors.get, self._ranking.raised
        best = heapq.nlargest(end, [raised(fused[key], factor_of(key, 1.0)) for key in self._refs])
        return best[-1] if len(best) == end else 0.0

    def _ordered(self, others: Sequence[Key]) -> Ranking:
        """The ranking; `others` are the worst of it, which are not boosted."""
        ranking, factors, refs = self._ranking, self._factors, self._refs | self._others
        fused = {**ranking.fused, **{key: ranking.raised(ranking.fused[key], each) for key, each in factors.items()}}
        own = {**ranking.own, **{key: ranking.own[key] * factor for key, factor in factors.items()}}
        values = {key: (-fused[key], -own[key]) for key in self._refs}
        keys = sorted(self._refs, key=lambda key: (values[key], refs[key]))
        places = placed(keys, values)
        gone = self._sought - self._refs.keys() | (set(others) - self._others.keys() if self._others else set())
        rest = [key for key in ranking.keys if key not in self._refs and key not in gone]
        places |= {key: len(ranking.keys) + ranking.places[key] for key in rest}
        rest.sort(key=lambda key: (places[key], refs.get(key, UNREAD)))
        return replace(
            ranking,
            keys=[*keys, *rest],
            refs=refs,
            scores=levelled([*keys, *rest], own),
            fused=fused,
            own=own,
            places=places,
            factors=factors,
            boosts=self._explained,
            most=self._sets.bounds[1],
            unread=ranking.fused[others[0]] if others else 0.0,
        )

    # values

    def _read(self, keys: Sequence[Key]) -> bool:
        """Read the refs of these records and their factors, those of stored ones with one statement, those of each
        mapped class with another; whether none of them is gone."""
        if not keys:
            return True
        query, classes = self._query, self._query.of_classes
        self._sought.update(keys)
        docs, every, are_stored, columns = self._store.records.probed(self._connection, keys, self._probes.every)
        refs = dict(zip(docs, every, strict=True))
        if query.like is not None or not all(map(query.is_of_tenants, every)):
            refs = {key: ref for key, ref in refs.items() if query.is_of_tenants(ref) and ref != query.like}
        self._refs |= refs
        places: dict[str, list[int]] = {}
        for place, (key, is_stored) in enumerate(zip(docs, are_stored, strict=True)):
            if is_stored and key in refs:
                places.setdefault(refs[key].entity, []).append(place)
        for entity, own in places.items():
            if (plan := self._probes.of(entity)) and entity not in classes:
                values = [columns[column] for _, column in plan]
                if len(own) < len(docs):
                    values = [[column[place] for place in own] for column in values]
                self._count([docs[place] for place in own], [boost for boost, _ in plan], values)
        self._count_rows({ref: key for key, ref in refs.items()})
        return len(docs) == len(keys)

    def _count_rows(self, keys: Mapping[Ref, Key]) -> None:
        """Those of mapped classes."""
        for entities, boosts, fields in self._sets.by_class(self._query.of_classes, self._query.columns):
            if own := [ref for ref in keys if ref.entity in entities]:
                refs, columns = fields.boosting(self._connection, own, boosts)
                self._count([keys[ref] for ref in refs], boosts, columns)

    def _count(self, keys: Sequence[Key], boosts: Sequence[Boost], columns: Sequence[Sequence[Any]]) -> None:
        """Set the factors of records by a column of values for each boost. One without a value leaves it as it is."""
        factors = [1.0] * len(keys)
        for boost, values in zip(boosts, columns, strict=True):
            factors = list(map(mul, factors, boost.factors(values, self._now_ms)))
            if self._query.explain:
                self._explain(keys, boost, values)
        self._factors.update(zip(keys, factors, strict=True))

    def _explain(self, keys: Sequence[Key], boost: Boost, values: Iterable[Any]) -> None:
        for key, value in zip(keys, values, strict=True):
            if (raw := boost.measured(value, self._now_ms)) is not None:
                share = boost.share(raw)
                score = LegScore(boost.name, None, raw, boost.multiplier(share), boost.weight, share)
                self._explained.setdefault(key, []).append(score)
