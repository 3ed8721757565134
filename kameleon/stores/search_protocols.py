"""What a store must do for the two legs of a search: scopes, postings, the server's terms, vectors. Imports `values`
and `analysis`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from ..analysis.terms import PhrasePart, Terms
from ..values import Generation, Ref, Tenants
from .values import Candidates, IndexProgress, Scope


class Scopes(Protocol):
    """Which contents are in a scope."""

    has_row_security: bool

    def docs(self, connection: Connection, scope: Scope, most: int) -> list[int] | None:
        """Returns those in the scope in no order; None where there are more than `most`."""

    def within(self, connection: Connection, scope: Scope, docs: Sequence[int]) -> list[int]:
        """Returns those of `docs` that are in the scope, in no order."""

    def listed(
        self,
        connection: Connection,
        scope: Scope,
        *,
        after: Ref | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[tuple[int, Ref]]:
        """Returns the contents in the scope by entity, id and tenant; those after a record, `limit` at most."""

    def secured_tables(self, connection: Connection) -> frozenset[tuple[str | None, str]]:
        """Returns the tables with row security, by schema and name; those that the search path finds without one,
        too."""


class Postings(Protocol):
    """What the keyword index needs of a database. `fold_rows` bounds the tail rows of a fold, `step_rows` the postings
    that one step of a merge writes."""

    fold_rows: int
    step_rows: int

    def set_up(self, connection: Connection) -> None:
        """Sets how the tables are stored, which are empty."""

    def read(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Reads all that a query needs of some partitions as one statement sees it, in rows of (kind, number, n, term,
        docs, counts, places, words).

        Binds: tenants, None for all, and the `tenant` where it is one; entities, none for all; `known` segments, whose
        docs and lengths are NULL; the known state of the `tail`, whose rows are left out while it is in that state;
        `terms` to read of the other segments; `pairs`, (tenant, entity, segment, term) to read of the known ones;
        `placed` terms, read with their places. Kinds: 0 a live segment, (segment, records, entity, docs, lengths, -,
        tenant in UTF-8) · 1 a row of the tail, (doc, length, entity, hashes,
        counts, places where any are wanted, words) · 2 a row of dead, (doc, 0, -, docs, -, -, -) · 3 a posting,
        (segment, df, term, docs, counts, places, -) · 4 the state of the tail, (0, 0, state, -, -, -, -): made of the
        doc and mark of each row, empty where there is none."""

    def read_words(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Sequence[Any]]:
        """Reads (segment, words) of the live ones of `segments`, several rows for one in the order of their
        terms, words NULL where it has none.
        Binds: tenant, tenants, entities, segments."""

    def insert(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes rows in the fewest statements."""

    def may_fold(self, engine: Engine) -> bool:
        """Whether the engine has a connection for folds beside the application's."""

    def folding(self, engine: Engine) -> AbstractContextManager[Connection]:
        """Begins a transaction of kameleon's own, committed at the end."""

    def try_lock(self, connection: Connection, tenant: str, entity: str) -> bool:
        """Keeps other folds of the partition out until the transaction ends; False where there is one, or where the
        role does not see every row."""

    def lock(self, connection: Connection, tenant: str, entity: str) -> None:
        """Waits until no fold of the partition is under way, and keeps others out until the transaction ends."""

    def begin_writing(self, connection: Connection) -> None:
        """Takes the write lock where there is one, and may end the snapshot that was read."""


PREFIX = "\n"
"""Ends a term that is a prefix; no term of a text has a line feed."""
Phrased = Mapping[str, "Ways"]
"""Phrases that count as terms, by names which no term has."""
EXCLUDING = 9
"""The number of the branch that finds what a query excludes."""


class TermsRow(NamedTuple):
    """A record's terms, and those that count again and are in no phrase."""

    ref: Ref
    doc: int
    terms: Terms
    emphasis: Terms | None

    @property
    def length(self) -> int:
        return self.terms.length + (self.emphasis.length if self.emphasis else 0)


class TermCounts(NamedTuple):
    """`records` of some partitions, their average `length`, and how many have any of each clause's terms; estimates
    where they are not `is_exact`."""

    records: int
    length: float
    df: Sequence[int]
    is_exact: bool


Ways = Sequence[Sequence[PhrasePart]]
"""The ways to write a phrase."""


class TermQuery(NamedTuple):
    """The records wanted: with all of `phrases`, or without these with any of `rarest` or one term of each of
    `clauses`; or the `docs` alone. None with one of `excluded`, which are found, too. `terms` are those to count in
    each. A phrase may be written in several ways; those that are `phrased` may be among the rarest and in clauses, and
    the terms that are `placed` are found with their places."""

    terms: Sequence[str] = ()
    rarest: Sequence[str] = ()
    clauses: Sequence[Sequence[str]] = ()
    phrases: Sequence[Ways] = ()
    excluded: Sequence[Ways] = ()
    docs: Sequence[int] | None = None
    phrased: Phrased = MappingProxyType({})
    placed: Sequence[str] = ()

    def of_docs(self, docs: Sequence[int]) -> "TermQuery":
        """The same terms of these records."""
        return TermQuery(self.terms, docs=docs, phrased=self.phrased, placed=self.placed)


class ServerTerms(Protocol):
    """The terms of `keyword_search="server"`, where the database looks them up. A term that ends with PREFIX is one."""

    def write(self, connection: Connection, rows: Sequence[TermsRow]) -> None:
        """Stores the terms of records, replacing those that they had."""

    def delete(self, connection: Connection, refs: Sequence[Ref]) -> None:
        """Deletes those of records."""

    def counts(
        self,
        connection: Connection,
        tenants: Tenants,
        entities: Sequence[str],
        clauses: Sequence[Sequence[str]],
        phrased: Phrased = MappingProxyType({}),
    ) -> TermCounts:
        """Counts the records of some tenants and entities, of all entities where none is named."""

    def find(self, connection: Connection, scope: Scope, query: TermQuery) -> tuple[Sequence[Sequence[Any]], bool]:
        """Finds records of the scope, in rows of (branch, doc, entity, length, term, how often, places), and whether
        these are all; the term is None where a record has none of `terms` or is excluded, and several branches may find
        one record. The places are None but for terms that are `placed`, 0 for what is in no phrase. Raises InvalidInput
        where more are excluded than can be looked up."""

    def texts(
        self, connection: Connection, tenants: Tenants, entities: Sequence[str], terms: Sequence[str], limit: int
    ) -> dict[int, str]:
        """Returns the beginnings of some contents of these that have any of the terms, by number."""


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
