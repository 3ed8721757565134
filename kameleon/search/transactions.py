"""Transactions of the engine's own, and work inside the caller's: opened, translated, begun anew."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, QueuePool

from ..errors import InvalidInput, Outdated, TransactionConflict
from .store import Store

TRIES = 10
PAUSE_S = 0.002

T = TypeVar("T")


class Transactions:
    def __init__(self, engine: Engine, store: Store) -> None:
        self.engine = engine
        self._store = store

    @contextmanager
    def transaction(self, connection: Connection | None = None) -> Iterator[Connection]:
        """The caller's connection as it is, or one of our own that commits at the end. Raises StorageError."""
        with self._store.translating():
            if connection is None:
                with self._store.writing() as conn:
                    yield conn
            else:
                self._check_connection(connection)
                with self._store.joining(connection), self._store.savepoint(connection):
                    yield connection

    @contextmanager
    def reading(self, connection: Connection | None = None) -> Iterator[Connection]:
        """The caller's connection as it is, or one of our own that sees one state of the database."""
        with self._store.translating():
            if connection is None:
                with self._store.reading() as conn:
                    yield conn
            else:
                self._check_connection(connection)
                with self._store.joining(connection):
                    yield connection

    @contextmanager
    def visiting(self, connection: Connection | None = None) -> Iterator[Connection]:
        """As `reading`, and the caller's transaction is left as it was found, whatever is set or fails inside."""
        if connection is None:
            with self.reading() as conn:
                yield conn
        else:
            self._check_connection(connection)
            with self._store.translating(), self._store.visiting(connection):
                yield connection

    @contextmanager
    def leaving_no_connection(self) -> Iterator[None]:
        """A pool that is empty before is empty after it: processes that are forked later would share what it has. A
        database in memory would go with its connections, and stays."""
        pool = self.engine.pool
        if not isinstance(pool, QueuePool) or self.engine.dialect.is_async or pool.checkedin() or pool.checkedout():
            yield
            return
        yield
        if not self._store.is_in_memory() and not pool.checkedout():
            self.engine.dispose(close=False)  # first, lest other threads take from a pool that is being closed
            pool.dispose()

    def _check_connection(self, connection: object) -> None:
        wanted = self.engine.dialect.name
        if not isinstance(connection, Connection) or connection.dialect.name != wanted:
            raise InvalidInput(
                f"connection= is a SQLAlchemy Connection to {wanted}, not {connection!r:.80}. Of a Session, give "
                "session.connection()"
            )

    def committed(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns of a transaction of its own, begun anew while others come in between."""

        def attempt() -> T:
            with self.transaction() as conn:
                return work(conn)

        return self.retried(attempt)

    def retried(self, attempt: Callable[[], T], connection: Connection | None = None) -> T:
        """What `attempt` returns, begun anew while other writers come in between. In the caller's transaction that is
        done as long as the database lets it go on. Raises TransactionConflict, after ten tries."""
        for tries_left in reversed(range(TRIES)):
            try:
                return attempt()
            except TransactionConflict as conflict:
                if not tries_left or not (connection is None or isinstance(conflict, Outdated)):
                    raise
            time.sleep(random.uniform(0, PAUSE_S * 2 ** (TRIES - tries_left)))
        raise AssertionError
