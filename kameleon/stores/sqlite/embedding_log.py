"""The log of changed embeddings in SQLite, for those who keep embeddings in memory. Imports `values`."""

import secrets
from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, text

from ...values import Ref
from ..names import Names
from . import statements as sql
from .rows import fetched

LOG_IDS_KEPT = 50_000
"""Ids of changed records that the log keeps: who lacks more reads all embeddings again. Chosen, not measured."""
LOG_IDS_A_ENTRY = 10_000
"""A larger change is logged without its ids, so that all embeddings are read again. Chosen, not measured."""
LOG_PRUNED_EVERY = 64
"""Entries of the log between two prunes. Chosen, not measured."""

NOW = """
    SELECT l.seq, l.mark, EXISTS (SELECT 1 FROM kdb_search WHERE tenant > '')
    FROM (SELECT 1) LEFT JOIN (SELECT seq, mark FROM kdb_embedding_log ORDER BY seq DESC LIMIT 1) AS l ON 1
"""
SINCE = text("SELECT mark, seq, changed FROM kdb_embedding_log WHERE seq >= :seq ORDER BY seq")
SINCE_OF_TENANT = text("""
    SELECT mark, seq, changed FROM kdb_embedding_log
    WHERE seq >= :seq AND (seq = :seq OR tenant = :tenant OR tenant IS NULL) ORDER BY seq
""")


@dataclass(frozen=True, slots=True)
class Position:
    """How far the log was read; seq 0 is before its first entry."""

    seq: int
    mark: str | None


class Now(NamedTuple):
    """The end of the log, and whether the index `is_divided`: whether a record has a tenant."""

    position: Position
    is_divided: bool


def read_now(names: Names, connection: Connection) -> Now:
    ((seq, mark, is_divided),) = fetched(connection, names(NOW), {})
    return Now(Position(seq or 0, mark), bool(is_divided))


def changes_since(names: Names, connection: Connection, position: Position, tenant: str | None) -> list[bytes] | None:
    """The ids of changed records, those of other tenants left out as far as the log has them apart; None where it no
    longer has all."""
    if tenant is not None and position.mark is None:
        return None
    binds = {"seq": position.seq} if tenant is None else {"seq": position.seq, "tenant": tenant}
    entries = connection.execute(names(SINCE if tenant is None else SINCE_OF_TENANT), binds).all()
    if position.mark is not None:
        if not entries or entries[0].mark != position.mark:
            return None
        entries = entries[1:]
    elif entries and entries[0].seq > 1:
        return None
    if any(entry.changed is None for entry in entries):
        return None
    return [entry.changed for entry in entries]


def log_change(names: Names, connection: Connection, docs: Sequence[int], tenant: str | None = None) -> None:
    """Logs that the embeddings of these contents changed, which are all of a tenant if one is named."""
    changed = array("q", docs).tobytes() if len(docs) <= LOG_IDS_A_ENTRY else None
    row = {"mark": secrets.token_hex(8), "tenant": tenant, "changed": changed, "ids": len(docs)}
    result = connection.execute(names(sql.LOG_CHANGE), row)
    if result.lastrowid % LOG_PRUNED_EVERY == 0:
        connection.execute(names(sql.PRUNE_LOG), {"kept": LOG_IDS_KEPT, "seq": result.lastrowid})


def tenant_of(refs: Iterable[Ref]) -> str | None:
    """Returns the one tenant of these records; None where they have several."""
    tenants: Collection[str] = {tenant for _, _, tenant in refs}
    return next(iter(tenants)) if len(tenants) == 1 else None
