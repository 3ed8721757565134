"""Reads an index page by page. Imports `values`, `stores` and `indexing`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from ..indexing.index import Index
from ..stores.values import Key
from ..values import Generation, Ref, Tenants


class Scan:
    """One examination: `fix` is whether what is found is repaired, `batch_size` the records of a page.
    `tenants` are those whose records are compared with their rows."""

    def __init__(self, index: Index, fix: bool, batch_size: int, tenants: Tenants = None) -> None:
        self.index = index
        self.store = index.store
        self.fix = fix
        self.batch_size = batch_size
        self.tenants = tenants

    def examines(self, ref: Ref) -> bool:
        """Whether the record is of a tenant that is examined."""
        return self.tenants is None or ref.tenant in self.tenants

    def pages(self, read: Callable[..., tuple[Sequence[Any], Any]]) -> Iterator[tuple[Any, Sequence[Any]]]:
        """Where each page begins, and what was found on it."""
        after = None
        while True:
            with self.snapshot() as connection:
                found, further = read(connection, after=after, limit=self.batch_size)
            yield after, found
            if further is None:
                return
            after = further

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One state of the database. Begun here, for a session that finds no transaction would end its own."""
        with self.index.reading() as connection:
            if not connection.in_transaction():
                connection.begin()
            yield connection

    def refs(self, connection: Connection, keys: Sequence[Key]) -> list[Ref]:
        """The records of index keys; of a key without a record the key itself."""
        refs = self.store.contents.refs(connection, keys) if keys else {}
        return [refs.get(key) or Ref("", str(key)) for key in keys]

    def tables(self) -> set[int]:
        """The generations that have a table."""
        with self.index.reading() as connection:
            return self.store.schema.embedding_tables(connection)

    def generations(self, *, with_table: bool) -> list[Generation]:
        """The registered generations that have a table, or those that have none."""
        tables = self.tables()
        return [made for made in self.index.generations() if (made.number in tables) == with_table]
