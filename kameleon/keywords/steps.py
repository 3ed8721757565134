"""What the steps of a fold and of a merge have in common. Each is one transaction of kameleon's own. Imports
`telemetry` and `stores`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, select

from ..stores.keyword_tables import KeywordTables
from ..telemetry import Operation
from ..telemetry.measures import FOLD, STEP
from .dialect import Dialect, Partition
from .packing import Array
from .writing import DEAD

DOCS_A_STATEMENT = 500
"""Bounds the binds of a statement: older SQLites take 999."""


class Overtaken(Exception):
    """Another fold or merge took the same input first."""


class Head(NamedTuple):
    """Of a segment: document numbers, lengths, and the bytes of a place."""

    docs: Array
    lengths: Array
    place_bytes: int


class Step:
    def __init__(self, connection: Connection, dialect: Dialect, tables: KeywordTables, partition: Partition) -> None:
        self.connection, self.dialect, self.tables, self.partition = connection, dialect, tables, partition

    def begin(self, observed: Operation, step: str) -> None:
        """Begin the operation whose work this is."""
        observed.begin(FOLD, attributes={STEP: step, "kameleon.entity": self.partition.entity})

    def _own(self, columns: Any) -> ColumnElement[bool]:
        return and_(columns.tenant == self.partition.tenant, columns.entity_name == self.partition.entity)

    def _all(self, statement: Any) -> Sequence[Row[Any]]:
        return self.connection.execute(statement).all()

    def _begin_writing(self) -> None:
        self.dialect.begin_writing(self.connection)

    def _take(self, table: Table, docs: Sequence[int]) -> None:
        """Deletes the rows that were read; raises Overtaken where another has."""
        for start in range(0, len(docs), DOCS_A_STATEMENT):
            part = docs[start : start + DOCS_A_STATEMENT]
            found = self.connection.execute(delete(table).where(self._own(table.c), table.c.doc.in_(part)))
            if found.rowcount != len(part):
                raise Overtaken

    def _pack_dead(self, docs: Array) -> None:
        """One row for many, under the first of them."""
        if len(docs):
            row = (*self.partition, int(docs[0]), docs.tobytes())
            self.dialect.insert(self.connection, "kdb_dead", DEAD, [row])

    def _dead(self) -> Array:
        dead = self.tables.dead.c
        return docs_of(self._all(select(dead.doc, dead.docs).where(self._own(dead))))

    def _head(self, segment: int) -> Head:
        columns = self.tables.segment.c
        where = self._own(columns) & (columns.segment == segment)
        row = self.connection.execute(select(columns.docs, columns.lengths, columns.place_bytes).where(where)).first()
        if row is None:
            raise Overtaken
        return Head(np.frombuffer(row.docs, "<i8"), np.frombuffer(row.lengths, "<u4"), row.place_bytes)


def docs_of(rows: Sequence[Row[Any]]) -> Array:
    single = np.array([row.doc for row in rows if not row.docs], "<i8")
    return np.concatenate([single, np.frombuffer(b"".join(row.docs for row in rows), "<i8")])
