"""Which connections are kameleon's own. The driver's connection is used of these alone: of the application's, which may
be asynchronous, only what SQLAlchemy gives."""

from typing import Any

from sqlalchemy import Connection, Engine

OWN = "kameleon_own"


def own_connection(engine: Engine) -> Connection:
    return engine.connect().execution_options(**{OWN: True})


def is_own(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(OWN))


def own_driver(connection: Connection) -> Any:
    """The driver's connection of one of kameleon's own, which is synchronous on any engine."""
    return connection.connection.driver_connection
