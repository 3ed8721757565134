"""Makes the hits of a page, their marked places and explanations, and the plan of the search. Imports `values`,
`analysis`, `stores` and `keywords`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from sqlalchemy import Connection

from ..analysis.analyser import Analyser
from ..analysis.highlighting import MARKED_CHARACTERS, sentences
from ..keywords.looking_up import Found
from ..stores.protocols import Store
from ..stores.values import Hit, Key, Spans
from ..values import LegScore, QueryPlan, SearchResult
from .fusion import leg_scores, total_weight
from .legs import Retrieved
from .prepared import Prepared
from .query import Query
from .ranking import Ranked

MARKED_HITS = 10
"""Bounds the hits without a word of the query whose sentences are embedded. Chosen, not measured."""


def read_texts(
    store: Store, connection: Connection, query: Query, keys: Sequence[Key], found: Retrieved
) -> Mapping[Key, Hit]:
    """Reads contents; those of a tenant that the query does not name, which a damaged index may rank, are left out."""
    generation = found.generation if found.embedding is not None else None
    hits = store.contents.hits(connection, keys, generation, found.embedding)
    return {key: hit for key, hit in hits.items() if query.is_of_tenants(hit.ref)}


def make_hits(analyser: Analyser, query: Query, keys: Sequence[Key], ranked: Ranked) -> list[SearchResult]:
    """Records that were deleted meanwhile are left out, where the caller's transaction has no snapshot."""
    found, ranking, texts = ranked.found, ranked.ranking, ranked.texts
    keys = [key for key in keys if key in texts]
    by_words = {**found.keyword.scores, **found.keyword.others}
    contents = [_shown(texts[key], found.words if key in by_words else None) for key in keys]
    explained = _explained(query, keys, ranked) if query.explain else {}
    spans: list[Spans] = [()] * len(keys)
    if query.highlight:
        spans = [tuple(analyser.marks(content[:MARKED_CHARACTERS], found.marked)) for content in contents]
    return [
        SearchResult(
            entity=ranking.refs[key].entity,
            id=ranking.refs[key].id,
            score=ranking.scores[key],
            data=texts[key].data,
            matched_text=content,
            explanation=explained.get(key, ()),
            spans=places,
            tenant=ranking.refs[key].tenant,
        )
        for key, content, places in zip(keys, contents, spans, strict=True)
    ]


def _explained(query: Query, keys: Sequence[Key], ranked: Ranked) -> dict[Key, tuple[LegScore, ...]]:
    """What each leg, the reranker, each boost and the choice for diversity gave each record."""
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
    order = {key: rank for rank, key in enumerate(sorted(reranked, key=lambda key: -reranked[key]), 1)}
    for key in order.keys() & explained.keys():
        explained[key] += (LegScore("rerank", order[key], reranked[key], reranked[key], 1.0, reranked[key]),)
    for key, boosts in ranked.ranking.boosts.items():
        if key in explained:
            explained[key] += tuple(boosts)
    for key in ranked.ranking.diversified.keys() & explained.keys():
        explained[key] += (ranked.ranking.diversified[key],)
    return explained


def _shown(hit: Hit, words: Found | None) -> str:
    """The passage that has most of what the record was found by, the nearest of several."""
    parts = hit.parts
    return parts[0] if words is None or len(parts) < 2 else max(parts, key=words.holds)


def with_nearest(
    query: Query, prepared: Prepared, hits: Sequence[SearchResult], found: Retrieved
) -> list[SearchResult]:
    """The hits; in a text without a word of the query, the sentence nearest to it is marked, where embedding costs
    nothing."""
    service, embedding = prepared.service, found.embedding
    marked = list(hits)
    if not query.highlight or service is None or embedding is None or service.provider.is_costly:
        return marked
    unmarked = [place for place, hit in enumerate(hits) if not hit.spans][:MARKED_HITS]
    cut = {place: sentences(hits[place].matched_text) for place in unmarked}
    texts = [hits[place].matched_text[start:end] for place, spans in cut.items() for start, end in spans]
    made = iter(service.embed_batch(texts, on_error="collect").embeddings)
    for place, spans in cut.items():
        near = [(float(vector @ embedding), span) for span in spans if (vector := next(made)) is not None]
        if near:
            marked[place] = replace(hits[place], spans=(max(near, key=lambda one: one[0])[1],))
    return marked


def make_plan(query: Query, prepared: Prepared, found: Retrieved, shown: Sequence[Key]) -> QueryPlan:
    """Where row security hides records, only what those that are shown have."""
    generation = found.generation
    terms = tuple(word.surface for word in found.words.words) if found.words else ()
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
    )


def grouped(hits: Sequence[SearchResult]) -> dict[str, list[SearchResult]]:
    groups: dict[str, list[SearchResult]] = {}
    for hit in hits:
        groups.setdefault(hit.entity, []).append(hit)
    return groups
