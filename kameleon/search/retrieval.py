"""Retrieves for a query: legs, fusion, order, page, hits. Reads only, and calls no provider while it reads."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ..analysis.highlighting import sentences
from ..analysis.spelling import is_correctable, words_of
from ..content import joined_words, lost_terms
from ..errors import (
    InvalidInput,
    ModelMismatch,
    NoProvider,
    ProviderError,
    TextRefused,
    UnknownEntity,
    VectorsUnavailable,
)
from ..stores.bm25 import STOP_WORDS
from ..stores.catalog import Entity
from ..stores.filters import SAYS, Comparison, Filter, Group, parse_filter, path_of
from ..stores.protocols import Store
from ..stores.values import Candidates, Hit, Key, Scope, Term, united
from ..values import Generation, LegScore, QueryPlan, Ref, SearchResult, SearchResults
from .fusion import Leg, fuse, leg_scores, share, trusted, whole
from .ordering import by_field, by_group
from .paging import digest_of
from .prepared import Prepared
from .query import CANDIDATES, MAX_LIMIT, SORTED, Query
from .reranking import judged

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

log = logging.getLogger("kameleon.search")

READ_CHARACTERS = 50_000
FACET_VALUES = 100
MARKED_HITS = 10
COMPLETED, CORRECTED = 64, 8
NOTHING = Candidates({})


@dataclass
class Answer:
    """What the legs found on the way to the hits; `read` is what keywords made of the query's text."""

    keyword: Candidates = NOTHING
    vector: Candidates = NOTHING
    generation: Generation | None = None
    embedding: "Vector | None" = None
    read: str = ""
    corrections: Mapping[str, str] | None = None
    weight: float = 0.0
    known_share: float = 1.0
    notes: list[str] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)

    @property
    def is_cut(self) -> bool:
        """Whether the query had more words than are read."""
        keyword = self.keyword
        return not keyword.is_exact and len(keyword.chosen_by) in (0, len(keyword.terms))

    def took(self, step: str, start: float) -> None:
        passed = (time.perf_counter() - start) * 1000
        self.milliseconds[step] = round(self.milliseconds.get(step, 0.0) + passed, 3)


@dataclass(frozen=True)
class Ranking:
    """What was put forward: `keys` in the order of all pages, `scores` of those and of others."""

    keys: Sequence[Key]
    refs: Mapping[Key, Ref]
    scores: Mapping[Key, float]
    reranked: Mapping[Key, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Legs:
    """The legs that found anything. `known_share` is how much of the query the generation's model knows."""

    legs: Sequence[Leg[Ref]]
    generation: Generation | None
    known_share: float
    note: str


@dataclass(frozen=True)
class Found:
    """What the legs put forward, in order; `texts` are those that a reranker reads."""

    scope: Scope
    answer: Answer
    legs: Sequence[Leg[Key]]
    ranking: Ranking
    texts: Mapping[Key, Hit] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    hits: Sequence[SearchResult]
    total: int
    facets: Mapping[str, Mapping[Any, int]]
    is_exact: bool
    is_total_exact: bool
    cursor: str | None


class Retriever:
    """Of one query. `find` and `page` read, `rerank` and `results` need no connection."""

    def __init__(self, store: Store, query: Query, prepared: Prepared, entities: Mapping[str, Entity]) -> None:
        self._store = store
        self._query = query
        self._prepared = prepared
        self._entities = entities

    def find(self, connection: Connection) -> Found:
        query = self._query
        self._check_fields(query)
        scope = self._scope(query)
        answer = self._answer(connection, query, scope)
        legs = self._legs(answer)
        ranking = self._ranked(connection, query, fuse(legs, query.fusion))
        if query.rerank is not None:
            best = ranking.keys[: query.window]
            return Found(scope, answer, legs, ranking, self._found(connection, best, answer))
        if query.sort is not None:
            ranking = self._sorted(connection, query, ranking, answer)
        return Found(scope, answer, legs, ranking)

    def rerank(self, found: Found) -> Found:
        """The best by the reranker's scores, which are the hits' own from here on; the rest falls away."""
        query, ranking, texts = self._query, found.ranking, found.texts
        assert query.rerank is not None  # noqa: S101 - the caller looked
        best = [key for key in ranking.keys if key in texts]
        start = time.perf_counter()
        scores = dict(zip(best, judged(query.rerank, query.text, [texts[key].text for key in best]), strict=True))
        found.answer.took("rerank", start)
        keys = sorted(
            (key for key in best if scores[key] >= query.min_score), key=lambda key: (-scores[key], ranking.refs[key])
        )
        ranking = replace(ranking, keys=keys, scores={**ranking.scores, **scores}, reranked=scores)
        return replace(found, ranking=ranking)

    def page(self, connection: Connection, found: Found) -> Page:
        query, answer, ranking = self._query, found.answer, found.ranking
        left = self._left(query, ranking)
        hits = self._hits(connection, self._page(query, ranking, left), found)
        is_exact, is_whole = exactness(query, found.legs, answer, [ranking.scores[key] for key in left])
        total, facets = len(ranking.keys), dict[str, dict[Any, int]]()
        if query.facets or query.count:
            total, facets = self._counted(connection, query, found.scope, ranking, answer)
            is_by_words = query.mode == "keyword" or has_words_alone(query, answer)
            is_whole = is_whole or (is_by_words and not query.min_score and not answer.is_cut)
        return Page(hits, total, facets, is_exact, is_whole, self._cursor(query, ranking, left))

    def results(self, found: Found, page: Page) -> SearchResults:
        hits = self._with_nearest(page.hits, found.answer)
        return SearchResults(
            hits,
            self._plan(self._query, found.answer, found.legs),
            total=page.total,
            exact=page.is_exact,
            is_total_exact=page.is_total_exact,
            facets=page.facets,
            cursor=page.cursor,
            groups=grouped(hits) if self._query.group_by else None,
        )

    def legs(self, connection: Connection) -> Legs:
        """What each leg found by itself, for whoever fuses it many times."""
        answer = self._answer(connection, self._query, self._scope(self._query))
        found = {"keyword": answer.keyword, "vector": answer.vector}
        refs = self._store.contents.refs(connection, list({key for leg in found.values() for key in leg.scores}))
        by_ref = [
            Leg(
                name,
                {refs[key]: score for key, score in leg.scores.items() if key in refs},
                {refs[key]: score for key, score in leg.others.items() if key in refs},
                most=leg.most,
            )
            for name, leg in found.items()
            if leg.scores
        ]
        return Legs(by_ref, answer.generation, answer.known_share, "; ".join(answer.notes))

    def _scope(self, query: Query) -> Scope:
        asked = query.asked
        return Scope(query.entities, self._filter(query), query.among, asked.phrases, asked.excluded)

    def _answer(self, connection: Connection, query: Query, scope: Scope) -> Answer:
        """Each leg in the scope; where hits are grouped, in the scope of each entity, so that each has its best."""
        answer = Answer()
        self._store.keywords.prepare_search(connection)
        if not query.says_something:
            return answer
        scopes = [scope]
        if query.group_by:
            names = scope.entities or self._store.contents.entities(connection)
            scopes = [replace(scope, entities=(name,)) for name in names]
        if query.mode != "keyword":
            self._ask_vector(connection, query, answer)
        found = [self._leg_pair(connection, query, one, answer) for one in scopes]
        if found:
            answer.keyword = united([keyword for keyword, _ in found])
            answer.vector = united([vector for _, vector in found])
            answer.weight = self._weight(query, answer)
        return answer

    def _leg_pair(
        self, connection: Connection, query: Query, scope: Scope, answer: Answer
    ) -> tuple[Candidates, Candidates]:
        keyword = vector = NOTHING
        if query.mode != "vector":
            start = time.perf_counter()
            keyword = self._by_keyword(connection, query, scope, answer)
            answer.took("keyword", start)
        if answer.generation is not None and answer.embedding is not None:
            start = time.perf_counter()
            keyword, vector = self._store.vectors.by_vector(
                connection, answer.generation, answer.embedding, scope, query.depth, keyword
            )
            answer.took("vector", start)
        return keyword, vector

    def _ask_vector(self, connection: Connection, query: Query, answer: Answer) -> None:
        answer.generation = self._generation(connection, query, answer)
        if answer.generation is not None:
            start = time.perf_counter()
            answer.embedding = self._embed(connection, query, answer)
            answer.took("embedding", start)

    def _ranked(self, connection: Connection, query: Query, fused: Mapping[Key, float]) -> Ranking:
        refs = self._store.contents.refs(connection, list(fused))
        least = 0.0 if query.rerank else query.min_score
        order = sorted(
            (-score, refs[key], key)
            for key, score in fused.items()
            if key in refs and score >= least and refs[key] != query.like
        )
        return Ranking([key for *_, key in order], refs, fused)

    def _sorted(self, connection: Connection, query: Query, ranking: Ranking, answer: Answer) -> Ranking:
        """Of a hybrid search those alone that have a word of the query, if any has: what is merely near to it would
        come first wherever its field is greatest."""
        assert query.sort is not None  # noqa: S101 - the caller looked
        keys = ranking.keys
        if has_words_alone(query, answer):
            keys = [key for key in keys if key in answer.keyword.scores or key in answer.keyword.others]
        keys = keys[:SORTED]
        refs = [ranking.refs[key] for key in keys]
        values = (query.columns or self._store.records).values(connection, refs, query.sort.field)
        by_key = {key: values.get(ref) for key, ref in zip(keys, refs, strict=True)}
        return replace(ranking, keys=by_field(keys, by_key, query.sort))

    def _left(self, query: Query, ranking: Ranking) -> Sequence[Key]:
        """What no page before has shown."""
        shown = set(query.page.shown)
        if not shown:
            return ranking.keys[query.offset :]
        return [key for key in ranking.keys if digest_of(ranking.refs[key]) not in shown]

    def _page(self, query: Query, ranking: Ranking, left: Sequence[Key]) -> list[Key]:
        if query.group_by:
            entities = {key: ranking.refs[key].entity for key in left}
            return [key for members in by_group(left, entities, query.limit).values() for key in members]
        return list(left[: query.limit])

    def _cursor(self, query: Query, ranking: Ranking, left: Sequence[Key]) -> str | None:
        if query.group_by or len(left) <= query.limit or query.end >= MAX_LIMIT:
            return None
        before = ranking.keys[: query.offset]
        return str(query.page.after(ranking.refs[key] for key in (*before, *left[: query.limit])))

    def _counted(
        self, connection: Connection, query: Query, scope: Scope, ranking: Ranking, answer: Answer
    ) -> tuple[int, dict[str, dict[Any, int]]]:
        """How many records match, and the values of theirs: those that have a word of the query, and, unless a sorted
        search leaves them out, the nearest to it, as many as any page puts forward. Where `min_score` is asked, only
        what was put forward is known to reach it."""
        terms: Sequence[Term] = ()
        put_forward = ranking.keys
        if not query.min_score:
            terms = answer.keyword.terms
            nearest = () if has_words_alone(query, answer) else islice(answer.vector.scores, CANDIDATES)
            put_forward = [key for key in nearest if key in ranking.refs]
        matches = self._store.contents.matches(terms, replace(scope, without=query.like), put_forward)
        fields = query.columns or self._store.records
        start = time.perf_counter()
        counted: dict[str, dict[Any, int]] = {name: {} for name in query.facets}
        for name, counts in counted.items():
            for value, count in fields.facet(connection, matches, name, FACET_VALUES):
                counts[value] = counts.get(value, 0) + count
        total = self._store.contents.count(connection, matches)
        answer.took("counting", start)
        return total, counted

    def _check_fields(self, query: Query) -> None:
        """Raises InvalidFilter for a field that neither the mapped class nor the asked stored entities have."""
        asked = [*query.facets, *([query.sort.field] if query.sort else [])]
        if query.columns is not None:
            query.columns.check(asked)
        elif asked:
            known = self._declared(query, "facets and sort look")
            for name in asked:
                path_of(name, known)

    def _filter(self, query: Query) -> Filter | None:
        where = parse_filter(query.where, self._declared(query, "`where` looks")) if query.where else None
        said = query.asked.fields if query.among is None else ()
        members = [] if where is None else [where]
        members += [Comparison((field,), SAYS, words) for field, words in said]
        return Group("$and", tuple(members)) if len(members) > 1 else next(iter(members), None)

    def _declared(self, query: Query, who: str) -> set[str]:
        """The fields of the asked entities in the record store. Raises UnknownEntity."""
        known = self._entities
        missing = [name for name in query.entities if name not in known]
        if missing or not known:
            raise UnknownEntity(
                f"{who} at the fields of records in the record store, which has no entity "
                f"{repr(missing[0]) if missing else 'yet'}. It has: {', '.join(known) or 'none'}. "
                "The columns of a mapped class are meant where the class itself is searched: entity=Article"
            )
        asked = [known[name] for name in query.entities] or list(known.values())
        return {name for entity in asked for name in entity.field_names}

    def _by_keyword(self, connection: Connection, query: Query, scope: Scope, answer: Answer) -> Candidates:
        """Once more with what stands in for words that no record has."""
        if not answer.read:
            answer.read = " ".join([query.text[:READ_CHARACTERS], *self._completed(connection, query)])
        ask = partial(
            self._store.keywords.by_keyword,
            connection,
            scope=scope,
            limit=query.depth,
            enough=query.end + 1 + (query.like is not None),
        )
        found = ask(query=answer.read)
        if answer.corrections is None:
            answer.corrections = self._corrected(connection, query, found.unknown)
            if answer.corrections:
                answer.read = " ".join([answer.read, *answer.corrections.values()])
                found = ask(query=answer.read)
        return found if len(query.text) <= READ_CHARACTERS else replace(found, is_exact=False)

    def _completed(self, connection: Connection, query: Query) -> list[str]:
        """The words in most records that begin with one of the query's prefixes."""
        return [
            word
            for prefix in query.asked.prefixes
            for word in self._store.keywords.vocabulary.completions(
                connection, prefix.lower(), partial(self._store.keywords.count_words, connection), COMPLETED
            )
        ]

    def _corrected(self, connection: Connection, query: Query, unknown: Sequence[str]) -> dict[str, str]:
        """What stands in for words that no record has; for none that was asked as it is, nor for codes and their parts.
        Stop words are not what is unknown."""
        wanted = [word for word in unknown if is_correctable(word) and word not in STOP_WORDS]
        if not wanted:
            return {}
        codes = joined_words(query.text)
        said = f"{query.asked.exact} {' '.join(codes)} {lost_terms(query.text)}".lower()
        kept = {word for token in said.split() for word in words_of(token)}
        wanted = [word for word in wanted if word not in kept][:CORRECTED]
        counts = partial(self._store.keywords.count_words, connection)
        return self._store.keywords.vocabulary.corrections(connection, wanted, counts) if wanted else {}

    def _weight(self, query: Query, answer: Answer) -> float:
        """The vector's: as it was asked, or the generation's, as far as its model knows the words."""
        if answer.generation is None or not answer.vector.scores:
            return 0.0
        if query.mode != "hybrid":
            return 1.0
        if query.weight is not None:
            return query.weight
        own, answer.known_share = answer.generation.weight, self._prepared.known_share
        weight = trusted(own, answer.known_share)
        if not answer.keyword.scores:
            return own
        if weight < own:
            answer.notes.append(
                f"the vector counts {weight:.2f}, not {own:.2f}: the model knows {answer.known_share:.0%} of the words"
            )
        return weight

    def _generation(self, connection: Connection, query: Query, answer: Answer) -> Generation | None:
        """Raises what keeps vectors from being compared, where nothing else was wanted; a hybrid search notes it."""
        prepared = self._prepared
        problem: ProviderError | VectorsUnavailable | None = prepared.unavailable
        if prepared.service is None:
            problem = problem or NoProvider("the engine has no embedding provider")
        elif prepared.unread:
            problem = ModelMismatch(prepared.unread)
        elif not prepared.known and (refusal := self._store.vectors.refusal(connection, prepared.dimensions)):
            problem = VectorsUnavailable(refusal)
        if problem is not None:
            if query.mode == "vector":
                raise problem if prepared.service or prepared.unavailable else NoProvider
            answer.notes.append(f"keywords only: {problem}")
        return prepared.generation

    def _embed(self, connection: Connection, query: Query, answer: Answer) -> "Vector | None":
        if query.like is not None:
            return self._own_vector(connection, query, query.like, answer)
        error = self._prepared.error
        if isinstance(error, TextRefused):
            answer.notes.append(f"no vector: the model cannot read this query ({error})")
        elif error is not None:
            if query.mode == "vector":
                raise error
            log.warning("search: keywords only: %s", error)
            answer.notes.append(f"keywords only: {error}")
        return self._prepared.vector

    def _own_vector(self, connection: Connection, query: Query, like: Ref, answer: Answer) -> "Vector | None":
        import numpy as np

        assert answer.generation is not None  # noqa: S101 - the caller looked
        stored = self._store.embeddings.vector_of(connection, answer.generation, like)
        if stored is not None:
            return np.frombuffer(stored, "<f4")
        missing = f"{like.entity} {like.id} has no embedding: `kameleon embeddings sync` makes what is missing"
        if query.mode == "vector":
            raise InvalidInput(missing)
        answer.notes.append(f"keywords only: {missing}")
        return None

    def _legs(self, answer: Answer) -> list[Leg[Key]]:
        """Each leg with its own candidates and its scores for the other's, so that no score depends on the depth."""
        keyword, vector = answer.keyword, answer.vector
        legs: list[Leg[Key]] = [
            Leg(name, found.scores, found.others, most=found.most)
            for name, found in (("keyword", keyword), ("vector", vector))
            if found.scores
        ]
        return share(legs, answer.weight)

    def _hits(self, connection: Connection, keys: Sequence[Key], found: Found) -> list[SearchResult]:
        query, answer, ranking = self._query, found.answer, found.ranking
        if not keys:
            return []
        texts = found.texts or self._found(connection, keys, answer)
        keys = [
            key for key in keys if key in texts
        ]  # deleted meanwhile, where the caller's transaction has no snapshot
        contents = [texts[key].text for key in keys]
        explained = self._explained(connection, query, keys, ranking, found.legs, answer) if query.explain else {}
        read = answer.read or query.text[:READ_CHARACTERS]
        spans = self._store.keywords.spans(connection, read, contents) if query.highlight else [()] * len(keys)
        return [
            SearchResult(
                *ranking.refs[key], ranking.scores[key], texts[key].data, content, explained.get(key, ()), places
            )
            for key, content, places in zip(keys, contents, spans, strict=True)
        ]

    def _found(self, connection: Connection, keys: Sequence[Key], answer: Answer) -> dict[Key, Hit]:
        generation = answer.generation if answer.embedding is not None else None
        return self._store.contents.hits(connection, keys, generation, answer.embedding)

    def _with_nearest(self, hits: Sequence[SearchResult], answer: Answer) -> list[SearchResult]:
        """In a text without a word of the query, the sentence nearest to it is marked, where embedding costs
        nothing."""
        service, embedding = self._prepared.service, answer.embedding
        silent = [place for place, hit in enumerate(hits) if not hit.spans][:MARKED_HITS]
        if not self._query.highlight or service is None or embedding is None or service.provider.is_costly:
            return list(hits)
        cut = {place: sentences(hits[place].matched_text) for place in silent}
        texts = [hits[place].matched_text[start:end] for place, found in cut.items() for start, end in found]
        made = iter(service.embed_batch(texts, on_error="collect").embeddings)
        marked = list(hits)
        for place, found in cut.items():
            near = [(float(vector @ embedding), span) for span in found if (vector := next(made)) is not None]
            if near:
                marked[place] = replace(hits[place], spans=(max(near, key=lambda one: one[0])[1],))
        return marked

    def _explained(
        self,
        connection: Connection,
        query: Query,
        keys: Sequence[Key],
        ranking: Ranking,
        legs: Sequence[Leg[Key]],
        answer: Answer,
    ) -> dict[Key, tuple[LegScore, ...]]:
        terms = self._store.keywords.matched_terms(connection, keys, answer.keyword.terms)
        made = answer.generation.number if answer.generation else None
        explained = explain(query, keys, legs, terms, made)
        order = {key: rank for rank, key in enumerate(sorted(ranking.reranked, key=lambda k: -ranking.reranked[k]), 1)}
        for key in keys:
            if key in order:
                score = ranking.reranked[key]
                explained[key] += (LegScore("rerank", order[key], score, score, 1.0),)
        return explained

    def _plan(self, query: Query, answer: Answer, legs: Sequence[Leg[Key]]) -> QueryPlan:
        generation = answer.generation
        scanned = {"keyword": answer.keyword.scanned, "vector": answer.vector.scanned}
        return QueryPlan(
            mode=query.mode,
            legs=answer.milliseconds,
            terms=tuple(term.surface for term in answer.keyword.terms),
            candidate_terms=tuple(term.surface for term in answer.keyword.chosen_by),
            generation=generation.number if generation else None,
            model=generation.model_name if generation else None,
            vector_search=answer.vector.how or None,
            weight=next((leg.weight for leg in legs if leg.name == "vector"), 0.0),
            rows_scanned={leg: rows for leg, rows in scanned.items() if rows},
            is_query_cached=self._prepared.is_cached and answer.embedding is not None,
            note="; ".join(answer.notes),
            corrections=answer.corrections or {},
        )


def explain(
    query: Query,
    keys: Sequence[Key],
    legs: Sequence[Leg[Key]],
    terms: Mapping[Key, tuple[str, ...]],
    generation: int | None,
) -> dict[Key, tuple[LegScore, ...]]:
    parts: dict[Key, list[LegScore]] = {key: [] for key in keys}
    total = whole(legs)
    for leg in legs:
        ranks, scores, raw = leg.ranks(), leg_scores(leg, query.fusion), leg.raw
        is_keyword = leg.name == "keyword"
        for key in keys:
            if key in raw:
                parts[key].append(
                    LegScore(
                        leg.name,
                        ranks.get(key),
                        raw[key],
                        scores.get(key, 0.0),
                        leg.weight / total,
                        terms.get(key, ()) if is_keyword else (),
                        None if is_keyword else generation,
                    )
                )
    return {key: tuple(scores) for key, scores in parts.items()}


def exactness(query: Query, legs: Sequence[Leg[Key]], answer: Answer, scores: Sequence[float]) -> tuple[bool, bool]:
    """Whether no record outside the candidates can belong among the hits (the threshold algorithm's stopping rule), and
    whether none can reach `min_score`. A way of fusing whose scores depend on the depth needs all that the legs can
    find."""
    if not answer.keyword.is_exact or not answer.vector.is_exact:
        return False, False
    if query.fusion != "weighted" or query.sort or query.rerank:
        is_whole = all(len(leg.chosen) < query.depth for leg in legs) and not query.rerank
        return is_whole, is_whole
    total = whole(legs)
    unseen = sum(
        leg.weight / total * min(score for key, score in leg.normalized().items() if key in leg.chosen)
        for leg in legs
        if len(leg.chosen) >= query.depth
    )
    is_whole = unseen < query.min_score or not unseen
    last = scores[query.limit - 1] if len(scores) >= query.limit else 0.0
    return is_whole or unseen < last, is_whole


def has_words_alone(query: Query, answer: Answer) -> bool:
    """Whether a hybrid search leaves out what has no word of the query: a sorted one, if any record has one."""
    return query.sort is not None and query.rerank is None and query.mode == "hybrid" and bool(answer.keyword.scores)


def grouped(hits: Sequence[SearchResult]) -> dict[str, list[SearchResult]]:
    groups: dict[str, list[SearchResult]] = {}
    for hit in hits:
        groups.setdefault(hit.entity, []).append(hit)
    return groups
