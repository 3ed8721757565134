"""Keys, JSON and time stamps of rows in SQLite. Imports `values`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ...values import Ref
from ..own_connections import is_own, own_driver
from . import statements as sql

ROWS_A_STATEMENT = 10_000
"""Rows of a bulk write. Chosen, not measured."""


class Present(NamedTuple):
    """What `kdb_search` has of a record, apart from its content."""

    doc: int
    content_hash: str
    created_at: str


def as_json(keys: Iterable[Any]) -> str:
    return json.dumps(list(keys))


def fetched(connection: Connection, statement: str, binds: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """Runs a statement, on kameleon's own connections without SQLAlchemy: that takes as long as a small query."""
    if is_own(connection):
        return own_driver(connection).execute(statement, binds).fetchall()  # type: ignore[no-any-return]
    return connection.exec_driver_sql(statement, dict(binds)).all()


def by_entity(refs: Iterable[Ref]) -> dict[str, list[Ref]]:
    groups: dict[str, list[Ref]] = {}
    for ref in refs:
        groups.setdefault(ref.entity, []).append(ref)
    return groups


def of_entity(entity: str, refs: Iterable[Ref]) -> dict[str, str]:
    """Returns the binds of a statement that reads these records of an entity."""
    return {"entity": entity, "ids": as_json(ref.id for ref in refs)}


def present(connection: Connection, refs: Iterable[Ref]) -> dict[Ref, Present]:
    """Returns those that are there. The dictionary keeps the caller's ref objects: a batch is large."""
    return {
        group[place]: Present(*row)
        for entity, group in by_entity(refs).items()
        for place, *row in connection.exec_driver_sql(sql.PRESENT, of_entity(entity, group)).all()
    }


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def readable(content: bytes) -> str:
    """Returns the text, empty where it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return ""
