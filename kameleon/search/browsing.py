"""Lists records where the query is empty: all of the scope, by key or by a field, a page at a time. Reads only, and
calls no provider. Imports `values`, `analysis`, `stores` and `indexing`.

A record is before or after the end of a page by its key, so that a page by cursor costs what the first does, and no
page repeats another. Where the order is a field's, its values are read, of all records and nothing else of them: the
databases order text neither alike nor as `ordering` does.
"""

import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from ..analysis.collation import sort_key
from ..indexing.index import Index
from ..stores.catalog import Entity
from ..stores.values import Hit, Scope
from ..values import Generation, QueryPlan, Ref, SearchResult, SearchResults
from .conditions import check_fields, make_scope
from .facets import count_facets
from .keyset import Place, read_place
from .marking import with_marks
from .ordering import by_fields, kind_of, plain_value
from .passages import first_passages
from .pinning import find_picked
from .presenting import grouped, read_vectors
from .query import Query
from .sources import fields_of

TRIES = 3
"""Bounds how often a page is read: a caller's connection may have no snapshot, and a content that was listed may have
been replaced before it is read. What is gone then is left out."""
SCORE = 1.0
"""What every record scores: none is better than another."""
END = -1
"""Stands among the contents, whose numbers are positive, where the page before ended."""
UNRANKED = "an empty query ranks nothing, so {} is left out"


@dataclass(frozen=True)
class Listed:
    """A page: its contents, where the next begins, and how many records there are, None where they were not counted."""

    docs: Sequence[int]
    cursor: str | None = None
    total: int | None = None


class Browsing:
    """Of one query. `entities` are those of the record store, `generation` is the active one."""

    def __init__(
        self, index: Index, query: Query, entities: Mapping[str, Entity], generation: Generation | None
    ) -> None:
        self._store = index.store
        self._query = query
        self._entities = entities
        self._generation = generation
        self._fields = fields_of(query, index.store.records, entities)

    def results(self, connection: Connection) -> SearchResults:
        query, began = self._query, time.perf_counter()
        check_fields(query, self._entities)
        scope, _ = find_picked(self._store, connection, query, make_scope(query, self._entities))
        listed, hits = self._page(connection, scope)
        matches = self._store.contents.matches(scope)
        total = self._store.contents.count(connection, matches) if listed.total is None else listed.total
        facets = count_facets(connection, self._fields, matches, query.facets)
        passed = round((time.perf_counter() - began) * 1000, 3)
        ranking = " and ".join(name for name in ("rerank", "boost") if getattr(query, name))
        return SearchResults(
            hits,
            QueryPlan("browse", {"listing": passed}, note=UNRANKED.format(ranking) if ranking else ""),
            total=total,
            facets=facets,
            cursor=listed.cursor,
            groups=grouped(hits) if query.group_by else None,
        )

    def _page(self, connection: Connection, scope: Scope) -> tuple[Listed, list[SearchResult]]:
        for _ in range(TRIES):
            listed = self._grouped(connection, scope) if self._query.group_by else self._listed(connection, scope)
            texts = self._store.contents.hits(connection, listed.docs)
            if len(texts) == len(listed.docs):
                break
        found = [doc for doc in listed.docs if doc in texts]
        vectors = read_vectors(self._store, connection, self._query, self._generation, found)
        return listed, [self._made(texts[doc], vectors.get(doc)) for doc in found]

    def _made(self, hit: Hit, vector: tuple[float, ...] | None) -> SearchResult:
        """With its first passages, where these are wanted: none is better than another."""
        ref, query = hit.ref, self._query
        made = SearchResult(ref.entity, ref.id, SCORE, hit.data, hit.content, tenant=ref.tenant, vector=vector)
        if query.passages:
            made = replace(made, passages=tuple(first_passages(hit, query.passages)))
        return with_marks(query, made, (), (False, False)) if query.highlight else made

    def _grouped(self, connection: Connection, scope: Scope) -> Listed:
        """The first of each entity."""
        names = scope.entities or self._store.contents.entities(connection, scope.tenants)
        pages = [self._listed(connection, replace(scope, entities=(name,))) for name in names]
        return Listed([doc for page in pages for doc in page.docs])

    def _listed(self, connection: Connection, scope: Scope) -> Listed:
        return self._by_key(connection, scope) if not self._query.sort else self._by_field(connection, scope)

    def _by_key(self, connection: Connection, scope: Scope) -> Listed:
        query = self._query
        after = None if query.cursor is None else read_place(query.cursor, query.digest).ref
        listed = self._store.scopes.listed(
            connection, scope, after=after, limit=query.limit + 1, offset=0 if after else query.offset
        )
        page, is_last = listed[: query.limit], len(listed) <= query.limit
        total = query.offset + len(page) if is_last and after is None and (page or not query.offset) else None
        cursor = None if is_last else Place(page[-1][1]).encode(query.digest)
        return Listed([doc for doc, _ in page], cursor, total)

    def _by_field(self, connection: Connection, scope: Scope) -> Listed:
        query, start = self._query, self._query.offset
        listed = self._store.scopes.listed(connection, scope)
        docs, refs = [doc for doc, _ in listed], dict(listed)
        values = self._values(connection, scope, listed)
        if query.cursor is not None:
            end = read_place(query.cursor, query.digest)
            docs.insert(bisect_right(listed, end.ref, key=lambda one: one[1]), END)
            for of_field, value in zip(values, end.values, strict=True):
                of_field[END] = value
        ordered = by_fields(docs, values, query.sort, sort_key(self._store.language))
        if query.cursor is not None:
            start = ordered.index(END) + 1
        page = ordered[start : start + query.limit]
        is_last = start + query.limit >= len(ordered)
        cursor = None if is_last else self._after(refs[page[-1]], [of_field.get(page[-1]) for of_field in values])
        return Listed(page, cursor, len(listed))

    def _values(self, connection: Connection, scope: Scope, listed: Iterable[tuple[int, Ref]]) -> list[dict[int, Any]]:
        """Those of each sort field."""
        matches = self._store.contents.matches(scope)
        read = [self._fields.values_among(connection, matches, sort.field) for sort in self._query.sort]
        return [{doc: found[ref] for doc, ref in listed if ref in found} for found in read]

    def _after(self, ref: Ref, values: Sequence[Any]) -> str:
        ordered = [value if kind_of(value) else None for value in map(plain_value, values)]
        return Place(ref, ordered).encode(self._query.digest)
