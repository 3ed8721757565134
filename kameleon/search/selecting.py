"""Selects what the legs may find: the records of a scope, less those without the query's phrases or with its
exclusions. Imports `forking`, `stores` and `keywords`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection

from ..forking import lazy
from ..keywords.looking_up import Found
from ..stores.own_connections import is_own
from ..stores.protocols import Store
from ..stores.values import Candidates, Scope

FEW = 5_000
"""Bounds the records of a scope that are looked up first; of a wider one the best of the ranking are looked at until
there are enough. Chosen, not measured."""
FIRST, GROWTH = 1_000, 4
"""How many of the best are looked at first, and how many times as many then. Chosen, not measured."""

Mask = Any


class Selection:
    """Of one scope. `words` is what the keyword index has of the query, None where it was not read."""

    def __init__(self, store: Store, connection: Connection, scope: Scope, words: Found | None) -> None:
        self._store = store
        self._connection = connection
        self._words = words
        self._has_gone = False
        self.scope = scope

    def best(self, limit: int) -> Candidates:
        """The keyword leg."""
        words = self._words
        if words is None:
            return Candidates({})
        if self.scope.is_all or self._few is not None:
            found = words.ranking.best(limit, self._mask)
        else:
            found = self._growing(words, limit)
        ranking = words.ranking
        return Candidates(dict(found), is_exact=words.is_whole, most=ranking.most or None, scanned=ranking.postings)

    def docs(self) -> Sequence[int] | None:
        """What the vector leg may find, where it may not find all of the scope."""
        words = self._words
        if words is None or words.required is None:
            return self._few if words is None or words.excluded is None else self._without_excluded(self._few)
        docs: list[int] = words.ranking.docs(np.flatnonzero(self._mask)).tolist()
        if self.scope.is_all or self._few is not None:
            return docs
        return self._store.scopes.within(self._connection, self.scope, docs)

    def excluded(self) -> Sequence[int]:
        """What it may not find; nothing where it is given what it may."""
        words = self._words
        if words is None or words.excluded is None or words.required is not None or self._few is not None:
            return ()
        docs: list[int] = words.ranking.docs(np.flatnonzero(words.excluded)).tolist()
        return docs

    def scores(self, docs: Sequence[int]) -> dict[int, float]:
        """The keyword scores of those that have one."""
        return self._words.scores(docs) if self._words is not None else {}

    @property
    def is_known(self) -> bool:
        """Whether all that matches is in the scope: a wide one is looked at from the top of the ranking alone."""
        return self.scope.is_all or self._few is not None

    def is_stale(self) -> bool:
        """Whether records of the scope were written between the statement that read the index and those that read the
        scope: where the connection has no snapshot."""
        words = self._words
        if words is None or self._few is None:
            return self._has_gone
        return bool((words.ranking.positions(np.array(self._few, "<i8")) < 0).any())

    def matches(self) -> list[int]:
        """All that have a keyword score, of the scope or, where that is wide, of its entities."""
        words = self._words
        if words is None:
            return []
        scores = words.ranking.scores
        at = np.flatnonzero(scores if self._mask is None else np.where(self._mask, scores, 0))
        docs: list[int] = words.ranking.docs(at).tolist()
        return docs

    @lazy
    def _few(self) -> list[int] | None:
        """The records of the scope where these are few; None where they are many, or all of its entities."""
        if self.scope.is_all:
            return None
        return self._store.scopes.docs(self._connection, self.scope, FEW)

    @lazy
    def _mask(self) -> Mask:
        """Of what may be found, as far as it is known without looking at each record; None for all."""
        words = self._words
        assert words is not None  # noqa: S101 - the caller looked
        masks = [] if words.allowed is None else [words.allowed]
        entities = self.scope.entities
        if len(entities) == 1 and any(part.head.entity != entities[0] for part in words.parts):
            masks.append(words.ranking.of_entity(entities[0]))
        if self._few is not None:
            masks.append(words.ranking.mask(np.array(self._few, "<i8")))
        return np.logical_and.reduce(masks) if masks else None

    def _without_excluded(self, docs: Sequence[int] | None) -> Sequence[int] | None:
        words = self._words
        if docs is None or words is None or words.excluded is None:
            return docs
        gone = set(words.ranking.docs(np.flatnonzero(words.excluded)).tolist())
        return [doc for doc in docs if doc not in gone]

    def _growing(self, words: Found, limit: int) -> list[tuple[int, float]]:
        """The best of the scope, from the top of the ranking down."""
        kept: set[int] = set()
        looked_at, size = 0, max(FIRST, limit)
        while True:
            top = words.ranking.best(size, self._mask)
            new = [doc for doc, _ in top[looked_at:]]
            kept.update(self._store.scopes.within(self._connection, self.scope, new) if new else ())
            if not is_own(self._connection):
                self._has_gone |= len(self._store.contents.refs(self._connection, new)) < len(new)
            if len(kept) >= limit or len(top) < size:
                return [(doc, score) for doc, score in top if doc in kept][:limit]
            looked_at, size = len(top), size * GROWTH
