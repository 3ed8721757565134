"""Connections, transactions and the write lock in SQLite, which has one writer at a time. Imports `values`, `errors`,
`forking`, `memory_pool` and `sqlalchemy_internals`."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, FromClause, NullPool, QueuePool, StaticPool, Transaction
from sqlalchemy.exc import DBAPIError

from ...errors import InvalidInput, KameleonError, StorageError
from ...forking import watch
from ...memory_pool import ConnectionInUse
from ...sqlalchemy_internals import commits_each_statement, has_room
from ...values import Ref, Tenants
from ..names import Names
from ..own_connections import own_connection, own_driver
from . import statements as sql
from .errors import BUSY, BUSY_SNAPSHOT, storage_error
from .rows import fetched

JOINED = "kameleon_joined"
LEGACY_CONTROL = -1
"""The value of `autocommit` of a connection of sqlite3 that `isolation_level` controls."""
FIRST_WAIT_MS, LATER_WAIT_MS = 50, 3
"""How long SQLite waits in one attempt for the write lock. Its own waits grow to 100 ms, so that among many writers the
lock goes to the one that has just released it."""
LATER_AFTER_S = 0.5
"""A writer that has waited this long attempts more often than later ones: among equals some would wait for ever."""
LOG_BYTES = 32 * 2**20
"""The size of the write-ahead log above which a writer waits for the readers to truncate it. Chosen, not measured."""
READERS_WAIT_MS = 1_000
"""How long it waits for them."""


class SQLiteConnections:
    def __init__(self, engine: Engine, names: Names) -> None:
        self._engine, self._names = engine, names
        self._log_left = 0
        self._with_write_lock: WeakSet[Transaction] = WeakSet()
        watch(engine)

    @contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except ConnectionInUse as error:
            raise StorageError(str(error)) from error
        except DBAPIError as error:
            raise storage_error(error.orig or error, self._engine.url.database) from error
        except self._engine.dialect.loaded_dbapi.Error as error:  # of statements on the driver's connection
            raise storage_error(error, self._engine.url.database) from error

    def is_in_memory(self) -> bool:
        with self._engine.connect() as connection:
            return not connection.execute(sql.FILE).scalar()

    # transactions

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Plain pysqlite begins no transaction for a SELECT."""
        with self._connect() as connection:
            connection.begin()
            driver = own_driver(connection)
            if not driver.in_transaction:
                driver.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """BEGIN IMMEDIATE: a deferred transaction that reads before it writes fails at once when another wrote."""
        with self._connect() as connection:
            connection.begin()
            if own_driver(connection).in_transaction:
                connection.exec_driver_sql("ROLLBACK")
            wait_to_write(connection, "BEGIN IMMEDIATE")
            self._note_write_lock(connection)
            yield connection
            connection.commit()
            self._truncate_log(connection.connection.dbapi_connection)

    def _connect(self) -> Connection:
        """In-memory databases have one connection a thread: one that the caller is using is never touched."""
        if isinstance(self._engine.pool, StaticPool):
            refuse_shared(self._engine.pool.connection.dbapi_connection)
        connection = own_connection(self._engine)
        driver = own_driver(connection)
        try:
            refuse_shared(driver)
            if getattr(driver, "autocommit", None) is True:
                raise InvalidInput(
                    "the driver's autocommit=True commits every statement alone. Leave it at its default"
                )
        except KameleonError:
            connection.close()
            raise
        return connection

    def _truncate_log(self, driver: Any) -> None:
        """SQLite restarts its write-ahead log at a moment without readers. Where readers overlap all the time it would
        grow for ever, so a long one is truncated while writers wait for the present readers. Where one of them stays,
        it is attempted again when the log is twice as long."""
        path = f"{self._engine.url.database}-wal"
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        if size <= max(LOG_BYTES, self._log_left):
            return
        with busy_timeout(driver, READERS_WAIT_MS) as (cursor, _):
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                is_busy = bool(cursor.fetchone()[0])
            except self._engine.dialect.loaded_dbapi.OperationalError:
                is_busy = True
        self._log_left = 2 * size if is_busy else 0

    def identity(self, connection: Connection) -> tuple[Any, ...] | None:
        """Its file, by whichever path."""
        path = connection.execute(sql.FILE).scalar()
        if not path:
            return None
        found = os.stat(path)
        return found.st_dev, found.st_ino

    @contextmanager
    def joining(self, connection: Connection) -> Iterator[None]:
        """A savepoint outside any transaction begins one; inside, the transaction goes on after it."""
        if not commits_each_statement(connection) or connection.info.get(JOINED):
            yield
            return
        connection.info[JOINED] = True
        connection.exec_driver_sql("SAVEPOINT kdb_joined")  # begins SQLAlchemy's transaction, too, where none is open
        self._with_write_lock.discard(connection.get_transaction())  # type: ignore[arg-type]
        try:
            yield
        except BaseException:  # an interrupt, too, must leave no savepoint open
            with suppress(DBAPIError):  # SQLite has rolled all back itself
                connection.exec_driver_sql("ROLLBACK TO kdb_joined")
                connection.exec_driver_sql("RELEASE kdb_joined")
            raise
        else:
            connection.exec_driver_sql("RELEASE kdb_joined")
        finally:
            connection.info[JOINED] = False
            self._with_write_lock.discard(connection.get_transaction())  # type: ignore[arg-type]

    def fetched(self, connection: Connection, statement: str) -> Sequence[Sequence[Any]]:
        return fetched(connection, statement, {})

    def prepare_search(self, connection: Connection) -> None:
        """SQLite has nothing to set."""

    def act_for(self, connection: Connection, tenants: Tenants) -> None:
        """SQLite has no policies."""

    def preserving(self, connection: Connection) -> AbstractContextManager[None]:
        return nullcontext()

    def savepoint(self, connection: Connection) -> AbstractContextManager[None]:
        return nullcontext()

    def savepoint_problem(self, connection: Connection) -> str:
        driver: Any = connection.connection.dbapi_connection
        if driver.isolation_level is None or getattr(driver, "autocommit", LEGACY_CONTROL) != LEGACY_CONTROL:
            return ""
        return (
            "this engine's driver begins a transaction with the first write, so a savepoint before that commits when "
            "it is released, and a rollback does not take it back. Use kameleon.create_engine or create_async_engine; "
            "kameleon.set_up_engine(engine) does the same for an engine that a framework made"
        )

    # locks

    def acquire_write_lock(self, connection: Connection) -> None:
        """A write that changes nothing: waits for the write lock while the transaction has read nothing yet. Once it
        has, SQLite fails at once if another wrote since."""
        if not self.has_write_lock(connection):
            wait_to_write(connection, self._names(sql.WRITE_NOTHING))
            self._note_write_lock(connection)

    def has_write_lock(self, connection: Connection) -> bool:
        return connection.get_transaction() in self._with_write_lock

    def _note_write_lock(self, connection: Connection) -> None:
        """Where a savepoint may commit, the lock goes with it."""
        if not self.savepoint_problem(connection) and (transaction := connection.get_transaction()) is not None:
            self._with_write_lock.add(transaction)

    def lock_rows(self, connection: Connection, refs: Sequence[Ref]) -> None:
        """There is no other writer."""

    def may_lock(self, connection: Connection, tables: Sequence[FromClause]) -> bool:
        return False

    def can_lock_rows(self) -> bool:
        return False

    # spare connections

    def has_spare_connection(self) -> bool:
        return False

    def has_spare_reader(self) -> bool:
        pool = self._engine.pool
        return isinstance(pool, NullPool) or (isinstance(pool, QueuePool) and has_room(pool))


def refuse_shared(driver: Any) -> None:
    if driver.in_transaction and getattr(driver, "autocommit", None) is not False:
        raise StorageError(
            "this engine has a single connection and a transaction is open on it: pass connection=, or end it first"
        )


def wait_to_write(connection: Connection, statement: str) -> None:
    """Runs a statement that takes the write lock, and waits for that up to the connection's time-out. Where SQLite
    fails without waiting, because the transaction has read already, so does this."""
    with busy_timeout(connection.connection.dbapi_connection, FIRST_WAIT_MS) as (cursor, timeout_ms):
        start = time.monotonic()
        _run_until(connection, statement, start + timeout_ms / 1000, start + LATER_AFTER_S, cursor)


@contextmanager
def busy_timeout(driver: Any, most_ms: int) -> Iterator[tuple[Any, int]]:
    """Yields a cursor whose connection waits no longer than this, and how long it waits otherwise."""
    cursor = driver.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout")
        (timeout_ms,) = cursor.fetchone()
        cursor.execute(f"PRAGMA busy_timeout = {min(timeout_ms, most_ms)}")
        try:
            yield cursor, timeout_ms
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {timeout_ms}")
    finally:
        cursor.close()


def _run_until(connection: Connection, statement: str, until: float, first_until: float, cursor: Any) -> None:
    wait_ms = FIRST_WAIT_MS
    while True:
        began = time.monotonic()
        try:
            connection.exec_driver_sql(statement)
            return
        except DBAPIError as error:
            now = time.monotonic()
            has_waited = now - began > wait_ms / 2000
            code = getattr(error.orig, "sqlite_errorcode", BUSY)
            if code & 0xFF != BUSY or code == BUSY_SNAPSHOT or not has_waited or now >= until:
                raise
            if now >= first_until and wait_ms != LATER_WAIT_MS:
                wait_ms = LATER_WAIT_MS
                cursor.execute(f"PRAGMA busy_timeout = {wait_ms}")
