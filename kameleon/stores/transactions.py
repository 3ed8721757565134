"""Transactions of the engine's own, and work inside the caller's: opened, their errors translated, repeated. Imports
`values`, `errors`, `memory_pool`, `urls` and `database`."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, QueuePool

from ..database import is_same_place
from ..errors import InvalidInput, Outdated, StorageError, TransactionConflict
from ..memory_pool import share_a_connection
from ..urls import shown
from ..values import Tenants
from .protocols import Store

TRIES = 10
PAUSE_S = 0.002
"""The first pause between two attempts, doubled with each. Chosen, not measured."""

T = TypeVar("T")


class Transactions:
    def __init__(self, engine: Engine, store: Store) -> None:
        self.engine = engine
        self.is_closed = False
        self._connections = store.connections
        self._known: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()

    def transaction(
        self, connection: Connection | None = None, tenants: Tenants = ()
    ) -> AbstractContextManager[Connection]:
        """Yields the caller's connection, or one of our own that commits at the end and acts for one of `tenants`, if
        that is one. Raises StorageError."""
        return self._opened(connection, self._connections.writing, self._in_savepoint, tenants)

    def reading(
        self, connection: Connection | None = None, tenants: Tenants = ()
    ) -> AbstractContextManager[Connection]:
        """Yields the caller's connection, or one of our own that sees one state of the database, for `tenants` as
        above."""
        return self._opened(connection, self._connections.reading, self._connections.joining, tenants)

    def preserving(
        self, connection: Connection | None = None, tenants: Tenants = ()
    ) -> AbstractContextManager[Connection]:
        """As `reading`, and restores the caller's transaction, whatever is set or fails inside."""
        return self._opened(connection, self._connections.reading, self._connections.preserving, tenants)

    @contextmanager
    def joining(self, connection: Connection) -> Iterator[None]:
        """Makes one transaction of what is done inside, also where the caller's connection commits each statement."""
        self._check_open()
        self._check_connection(connection)
        with self._connections.joining(connection):
            yield

    @contextmanager
    def _opened(
        self,
        connection: Connection | None,
        own: Callable[[], AbstractContextManager[Connection]],
        within: Callable[[Connection], AbstractContextManager[None]],
        tenants: Tenants,
    ) -> Iterator[Connection]:
        self._check_open()
        with self._connections.translating():
            if connection is None:
                with own() as opened:
                    self._connections.act_for(opened, tenants)
                    yield opened
            else:
                self._check_connection(connection)
                with within(connection):
                    yield connection

    @contextmanager
    def _in_savepoint(self, connection: Connection) -> Iterator[None]:
        with self._connections.joining(connection), self._connections.savepoint(connection):
            yield

    def _check_open(self) -> None:
        if self.is_closed:
            raise StorageError("this SearchEngine is closed. Make another: SearchEngine(engine, ...)")

    @contextmanager
    def leaving_no_connection(self) -> Iterator[None]:
        """Empties the pool if it was empty before: processes that are forked later would share its connections. A
        database in memory would be gone with its connections, and keeps them."""
        pool = self.engine.pool
        if not isinstance(pool, QueuePool) or self.engine.dialect.is_async or pool.checkedin() or pool.checkedout():
            yield
            return
        yield
        if not self._connections.is_in_memory() and not pool.checkedout():
            self.engine.dispose(close=False)  # first, lest other threads take from a pool that is being closed
            pool.dispose()

    def _check_connection(self, connection: object) -> None:
        wanted = self.engine.dialect.name
        if not isinstance(connection, Connection) or connection.dialect.name != wanted:
            raise InvalidInput(
                f"connection= is a SQLAlchemy Connection to {wanted}, not {connection!r:.80}. Of a Session, give "
                "session.connection()"
            )
        if not self._is_of_this_database(connection):
            raise InvalidInput(
                f"connection= leads to {shown(connection.engine.url)}, this index is in {shown(self.engine.url)}"
            )

    def _is_of_this_database(self, connection: Connection) -> bool:
        """Whether it is of the engine's pool, its URL, or its database by another URL; a replica serves for reading."""
        engine = connection.engine
        if engine.pool is self.engine.pool or share_a_connection(engine.pool, self.engine.pool):
            return True
        if engine not in self._known:
            self._known[engine] = is_same_place(engine.url, self.engine.url) or self._is_same_database(connection)
        return self._known[engine]

    def _is_same_database(self, connection: Connection) -> bool:
        theirs = self._connections.identity(connection)
        if theirs is None:
            return False
        with self._connections.reading() as own:
            ours = self._connections.identity(own)
        return ours is not None and (theirs == ours or (theirs[-1] is None and theirs[0] == ours[0]))

    def committed(
        self, work: Callable[[Connection], T], tenants: Tenants = (), connection: Connection | None = None
    ) -> T:
        """Returns what `work` returns in a transaction of its own, which is repeated while others conflict with it, or
        in the caller's."""

        def attempt() -> T:
            with self.transaction(connection, tenants) as conn:
                return work(conn)

        return self.retried(attempt, connection)

    def retried(self, attempt: Callable[[], T], connection: Connection | None = None) -> T:
        """Returns what `attempt` returns, repeated while other writers conflict with it; in the caller's transaction as
        long as that can continue. Raises TransactionConflict, after ten attempts."""
        for tries_left in reversed(range(TRIES)):
            try:
                return attempt()
            except TransactionConflict as conflict:
                if not tries_left or not (connection is None or isinstance(conflict, Outdated)):
                    raise
            time.sleep(random.uniform(0, PAUSE_S * 2 ** (TRIES - tries_left)))
        raise AssertionError

    def retried_with_less(self, attempt: Callable[[int], T], size: int, connection: Connection | None = None) -> T:
        """Returns what `attempt` returns for a number of records, repeated with half of them each time that other
        writers conflict with it: they may change one of many in every attempt."""
        sizes = (max(1, size >> tries) for tries in count())
        return self.retried(lambda: attempt(next(sizes)), connection)
