"""Moves the keyword index of an entity to another name, and deletes it. Imports `stores`."""

from collections.abc import Iterable

import numpy as np
from sqlalchemy import Connection, delete, select, update

from ..stores.keyword_tables import KeywordTables
from .dialect import Dialect

KNOWN_BY = {"kdb_tail": "mark", "kdb_segment": "segment", "kdb_word": "segment", "kdb_posting": "segment"}
"""The column by which caches of other processes know rows: those of another name get other numbers."""


def rename(
    connection: Connection, dialect: Dialect, tables: KeywordTables, tenants: Iterable[str], old: str, new: str
) -> None:
    """Gives an entity's rows to another one, of which there are none; its folds and merges are locked out first."""
    lock(connection, dialect, tenants, old)
    segments = tables.segment.c
    unfinished = select(segments.tenant, segments.segment, segments.parents).where(
        segments.entity_name == old, segments.parents != b""
    )
    for tenant, segment, parents in connection.execute(unfinished).all():
        own = segments.tenant == tenant, segments.entity_name == old, segments.segment == segment
        moved = (np.frombuffer(parents, "<i8") + 1).astype("<i8").tobytes()
        connection.execute(update(tables.segment).where(*own).values(parents=moved))
    for table in tables.all:
        known_by = KNOWN_BY.get(table.name)
        numbers = {known_by: table.c[known_by] + 1} if known_by else {}
        connection.execute(update(table).where(table.c.entity_name == old).values(entity_name=new, **numbers))


def drop(connection: Connection, dialect: Dialect, tables: KeywordTables, tenants: Iterable[str], entity: str) -> None:
    """Deletes an entity's rows, with its folds and merges locked out."""
    lock(connection, dialect, tenants, entity)
    for table in tables.all:
        connection.execute(delete(table).where(table.c.entity_name == entity))


def lock(connection: Connection, dialect: Dialect, tenants: Iterable[str], entity: str) -> None:
    for tenant in sorted(tenants):
        dialect.lock(connection, tenant, entity)
