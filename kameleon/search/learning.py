"""The words of records that an index had before it kept words: learnt by `sync`, some records a transaction."""

import json
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from .store import Store
from .tables import LEARNT_UPTO

if TYPE_CHECKING:
    from .transactions import Transactions


class Learning:
    def __init__(self, transactions: "Transactions", store: Store) -> None:
        self._transactions = transactions
        self._store = store
        self._meta = store.tables.meta
        self._is_mark = self._meta.c.key == LEARNT_UPTO

    def learn(self, batch_size: int) -> None:
        """Resumes where an earlier one ended."""
        with self._transactions.reading() as conn:
            is_due = self._mark(conn) is not None
        while is_due:
            with self._transactions.transaction() as conn:
                is_due = self._learn(conn, batch_size)

    def _mark(self, connection: Connection) -> str | None:
        return connection.scalar(select(self._meta.c.value).where(self._is_mark))

    def _learn(self, connection: Connection, batch_size: int) -> bool:
        self._store.take_turn(connection)
        mark = self._mark(connection)
        if mark is None:
            return False
        entries, last = self._store.pending(connection, None, after=json.loads(mark), limit=batch_size)
        tokens: set[str] = set()
        with self._store.vocabulary.reading([entry.content for entry in entries], tokens):
            pass
        self._store.learn(connection, tokens)
        if entries:
            connection.execute(self._meta.update().where(self._is_mark).values(value=json.dumps(last)))
        else:
            connection.execute(self._meta.delete().where(self._is_mark))
        return bool(entries)
