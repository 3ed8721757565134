"""Engines set up the way kameleon likes its databases; plain ones from SQLAlchemy work too."""

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import URL, Engine, event, make_url

from .errors import InvalidInput, seen

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

ASYNCHRONOUS = ("aiosqlite", "psycopg", "psycopg_async")


def create_engine(url: str | URL, **options: Any) -> Engine:
    """SQLAlchemy's `create_engine` with good manners for each database.

    SQLite: write-ahead logging (readers never wait for a writer) and SQLAlchemy's own BEGIN, without which the driver
    commits savepoints as it releases them. PostgreSQL: `postgresql://` means psycopg 3. `options` are SQLAlchemy's.
    """
    if not isinstance(url, str | URL) or not str(url).isprintable():
        raise InvalidInput(f"a database is a printable URL such as sqlite:///kameleon.db, not {seen(url, 20)}")
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sqlalchemy.create_engine(parsed, **options)
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError, ImportError, ValueError) as error:
        raise InvalidInput(f"no database can be opened as {shown(url)}: {error}. Try sqlite:///kameleon.db") from error
    if engine.dialect.is_async:
        raise InvalidInput(
            f"{parsed.drivername} is asynchronous: kameleon.create_async_engine opens it, and SearchEngine takes what "
            "that returns"
        )
    set_up_engine(engine)
    return engine


def create_async_engine(url: str | URL, **options: Any) -> "AsyncEngine":
    """SQLAlchemy's `create_async_engine` with the same manners."""
    from sqlalchemy.ext.asyncio import create_async_engine as create

    engine = create(url, **options)
    set_up_engine(engine.sync_engine)
    return engine


def set_up_engine(engine: Engine) -> None:
    """The same manners for an engine that a framework made, before its first connection."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", partial(_connected, engine.dialect.dbapi))
        event.listen(engine, "begin", _began)


def synchronous(engine: Any) -> Engine:
    """The engine itself; of an asynchronous one, an engine for threads on connections that it opens. Raises
    InvalidInput."""
    engine = getattr(engine, "sync_engine", engine)
    if not isinstance(engine, Engine):
        raise InvalidInput(f"SearchEngine takes a SQLAlchemy engine, not {engine!r:.80}")
    if not engine.dialect.is_async:
        return engine
    if engine.dialect.driver not in ASYNCHRONOUS:
        raise InvalidInput(
            f"kameleon cannot work on {engine.dialect.driver}. Known: sqlite+aiosqlite, postgresql+psycopg"
        )
    from .async_connections import own_engine

    return own_engine(engine)


def shown(url: str | URL) -> str:
    """The URL for a message, without what stands before an @ or after a ?, which may be a password."""
    text = url if isinstance(url, str) else url.render_as_string()
    scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
    place, question, _ = rest.partition("?")
    user, at, host = place.rpartition("@")
    return repr(f"{scheme}{separator}{'…' if user else ''}{at}{host}{question}{'…' if question else ''}")[:120]


def _connected(dbapi: Any, connection: Any, _record: Any) -> None:
    """Where the file cannot be changed to write-ahead logging now (read-only, or another process is at it), it works as
    it is and a later connection tries again."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode")
    if cursor.fetchone()[0] == "delete":
        with suppress(dbapi.OperationalError):
            cursor.execute("PRAGMA journal_mode = wal")
    cursor.close()


def _began(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
