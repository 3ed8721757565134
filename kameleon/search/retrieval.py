"""A query's way: legs, fusion, hits. Reads only."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from ..errors import ModelMismatch, NoProvider, ProviderError, TextRefused, UnknownEntity
from ..values import Generation, LegScore, QueryPlan, Ref, SearchResult, SearchResults
from . import catalog
from .filters import Filter, parse_filter
from .fusion import Leg, fuse
from .query import Query
from .store import Candidates, Key, Scope, Store
from .tables import IDS_A_STATEMENT, parts, records

if TYPE_CHECKING:
    from ..embeddings.provider import Vector
    from ..embeddings.service import EmbeddingService

log = logging.getLogger("kameleon.search")

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
    """`known` are the index's generations. `service` is None where there is no provider, or none that can be had:
    `note` says why."""

    def __init__(
        self, store: Store, service: "EmbeddingService | None", known: Sequence[Generation], note: str
    ) -> None:
        self._store = store
        self._service = service
        self._known = known
        self._note = note

    def search(self, connection: Connection, query: Query) -> SearchResults:
        scope = Scope(query.entities, self._filter(connection, query))
        answer = Answer()
        if query.text and not query.text.isspace():
            if query.mode != "vector":
                self._keyword_leg(connection, query, scope, answer)
            if query.mode != "keyword":
                self._vector_leg(connection, query, scope, answer)
        legs = self._legs(connection, query, answer)
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

    def _filter(self, connection: Connection, query: Query) -> Filter | None:
        if not query.where:
            return None
        known = catalog.read_entities(connection)
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
        answer.keyword = self._store.by_keyword(connection, query.text, scope, limit=query.depth, enough=query.limit)
        answer.milliseconds["keyword"] = elapsed_ms(start)

    def _vector_leg(self, connection: Connection, query: Query, scope: Scope, answer: Answer) -> None:
        answer.generation = self._generation(query, answer)
        if answer.generation is None:
            return
        start = time.perf_counter()
        answer.embedding = self._embed(query, answer)
        answer.milliseconds["embedding"] = elapsed_ms(start)
        if answer.embedding is not None:
            start = time.perf_counter()
            answer.vector = self._store.by_vector(connection, answer.generation, answer.embedding, scope, query.depth)
            answer.milliseconds["vector"] = elapsed_ms(start)

    def _generation(self, query: Query, answer: Answer) -> Generation | None:
        if self._service is None:
            if query.mode == "vector":
                raise NoProvider
            answer.notes.append(f"keywords only: {self._note or 'the engine has no embedding provider'}")
            return None
        if mismatch := catalog.mismatch(self._known, self._service.provider):
            if query.mode == "vector":
                raise ModelMismatch(mismatch)
            answer.notes.append(f"keywords only: {mismatch}")
        return catalog.of_fingerprint(self._known, self._service.provider.fingerprint)

    def _embed(self, query: Query, answer: Answer) -> "Vector | None":
        assert self._service is not None  # noqa: S101 - _generation returned one of its provider
        try:
            return self._service.embed_query(query.text)
        except TextRefused as error:
            answer.notes.append(f"no vector: the model cannot read this query ({error})")
        except ProviderError as error:
            if query.mode == "vector":
                raise
            log.warning("search: keywords only: %s", error)
            answer.notes.append(f"keywords only: {error}")
        return None

    def _legs(self, connection: Connection, query: Query, answer: Answer) -> list[Leg[Key]]:
        """Each leg with its own candidates and its scores for the other's, so that no score depends on the depth."""
        keyword, vector = answer.keyword.scores, answer.vector.scores
        weight = answer.generation.weight if answer.generation and vector and query.mode == "hybrid" else 0.0
        legs: list[Leg[Key]] = []
        if keyword:
            others = [key for key in vector if key not in keyword]
            scored = self._store.keyword_scores(connection, answer.keyword.terms, others)
            legs.append(Leg("keyword", keyword, scored, 1.0 - weight))
        if vector and answer.generation:
            others = [key for key in keyword if key not in vector]
            scored = self._store.vector_scores(
                connection, answer.generation, answer.embedding, others, answer.vector.how
            )
            legs.append(Leg("vector", vector, scored, weight if query.mode == "hybrid" else 1.0))
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
        contents = self._store.contents(connection, keys)
        data = record_data(connection, [refs[key] for key in keys])
        explained = explain(keys, legs, answer)
        texts = [contents[key] for key in keys]
        spans = self._store.spans(query.text, texts) if query.highlight else [()] * len(keys)
        return [
            SearchResult(*refs[key], fused[key], data.get(refs[key]), contents[key], explained[key], places)
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


def record_data(connection: Connection, refs: Sequence[Ref]) -> dict[Ref, Mapping[str, Any]]:
    """The data of those records that the record store holds."""
    found: dict[Ref, Mapping[str, Any]] = {}
    for entity in dict.fromkeys(ref.entity for ref in refs):
        ids = [ref.id for ref in refs if ref.entity == entity]
        for part in parts(ids, IDS_A_STATEMENT):
            rows = connection.execute(
                select(records.c.id, records.c.data).where(records.c.entity_name == entity, records.c.id.in_(part))
            )
            found.update({Ref(entity, row.id): row.data for row in rows})
    return found


def explain(keys: Sequence[Key], legs: Sequence[Leg[Key]], answer: Answer) -> dict[Key, tuple[LegScore, ...]]:
    terms = {"keyword": tuple(term.surface for term in answer.keyword.terms)}
    parts: dict[Key, list[LegScore]] = {key: [] for key in keys}
    total = sum(leg.weight for leg in legs)
    for leg in legs:
        ranks, normalized, raw = leg.ranks(), leg.normalized(), {**leg.scored, **leg.chosen}
        for key in keys:
            if key in raw:
                parts[key].append(
                    LegScore(
                        leg.name, ranks.get(key), raw[key], normalized[key], leg.weight / total, terms.get(leg.name, ())
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
