"""Makes the hits of a page, their marked places and explanations, and the plan of the search. Imports the stores, the
analysis and the pure modules of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from ..analysis.highlighting import sentences
from ..stores.protocols import Store
from ..stores.values import Hit, Key
from ..values import LegScore, QueryPlan, SearchResult
from .fusion import leg_scores, whole
from .legs import READ_CHARACTERS, Retrieved
from .prepared import Prepared
from .query import Query
from .ranking import Ranked

MARKED_HITS = 10
"""Bounds the hits without a word of the query whose sentences are embedded. Chosen, not measured."""


def read_texts(store: Store, connection: Connection, keys: Sequence[Key], found: Retrieved) -> Mapping[Key, Hit]:
    generation = found.generation if found.embedding is not None else None
    return store.contents.hits(connection, keys, generation, found.embedding)


class Presenter:
    """The hits of one query."""

    def __init__(self, store: Store, query: Query) -> None:
        self._store = store
        self._query = query

    def hits(self, connection: Connection, keys: Sequence[Key], ranked: Ranked) -> list[SearchResult]:
        """Records that were deleted meanwhile are left out, where the caller's transaction has no snapshot."""
        query, found, ranking = self._query, ranked.found, ranked.ranking
        if not keys:
            return []
        texts = ranked.texts or read_texts(self._store, connection, keys, found)
        keys = [key for key in keys if key in texts]
        contents = [texts[key].text for key in keys]
        explained = self._explained(connection, keys, ranked) if query.explain else {}
        read = found.read or query.text[:READ_CHARACTERS]
        spans = self._store.keywords.spans(connection, read, contents) if query.highlight else [()] * len(keys)
        return [
            SearchResult(
                entity=ranking.refs[key].entity,
                id=ranking.refs[key].id,
                score=ranking.scores[key],
                data=texts[key].data,
                matched_text=content,
                explanation=explained.get(key, ()),
                spans=places,
            )
            for key, content, places in zip(keys, contents, spans, strict=True)
        ]

    def _explained(
        self, connection: Connection, keys: Sequence[Key], ranked: Ranked
    ) -> dict[Key, tuple[LegScore, ...]]:
        """What each leg, and the reranker, gave each record."""
        found, reranked = ranked.found, ranked.ranking.reranked
        terms = self._store.keywords.matched_terms(connection, keys, found.keyword.terms)
        generation = found.generation.number if found.generation else None
        explained: dict[Key, tuple[LegScore, ...]] = dict.fromkeys(keys, ())
        total = whole(found.legs)
        for leg in found.legs:
            ranks, scores, raw = leg.ranks(), leg_scores(leg, self._query.fusion), leg.raw
            for key in (key for key in keys if key in raw):
                score = LegScore(leg.name, ranks.get(key), raw[key], scores.get(key, 0.0), leg.weight / total)
                is_keyword = leg.name == "keyword"
                score = (
                    replace(score, terms=terms.get(key, ())) if is_keyword else replace(score, generation=generation)
                )
                explained[key] += (score,)
        order = {key: rank for rank, key in enumerate(sorted(reranked, key=lambda key: -reranked[key]), 1)}
        for key in order.keys() & explained.keys():
            explained[key] += (LegScore("rerank", order[key], reranked[key], reranked[key], 1.0),)
        return explained


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


def make_plan(query: Query, prepared: Prepared, found: Retrieved) -> QueryPlan:
    generation = found.generation
    scanned = {"keyword": found.keyword.scanned, "vector": found.vector.scanned}
    return QueryPlan(
        mode=query.mode,
        legs=found.milliseconds,
        terms=tuple(term.surface for term in found.keyword.terms),
        candidate_terms=tuple(term.surface for term in found.keyword.chosen_by),
        generation=generation.number if generation else None,
        model=generation.model_name if generation else None,
        vector_search=found.vector.how or None,
        weight=next((leg.weight for leg in found.legs if leg.name == "vector"), 0.0),
        rows_scanned={leg: rows for leg, rows in scanned.items() if rows},
        is_query_cached=prepared.is_cached and found.embedding is not None,
        note="; ".join(found.notes),
        corrections=found.corrections or {},
    )


def grouped(hits: Sequence[SearchResult]) -> dict[str, list[SearchResult]]:
    groups: dict[str, list[SearchResult]] = {}
    for hit in hits:
        groups.setdefault(hit.entity, []).append(hit)
    return groups
