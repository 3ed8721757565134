"""Makes the hits of a page, their passages and explanations, and the plan of the search. Imports `excerpts`, `values`,
`analysis`, `stores` and `keywords`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from sqlalchemy import Connection

from ..analysis.analyser import Analyser
from ..excerpts import Passage
from ..keywords.looking_up import Found
from ..stores.protocols import Store
from ..stores.values import Hit, Key, numbers
from ..values import Generation, LegScore, QueryPlan, SearchResult
from .fusion import leg_scores, total_weight
from .legs import Retrieved
from .passages import Evidence, best_passages
from .prepared import Prepared
from .query import Query
from .ranking import Ranked
from .snippets import Around


def read_texts(
    store: Store, connection: Connection, query: Query, keys: Sequence[Key], found: Retrieved
) -> Mapping[Key, Hit]:
    """Reads contents; those of a tenant that the query does not name, which a damaged index may rank, are left out."""
    generation = found.generation if found.embedding is not None else None
    hits = store.contents.hits(connection, keys, generation, found.embedding)
    return {key: hit for key, hit in hits.items() if query.is_of_tenants(hit.ref)}


def read_vectors(
    store: Store, connection: Connection, query: Query, generation: Generation | None, keys: Sequence[Key]
) -> Mapping[Key, tuple[float, ...]]:
    """Of the first passages of those that have embeddings in the generation, where the query wants them."""
    if not query.vectors or generation is None or not keys:
        return {}
    found = store.embeddings.vectors_of(connection, generation, keys)
    return {key: numbers(vector) for key, vector in found.items()}


def make_hits(
    analyser: Analyser,
    query: Query,
    keys: Sequence[Key],
    ranked: Ranked,
    vectors: Mapping[Key, tuple[float, ...]],
) -> tuple[list[SearchResult], list[Around]]:
    """Records that were deleted meanwhile are left out, where the caller's transaction has no snapshot. Of each hit,
    too, whether it has more text than is shown."""
    found, ranking, texts = ranked.found, ranked.ranking, ranked.texts
    keys = [key for key in keys if key in texts]
    cosines = found.vector_leg.raw
    by_words = {**found.keyword.scores, **found.keyword.others}
    explained = _explained(query, keys, ranked) if query.explain else {}
    passages = _passages(analyser, query, keys, ranked) if query.passages else {}
    places = [
        (passages[key][0].start, passages[key][0].end)
        if passages.get(key)
        else _shown(texts[key], found.words if key in by_words else None)
        for key in keys
    ]
    hits = [
        SearchResult(
            entity=ranking.refs[key].entity,
            id=ranking.refs[key].id,
            score=ranking.scores[key],
            data=texts[key].data,
            matched_text=texts[key].content[slice(*place)],
            explanation=explained.get(key, ()),
            tenant=ranking.refs[key].tenant,
            passages=passages.get(key, ()),
            is_pinned=key in found.pinned,
            vector=vectors.get(key),
            similarity=None if key not in cosines else min(1.0, max(-1.0, cosines[key])),
        )
        for key, place in zip(keys, places, strict=True)
    ]
    if not query.highlight:
        return hits, []
    return hits, [around(texts[key], *place) for key, place in zip(keys, places, strict=True)]


def around(hit: Hit, start: int, end: int) -> Around:
    """Fields for keywords alone are no more text of what does not have them."""
    most = len(hit.content) if hit.embedded is None or end > hit.embedded else hit.embedded
    return bool(hit.content[:start].strip()), bool(hit.content[end:most].strip())


def _passages(analyser: Analyser, query: Query, keys: Sequence[Key], ranked: Ranked) -> dict[Key, tuple[Passage, ...]]:
    found = ranked.found
    evidence = Evidence(analyser, found)
    cosines = found.vector_leg.raw
    return {key: tuple(best_passages(ranked.texts[key], evidence, cosines.get(key), query.passages)) for key in keys}


def _explained(query: Query, keys: Sequence[Key], ranked: Ranked) -> dict[Key, tuple[LegScore, ...]]:
    """What each leg, the reranker, each boost and the choice for diversity gave each record, and its place among those
    pinned."""
    found, reranked = ranked.found, ranked.ranking.reranked
    terms = found.words.matched(keys) if found.words else {}
    generation = found.generation.number if found.generation else None
    explained: dict[Key, tuple[LegScore, ...]] = dict.fromkeys(keys, ())
    total = total_weight(found.legs)
    for leg in found.legs:
        ranks, scores, raw = leg.ranks(), leg_scores(leg, query.fusion), leg.raw
        for key in (key for key in keys if key in raw):
            own = leg.evidence[key]
            score = LegScore(leg.name, ranks.get(key), raw[key], scores.get(key, 0.0), leg.weight / total, own)
            is_keyword = leg.name == "keyword"
            score = replace(score, terms=terms.get(key, ())) if is_keyword else replace(score, generation=generation)
            explained[key] += (score,)
    for rank, key in enumerate(found.pinned, 1):
        if key in explained:
            explained[key] += (LegScore("pinned", rank, 0.0, 0.0, 0.0),)
    order = {key: rank for rank, key in enumerate(sorted(reranked, key=lambda key: -reranked[key]), 1)}
    for key in order.keys() & explained.keys():
        explained[key] += (LegScore("rerank", order[key], reranked[key], reranked[key], 1.0, reranked[key]),)
    for key, boosts in ranked.ranking.boosts.items():
        if key in explained:
            explained[key] += tuple(boosts)
    for key in ranked.ranking.diversified.keys() & explained.keys():
        explained[key] += (ranked.ranking.diversified[key],)
    return explained


def _shown(hit: Hit, words: Found | None) -> tuple[int, int]:
    """Where the passage is that has most of what the record was found by, the nearest of several."""
    parts = hit.parts
    if words is None or len(parts) < 2:
        return parts[0]
    return max(parts, key=lambda place: words.holds(hit.content[slice(*place)]))


def make_plan(query: Query, prepared: Prepared, found: Retrieved, shown: Sequence[Key]) -> QueryPlan:
    """Where row security hides records, only what those that are shown have."""
    generation = found.generation
    terms = tuple(word.surface for word in found.words.matching) if found.words else ()
    scanned = {"keyword": found.keyword.scanned, "vector": found.vector.scanned}
    if query.hides_words and found.words is not None:
        matched = set(chain.from_iterable(found.words.matched(shown).values()))
        terms, scanned = tuple(term for term in terms if term in matched), {}
    return QueryPlan(
        mode=query.mode,
        legs=found.milliseconds,
        terms=terms,
        generation=generation.number if generation else None,
        model=generation.model_name if generation else None,
        vector_search=found.vector.how or None,
        weight=next((leg.weight for leg in found.legs if leg.name == "vector"), 0.0),
        rows_scanned={leg: rows for leg, rows in scanned.items() if rows},
        is_query_cached=prepared.is_cached and found.embedding is not None,
        note="; ".join(found.notes),
        corrections=found.words.corrections if found.words else {},
        synonyms=found.words.expanded if found.words else {},
    )


def grouped(hits: Sequence[SearchResult]) -> dict[str, list[SearchResult]]:
    groups: dict[str, list[SearchResult]] = {}
    for hit in hits:
        groups.setdefault(hit.entity, []).append(hit)
    return groups
