"""What the keyword index needs of a database: stores/sqlite/postings.py and stores/postgresql/postings.py have it."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Engine


class Partition(NamedTuple):
    tenant: str
    entity: str


class Partitions(NamedTuple):
    """What one query reads: some of a tenant's partitions, or all of them where no `entities` are named."""

    tenant: str
    entities: tuple[str, ...] = ()


class Dialect(Protocol):
    """`fold_rows` bounds the tail rows of a fold, `step_rows` the postings that one step of a merge writes."""

    fold_rows: int
    step_rows: int

    def set_up(self, connection: Connection) -> None: ...

    def read(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """All that a query needs of some partitions as one statement sees it, in rows of (kind, number, n, term, docs,
        counts, places).

        Binds: tenant, entities, none for all; `known` segments, whose docs and lengths are NULL; `terms` to read of the
        other segments; `pairs`, (entity, segment, term) to read of the known ones; `placed` terms, read with their
        places. Kinds: 0 a live segment, (segment, records, entity, docs, lengths, -) · 1 a row of the tail, (doc,
        length, entity, hashes, counts, places where any are wanted) · 2 a row of dead, (doc, 0, -, docs, -, -) · 3 a
        posting, (segment, df, term, docs, counts, places)."""

    def read_words(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """(0, segment, words) of segments, several rows for one, words NULL for a known one; (1, doc, words) of the
        tail."""

    def insert(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows in the fewest statements."""

    def may_fold(self, engine: Engine) -> bool:
        """Whether the engine has a connection for folds beside the application's."""

    def folding(self, engine: Engine) -> AbstractContextManager[Connection]:
        """A transaction of kameleon's own, committed at the end."""

    def try_lock(self, connection: Connection, tenant: str, entity: str) -> bool:
        """Keeps other folds of the partition out until the transaction ends; False where there is one, or where the
        role does not see every row."""

    def begin_writing(self, connection: Connection) -> None:
        """Takes the write lock where there is one, and may end the snapshot that was read."""
