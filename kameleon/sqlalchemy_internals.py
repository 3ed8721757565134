"""Private attributes of SQLAlchemy where there is no public one, beside those of `async_connections`. Imports nothing
of kameleon. `tests/test_sqlalchemy_internals.py` holds each against the SQLAlchemy that is installed."""

from sqlalchemy import Connection, QueuePool


def has_room(pool: QueuePool) -> bool:
    """Whether a pool can give another connection without waiting. A pool reports its size and what is checked out, but
    not its `max_overflow`."""
    return pool._max_overflow < 0 or pool.checkedout() < pool.size() + pool._max_overflow


def commits_each_statement(connection: Connection) -> bool:
    """Whether the connection is in AUTOCOMMIT mode. `get_isolation_level()` asks the database, whose answer on SQLite
    does not include the driver's mode."""
    return connection._is_autocommit_isolation()
