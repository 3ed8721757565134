"""What a store must do for the two legs of a search: scopes, postings, vectors. Imports `values`."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, Engine

from ..values import Generation
from .values import Candidates, IndexProgress, Scope


class Scopes(Protocol):
    """Which contents are in a scope."""

    def docs(self, connection: Connection, scope: Scope, most: int) -> list[int] | None:
        """Returns those in the scope in no order; None where there are more than `most`."""

    def within(self, connection: Connection, scope: Scope, docs: Sequence[int]) -> list[int]:
        """Returns those of `docs` that are in the scope, in no order."""


class Postings(Protocol):
    """What the keyword index needs of a database. `fold_rows` bounds the tail rows of a fold, `step_rows` the postings
    that one step of a merge writes."""

    fold_rows: int
    step_rows: int

    def set_up(self, connection: Connection) -> None:
        """Sets how the tables are stored, which are empty."""

    def read(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Reads all that a query needs of some partitions as one statement sees it, in rows of (kind, number, n, term,
        docs, counts, places).

        Binds: tenant, entities, none for all; `known` segments, whose docs and lengths are NULL; `terms` to read of the
        other segments; `pairs`, (entity, segment, term) to read of the known ones; `placed` terms, read with their
        places. Kinds: 0 a live segment, (segment, records, entity, docs, lengths, -) · 1 a row of the tail, (doc,
        length, entity, hashes, counts, places where any are wanted) · 2 a row of dead, (doc, 0, -, docs, -, -) · 3 a
        posting, (segment, df, term, docs, counts, places)."""

    def read_words(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Reads (0, segment, words) of segments, several rows for one, words NULL for a known one; (1, doc, words) of
        the tail."""

    def insert(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows in the fewest statements."""

    def may_fold(self, engine: Engine) -> bool:
        """Whether the engine has a connection for folds beside the application's."""

    def folding(self, engine: Engine) -> AbstractContextManager[Connection]:
        """Begins a transaction of kameleon's own, committed at the end."""

    def try_lock(self, connection: Connection, tenant: str, entity: str) -> bool:
        """Keeps other folds of the partition out until the transaction ends; False where there is one, or where the
        role does not see every row."""

    def begin_writing(self, connection: Connection) -> None:
        """Takes the write lock where there is one, and may end the snapshot that was read."""


class Vectors(Protocol):
    """The vector leg and its index."""

    def nearest(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        limit: int,
        *,
        docs: Sequence[int] | None = None,
        excluded: Sequence[int] = (),
        beside: Sequence[int] = (),
    ) -> Candidates:
        """Returns the `limit` nearest by the cosine of their nearest passage: of the scope, or of `docs` where these
        are given, which are in it; none of `excluded`. Its `others` are the cosines of those of `beside` that have an
        embedding."""

    def refusal(self, connection: Connection, dimensions: int) -> str:
        """Explains why embeddings of that many dimensions cannot be kept or compared here; empty if they can."""

    def index_state(self, connection: Connection, generation: Generation) -> str:
        """Returns how the generation's vectors are searched: `exact`, `hnsw`, or why `hnsw` cannot be used."""

    def missing_index(self, connection: Connection, generation: Generation) -> str:
        """Explains why each search reads all embeddings where an approximate index is worth it; empty where one is
        there, or there are few."""

    def build_index(
        self,
        generation: Generation,
        *,
        concurrently: bool = True,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> bool:
        """Builds the approximate index of a generation where it is worth it and missing; True if it did. In
        transactions of its own; reading goes on, and writing if it is done `concurrently`. `progress` is called about
        once a second, where a third connection can be opened; an exception of it cancels the build."""
