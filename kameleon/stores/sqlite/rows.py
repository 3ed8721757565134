"""Keys, JSON and time stamps of rows in SQLite. Imports `values`."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from ...values import Ref
from . import statements as sql

ROWS_A_STATEMENT = 10_000
"""Rows of a bulk write. Chosen, not measured."""


def as_json(keys: Iterable[Any]) -> str:
    return json.dumps(list(keys))


def by_entity(refs: Iterable[Ref]) -> dict[str, list[Ref]]:
    groups: dict[str, list[Ref]] = {}
    for ref in refs:
        groups.setdefault(ref.entity, []).append(ref)
    return groups


def of_entity(entity: str, refs: Iterable[Ref]) -> dict[str, str]:
    """Returns the binds of a statement that reads these records of an entity."""
    return {"entity": entity, "ids": as_json(ref.id for ref in refs)}


def keys_of(connection: Connection, refs: Sequence[Ref]) -> dict[tuple[str, str], int]:
    """Returns the key of each ref that is there. The dictionary keeps the caller's ref objects: a batch is large."""
    found: dict[tuple[str, str], int] = {}
    for entity, group in by_entity(refs).items():
        keys = connection.execute(sql.KEYS, of_entity(entity, group)).scalars().all()
        found.update((ref, key) for ref, key in zip(group, keys, strict=True) if key is not None)
    return found


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
