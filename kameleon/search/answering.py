"""Runs a search: calls the provider and the reranker outside of any transaction, reads the database in short ones.
Imports `values`, `errors`, `embeddings`, `stores` and `indexing`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from ..errors import Outdated, ProviderError
from ..indexing.index import Index
from ..indexing.time_limits import run_off_loop
from ..stores.catalog import Registry, of_fingerprint
from ..values import Generation, QueryPlan, SearchResults
from .prepared import Prepared, prepare, prepare_given
from .query import Query

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService
    from .retrieval import Legs, Retriever

TRIES = 4
"""Bounds how often a query is prepared again because the index moves to another model meanwhile."""

T = TypeVar("T")


class Answering:
    """`_last_generations` are those that the last query was prepared for, `_served` their numbers by service."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._store = index.store
        self._catalog = index.catalog
        self._services = index.services
        self._last_generations: Sequence[Generation] | None = None
        self._served: dict[EmbeddingService, int] = {}

    def search(self, query: Query, connection: Connection | None = None) -> SearchResults:
        if query.is_nowhere:
            return SearchResults(
                [], QueryPlan(query.mode, {}, note="among no entities, tenants or ids nothing is found")
            )
        if query.is_browse:
            return self._listed(query, connection)
        if query.rerank is None:
            retriever, (found, page) = self._retrieved(query, connection, lambda retriever, conn: retriever.read(conn))
            return retriever.results(found, page)
        retriever, found = self._retrieved(query, connection, lambda retriever, conn: retriever.find(conn))
        found = retriever.rerank(found)
        with self._index.preserving(connection, query.tenants) as conn:
            self._store.connections.prepare_search(conn)
            found = retriever.arrange(conn, found)
            page = retriever.page(conn, found)
        return retriever.results(found, page)

    def _listed(self, query: Query, connection: Connection | None) -> SearchResults:
        from .browsing import Browsing  # NumPy loads with it

        with self._index.preserving(connection, query.tenants) as conn:
            entities = self._read_catalog(conn, query).entities
            return Browsing(self._index, query, entities).results(conn)

    def legs(self, query: Query) -> "Legs":
        """What each leg finds by itself, to be fused by the caller."""
        return self._retrieved(query, None, lambda retriever, conn: retriever.legs(conn))[1]

    def _retrieved(
        self, query: Query, connection: Connection | None, read: "Callable[[Retriever, Connection], T]"
    ) -> "tuple[Retriever, T]":
        """What `read` makes of the query in a transaction that sees the generations which it was prepared for."""
        from .retrieval import Retriever  # NumPy loads with the first search

        prepared = self._prepare(query, self._generations(query, connection))
        for _ in range(TRIES):
            with self._index.preserving(connection, query.tenants) as conn:
                registry = self._read_catalog(conn, query)
                if not self._reads_generations(query) or registry.generations == prepared.generations:
                    curated = self._index.curation.read(conn, registry.curation, query.tenants)
                    retriever = Retriever(
                        self._index, query, prepared, registry.entities, curated, registry.generations
                    )
                    return retriever, read(retriever, conn)
            prepared = self._prepare(query, registry.generations)
        raise Outdated("the index kept being moved to another model. Try again")

    def _generations(self, query: Query, connection: Connection | None) -> Sequence[Generation]:
        """The generations as the search before saw them; read where there was none."""
        last = self._last_generations
        if last is not None or not self._reads_generations(query):
            return last or ()
        with self._index.preserving(connection) as conn:
            return self._catalog.generations(conn)

    def _read_catalog(self, conn: Connection, query: Query) -> Registry:
        """What a query depends on, with one statement."""
        return self._catalog.read(conn) if query.reads_records else self._catalog.registry(conn)

    def _reads_generations(self, query: Query) -> bool:
        """Whether a query's answer depends on which generations there are."""
        has_vector = query.vector is not None or self._services.provider is not None
        return query.mode != "keyword" and not query.is_browse and has_vector

    def _prepare(self, query: Query, generations: Sequence[Generation]) -> Prepared:
        """Choose the query's service and embed its text, with no transaction open; the caller's own vector needs none
        unless the engine has a provider object. Raises nothing: an unavailable or failing provider is reported in the
        query plan."""
        if not self._reads_generations(query):
            return Prepared(generations)
        self._last_generations = generations
        if query.vector is not None and (not generations or isinstance(self._services.provider, str | None)):
            return prepare_given(query, generations)
        try:
            service = self._services.of(generations)
            assert service is not None  # noqa: S101 - there is a provider
            self._note_served(generations, service)
            return run_off_loop(partial(prepare, query, generations, service))
        except ProviderError as error:
            return Prepared(generations, unavailable=error)

    def _note_served(self, generations: Sequence[Generation], service: "EmbeddingService") -> None:
        """A model whose generation was made again may give other vectors than it did."""
        generation = of_fingerprint(generations, service.provider.fingerprint)
        if generation is not None and self._served.setdefault(service, generation.number) != generation.number:
            self._served[service] = generation.number
            service.forget_queries()
