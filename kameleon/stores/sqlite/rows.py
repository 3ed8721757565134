"""Keys, JSON and time stamps of rows in SQLite. Imports `values`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ...values import Ref, Tenants
from ..names import Names
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


def keys_of(refs: Iterable[Ref]) -> dict[str, str]:
    """Returns the binds of a statement on these records."""
    return {"refs": as_json((tenant, entity, id_) for entity, id_, tenant in refs)}


def of_tenants(tenants: Tenants, binds: dict[str, Any]) -> str:
    """Renders a condition on `s`, "1" for all tenants."""
    if tenants is None:
        return "1"
    binds["tenants"] = as_json(tenants)
    return "s.tenant IN (SELECT value FROM json_each(:tenants))"


def present(names: Names, connection: Connection, refs: Sequence[Ref]) -> dict[Ref, Present]:
    """Returns those that are there. The dictionary keeps the caller's ref objects: a batch is large."""
    rows = connection.exec_driver_sql(names(sql.PRESENT), keys_of(refs)).all()
    return {refs[place]: Present(*row) for place, *row in rows}


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def readable(content: bytes) -> str:
    """Returns the text, empty where it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return ""
