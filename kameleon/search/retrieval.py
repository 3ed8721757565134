"""Retrieves for one query: legs, fusion, order, page, hits. Reads only, and calls no provider while it reads. Imports
`facet_counts`, `values`, `analysis`, `stores` and `indexing`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from ..analysis.collation import sort_key
from ..facet_counts import FacetCounts
from ..indexing.curation import NOTHING, Curated
from ..indexing.index import Index
from ..stores.catalog import Entity, active
from ..stores.own_connections import is_own
from ..stores.values import Key, Scope
from ..values import Generation, Ref, SearchResult, SearchResults
from .boosting import boosted
from .capping import capped
from .conditions import check_fields, make_scope
from .diversity import diversified
from .evidence import levelled
from .facets import count_facets
from .field_words import indexed
from .fusion import Leg
from .legs import LegSearch, Retrieved
from .marking import marked
from .naming import exact_first, named, read_refs
from .ordering import by_fields
from .pinning import find_picked, pinned_first
from .prepared import Prepared
from .presenting import grouped, make_hits, make_plan, read_texts, read_vectors
from .query import SORTED, Query
from .ranking import Ranked, exactness, make_ranking, may_have_more
from .reranking import rerank_scores
from .snippets import Around
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
    around: Sequence[Around]
    total: int
    facets: Mapping[str, Mapping[Any, int]]
    is_exact: bool
    is_total_exact: bool
    cursor: str | None
    is_complete: bool
    """Whether none of the contents that were found was gone when the page was read."""


class Retriever:
    """Takes one query through the steps of docs/ranking.md, each if the query has it:

    1. hits, 2. fusion, 3. boosts: `_find_once`
    4. reranking: `find` reads what `rerank` scores, which needs no connection
    5. cap, 6. diversity, or the order of fields instead: `arrange`
    7. pins, 8. page: `page`; `results` needs no connection, either

    `read` is all of them without a reranker."""

    def __init__(
        self,
        index: Index,
        query: Query,
        prepared: Prepared,
        entities: Mapping[str, Entity],
        curated: Curated = NOTHING,
        generations: Sequence[Generation] = (),
    ) -> None:
        self._index = index
        self._store = index.store
        self._query = query.boosted_by(curated.boosted)
        self._prepared = prepared
        self._entities = entities
        self._curated = curated.of(synonyms=query.synonyms, rules=query.rules)
        self._generations = generations

    def read(self, connection: Connection) -> tuple[Ranked, Page]:
        """What `find` and `page` do, again where a content is gone that was found."""
        for _ in range(TRIES):
            ranked, is_whole = self._find_enough(connection)
            page = self.page(connection, ranked)
            if is_whole and page.is_complete:
                break
        return ranked, page

    def _find_enough(self, connection: Connection) -> tuple[Ranked, bool]:
        """The ranking in the order of all pages, of more candidates where `limit_by` leaves too few for the page."""
        while True:
            ranked, is_whole = self._find_once(connection)
            ranked = self._chosen(connection, ranked)
            is_short = len(ranked.ranking.keys) < self._query.ranked_first and may_have_more(self._query, ranked)
            deeper = self._query.deeper() if self._query.limit_by and is_short else None
            if deeper is None:
                return self._diversified(connection, ranked), is_whole
            self._query = deeper

    def find(self, connection: Connection) -> Ranked:
        """What a reranker is to score, with its contents."""
        for _ in range(TRIES):
            ranked, is_whole = self._find_once(connection)
            if is_whole:
                break
        best = [*ranked.found.pinned, *ranked.ranking.keys[: self._query.window]]
        texts = ranked.texts or read_texts(self._store, connection, self._query, best, ranked.found)
        return replace(ranked, texts={key: texts[key] for key in best if key in texts})

    def _find_once(self, connection: Connection) -> tuple[Ranked, bool]:
        """The ranking, and whether none of its contents was gone when it was read."""
        query = self._query
        check_fields(query, self._entities)
        scope, found = self._run_legs(connection)
        ranked = Ranked(scope, found, make_ranking(query, found))
        if query.boosts:
            ranked, is_whole = boosted(self._store, connection, query, self._entities, ranked)
        else:
            ranked, is_whole = named(self._store, connection, query, ranked)
        return ranked, is_whole and not found.is_stale

    def _run_legs(self, connection: Connection) -> tuple[Scope, Retrieved]:
        scope = make_scope(self._query, self._entities)
        scope, pinned = find_picked(self._store, connection, self._query, scope, self._curated)
        search = LegSearch(self._index, connection, self._query, self._prepared, self._curated)
        return scope, search.run(scope, indexed(self._query, self._entities), pinned)

    def rerank(self, ranked: Ranked) -> Ranked:
        """The best by the reranker's scores, which are the hits' own from here on; the rest falls away. No transaction
        of kameleon's own is open meanwhile."""
        query, ranking, texts = self._query, ranked.ranking, ranked.texts
        assert query.rerank is not None  # noqa: S101 - the caller checked
        best = [key for key in ranking.keys if key in texts]
        with ranked.found.timed("rerank"):
            scores = dict(
                zip(best, rerank_scores(query.rerank, query.text, [texts[key].text for key in best]), strict=True)
            )
        own = {key: score * ranking.factors.get(key, 1.0) for key, score in scores.items()}
        keys = [key for key in best if scores[key] >= query.min_score]
        keys.sort(key=lambda key: (-own[key], ranking.refs[key]))
        scores_of_page, fused = {**ranking.scores, **levelled(keys, own)}, {**ranking.fused, **own}
        ranking = replace(ranking, keys=keys, scores=scores_of_page, fused=fused, reranked=scores)
        return replace(ranked, ranking=ranking)

    def arrange(self, connection: Connection, ranked: Ranked) -> Ranked:
        """The ranking in the order of all pages but for the pinned records."""
        return self._diversified(connection, self._chosen(connection, ranked))

    def _chosen(self, connection: Connection, ranked: Ranked) -> Ranked:
        """The hits that the cap leaves, in the order of fields if that is wanted."""
        query = self._query
        if query.sort:
            ranked = self._sorted(connection, ranked)
        if query.limit_by:
            fields = fields_of(query, self._store.records, self._entities)
            ranked = capped(connection, fields, query, ranked)
        return ranked

    def _diversified(self, connection: Connection, ranked: Ranked) -> Ranked:
        if not self._query.diversity:
            return ranked
        return diversified(self._store, connection, self._query, self._compared(ranked), ranked)

    def _compared(self, ranked: Ranked) -> Generation | None:
        """That of the embeddings which the query is compared with, or the active one."""
        return ranked.found.generation or active(self._generations)

    def _sorted(self, connection: Connection, ranked: Ranked) -> Ranked:
        """By the sort fields."""
        query, ranking = self._query, ranked.ranking
        keys = ranking.keys[:SORTED]
        refs = [ranking.refs[key] for key in keys]
        fields = fields_of(query, self._store.records, self._entities)
        read = (fields.values(connection, refs, sort.field) for sort in query.sort)
        values = [{key: found.get(ref) for key, ref in zip(keys, refs, strict=True)} for found in read]
        ordered = by_fields(keys, values, query.sort, sort_key(self._store.language))
        return replace(ranked, ranking=replace(ranking, keys=ordered))

    def page(self, connection: Connection, ranked: Ranked) -> Page:
        query = self._query
        ranked = exact_first(self._store, connection, query, pinned_first(query, ranked))
        ranking = ranked.ranking
        left = ranking.left(query)
        keys = ranking.page(query, left)
        vectors = read_vectors(self._store, connection, query, self._compared(ranked), keys)
        hits, around = make_hits(self._index.keywords.analyser, query, keys, ranked, vectors)
        is_exact, is_whole = exactness(query, ranked, left[: query.limit])
        total, facets, is_complete = len(ranking.members), dict[str, FacetCounts](), len(hits) == len(keys)
        if query.is_counted:
            members, are_all = self._members(ranked)
            total, facets, are_present = self._counted(connection, ranked, members)
            is_complete = is_complete and are_present
            is_whole = is_whole or are_all
        return Page(hits, around, total, facets, is_exact, is_whole, ranking.cursor(query, left), is_complete)

    def results(self, ranked: Ranked, page: Page) -> SearchResults:
        query = self._query
        analyser = self._index.keywords.analyser
        hits = marked(analyser, query, self._prepared, page.hits, page.around, ranked.found)
        return SearchResults(
            hits,
            make_plan(query, self._prepared, ranked.found, [*ranked.found.pinned, *ranked.ranking.keys][: query.end]),
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
        legs = found.unweighted
        keys = list({key for leg in legs for key in leg.chosen})
        refs = read_refs(self._store, connection, self._query, keys)
        by_ref = [
            Leg(
                leg.name,
                {refs[key]: score for key, score in leg.chosen.items() if key in refs},
                {refs[key]: score for key, score in leg.scored.items() if key in refs},
                most=leg.most,
                scale=leg.scale,
            )
            for leg in legs
        ]
        return Legs(by_ref, found.generation, found.known_share, "; ".join(found.notes))

    def _members(self, ranked: Ranked) -> tuple[list[Key], bool]:
        """The records that are hits of some page, and whether these are known to be all. The scores of a hybrid search
        depend on the order, so that those with `min_score` are the candidates' alone."""
        query, found = self._query, ranked.found
        if callable(query.fusion) or (query.min_score and (query.mode == "hybrid" or query.rerank)):
            return list(ranked.ranking.members), False
        names = {leg.name for leg in found.legs}
        members, are_all = list[Key](), True
        if "keyword" in names and found.selection is not None:
            members, are_all = found.selection.matches(query.min_score), found.keyword.is_exact
        if "vector" in names:
            members, are_all = [*members, *found.near], are_all and found.is_near_whole
        if query.min_similarity is not None:
            members = [doc for doc in members if doc in found.alike]
        return list(dict.fromkeys([*found.pinned, *members])), are_all

    def _counted(
        self, connection: Connection, ranked: Ranked, docs: Sequence[Key]
    ) -> tuple[int, dict[str, FacetCounts], bool]:
        """How many of these records are in the scope, which is looked at once, the values of theirs, and whether all
        are present."""
        query, found = self._query, ranked.found
        is_stale = found.selection is not None and found.selection.is_stale()
        is_known = query.like is None and (found.selection is None or found.selection.is_known)
        own = () if query.like is None else (query.like,)
        scope = replace(ranked.scope, without=(*ranked.scope.without, *own))
        fields = fields_of(query, self._store.records, self._entities)
        with found.timed("counting"):
            inside = docs if is_known else self._store.scopes.within(connection, scope, docs)
            matches = self._store.contents.matches(scope.unnarrowed, inside)
            counted = count_facets(connection, fields, matches, query.facets)
            total = self._store.contents.count(connection, matches, inside)
        are_present = is_own(connection) or self._are_present(connection, scope, docs, total)
        return total, counted, are_present and not is_stale

    def _are_present(self, connection: Connection, scope: Scope, docs: Sequence[int], total: int) -> bool:
        """Whether none of the documents that were found is gone, of which so many are in the scope."""
        contents = self._store.contents
        if not scope.is_all:
            total = contents.count(connection, contents.matches(scope.unnarrowed, docs))
        return total == len(docs)
