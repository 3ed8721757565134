"""Orders what the legs found: a ranking, the part of it that a page shows, and whether it is exact. Pure. Imports
`values` and `stores`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..stores.values import Hit, Key, Scope
from ..values import Ref
from .fusion import total_weight
from .legs import Retrieved
from .ordering import by_group
from .paging import digest_of
from .query import MAX_LIMIT, Query


@dataclass(frozen=True)
class Ranking:
    """What was put forward: `keys` in the order of all pages, `scores` of those and of others."""

    keys: Sequence[Key]
    refs: Mapping[Key, Ref]
    scores: Mapping[Key, float]
    reranked: Mapping[Key, float] = field(default_factory=dict)

    def left(self, query: Query) -> Sequence[Key]:
        """What no page before has shown."""
        shown = set(query.shown)
        if not shown:
            return self.keys[query.offset :]
        return [key for key in self.keys if digest_of(self.refs[key]) not in shown]

    def page(self, query: Query, left: Sequence[Key]) -> list[Key]:
        if query.group_by:
            entities = {key: self.refs[key].entity for key in left}
            return [key for members in by_group(left, entities, query.limit).values() for key in members]
        return list(left[: query.limit])

    def cursor(self, query: Query, left: Sequence[Key]) -> str | None:
        if query.group_by or len(left) <= query.limit or query.end >= MAX_LIMIT:
            return None
        before = self.keys[: query.offset]
        return str(query.page.after(self.refs[key] for key in (*before, *left[: query.limit])))


@dataclass(frozen=True)
class Ranked:
    """What the legs put forward, in order; `texts` are those that a reranker reads."""

    scope: Scope
    found: Retrieved
    ranking: Ranking
    texts: Mapping[Key, Hit] = field(default_factory=dict)


def exactness(query: Query, ranked: Ranked, scores: Sequence[float]) -> tuple[bool, bool]:
    """Whether no record outside the candidates can score more than the last hit (the threshold algorithm's stopping
    rule), and whether none can score `min_score`. A way of fusing whose scores depend on the depth needs all that the
    legs can find."""
    found, legs = ranked.found, ranked.found.legs
    if not found.keyword.is_exact or not found.vector.is_exact:
        return False, False
    if query.fusion != "weighted" or query.sort or query.rerank:
        is_whole = all(len(leg.chosen) < query.depth for leg in legs) and not query.rerank
        return is_whole, is_whole
    total = total_weight(legs)
    unseen = sum(
        leg.weight / total * leg.normalized()[min(leg.chosen, key=leg.chosen.__getitem__)]
        for leg in legs
        if len(leg.chosen) >= query.depth
    )
    is_whole = unseen < query.min_score or not unseen
    last = scores[query.limit - 1] if len(scores) >= query.limit else 0.0
    return is_whole or unseen <= last, is_whole


def needs_a_word(query: Query, found: Retrieved) -> bool:
    """Whether a hybrid search leaves out what has no word of the query: a sorted one, if any record has one."""
    return bool(query.sort) and query.rerank is None and query.mode == "hybrid" and bool(found.keyword.scores)
