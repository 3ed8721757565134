"""`kdb_reindex_range`: the ranges of a run that are left to be taken, by its owner or by a helper on another machine.
Imports `stores`.

A range is claimed like a row of the queue. Ranges only keep processes apart: what a process that died left undone is
pending, and so is found.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select, update

from ..stores.claims import claim_due
from ..stores.tables import Tables

RANGE_LEASE = timedelta(minutes=2)
"""Bounds how long a range of a helper that died is left alone. Longer than a batch takes to embed."""
WHOLE_RUN = timedelta(days=3_650)
"""Keeps helpers from the ranges that the run's owner has taken."""


class Range(NamedTuple):
    """Records whose key is beyond `after`, up to and with `upto`: a store's own keys, None for no bound."""

    place: int
    after: Any
    upto: Any


class Ranges:
    def __init__(self, tables: Tables) -> None:
        self._table: Table = tables.reindex_range

    def add(self, connection: Connection, number: int, bounds: Sequence[Any]) -> None:
        now = datetime.now(UTC)
        rows = [
            {"number": number, "place": place, "after": after, "upto": upto, "due_at": now}
            for place, (after, upto) in enumerate(pairwise([None, *bounds, None]))
        ]
        connection.execute(self._table.insert(), rows)

    def due(self, connection: Connection) -> set[int]:
        """The generations with a range that is not claimed."""
        due = select(self._table.c.number).where(self._table.c.due_at <= datetime.now(UTC)).distinct()
        return set(connection.execute(due).scalars())

    def left(self, connection: Connection, number: int) -> int:
        """How many are not done, claimed or not."""
        return connection.scalar(select(func.count()).where(self._table.c.number == number)) or 0

    def claim(self, connection: Connection, number: int, lease: timedelta, *, may_skip: bool) -> Range | None:
        """The first that is not claimed, the caller's until its lease ends."""
        of_run = self._table.c.number == number
        now = datetime.now(UTC)
        rows = claim_due(connection, self._table, of_run, limit=1, now=now, lease=lease, may_skip=may_skip)
        return Range(rows[0].place, rows[0].after, rows[0].upto) if rows else None

    def renew(self, connection: Connection, number: int, place: int) -> None:
        own = update(self._table).where(self._table.c.number == number, self._table.c.place == place)
        connection.execute(own.values(due_at=datetime.now(UTC) + RANGE_LEASE))

    def finish(self, connection: Connection, number: int, place: int) -> None:
        table = self._table
        connection.execute(table.delete().where(table.c.number == number, table.c.place == place))

    def drop(self, connection: Connection, numbers: Sequence[int]) -> None:
        """All ranges of these generations."""
        connection.execute(self._table.delete().where(self._table.c.number.in_(numbers)))
