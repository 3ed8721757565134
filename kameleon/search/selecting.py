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
"""Bounds the records of a scope that are looked up at once. Chosen, not measured."""
SAMPLE, ENOUGH, FIRST, GROWTH = 50, 2, 1_000, 4
"""How many of the best of a ranking are looked at: a sample, which shows how many the scope has; so many times what is
wanted; as many as these have to have it, unless the scope is narrow; and then so many times as many. At 20,000 records
a record that is looked at takes 5 to 9 microseconds (SQLite, CPU)."""

Mask = Any


class Selection:
    """Of one scope. `words` is what the keyword index has of the query, None where it was not read."""

    def __init__(self, store: Store, connection: Connection, scope: Scope, words: Found | None) -> None:
        self._store = store
        self._connection = connection
        self._words = words
        self._has_gone = False
        self.scope = scope
        self._is_looked_up = self._is_wide = False

    def best(self, limit: int) -> Candidates:
        """The keyword leg."""
        words = self._words
        if words is None:
            return Candidates({})
        found = words.ranking.best(limit, self._mask) if self.scope.is_all else self._in_scope(words, limit)
        ranking = words.ranking
        return Candidates(dict(found), is_exact=words.is_whole, most=ranking.most or None, scanned=ranking.postings)

    def docs(self) -> Sequence[int] | None:
        """What the vector leg may find, where it may not find all of the scope."""
        words = self._words
        if words is None:
            return self._few
        if words.required is None:
            return self._without_excluded(None if self._is_wide else self._few)
        docs: list[int] = words.ranking.docs(np.flatnonzero(self._mask)).tolist()
        if self.is_known:
            return docs
        return self._store.scopes.within(self._connection, self.scope, docs)

    def excluded(self) -> Sequence[int]:
        """What it may not find; nothing where it is given what it may."""
        words = self._words
        if words is None or words.excluded is None or words.required is not None or self._has_few:
            return ()
        docs: list[int] = words.ranking.docs(np.flatnonzero(words.excluded)).tolist()
        return docs

    def scores(self, docs: Sequence[int]) -> dict[int, float]:
        """The keyword scores of those that have one."""
        return self._words.scores(docs) if self._words is not None else {}

    @property
    def is_known(self) -> bool:
        """Whether all that matches is in the scope: a wide one is looked at from the top of the ranking alone."""
        return self.scope.is_all or self._has_few

    @property
    def _has_few(self) -> bool:
        return self._is_looked_up and self._few is not None

    def is_stale(self) -> bool:
        """Whether records of the scope were written between the statement that read the index and those that read the
        scope: where the connection has no snapshot."""
        words = self._words
        if words is None or not self._has_few:
            return self._has_gone
        return bool((words.ranking.positions(np.array(self._few, "<i8")) < 0).any())

    def matches(self) -> list[int]:
        """All that have a keyword score, of the scope or, where that is wide, of its entities."""
        words = self._words
        if words is None:
            return []
        scores, mask = words.ranking.scores, self._mask
        at = np.flatnonzero(scores if mask is None else np.where(mask, scores, 0))
        docs: list[int] = words.ranking.docs(at).tolist()
        return docs

    @lazy
    def _few(self) -> list[int] | None:
        """The records of the scope where these are few; None where they are many, or all of its entities."""
        self._is_looked_up = True
        if self.scope.is_all:
            return None
        return self._store.scopes.docs(self._connection, self.scope, max(FEW, len(self.scope.ids or ())))

    @property
    def _mask(self) -> Mask:
        """Of what may be found, as far as it is known without looking at each record; None for all."""
        masks = [mask for mask in (self._allowed, self._of_few if self._has_few else None) if mask is not None]
        return np.logical_and.reduce(masks) if masks else None

    @lazy
    def _of_few(self) -> Mask:
        assert self._words is not None  # noqa: S101 - the caller looked
        return self._words.ranking.mask(np.array(self._few, "<i8"))

    @lazy
    def _allowed(self) -> Mask:
        """Of what phrases, exclusions and the entities of the scope leave."""
        words = self._words
        assert words is not None  # noqa: S101 - the caller looked
        masks = [] if words.allowed is None else [words.allowed]
        entities = self.scope.entities
        if len(entities) == 1 and any(part.head.entity != entities[0] for part in words.parts):
            masks.append(words.ranking.of_entity(entities[0]))
        return np.logical_and.reduce(masks) if masks else None

    def _without_excluded(self, docs: Sequence[int] | None) -> Sequence[int] | None:
        words = self._words
        if docs is None or words is None or words.excluded is None:
            return docs
        gone = set(words.ranking.docs(np.flatnonzero(words.excluded)).tolist())
        return [doc for doc in docs if doc not in gone]

    def _in_scope(self, words: Found, limit: int) -> list[tuple[int, float]]:
        """The best of the scope: out of all in it where these are few, and a sample of the ranking or the number of
        records shows that; else from the top of the ranking down until there are enough."""
        ranking = words.ranking
        kept: set[int] = set()
        looked_at, size = 0, SAMPLE
        is_narrow = len(ranking.scores) <= FIRST
        while not (is_narrow and self._few is not None):
            top = ranking.best(size, self._mask)
            new = [doc for doc, _ in top[looked_at:]]
            kept.update(self._store.scopes.within(self._connection, self.scope, new) if new else ())
            if not is_own(self._connection):
                self._has_gone |= len(self._store.contents.refs(self._connection, new)) < len(new)
            self._is_wide = len(kept) >= limit
            if self._is_wide or len(top) < size:
                return [(doc, score) for doc, score in top if doc in kept][:limit]
            is_narrow = len(kept) * FIRST < limit * len(top)
            looked_at = len(top)
            size = next((n for n in (ENOUGH * limit, FIRST) if n > size), size * GROWTH)
        return ranking.best(limit, self._mask)
