"""Marks kameleon's own connections. Only of these the driver's connection is used: the application's may be
asynchronous, and is used through SQLAlchemy. Imports nothing of kameleon's."""

from typing import Any

from sqlalchemy import Connection, Engine

OWN = "kameleon_own"


def own_connection(engine: Engine) -> Connection:
    return engine.connect().execution_options(**{OWN: True})


def is_own(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(OWN))


def own_driver(connection: Connection) -> Any:
    """Returns the driver's connection of one of kameleon's own, which is synchronous on any engine."""
    return connection.connection.driver_connection
