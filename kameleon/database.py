"""Makes engines with the settings that kameleon works best with; plain ones from SQLAlchemy work too. Imports `errors`,
`urls`, `sqlite_files`, `sqlalchemy_internals`, `memory_pool` and `async_connections`."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy
from sqlalchemy import URL, Engine, event

from .errors import InvalidInput
from .memory_pool import OneAsyncConnection, OneConnection, TakesTurns, keep_connection
from .sqlalchemy_internals import commits_each_statement
from .sqlite_files import open_read_only_files, path_of
from .urls import parse_url, shown

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

PLACES = ("host", "port", "options", "service")
"""Parameters of a URL's query that identify a database, besides its host, port and name."""
IN_MEMORY = {"sqlite": OneConnection, "sqlite+pysqlite": OneConnection, "sqlite+aiosqlite": OneAsyncConnection}
"""The pool of a database in memory, by driver."""
CONNECTIONS = ("pool", "poolclass", "creator")
ASYNCHRONOUS = ("aiosqlite", "psycopg", "psycopg_async")


def create_engine(url: str | URL, **options: Any) -> Engine:
    """SQLAlchemy's `create_engine` with settings for each database.

    SQLite: write-ahead logging (readers never wait for a writer) and SQLAlchemy's own BEGIN, without which the driver
    commits savepoints as it releases them; a database in memory (`sqlite://`) is one for all threads, which take its
    single connection in turn and wait for it up to `pool_timeout` (30 s). PostgreSQL: `postgresql://` means psycopg 3.
    `options` are SQLAlchemy's.
    """
    engine = _opened(sqlalchemy.create_engine, url, _with_one_connection(url, options))
    if engine.dialect.is_async:
        raise InvalidInput(
            f"{engine.url.drivername} is asynchronous: kameleon.create_async_engine opens it, and SearchEngine takes "
            "what that returns"
        )
    set_up_engine(engine)
    return engine


def create_async_engine(url: str | URL, **options: Any) -> "AsyncEngine":
    """SQLAlchemy's `create_async_engine` with the same settings."""
    from sqlalchemy.ext.asyncio import create_async_engine as create

    engine = _opened(create, url, _with_one_connection(url, options))
    set_up_engine(engine.sync_engine)
    return engine


def _with_one_connection(url: str | URL, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a SQLite database in memory, unless they say themselves what connections it has."""
    parsed = parse_url(url)
    is_in_memory = path_of(parsed.database) is None or parsed.query.get("mode") == "memory"
    if parsed.drivername not in IN_MEMORY or not is_in_memory or not options.keys().isdisjoint(CONNECTIONS):
        return options
    arguments = {"check_same_thread": False, **options.get("connect_args", {})}
    return {**options, "poolclass": IN_MEMORY[parsed.drivername], "connect_args": arguments}


def _opened(create: Callable[..., T], url: str | URL, options: Mapping[str, Any]) -> T:
    """Raises InvalidInput, without what of the URL may be secret."""
    parsed = parse_url(url)
    try:
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        return create(parsed, **options)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise InvalidInput(f"no database can be opened as {shown(url)}: {error}. Try sqlite:///kameleon.db") from error


def set_up_engine(engine: Engine) -> None:
    """Apply the same settings to an engine that a framework made, before its first connection."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", partial(_connected, engine.dialect.dbapi))
        event.listen(engine, "begin", _began)
        if isinstance(engine.pool, TakesTurns):
            event.listen(engine, "handle_error", keep_connection)
        open_read_only_files(engine)


def synchronous(engine: Any) -> Engine:
    """The engine itself; of an asynchronous one, an engine for threads on connections that it opens. Raises
    InvalidInput."""
    engine = getattr(engine, "sync_engine", engine)
    if not isinstance(engine, Engine):
        given = shown(engine) if isinstance(engine, str | URL) else f"{engine!r:.80}"
        raise InvalidInput(f"SearchEngine takes a SQLAlchemy engine, not {given}")
    if not engine.dialect.is_async:
        return engine
    if engine.dialect.driver not in ASYNCHRONOUS:
        raise InvalidInput(
            f"kameleon cannot work on {engine.dialect.driver}. Known: sqlite+aiosqlite, postgresql+psycopg"
        )
    from .async_connections import own_engine

    return own_engine(engine)


def is_same_place(url: URL, other: URL) -> bool:
    """Whether two URLs name one database, which one in memory never is."""
    if url.get_backend_name() != other.get_backend_name() or url.database in (None, "", ":memory:"):
        return False
    return (url.host, url.port, url.database, _place(url)) == (other.host, other.port, other.database, _place(other))


def _place(url: URL) -> tuple[Any, ...]:
    return tuple(url.query.get(name) for name in PLACES)


def _connected(dbapi: Any, connection: Any, _record: Any) -> None:
    """Change the file to write-ahead logging. Where that cannot be done now (read-only, or another process uses it), it
    stays as it is, and a later connection tries again."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode")
    if cursor.fetchone()[0] == "delete":
        with suppress(dbapi.OperationalError):
            cursor.execute("PRAGMA journal_mode = wal")
    cursor.close()


def _began(connection: sqlalchemy.Connection) -> None:
    """Begins for the driver, which does not; nothing in AUTOCOMMIT mode, where nobody would commit."""
    if not commits_each_statement(connection):
        connection.exec_driver_sql("BEGIN")
