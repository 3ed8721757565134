"""Runs the two legs of a query, keywords and vectors, each in the scope of the search. Imports the stores, the analysis
and the pure modules of this package; calls no provider."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ..analysis.spelling import is_correctable, words_of
from ..content import joined_words, lost_terms
from ..errors import InvalidInput, ModelMismatch, NoProvider, ProviderError, TextRefused, VectorsUnavailable
from ..forking import lazy
from ..stores.bm25 import STOP_WORDS
from ..stores.protocols import Store
from ..stores.values import Candidates, Key, Scope, united
from ..values import Generation, Ref
from .fusion import Leg, share, trusted
from .prepared import Prepared
from .query import Query

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

log = logging.getLogger("kameleon.search")

READ_CHARACTERS = 50_000
"""Bounds how much of a query's text is looked up as keywords. Chosen, not measured."""
COMPLETED, CORRECTED = 64, 8
"""Bound the words that a prefix becomes, and the words of a query that are corrected. Chosen, not measured."""
NOTHING = Candidates({})


@dataclass
class Retrieved:
    """What the legs found; `read` is the text that keywords were looked up by, `weight` the vector's."""

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
        """Whether the query had more words than are looked up."""
        keyword = self.keyword
        return not keyword.is_exact and len(keyword.chosen_by) in (0, len(keyword.terms))

    @lazy
    def legs(self) -> list[Leg[Key]]:
        """Each leg with its own candidates and its scores for the other's, so that no score depends on the depth."""
        legs: list[Leg[Key]] = [
            Leg(name, found.scores, found.others, most=found.most)
            for name, found in (("keyword", self.keyword), ("vector", self.vector))
            if found.scores
        ]
        return share(legs, self.weight)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        passed = (time.perf_counter() - start) * 1000
        self.milliseconds[step] = round(self.milliseconds.get(step, 0.0) + passed, 3)


class LegSearch:
    """One run of the legs on one connection."""

    def __init__(self, store: Store, connection: Connection, query: Query, prepared: Prepared) -> None:
        self._store = store
        self._connection = connection
        self._query = query
        self._prepared = prepared
        self._found = Retrieved()

    def run(self, scope: Scope) -> Retrieved:
        """What each leg finds in the scope; where hits are grouped, in the scope of each entity, so that each has its
        best."""
        query, found = self._query, self._found
        self._store.keywords.prepare_search(self._connection)
        if not query.has_text:
            return found
        scopes = [scope]
        if query.group_by:
            names = scope.entities or self._store.contents.entities(self._connection)
            scopes = [replace(scope, entities=(name,)) for name in names]
        if query.mode != "keyword":
            self._choose_vector()
        pairs = [self._leg_pair(one) for one in scopes]
        if pairs:
            found.keyword = united([keyword for keyword, _ in pairs])
            found.vector = united([vector for _, vector in pairs])
            found.weight = self._weight()
        return found

    def _leg_pair(self, scope: Scope) -> tuple[Candidates, Candidates]:
        query, found = self._query, self._found
        keyword = vector = NOTHING
        if query.mode != "vector":
            with found.timed("keyword"):
                keyword = self._by_keyword(scope)
        if found.generation is not None and found.embedding is not None:
            with found.timed("vector"):
                keyword, vector = self._store.vectors.by_vector(
                    self._connection, found.generation, found.embedding, scope, query.depth, keyword
                )
        return keyword, vector

    # keywords

    def _by_keyword(self, scope: Scope) -> Candidates:
        """Once more with corrections of words that no record has."""
        query, found = self._query, self._found
        if not found.read:
            found.read = " ".join([query.text[:READ_CHARACTERS], *self._completed()])
        look_up = partial(
            self._store.keywords.by_keyword,
            self._connection,
            scope=scope,
            limit=query.depth,
            enough=query.end + 1 + (query.like is not None),
        )
        candidates = look_up(query=found.read)
        if found.corrections is None:
            found.corrections = self._corrected(candidates.unknown)
            if found.corrections:
                found.read = " ".join([found.read, *found.corrections.values()])
                candidates = look_up(query=found.read)
        return candidates if len(query.text) <= READ_CHARACTERS else replace(candidates, is_exact=False)

    def _completed(self) -> list[str]:
        """The words in most records that begin with one of the query's prefixes."""
        return [
            word
            for prefix in self._query.parsed.prefixes
            for word in self._store.keywords.vocabulary.completions(
                self._connection, prefix.lower(), partial(self._store.keywords.count_words, self._connection), COMPLETED
            )
        ]

    def _corrected(self, unknown: Sequence[str]) -> dict[str, str]:
        """Corrections of words that no record has; of none that was quoted, nor of codes and their parts. Stop words
        are not what is unknown."""
        query = self._query
        wanted = [word for word in unknown if is_correctable(word) and word not in STOP_WORDS]
        if not wanted:
            return {}
        literal = f"{query.parsed.exact} {' '.join(joined_words(query.text))} {lost_terms(query.text)}".lower()
        kept = {word for token in literal.split() for word in words_of(token)}
        wanted = [word for word in wanted if word not in kept][:CORRECTED]
        counts = partial(self._store.keywords.count_words, self._connection)
        return self._store.keywords.vocabulary.corrections(self._connection, wanted, counts) if wanted else {}

    # vectors

    def _weight(self) -> float:
        """The vector's: the query's own, or the generation's, as far as its model knows the words."""
        query, found = self._query, self._found
        if found.generation is None or not found.vector.scores:
            return 0.0
        if query.mode != "hybrid":
            return 1.0
        if query.weight is not None:
            return query.weight
        own, found.known_share = found.generation.weight, self._prepared.known_share
        weight = trusted(own, found.known_share)
        if not found.keyword.scores:
            return own
        if weight < own:
            found.notes.append(
                f"the vector counts {weight:.2f}, not {own:.2f}: the model knows {found.known_share:.0%} of the words"
            )
        return weight

    def _choose_vector(self) -> None:
        """The generation and the embedding to compare. Raises what keeps vectors from being compared where the mode is
        vector; a hybrid search notes it."""
        found, prepared = self._found, self._prepared
        problem: ProviderError | VectorsUnavailable | None = prepared.unavailable
        if prepared.service is None:
            problem = problem or NoProvider("the engine has no embedding provider")
        elif prepared.unread:
            problem = ModelMismatch(prepared.unread)
        elif not prepared.generations and (
            refusal := self._store.vectors.refusal(self._connection, prepared.dimensions)
        ):
            problem = VectorsUnavailable(refusal)
        if problem is not None:
            self._without_vector(problem if prepared.service or prepared.unavailable else NoProvider(), str(problem))
        found.generation = prepared.generation
        if found.generation is not None:
            with found.timed("embedding"):
                found.embedding = self._embedding(found.generation)

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

        stored = self._store.embeddings.vector_of(self._connection, generation, like)
        if stored is not None:
            return np.frombuffer(stored, "<f4")
        missing = f"{like.entity} {like.id} has no embedding: `kameleon embeddings sync` makes what is missing"
        self._without_vector(InvalidInput(missing), missing)
        return None

    def _without_vector(self, error: Exception, problem: str) -> None:
        if self._query.mode == "vector":
            raise error
        self._found.notes.append(f"keywords only: {problem}")
