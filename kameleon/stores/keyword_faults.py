"""Compares the keyword index with the contents. Imports this package alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Table, select

from .keyword_tables import LIVE, KeywordTables
from .values import Fault

Docs = NDArray[np.int64]
NONE = np.empty(0, np.int64)
CURE = "`kameleon rebuild` makes the index anew from its contents"


def keyword_faults(connection: Connection, contents: str, tables: KeywordTables) -> list[Fault]:
    """Finds contents that are in no segment nor the tail, and documents there that are no content. `contents` selects
    the entity and number of each content."""
    expected = _by_entity(connection.exec_driver_sql(contents))
    tail = _by_entity(connection.execute(select(tables.tail.c.entity_name, tables.tail.c.doc)))
    segments = _packed(connection, tables.segment, tables.segment.c.state == LIVE)
    dead = _packed(connection, tables.dead, tables.dead.c.docs != b"")
    singles = select(tables.dead.c.entity_name, tables.dead.c.doc).where(tables.dead.c.docs == b"")
    buried = _by_entity(connection.execute(singles))
    faults = []
    for entity in sorted({*expected, *tail, *segments}):
        indexed = np.concatenate([tail.get(entity, NONE), segments.get(entity, NONE)])
        gone = np.concatenate([dead.get(entity, NONE), buried.get(entity, NONE)])
        found, wanted = np.setdiff1d(indexed, gone), expected.get(entity, NONE)
        missing, extra = len(np.setdiff1d(wanted, found)), len(np.setdiff1d(found, wanted))
        if missing or extra:
            faults.append(_fault(entity, missing, extra))
    return faults


def server_faults(rows: Iterable[Any]) -> list[Fault]:
    """Finds the same in the server's terms: each row has an entity and these two counts."""
    return [_fault(*row) for row in rows]


def _fault(entity: str, missing: int, extra: int) -> Fault:
    message = f"the keyword index of {entity} lacks {missing:,} records and has {extra:,} that are gone"
    return Fault("keyword-index", "error", message, CURE, entity)


def _by_entity(rows: Iterable[Any]) -> Mapping[str, Docs]:
    found: dict[str, list[int]] = defaultdict(list)
    for entity, doc in rows:
        found[entity].append(doc)
    return {entity: np.array(docs, np.int64) for entity, docs in found.items()}


def _packed(connection: Connection, table: Table, where: ColumnElement[bool]) -> Mapping[str, Docs]:
    found: dict[str, list[Docs]] = defaultdict(list)
    for entity, docs in connection.execute(select(table.c.entity_name, table.c.docs).where(where)):
        found[entity].append(np.frombuffer(docs, "<i8"))
    return {entity: np.concatenate(parts) for entity, parts in found.items()}
