"""Engines set up the way kameleon likes its databases; plain ones from SQLAlchemy work too."""

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
    except sqlalchemy.exc.ArgumentError as error:
        raise InvalidInput(
            f"{url!r:.80} is no database URL. Try sqlite:///kameleon.db or postgresql://host/name"
        ) from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(parsed, **options)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _connected)
        event.listen(engine, "begin", _began)
    return engine


def _connected(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
        cursor.execute("PRAGMA journal_mode = wal")
    cursor.close()


def _began(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
