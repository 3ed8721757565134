"""Runs a search: the provider, the reranker and what else may take long outside of any transaction, the database in
short ones."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from ..errors import Outdated
from ..values import Generation, QueryPlan, SearchResults
from .catalog import Catalog, Entity
from .query import Query
from .retrieval import Legs, Retriever
from .services import Services
from .store import Store

if TYPE_CHECKING:
    from .transactions import Transactions

TRIES = 4
"""Bounds how often a query is prepared anew because the index moves to another model meanwhile."""

T = TypeVar("T")


class Answering:
    def __init__(self, transactions: "Transactions", store: Store, catalog: Catalog, services: Services) -> None:
        self._transactions = transactions
        self._store = store
        self._catalog = catalog
        self._services = services

    def search(self, query: Query, connection: Connection | None = None) -> SearchResults:
        if query.is_nowhere:
            return SearchResults([], QueryPlan(query.mode, {}, note="among no entities nothing is found"))
        if query.rerank is None:
            retriever, (found, page) = self._retrieved(
                query, connection, lambda retriever, conn: (found := retriever.find(conn), retriever.page(conn, found))
            )
            return retriever.results(found, page)
        retriever, found = self._retrieved(query, connection, Retriever.find)
        found = retriever.rerank(found)
        with self._transactions.visiting(connection) as conn:
            self._store.prepare_search(conn)
            page = retriever.page(conn, found)
        return retriever.results(found, page)

    def legs(self, query: Query) -> Legs:
        """What each leg finds by itself, for whoever fuses it many times."""
        return self._retrieved(query, None, Retriever.legs)[1]

    def _retrieved(
        self, query: Query, connection: Connection | None, read: Callable[[Retriever, Connection], T]
    ) -> tuple[Retriever, T]:
        """What `read` makes of the query in a transaction that sees the generations which it was prepared for."""
        prepared = self._services.prepare(query, self._known(query, connection))
        for _ in range(TRIES):
            with self._transactions.visiting(connection) as conn:
                known, entities = self._read_catalog(conn, query)
                if not self._services.reads_generations(query) or known == prepared.known:
                    retriever = Retriever(self._store, query, prepared, entities)
                    return retriever, read(retriever, conn)
            prepared = self._services.prepare(query, known)
        raise Outdated("the index kept being moved to another model. Try again")

    def _known(self, query: Query, connection: Connection | None) -> Sequence[Generation]:
        """The generations as the search before saw them; read where there was none."""
        last = self._services.known_last
        if last is not None or not self._services.reads_generations(query):
            return last or ()
        with self._transactions.visiting(connection) as conn:
            return self._catalog.generations(conn)

    def _read_catalog(self, conn: Connection, query: Query) -> tuple[list[Generation], dict[str, Entity]]:
        """What a query has to know of the index, with one statement at most."""
        if query.reads_records:
            return self._catalog.read(conn)
        return self._catalog.generations(conn) if self._services.reads_generations(query) else [], {}
