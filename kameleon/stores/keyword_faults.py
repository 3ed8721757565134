"""Compares the keyword index with the contents. Imports this package alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, ColumnElement, Connection, Table, select

from .keyword_tables import LIVE, KeywordTables
from .values import Fault

Docs = NDArray[np.int64]
Partition = tuple[str, str]
NONE = np.empty(0, np.int64)
CURE = "`kameleon rebuild` makes the index anew from its contents"


def keyword_faults(connection: Connection, contents: str, tables: KeywordTables) -> list[Fault]:
    """Finds contents that are in no segment nor the tail, and documents there that are no content. `contents` selects
    the tenant, entity and number of each content. Faults are by entity."""
    expected = _by_partition(connection.exec_driver_sql(contents))
    tail = _by_partition(connection.execute(select(*partition_of(tables.tail), tables.tail.c.doc)))
    segments = _packed(connection, tables.segment, tables.segment.c.state == LIVE)
    dead = _packed(connection, tables.dead, tables.dead.c.docs != b"")
    singles = select(*partition_of(tables.dead), tables.dead.c.doc).where(tables.dead.c.docs == b"")
    buried = _by_partition(connection.execute(singles))
    missing: Counter[str] = Counter()
    extra: Counter[str] = Counter()
    for partition in {*expected, *tail, *segments}:
        indexed = np.concatenate([tail.get(partition, NONE), segments.get(partition, NONE)])
        gone = np.concatenate([dead.get(partition, NONE), buried.get(partition, NONE)])
        found, wanted = np.setdiff1d(indexed, gone), expected.get(partition, NONE)
        missing[partition[1]] += len(np.setdiff1d(wanted, found))
        extra[partition[1]] += len(np.setdiff1d(found, wanted))
    return [_fault(name, missing[name], extra[name]) for name in sorted(missing) if missing[name] or extra[name]]


def server_faults(rows: Iterable[Any]) -> list[Fault]:
    """Finds the same in the server's terms: each row has an entity and these two counts."""
    return [_fault(*row) for row in rows]


def _fault(entity: str, missing: int, extra: int) -> Fault:
    message = f"the keyword index of {entity} lacks {missing:,} records and has {extra:,} that are gone"
    return Fault("keyword-index", "error", message, CURE, entity)


def partition_of(table: Table) -> tuple[Column[str], Column[str]]:
    return table.c.tenant, table.c.entity_name


def _by_partition(rows: Iterable[Any]) -> Mapping[Partition, Docs]:
    found: dict[Partition, list[int]] = defaultdict(list)
    for tenant, entity, doc in rows:
        found[tenant, entity].append(doc)
    return {partition: np.array(docs, np.int64) for partition, docs in found.items()}


def _packed(connection: Connection, table: Table, where: ColumnElement[bool]) -> Mapping[Partition, Docs]:
    found: dict[Partition, list[Docs]] = defaultdict(list)
    for tenant, entity, docs in connection.execute(select(*partition_of(table), table.c.docs).where(where)):
        found[tenant, entity].append(np.frombuffer(docs, "<i8"))
    return {partition: np.concatenate(parts) for partition, parts in found.items()}
