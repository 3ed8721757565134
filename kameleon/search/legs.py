"""Runs the two legs of a query, keywords and vectors, each in the scope of the search. Imports `values`, `errors`,
`forking`, `analysis`, `embeddings`, `stores`, `keywords` and `indexing`."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ..analysis.terms import QueryWord
from ..errors import InvalidInput, ModelMismatch, NoProvider, ProviderError, TextRefused, VectorsUnavailable
from ..forking import lazy
from ..indexing.curation import Curated
from ..indexing.index import Index
from ..keywords import expanding
from ..keywords.looking_up import Found, Wanted, knows_all
from ..stores.values import Candidates, Key, Scope, united
from ..values import Generation, Ref
from .evidence import LEAST_EVIDENCE, KeywordScale, Scale, VectorScale
from .field_words import FieldWords, having
from .fusion import Leg, reduced_weight, set_weights
from .known_words import known_words
from .prepared import Prepared
from .query import COUNTED, Query
from .selecting import Selection
from .weighting import features_of, stored

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

log = logging.getLogger("kameleon.search")

READ_CHARACTERS = 50_000
"""Bounds how much of a query's text is looked up as keywords. Chosen, not measured."""
NAMED_WEIGHT = 0.3
"""Bounds the vector's weight where a record's own id is in the query, so that no other is before it: its keyword score
is the greatest there is, others have half of that at most."""
NOTHING = Candidates({})


@dataclass
class Retrieved:
    """What the legs found; `words` is what the keyword index has of the query, `selection` what may be found, `marked`
    the words to mark in the texts of hits, `weight` the vector's, `is_stale` whether records changed meanwhile. `near`
    are the records whose vector is evidence enough to be hits, all of them where it `is_near_whole`; `alike` those of
    at least `min_similarity`, all of which are candidates where it `is_alike_whole`; `pinned` are those that the query
    puts before all others."""

    keyword: Candidates = NOTHING
    vector: Candidates = NOTHING
    generation: Generation | None = None
    embedding: "Vector | None" = None
    words: Found | None = None
    selection: Selection | None = None
    marked: Sequence[QueryWord] = ()
    weight: float = 0.0
    is_stale: bool = False
    scaled_by: float = 1.0
    known_share: float = 1.0
    near: list[Key] = field(default_factory=list)
    alike: set[Key] = field(default_factory=set)
    pinned: Mapping[Key, Ref] = field(default_factory=dict)
    is_near_whole: bool = True
    is_alike_whole: bool = True
    notes: list[str] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)

    @lazy
    def legs(self) -> list[Leg[Key]]:
        """Each leg with its own candidates and its scores for the other's, so that no score depends on the depth."""
        return set_weights(self.unweighted, self.weight)

    @property
    def unweighted(self) -> list[Leg[Key]]:
        """The legs that found anything."""
        return [leg for leg in (self.keyword_leg, self.vector_leg) if leg.chosen]

    @property
    def keyword_leg(self) -> Leg[Key]:
        found = self.keyword
        return Leg("keyword", found.scores, found.others, most=found.most, scale=KeywordScale(found.full))

    @property
    def vector_leg(self) -> Leg[Key]:
        return Leg("vector", self.vector.scores, self.vector.others, scale=self.scale)

    @lazy
    def scale(self) -> Scale:
        """What makes evidence of a cosine; in a hybrid search the weight has the known share already."""
        generation = self.generation
        return VectorScale(generation.noise if generation else None, self.scaled_by)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        passed = (time.perf_counter() - start) * 1000
        self.milliseconds[step] = round(self.milliseconds.get(step, 0.0) + passed, 3)


class LegSearch:
    """One run of the legs on one connection."""

    def __init__(
        self, index: Index, connection: Connection, query: Query, prepared: Prepared, curated: Curated
    ) -> None:
        self._store = index.store
        self._keywords = index.keywords
        self._connection = connection
        self._query = query
        self._prepared = prepared
        self._synonyms = () if query.like is not None else curated.synonyms
        self._found = Retrieved()

    def run(self, scope: Scope, field_words: FieldWords = (), pinned: Mapping[Key, Ref] | None = None) -> Retrieved:
        """What each leg finds in the scope, and its scores of those pinned that have what operators require; where hits
        are grouped, in the scope of each entity, so that each has its best."""
        query, found = self._query, self._found
        self._store.connections.prepare_search(self._connection)
        if not query.is_ranked:
            if pinned:
                self._look_up(scope, field_words)
                self._pin(pinned)
            return found
        if query.mode != "keyword":
            self._choose_vector()
            found.known_share = self._prepared.known_share
            found.scaled_by = reduced_weight(1.0, found.known_share) if query.mode == "vector" else 1.0
        self._look_up(scope, field_words)
        found.selection = Selection(self._store, self._connection, scope, found.words)
        if pinned:
            self._pin(pinned)
        pairs = [self._leg_pair(one) for one in self._selections(found.selection)]
        if pairs:
            found.keyword = united([keyword for keyword, _ in pairs])
            found.vector = united([vector for _, vector in pairs])
            found.weight = self._weight()
        return found

    def _pin(self, pinned: Mapping[Key, Ref]) -> None:
        words = self._found.words
        allowed = words.which_allowed(list(pinned)) if words else pinned.keys()
        self._found.pinned = {doc: ref for doc, ref in pinned.items() if doc in allowed}

    def _selections(self, selection: Selection) -> list[Selection]:
        """That of each entity where hits are grouped."""
        if not self._query.group_by:
            return [selection]
        scope, words = selection.scope, self._found.words
        names: Iterable[str] = scope.entities
        if not names and words is not None:
            names = sorted({part.head.entity for part in words.parts})
        names = names or self._store.contents.entities(self._connection, scope.tenants)
        scopes = [replace(scope, entities=(name,)) for name in names]
        return [Selection(self._store, self._connection, one, words) for one in scopes]

    def _leg_pair(self, selection: Selection) -> tuple[Candidates, Candidates]:
        query, found = self._query, self._found
        keyword = vector = NOTHING
        if query.mode != "vector":
            with found.timed("keyword"):
                keyword = selection.best(query.depth)
                found.is_stale |= selection.is_stale()
                if found.pinned:
                    keyword = self._with_others(selection, keyword, found.pinned)
        if found.generation is None or found.embedding is None:
            return keyword, vector
        with found.timed("vector"):
            return self._with_vector(selection, keyword, found.generation, found.embedding)

    def _with_vector(
        self, selection: Selection, keyword: Candidates, generation: Generation, embedding: "Vector"
    ) -> tuple[Candidates, Candidates]:
        """Each leg with its scores of the other's candidates."""
        vectors, depth = self._store.vectors, self._query.depth
        docs, excluded = selection.docs(), selection.excluded()
        nearest = partial(
            vectors.nearest,
            self._connection,
            generation,
            embedding,
            selection.scope,
            docs=docs,
            excluded=excluded,
        )
        vector = nearest(depth, beside=list({**keyword.scores, **self._found.pinned}))
        self._add_near(vector, depth, nearest)
        if self._query.mode != "vector":
            keyword = self._with_others(selection, keyword, {**vector.scores, **self._found.pinned})
        return keyword, vector

    @staticmethod
    def _with_others(selection: Selection, keyword: Candidates, docs: Iterable[Key]) -> Candidates:
        return replace(keyword, others=selection.scores([doc for doc in docs if doc not in keyword.scores]))

    def _add_near(self, vector: Candidates, depth: int, nearest: Callable[[int], Candidates]) -> None:
        """Where records are counted and vectors are compared exactly, those beyond the candidates are read, too."""
        found, query = self._found, self._query
        least = query.min_score if query.mode == "vector" else LEAST_EVIDENCE
        similar = -math.inf if query.min_similarity is None else query.min_similarity

        def cut(scores: Mapping[Key, float], most: int) -> tuple[list[Key], list[Key], bool]:
            """Those alike, those of them with evidence enough, and whether these are all that there are."""
            alike = [doc for doc, cosine in scores.items() if cosine >= similar]
            near = [doc for doc in alike if found.scale(scores[doc]) >= least]
            return alike, near, len(near if query.min_similarity is None else alike) < most

        alike, near, has_all = cut(vector.scores, depth)
        found.is_alike_whole &= vector.is_exact and has_all
        if query.is_counted and vector.is_exact and not has_all:
            alike, near, has_all = cut(nearest(COUNTED).scores, COUNTED)
        found.near += near
        found.is_near_whole &= vector.is_exact and has_all
        found.alike.update(alike, (doc for doc, cosine in vector.others.items() if cosine >= similar))

    def _look_up(self, scope: Scope, field_words: FieldWords) -> None:
        """The words of the query in the keyword index; where they choose nothing, its phrases and exclusions alone."""
        parsed, found = self._query.parsed, self._found
        text = parsed.text[:READ_CHARACTERS]
        found.marked = self._keywords.analyser.query_terms(text) if self._query.highlight else ()
        ranks = self._query.mode != "vector"
        phrases = [*parsed.phrases, *(words for _, words in field_words)]
        if not (ranks or phrases or parsed.excluded):
            return
        wanted = Wanted("", phrases, parsed.excluded)
        if ranks:
            hides = self._query.hides_words or self._query.like is not None
            knows = knows_all if hides else known_words(self._store.language, self._prepared.service)
            wanted = wanted._replace(text=text, literal=parsed.exact, knows=knows, synonyms=self._synonyms)
            wanted = wanted._replace(prefixes=() if hides else parsed.prefixes)
        with found.timed("keyword"):
            found.words = self._keywords.search(self._connection, scope, wanted)
            if field_words:
                found.words = having(self._store, self._connection, found.words, field_words)
        if ranks:
            found.marked = found.words.matching
            self._note_synonyms(found.words)
        if len(parsed.text) > READ_CHARACTERS:
            found.words = replace(found.words, is_whole=False)

    def _note_synonyms(self, words: Found) -> None:
        looked_up = set(chain.from_iterable(words.expanded.values()))
        if not words.is_whole and len(looked_up) >= expanding.MAX_SYNONYMS:
            self._found.notes.append(f"of the words' synonyms {len(looked_up)} are looked up, and there are more")

    # vectors

    def _weight(self) -> float:
        """The vector's: the query's own, or the generation's, by its weighting where it has one, as far as its model
        knows the words."""
        query, found = self._query, self._found
        if found.generation is None or not found.vector.scores:
            return 0.0
        if query.mode != "hybrid":
            return 1.0
        if query.weight is not None:
            return query.weight
        own = self._own_weight(found.generation)
        if found.words is not None and found.words.named:
            return min(own, NAMED_WEIGHT)
        weight = reduced_weight(own, found.known_share)
        if weight < own:
            found.notes.append(
                f"the vector counts {weight:.2f}, not {own:.2f}: the model knows {found.known_share:.0%} of the words"
            )
        return weight

    def _own_weight(self, generation: Generation) -> float:
        found = self._found
        if generation.weighting is None or self._query.like is not None:
            return generation.weight  # what was fitted to queries may not suit the text of a record
        features = features_of(found.unweighted, found.known_share)
        weight = stored(generation.weighting).weight(features)
        if self._query.explain:
            found.notes.append(f"the vector's weight is fitted to the query: {weight:.2f} by {features}")
        return weight

    def _choose_vector(self) -> None:
        """The generation and the embedding to compare. Raises what keeps vectors from being compared where the mode is
        vector; a hybrid search notes it."""
        found, prepared = self._found, self._prepared
        problem: ProviderError | VectorsUnavailable | None = prepared.unavailable
        if prepared.unread:
            problem = ModelMismatch(prepared.unread)
        elif self._query.vector is not None and problem is None:
            self._check_generation()
        elif prepared.service is None:
            problem = problem or NoProvider()
        elif not prepared.generations and (
            refusal := self._store.vectors.refusal(self._connection, prepared.dimensions)
        ):
            problem = VectorsUnavailable(refusal)
        if problem is not None:
            self._without_vector(problem, str(problem))
        found.generation = prepared.generation
        if found.generation is not None:
            with found.timed("embedding"):
                found.embedding = self._embedding(found.generation)

    def _check_generation(self) -> None:
        """Raises ModelMismatch where the caller's vector has other dimensions than the index."""
        vector, generation = self._query.vector, self._prepared.generation
        if generation is None:
            self._found.notes.append("no vector is compared: the index has no embeddings")
        elif vector is not None and len(vector) != generation.dimensions:
            raise ModelMismatch(
                f"the vector has {len(vector)} numbers, and the embeddings of this index have {generation.dimensions}: "
                f"a query's is of their model, {generation.model_name}"
            )

    def _embedding(self, generation: Generation) -> "Vector | None":
        if self._query.like is not None:
            return self._stored_embedding(generation, self._query.like)
        error = self._prepared.error
        if isinstance(error, TextRefused):
            self._found.notes.append(f"no vector: the model cannot read this query ({error})")
        elif error is not None:
            self._without_vector(error, str(error))
            log.warning("search: keywords only: %s", error)
        return self._prepared.vector

    def _stored_embedding(self, generation: Generation, like: Ref) -> "Vector | None":
        import numpy as np

        stored = self._store.embeddings.vectors_at(self._connection, generation, [like]).get(like)
        if stored is not None:
            return np.frombuffer(stored, "<f4")
        missing = f"{like.entity} {like.id} has no embedding: `kameleon embeddings sync` makes what is missing"
        self._without_vector(InvalidInput(missing), missing)
        return None

    def _without_vector(self, error: Exception, problem: str) -> None:
        if self._query.mode == "vector" or self._query.min_similarity is not None:
            raise error
        self._found.notes.append(f"keywords only: {problem}")
