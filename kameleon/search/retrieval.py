"""Retrieves for one query: legs, fusion, order, page, hits. Reads only, and calls no provider while it reads. Imports
`values`, `analysis`, `stores` and `indexing`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from ..analysis.collation import sort_key
from ..indexing.index import Index
from ..stores.catalog import Entity
from ..stores.own_connections import is_own
from ..stores.values import Scope
from ..values import FacetCounts, Generation, Ref, SearchResult, SearchResults
from .conditions import check_fields, make_scope
from .facets import count_facets
from .field_words import indexed
from .fusion import Leg, fuse
from .legs import LegSearch, Retrieved
from .naming import exact_first, named
from .ordering import by_fields
from .prepared import Prepared
from .presenting import grouped, make_hits, make_plan, read_texts, with_nearest
from .query import CANDIDATES, SORTED, Query
from .ranking import Ranked, Ranking, exactness, needs_a_word
from .reranking import rerank_scores
from .sources import fields_of

TRIES = 3
"""Bounds how often a query is read: on a caller's connection each of its statements may see another state, and a
content that was found may have been replaced before it is read. What is gone then is left out."""


@dataclass(frozen=True)
class Legs:
    """The legs that found anything. `known_share` is how much of the query the generation's model knows."""

    legs: Sequence[Leg[Ref]]
    generation: Generation | None
    known_share: float
    note: str


@dataclass(frozen=True)
class Page:
    hits: Sequence[SearchResult]
    total: int
    facets: Mapping[str, Mapping[Any, int]]
    is_exact: bool
    is_total_exact: bool
    cursor: str | None
    is_complete: bool
    """Whether none of the contents that were found was gone when the page was read."""


class Retriever:
    """Of one query. `read`, `find` and `page` read, `rerank` and `results` need no connection."""

    def __init__(self, index: Index, query: Query, prepared: Prepared, entities: Mapping[str, Entity]) -> None:
        self._index = index
        self._store = index.store
        self._query = query
        self._prepared = prepared
        self._entities = entities

    def read(self, connection: Connection) -> tuple[Ranked, Page]:
        """What `find` and `page` do, again where a content is gone that was found."""
        for _ in range(TRIES):
            ranked, is_whole = self._find_once(connection)
            page = self.page(connection, self._sorted(connection, ranked))
            if is_whole and page.is_complete:
                break
        return ranked, page

    def find(self, connection: Connection) -> Ranked:
        """What a reranker is to score, with its contents."""
        for _ in range(TRIES):
            ranked, is_whole = self._find_once(connection)
            if is_whole:
                break
        best = ranked.ranking.keys[: self._query.window]
        return replace(ranked, texts=read_texts(self._store, connection, self._query, best, ranked.found))

    def _find_once(self, connection: Connection) -> tuple[Ranked, bool]:
        """The ranking, and whether none of its contents was gone when it was read."""
        query = self._query
        check_fields(query, self._entities)
        scope, found = self._run_legs(connection)
        ranked, is_whole = named(self._store, connection, query, Ranked(scope, found, self._ranking(found)))
        return ranked, is_whole and not found.is_stale

    def _run_legs(self, connection: Connection) -> tuple[Scope, Retrieved]:
        scope = make_scope(self._query, self._entities)
        search = LegSearch(self._index, connection, self._query, self._prepared)
        return scope, search.run(scope, indexed(self._query, self._entities))

    def rerank(self, ranked: Ranked) -> Ranked:
        """The best by the reranker's scores, which are the hits' own from here on; the rest falls away."""
        query, ranking, texts = self._query, ranked.ranking, ranked.texts
        assert query.rerank is not None  # noqa: S101 - the caller checked
        best = [key for key in ranking.keys if key in texts]
        with ranked.found.timed("rerank"):
            scores = dict(
                zip(best, rerank_scores(query.rerank, query.text, [texts[key].text for key in best]), strict=True)
            )
        keys = sorted(
            (key for key in best if scores[key] >= query.min_score), key=lambda key: (-scores[key], ranking.refs[key])
        )
        ranking = replace(ranking, keys=keys, scores={**ranking.scores, **scores}, reranked=scores)
        return replace(ranked, ranking=ranking)

    def page(self, connection: Connection, ranked: Ranked) -> Page:
        query, found = self._query, ranked.found
        ranked = exact_first(self._store, connection, query, ranked)
        ranking = ranked.ranking
        left = ranking.left(query)
        keys = ranking.page(query, left)
        hits = make_hits(self._index.keywords.analyser, query, keys, ranked)
        is_exact, is_whole = exactness(query, ranked, [ranking.scores[key] for key in left[: query.limit]])
        total, facets, is_complete = len(ranking.keys), dict[str, FacetCounts](), len(hits) == len(keys)
        if query.facets or query.count:
            total, facets, are_present = self._counted(connection, ranked)
            is_complete = is_complete and are_present
            is_by_words = query.mode == "keyword" or needs_a_word(query, found)
            is_whole = is_whole or (is_by_words and not query.min_score and found.keyword.is_exact)
        return Page(hits, total, facets, is_exact, is_whole, ranking.cursor(query, left), is_complete)

    def results(self, ranked: Ranked, page: Page) -> SearchResults:
        query = self._query
        hits = with_nearest(query, self._prepared, page.hits, ranked.found)
        return SearchResults(
            hits,
            make_plan(query, self._prepared, ranked.found, ranked.ranking.keys[: query.end]),
            total=page.total,
            exact=page.is_exact,
            is_total_exact=page.is_total_exact,
            facets=page.facets,
            cursor=page.cursor,
            groups=grouped(hits) if query.group_by else None,
        )

    def legs(self, connection: Connection) -> Legs:
        """What each leg found by itself, to be fused by the caller."""
        _, found = self._run_legs(connection)
        candidates = {"keyword": found.keyword, "vector": found.vector}
        keys = list({key for leg in candidates.values() for key in leg.scores})
        read = self._store.contents.refs(connection, keys)
        refs = {key: ref for key, ref in read.items() if self._query.is_of_tenants(ref)}
        by_ref = [
            Leg(
                name,
                {refs[key]: score for key, score in leg.scores.items() if key in refs},
                {refs[key]: score for key, score in leg.others.items() if key in refs},
                most=leg.most,
            )
            for name, leg in candidates.items()
            if leg.scores
        ]
        return Legs(by_ref, found.generation, found.known_share, "; ".join(found.notes))

    def _ranking(self, found: Retrieved) -> Ranking:
        fused = fuse(found.legs, self._query.fusion)
        least = 0.0 if self._query.rerank else self._query.min_score
        keys = sorted(key for key, score in fused.items() if score >= least) if least else sorted(fused)
        keys.sort(key=fused.__getitem__, reverse=True)
        return Ranking(keys, {}, fused)

    def _sorted(self, connection: Connection, ranked: Ranked) -> Ranked:
        """By the sort fields, if any. Of a hybrid search those alone that have a word of the query, if any has: what is
        merely near to it would come first wherever its field is greatest."""
        query, keyword, ranking = self._query, ranked.found.keyword, ranked.ranking
        if not query.sort:
            return ranked
        keys = ranking.keys
        if needs_a_word(query, ranked.found):
            keys = [key for key in keys if key in keyword.scores or key in keyword.others]
        keys = keys[:SORTED]
        refs = [ranking.refs[key] for key in keys]
        fields = fields_of(query, self._store.records, self._entities)
        read = (fields.values(connection, refs, sort.field) for sort in query.sort)
        values = [{key: found.get(ref) for key, ref in zip(keys, refs, strict=True)} for found in read]
        ordered = by_fields(keys, values, query.sort, sort_key(self._store.language))
        return replace(ranked, ranking=replace(ranking, keys=ordered))

    def _counted(self, connection: Connection, ranked: Ranked) -> tuple[int, dict[str, FacetCounts], bool]:
        """How many records match, and the values of theirs: those that have a word of the query, and, unless a sorted
        search leaves them out, the nearest to it, as many as any page puts forward. With `min_score`, those that were
        put forward alone: of others the score is not computed. And whether all of these are present."""
        query, found, ranking = self._query, ranked.found, ranked.ranking
        put_forward, is_stale = ranking.keys, False
        if not query.min_score:
            nearest = () if needs_a_word(query, found) else islice(found.vector.scores, CANDIDATES)
            present = set(ranking.keys)
            put_forward = [key for key in nearest if key in present]
            if found.selection is not None and query.mode != "vector":
                put_forward = [*found.selection.matches(), *put_forward]
                is_stale = found.selection.is_stale()
        is_known = query.like is None and (found.selection is None or found.selection.is_known)
        scope = replace(ranked.scope, without=query.like)
        docs = list(dict.fromkeys(put_forward))
        matches = self._store.contents.matches(scope, docs)
        fields = fields_of(query, self._store.records, self._entities)
        with found.timed("counting"):
            counted = count_facets(connection, fields, matches, query.facets)
            total = self._store.contents.count(connection, matches, docs if is_known else None)
        are_present = is_own(connection) or self._are_present(connection, scope, docs, total)
        return total, counted, are_present and not is_stale

    def _are_present(self, connection: Connection, scope: Scope, docs: Sequence[int], total: int) -> bool:
        """Whether none of the documents that were found is gone, of which so many are in the scope."""
        contents = self._store.contents
        if not scope.is_all:
            whole = replace(scope, filter=None, among=None, without=None, visible=(), ids=None)
            total = contents.count(connection, contents.matches(whole, docs))
        return total == len(docs)
