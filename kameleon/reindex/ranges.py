"""`kdb_reindex_range`: what of a run is left to whoever takes it, its owner or a helper on another machine.

Ranges only keep these apart: what one that died left undone is pending, and so is found.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select, update

from ..stores.tables import Tables

LEASE = timedelta(minutes=2)
WHOLE_RUN = timedelta(days=3_650)
PAUSE = timedelta(seconds=30)
LOOKED_AT = 10


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
        """The generations with a range that nobody has."""
        due = select(self._table.c.number).where(self._table.c.due_at <= datetime.now(UTC)).distinct()
        return set(connection.execute(due).scalars())

    def left(self, connection: Connection, number: int) -> int:
        """Those that are not done, taken or not."""
        return connection.scalar(select(func.count()).where(self._table.c.number == number)) or 0

    def take(self, connection: Connection, number: int, lease: timedelta = LEASE) -> Range | None:
        """The first that nobody has, the caller's until its lease ends."""
        table, now = self._table, datetime.now(UTC)
        due = select(table.c.place).where(table.c.number == number, table.c.due_at <= now).order_by(table.c.place)
        for place in connection.execute(due.limit(LOOKED_AT)).scalars().all():
            mine = update(table).where(table.c.number == number, table.c.place == place, table.c.due_at <= now)
            taken = mine.values(due_at=now + lease).returning(table.c.after, table.c.upto)
            row = connection.execute(taken).one_or_none()
            if row is not None:
                return Range(place, row.after, row.upto)
        return None

    def keep(self, connection: Connection, number: int, place: int, pause: timedelta = LEASE) -> None:
        """Nobody else takes it before a pause is over."""
        mine = update(self._table).where(self._table.c.number == number, self._table.c.place == place)
        connection.execute(mine.values(due_at=datetime.now(UTC) + pause))

    def leave(self, connection: Connection, number: int, place: int) -> None:
        """Done with it."""
        table = self._table
        connection.execute(table.delete().where(table.c.number == number, table.c.place == place))

    def free(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Nobody takes any of them from here on."""
        connection.execute(self._table.delete().where(self._table.c.number.in_(numbers)))
