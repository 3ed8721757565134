"""A query's way: legs, fusion, hits. Reads only."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ..errors import ModelMismatch, NoProvider, ProviderError, TextRefused, UnknownEntity, VectorsUnavailable
from ..values import Generation, LegScore, QueryPlan, Ref, SearchResult, SearchResults
from .catalog import Entity, of_fingerprint, unread
from .filters import Filter, parse_filter
from .fusion import Leg, fuse
from .query import Query
from .store import Candidates, Key, Scope, Store

if TYPE_CHECKING:
    from ..embeddings.provider import Vector
    from ..embeddings.service import EmbeddingService

log = logging.getLogger("kameleon.search")

Embed = Callable[["EmbeddingService", str], "Vector"]

READ_CHARACTERS = 50_000
NOTHING = Candidates({})


@dataclass
class Answer:
    """What the legs found on the way to the hits."""

    keyword: Candidates = NOTHING
    vector: Candidates = NOTHING
    generation: Generation | None = None
    embedding: "Vector | None" = None
    notes: list[str] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)


class Retriever:
    """`known` and `entities` are the index's. `service` is None where there is no provider, or none that can be had:
    `note` says why. `embed` asks it for a query's vector."""

    def __init__(
        self,
        store: Store,
        service: "EmbeddingService | None",
        embed: "Embed",
        known: Sequence[Generation],
        entities: Mapping[str, Entity],
        note: str,
    ) -> None:
        self._store = store
        self._service = service
        self._embed_with = embed
        self._known = known
        self._entities = entities
        self._note = note

    def search(self, connection: Connection, query: Query) -> SearchResults:
        scope = Scope(query.entities, self._filter(query), query.among)
        answer = Answer()
        self._store.prepare_search(connection)
        if query.says_something:
            if query.mode != "vector":
                self._keyword_leg(connection, query, scope, answer)
            if query.mode != "keyword":
                self._vector_leg(connection, query, scope, answer)
        legs = self._legs(query, answer)
        fused = fuse(legs)
        refs = self._store.refs(connection, list(fused))
        order = sorted(
            (-score, refs[key], key) for key, score in fused.items() if key in refs and score >= query.min_score
        )
        keys = [key for _, _, key in order[: query.limit]]
        return SearchResults(
            self._hits(connection, query, keys, refs, fused, legs, answer),
            self._plan(query, answer, legs),
            total=len(order),
            exact=is_exact(query, legs, answer, [-score for score, _, _ in order]),
        )

    def _filter(self, query: Query) -> Filter | None:
        if not query.where:
            return None
        known = self._entities
        missing = [name for name in query.entities if name not in known]
        if missing or not known:
            raise UnknownEntity(
                f"`where` looks at the fields of records in the record store, which has no entity "
                f"{missing[0] if missing else 'yet'!r}. It has: {', '.join(known) or 'none'}"
            )
        asked = [known[name] for name in query.entities] or list(known.values())
        return parse_filter(query.where, {name for entity in asked for name in entity.field_names})

    def _keyword_leg(self, connection: Connection, query: Query, scope: Scope, answer: Answer) -> None:
        start = time.perf_counter()
        text = query.text[:READ_CHARACTERS]
        found = self._store.by_keyword(connection, text, scope, limit=query.depth, enough=query.limit)
        answer.keyword = found if text == query.text else replace(found, is_exact=False)
        answer.milliseconds["keyword"] = elapsed_ms(start)

    def _vector_leg(self, connection: Connection, query: Query, scope: Scope, answer: Answer) -> None:
        answer.generation = self._generation(connection, query, answer)
        if answer.generation is None:
            return
        start = time.perf_counter()
        answer.embedding = self._embed(query, answer)
        answer.milliseconds["embedding"] = elapsed_ms(start)
        if answer.embedding is not None:
            start = time.perf_counter()
            answer.keyword, answer.vector = self._store.by_vector(
                connection, answer.generation, answer.embedding, scope, query.depth, answer.keyword
            )
            answer.milliseconds["vector"] = elapsed_ms(start)

    def _generation(self, connection: Connection, query: Query, answer: Answer) -> Generation | None:
        if self._service is None:
            if query.mode == "vector":
                raise NoProvider
            answer.notes.append(f"keywords only: {self._note or 'the engine has no embedding provider'}")
            return None
        if problem := unread(self._known, self._service.provider):
            if query.mode == "vector":
                raise ModelMismatch(problem)
            answer.notes.append(f"keywords only: {problem}")
        elif not self._known and (problem := self._store.refusal(connection, self._service.provider.dimensions)):
            if query.mode == "vector":
                raise VectorsUnavailable(problem)
            answer.notes.append(f"keywords only: {problem}")
        return of_fingerprint(self._known, self._service.provider.fingerprint)

    def _embed(self, query: Query, answer: Answer) -> "Vector | None":
        assert self._service is not None  # noqa: S101 - _generation returned one of its provider
        try:
            return self._embed_with(self._service, query.text)
        except TextRefused as error:
            answer.notes.append(f"no vector: the model cannot read this query ({error})")
        except ProviderError as error:
            if query.mode == "vector":
                raise
            log.warning("search: keywords only: %s", error)
            answer.notes.append(f"keywords only: {error}")
        return None

    def _legs(self, query: Query, answer: Answer) -> list[Leg[Key]]:
        """Each leg with its own candidates and its scores for the other's, so that no score depends on the depth."""
        keyword, vector = answer.keyword, answer.vector
        is_hybrid = query.mode == "hybrid"
        weight = answer.generation.weight if answer.generation and vector.scores and is_hybrid else 0.0
        legs: list[Leg[Key]] = []
        if keyword.scores:
            legs.append(Leg("keyword", keyword.scores, keyword.others, 1.0 - weight))
        if vector.scores:
            legs.append(Leg("vector", vector.scores, vector.others, weight if is_hybrid else 1.0))
        return legs

    def _hits(
        self,
        connection: Connection,
        query: Query,
        keys: Sequence[Key],
        refs: Mapping[Key, Ref],
        fused: Mapping[Key, float],
        legs: Sequence[Leg[Key]],
        answer: Answer,
    ) -> list[SearchResult]:
        if not keys:
            return []
        found = self._store.hits(connection, keys)
        keys = [
            key for key in keys if key in found
        ]  # deleted meanwhile, where the caller's transaction has no snapshot
        explained = explain(keys, legs, answer)
        texts = [found[key].content for key in keys]
        spans = (
            self._store.spans(connection, query.text[:READ_CHARACTERS], texts) if query.highlight else [()] * len(keys)
        )
        return [
            SearchResult(*refs[key], fused[key], found[key].data, found[key].content, explained[key], places)
            for key, places in zip(keys, spans, strict=True)
        ]

    def _plan(self, query: Query, answer: Answer, legs: Sequence[Leg[Key]]) -> QueryPlan:
        generation = answer.generation
        return QueryPlan(
            mode=query.mode,
            legs=answer.milliseconds,
            terms=tuple(term.surface for term in answer.keyword.terms),
            candidate_terms=tuple(term.surface for term in answer.keyword.chosen_by),
            generation=generation.number if generation else None,
            model=generation.model_name if generation else None,
            vector_search=answer.vector.how or None,
            weight=next((leg.weight for leg in legs if leg.name == "vector"), 0.0),
            note="; ".join(answer.notes),
        )


def explain(keys: Sequence[Key], legs: Sequence[Leg[Key]], answer: Answer) -> dict[Key, tuple[LegScore, ...]]:
    terms = {"keyword": tuple(term.surface for term in answer.keyword.terms)}
    made = {"vector": answer.generation.number} if answer.generation else {}
    parts: dict[Key, list[LegScore]] = {key: [] for key in keys}
    total = sum(leg.weight for leg in legs)
    for leg in legs:
        ranks, normalized, raw = leg.ranks(), leg.normalized(), {**leg.scored, **leg.chosen}
        for key in keys:
            if key in raw:
                parts[key].append(
                    LegScore(
                        leg.name,
                        ranks.get(key),
                        raw[key],
                        normalized[key],
                        leg.weight / total,
                        terms.get(leg.name, ()),
                        made.get(leg.name),
                    )
                )
    return {key: tuple(scores) for key, scores in parts.items()}


def is_exact(query: Query, legs: Sequence[Leg[Key]], answer: Answer, scores: Sequence[float]) -> bool:
    """Whether no record outside the candidates can belong among the hits (the threshold algorithm's stopping rule)."""
    if not answer.keyword.is_exact or not answer.vector.is_exact:
        return False
    total = sum(leg.weight for leg in legs) or 1.0
    unseen = sum(
        leg.weight / total * min(score for key, score in leg.normalized().items() if key in leg.chosen)
        for leg in legs
        if len(leg.chosen) >= query.depth
    )
    last = scores[query.limit - 1] if len(scores) >= query.limit else 0.0
    return unseen < max(last, query.min_score) or not unseen


def elapsed_ms(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 3)
