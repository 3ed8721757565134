"""Moves the keyword index of an entity to another name, and deletes it. Imports `stores`."""

from collections.abc import Iterable

import numpy as np
from sqlalchemy import Connection, delete, select, update

from ..stores.keyword_tables import KeywordTables
from .dialect import Dialect

KNOWN_BY = ("mark", "segment")
"""The columns by which caches of other processes know rows: those of another name get other numbers."""


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
        numbers = {name: table.c[name] + 1 for name in KNOWN_BY if name in table.c}
        connection.execute(update(table).where(table.c.entity_name == old).values(entity_name=new, **numbers))


def drop(connection: Connection, dialect: Dialect, tables: KeywordTables, tenants: Iterable[str], entity: str) -> None:
    """Deletes an entity's rows, with its folds and merges locked out."""
    lock(connection, dialect, tenants, entity)
    for table in tables.all:
        connection.execute(delete(table).where(table.c.entity_name == entity))


def lock(connection: Connection, dialect: Dialect, tenants: Iterable[str], entity: str) -> None:
    for tenant in sorted(tenants):
        dialect.lock(connection, tenant, entity)
