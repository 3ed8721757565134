"""Connections, transactions and locks in PostgreSQL. Imports `values`, `errors` and `sqlalchemy_internals`."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, FromClause, NullPool, QueuePool, Table
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...errors import StorageError
from ...sqlalchemy_internals import has_room
from ...values import Ref, Tenants
from ..own_connections import is_own, own_connection, own_driver
from . import statements as sql
from .errors import storage_error
from .fetching import fetched
from .policies import PostgreSQLPolicies
from .rows import by_key
from .templates import Templates

PRESERVED = "kameleon_preserved"
"""In a connection's `info` while what it reads is rolled back afterwards."""


BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(eq=False)
class PostgreSQLConnections:
    _engine: Engine
    _templates: Templates
    _policies: PostgreSQLPolicies

    @contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise storage_error(error.orig or error) from error
        except psycopg.Error as error:
            raise storage_error(error) from error
        except UnicodeError as error:
            raise StorageError(
                f"the connection's client_encoding cannot carry this text ({error}). Let it be UTF8"
            ) from error
        except InvalidRequestError as error:
            raise StorageError(f"the connection cannot be used: {error}") from error
        except PoolTimeout as error:
            raise StorageError(
                f"the engine's pool had no connection to give in time ({error}). Give it more (pool_size=, "
                "max_overflow=), or hold fewer"
            ) from error

    def is_in_memory(self) -> bool:
        return False

    # transactions

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot with the settings of a search, begun in one message; the driver's own settings are restored. Where
        a listener of the application's began the transaction, that one."""
        with (
            own_connection(self._engine) as connection,
            discarding(connection),
            unprepared(own_driver(connection)) as driver,
        ):
            if driver.info.transaction_status != TransactionStatus.IDLE:
                self.set_local(connection, *self._search_settings())
                yield connection
                return
            before = driver.isolation_level, driver.read_only, driver.autocommit
            driver.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            driver.set_read_only(True)
            try:
                connection.begin()
                self._begin_snapshot(connection, driver)
                yield connection
            finally:
                if not driver.closed and driver.info.transaction_status != TransactionStatus.ACTIVE:
                    driver.rollback()
                    driver.set_isolation_level(before[0])
                    driver.set_read_only(before[1])
                    driver.set_autocommit(before[2])

    def _begin_snapshot(self, connection: Connection, driver: Any) -> None:
        """In AUTOCOMMIT the driver sends no BEGIN of its own before ours."""
        settings = self._search_settings()
        if driver.info.transaction_status != TransactionStatus.IDLE:
            self.set_local(connection, *settings)
            return
        driver.set_autocommit(True)
        connection.exec_driver_sql("; ".join([BEGIN_SNAPSHOT, *self._locals(settings)]))

    def _search_settings(self) -> list[str]:
        return ["jit = off", *self._templates.hnsw_settings(self._templates.ef_search)]

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with (
            own_connection(self._engine) as connection,
            discarding(connection),
            unprepared(own_driver(connection)),
        ):
            with explicitly_begun(connection):
                if not connection.in_transaction():
                    connection.begin()  # COPY alone begins none that SQLAlchemy would commit
                yield connection
            connection.commit()

    def identity(self, connection: Connection) -> tuple[Any, ...] | None:
        """A replica that is only read has its primary's databases."""
        found = connection.exec_driver_sql(sql.IDENTITY).one()
        return (found.database, None if found.is_replica else found.began)

    def joining(self, connection: Connection) -> AbstractContextManager[None]:
        return explicitly_begun(connection)

    def fetched(self, connection: Connection, statement: str) -> Sequence[Sequence[Any]]:
        return fetched(connection, statement, {})

    def prepare_search(self, connection: Connection) -> None:
        """Plans are made for the terms at hand; compiling one costs more than it saves. A connection of ours begins so,
        and prepares nothing."""
        if not is_own(connection):
            self.set_local(connection, "jit = off", "plan_cache_mode = force_custom_plan")

    def act_for(self, connection: Connection, tenants: Tenants) -> None:
        if tenants not in ((), ("",)):
            self._policies.act_for(connection, tenants)

    @contextmanager
    def preserving(self, connection: Connection) -> Iterator[None]:
        with self.joining(connection):
            connection.exec_driver_sql("SAVEPOINT kdb_preserved")
            connection.info[PRESERVED] = True
            try:
                yield
            finally:
                connection.info[PRESERVED] = False
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT kdb_preserved")
                connection.exec_driver_sql("RELEASE SAVEPOINT kdb_preserved")

    @contextmanager
    def savepoint(self, connection: Connection) -> Iterator[None]:
        with connection.begin_nested():
            yield

    def savepoint_problem(self, connection: Connection) -> str:
        return ""

    def set_local(self, connection: Connection, *settings: str) -> None:
        """Sets these for the transaction: in one message on a connection of ours. The driver of another may prepare
        statements, which takes single ones."""
        statements = self._locals(settings)
        for statement in ["; ".join(statements)] if is_own(connection) else statements:
            connection.exec_driver_sql(statement)

    def _locals(self, settings: Sequence[str]) -> list[str]:
        if self._templates.has_citus:
            settings = ("citus.propagate_set_commands = 'local'", *settings)
        return [f"SET LOCAL {setting}" for setting in settings]

    # locks

    def acquire_write_lock(self, connection: Connection) -> None:
        """Writers wait for each other's rows alone."""

    def has_write_lock(self, connection: Connection) -> bool:
        return True

    def lock_rows(self, connection: Connection, refs: Sequence[Ref]) -> None:
        """Citus cannot lock rows of several shards."""
        if not self._templates.has_citus:
            by_key(connection, self._templates.format(sql.LOCK_ROWS), refs)

    def may_lock(self, connection: Connection, tables: Sequence[FromClause]) -> bool:
        preparer = connection.dialect.identifier_preparer
        names = [preparer.format_table(table) for table in tables if isinstance(table, Table)]
        return self.can_lock_rows() and connection.scalar(sql.MAY_LOCK, {"names": names}) == len(tables)

    def can_lock_rows(self) -> bool:
        return not self._templates.has_citus

    # spare connections

    def has_spare_connection(self) -> bool:
        pool = self._engine.pool
        return isinstance(pool, NullPool) or (isinstance(pool, QueuePool) and has_room(pool))

    def has_spare_reader(self) -> bool:
        return self.has_spare_connection()

    def outside_transactions(self) -> Connection:
        """Opens a connection whose statements each commit."""
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def at_read_committed(self) -> Connection:
        """Opens a connection whose transactions see what others commit meanwhile, whatever the engine's level."""
        return self._engine.connect().execution_options(isolation_level="READ COMMITTED")


@contextmanager
def discarding(connection: Connection) -> Iterator[None]:
    """Closes a connection of ours on which an interruption, such as Ctrl-C, left a statement in progress: it cannot be
    rolled back."""
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            driver = own_driver(connection)
            if not driver.closed and driver.info.transaction_status == TransactionStatus.ACTIVE:
                connection.invalidate()
        raise


@contextmanager
def unprepared(driver: Any) -> Iterator[Any]:
    """Prepares nothing on the server: our statements differ from each other, and a pooler in between may give the next
    transaction to another server process."""
    prepared_after, driver.prepare_threshold = driver.prepare_threshold, None
    try:
        yield driver
    finally:
        driver.prepare_threshold = prepared_after


@contextmanager
def explicitly_begun(connection: Connection, begin: str = "BEGIN") -> Iterator[None]:
    """Begins a transaction where each statement would commit alone, as in AUTOCOMMIT; none where one is open."""
    dbapi: Any = connection.connection.dbapi_connection
    if not dbapi.autocommit or dbapi.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    connection.exec_driver_sql(begin)
    try:
        yield
    except BaseException:  # an interrupt, too, must leave no transaction open
        with suppress(DBAPIError):  # a connection that is gone has rolled back
            connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")
