"""Orders what the legs found: a ranking, the part of it that a page shows, and whether it is exact. Pure. Imports
`values` and `stores`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from ..stores.values import Hit, Key, Scope
from ..values import LegScore, Ref
from .checks import MAX_LIMIT
from .evidence import LEAST_EVIDENCE, levelled
from .fusion import Leg, evidence, fuse, matching, total_weight
from .legs import Retrieved
from .ordering import by_group
from .paging import digest_of
from .query import DIVERSIFIED, Query


@dataclass(frozen=True)
class Ranking:
    """What was put forward: `keys` in the order of all pages, with their `scores`. They are in the order of `places`,
    equal records of one place in that of their refs; the places are those of `fused`, of equals those of their
    evidence, which is `own`. A reranker's scores take the place of the fused ones. `rest` is the best fused score that
    `min_score` left out. Where records have boosts, these are raised by their `factors`, and `boosts` explains them;
    `most` is the greatest factor that a record can have, `floor` the fused score of an unrelated record, `unread` the
    best fused score of those that were not boosted. `left_out` are the hits that `limit_by` left out; `diversified` is
    how each of the best was chosen for diversity."""

    keys: Sequence[Key]
    refs: Mapping[Key, Ref]
    scores: Mapping[Key, float]
    fused: Mapping[Key, float] = field(default_factory=dict)
    places: Mapping[Key, int] = field(default_factory=dict)
    rest: float | None = None
    reranked: Mapping[Key, float] = field(default_factory=dict)
    own: Mapping[Key, float] = field(default_factory=dict)
    factors: Mapping[Key, float] = field(default_factory=dict)
    boosts: Mapping[Key, Sequence[LegScore]] = field(default_factory=dict)
    most: float = 1.0
    floor: float = 0.0
    unread: float = 0.0
    left_out: Sequence[Key] = ()
    diversified: Mapping[Key, LegScore] = field(default_factory=dict)

    def raised(self, fused: float, factor: float) -> float:
        """A fused score with boosts: what it has above an unrelated record's is multiplied."""
        return self.floor + (fused - self.floor) * factor if fused > self.floor else fused

    @property
    def members(self) -> Sequence[Key]:
        """All that match, in no order."""
        return [*self.keys, *self.left_out]

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


def make_ranking(query: Query, found: Retrieved) -> Ranking:
    """Orders the records that match by their fused scores, but for those pinned, which come before. Their own scores
    are their evidence; a caller's function chooses and scores as it does."""
    legs, pinned = found.legs, found.pinned
    fused, own = fuse(legs, query.fusion), evidence(legs)
    is_chosen = query.mode != "hybrid" or callable(query.fusion)
    members = fused.keys() if is_chosen else fused.keys() & matching(legs)
    members = members if query.min_similarity is None else members & found.alike
    values = {key: (fused[key], own[key]) for key in members if key not in pinned}
    keys = sorted(values)
    keys.sort(key=values.__getitem__, reverse=True)
    scores = fused if callable(query.fusion) else levelled(keys, own)
    least = 0.0 if query.rerank else query.min_score
    kept = list(takewhile(lambda key: scores[key] >= least, keys))
    rest = fused[keys[len(kept)]] if len(kept) < len(keys) else None
    own = fused if callable(query.fusion) else own
    return Ranking(kept, {}, scores, fused, placed(kept, values), rest, own=own)


def placed(keys: Sequence[Key], values: Mapping[Key, object]) -> dict[Key, int]:
    """The place of each key; those that follow with equal values have that of the first."""
    places: dict[Key, int] = {}
    for place, key in enumerate(keys):
        is_tied = place and values[key] == values[keys[place - 1]]
        places[key] = places[keys[place - 1]] if is_tied else place
    return places


def exactness(query: Query, ranked: Ranked, page: Sequence[Key]) -> tuple[bool, bool]:
    """Whether no record outside of the candidates can be among the hits of the page (the threshold algorithm's stopping
    rule), and whether none can be a hit at all. A way of fusing whose scores depend on the depth needs all that the
    legs can find."""
    found, legs, ranking = ranked.found, ranked.found.legs, ranked.ranking
    if query.diversity:
        page = [key for key in ranking.keys if key not in found.pinned][: max(DIVERSIFIED, query.end)]
    if not found.keyword.is_exact or not found.vector.is_exact or query.rerank:
        return False, False
    deep = _cut(query, found)
    has_all = all(_has_all(query, leg) for leg in deep)
    if query.fusion != "weighted":
        is_page_exact = not deep and _is_behind(query, ranking, page, ranking.raised(ranking.unread, ranking.most))
        return is_page_exact, not deep or (has_all and not query.min_score)
    if query.sort:
        return has_all, has_all
    unseen = _best_unseen(legs, deep)
    is_whole = has_all or (ranking.rest is not None and unseen <= ranking.rest)
    missed = ranking.raised(ranking.unread if is_whole else max(unseen, ranking.unread), ranking.most)
    return _is_behind(query, ranking, page, missed), is_whole


def _is_behind(query: Query, ranking: Ranking, page: Sequence[Key], missed: float) -> bool:
    """Whether a record with this fused score would come after the page."""
    wanted = max(DIVERSIFIED, query.end) if query.diversity else query.limit
    return not missed or (len(page) >= wanted and missed <= min(ranking.fused[key] for key in page))


def may_have_more(query: Query, ranked: Ranked) -> bool:
    """Whether records outside of the candidates may be hits."""
    legs, rest = ranked.found.legs, ranked.ranking.rest
    deep = _cut(query, ranked.found)
    if all(_has_all(query, leg) for leg in deep):
        return False
    return query.fusion != "weighted" or rest is None or _best_unseen(legs, deep) > rest


def _cut(query: Query, found: Retrieved) -> list[Leg[Key]]:
    """The legs that may have found more than they put forward."""
    legs = found.legs
    if query.min_similarity is not None and found.is_alike_whole and query.fusion == "weighted":
        return []
    return [leg for leg in legs if len(leg.chosen) >= query.depth]


def _best_unseen(legs: Sequence[Leg[Key]], deep: Sequence[Leg[Key]]) -> float:
    """The best fused score that a record outside of the candidates may have."""
    return sum(leg.weight / total_weight(legs) * leg.normalized()[_last(leg)] for leg in deep)


def _has_all(query: Query, leg: Leg[Key]) -> bool:
    """Whether the records that a leg has not put forward are no hits by it."""
    return query.mode == "hybrid" and leg.name == "vector" and leg.evidence[_last(leg)] < LEAST_EVIDENCE


def _last(leg: Leg[Key]) -> Key:
    return min(leg.chosen, key=leg.chosen.__getitem__)
