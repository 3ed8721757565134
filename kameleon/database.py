"""Engines set up the way kameleon likes its databases; plain ones from SQLAlchemy work too."""

from contextlib import suppress
from functools import partial
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, event, make_url

from .errors import InvalidInput


def create_engine(url: str, **options: Any) -> Engine:
    """SQLAlchemy's `create_engine` with good manners for each database.

    SQLite: write-ahead logging (readers never wait for a writer) and SQLAlchemy's own BEGIN, without which the driver
    commits savepoints as it releases them. PostgreSQL: `postgresql://` means psycopg 3. `options` are SQLAlchemy's.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sqlalchemy.create_engine(parsed, **options)
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError, ImportError, ValueError) as error:
        raise InvalidInput(f"no database can be opened as {shown(url)}: {error}. Try sqlite:///kameleon.db") from error
    if engine.dialect.is_async:
        raise InvalidInput(f"kameleon is synchronous, {parsed.drivername} is not. Try postgresql:// or sqlite:///")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", partial(_connected, engine.dialect.dbapi))
        event.listen(engine, "begin", _began)
    return engine


def shown(url: str) -> str:
    """The URL for a message, without what stands before an @, which may be a password."""
    scheme, _, rest = url.partition("://")
    return repr(f"{scheme}://…@{rest.rpartition('@')[2]}" if "@" in rest else url)[:120]


def _connected(dbapi: Any, connection: Any, _record: Any) -> None:
    """Where the file cannot be changed to write-ahead logging now (read-only, or another process is at it), it works as
    it is and a later connection tries again."""
    connection.isolation_level = None
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
        with suppress(dbapi.OperationalError):
            cursor.execute("PRAGMA journal_mode = wal")
    cursor.close()


def _began(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
