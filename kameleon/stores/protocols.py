"""The seam between the engine and a database: what a store must do, in the words of the engine.

A store holds no transaction of its own: every verb works on the connection it is given. Keys are whatever the store
likes to name an index row by within one transaction (a rowid, a `Ref`); only the store looks inside them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import BindParameter, ColumnElement, Connection, Dialect, FromClause, Table, TextClause, table
from sqlalchemy import column as column_of

from ..values import Failure, Generation, IndexStatus, Ref
from .filters import Filter
from .tables import Tables
from .vocabulary import Vocabulary

Key = Hashable

TRIED = "~"
"""Before the content hash of a text that a server fails on, which makes it one of no current embedding: it is pending,
and its `attempts` are counted."""
UNDECIDED = ("server_error", "unavailable")
ATTEMPTS = 3
"""After so many tries a text that the server fails on is refused; one that is unavailable never is."""
Spans = tuple[tuple[int, int], ...]
IdText = Callable[[Sequence[tuple[Any, str]]], ColumnElement[str]]


class Entry(NamedTuple):
    """A record's content on its way into the index; `emphasis` is what of it keywords count again."""

    ref: Ref
    content: str
    content_hash: str
    emphasis: str = ""

    @property
    def is_readable(self) -> bool:
        return bool(self.content) or not self.content_hash


class Embedding(NamedTuple):
    """An embedding on its way in, or a tombstone: `vector` is float32 little-endian bytes, or None with a `reason`.
    Of the passages of a long text, which stand from `start_at` to `end_at`, the first also says why another was
    refused. All of a record's are written together."""

    ref: Ref
    content_hash: str
    vector: bytes | None
    reason: str | None = None
    message: str | None = None
    passage: int = 0
    start_at: int | None = None
    end_at: int | None = None

    @property
    def is_undecided(self) -> bool:
        return self.reason in UNDECIDED

    @property
    def stored_hash(self) -> str:
        return f"{TRIED}{self.content_hash}" if self.is_undecided else self.content_hash


class IndexProgress(NamedTuple):
    """Of a build of the approximate index: `phase` in the database's own words, empty where none is to be seen, what it
    counts there as `done` of a `total`, and the server process that it waits for."""

    phase: str
    done: int
    total: int
    waits_for: int | None


class Cached(NamedTuple):
    key: str
    vector: bytes
    used_at: datetime


class State(NamedTuple):
    """What the index holds of a record: the hash of its content, and of the content its embedding was made from."""

    content_hash: str
    embedded_hash: str | None


class Hit(NamedTuple):
    """`data` is the record store's, None for a record that it does not hold. `passage` is where in the content the
    passage stands that is nearest to the query's vector, None for a text of one."""

    content: str
    data: Mapping[str, Any] | None
    passage: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        return self.content if self.passage is None else self.content[slice(*self.passage)]


class Fault(NamedTuple):
    """What is wrong with the database itself: `check`, `severity` and `cure` are a finding's of the doctor, `name` is
    the index's, where it is one."""

    check: str
    severity: Literal["error", "warning", "note"]
    message: str
    cure: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """A word as it was asked, and as the index holds it; `rows` is how many records have it, `times` how often it was
    asked."""

    surface: str
    stem: str
    rows: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Among:
    """A subquery of one column, record ids as text; `binds` are typed, by the names that stand in `sql`."""

    sql: str
    binds: Mapping[str, BindParameter[Any]]


def bound(statement: TextClause, binds: Mapping[str, Any]) -> tuple[TextClause, dict[str, Any]]:
    """The statement with its typed binds, and the values of the others."""
    typed = [value for value in binds.values() if isinstance(value, BindParameter)]
    plain = {name: value for name, value in binds.items() if not isinstance(value, BindParameter)}
    return statement.bindparams(*typed) if typed else statement, plain


def row_id(id_text: IdText, dialect: Dialect, key: Sequence[tuple[Any, str]], row: str) -> str:
    """The id of a trigger's row OLD or NEW, as SQL."""
    there = table(row.lower(), *(column_of(column.name, column.type) for column, _ in key))
    parts = [(part, kind) for part, (_, kind) in zip(there.c, key, strict=True)]
    return str(id_text(parts).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


class KeyRows(NamedTuple):
    """A table of primary keys: its columns in their order, and the place of each row."""

    table: FromClause
    columns: Sequence[ColumnElement[Any]]
    place: ColumnElement[int]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which records may be hits: `entities` empty means all. `filter` is on records of the record store, `among` on
    those of mapped classes. Each of `phrases` stands in their contents, none of `excluded` does.
    `without` is none of them."""

    entities: tuple[str, ...] = ()
    filter: Filter | None = None
    among: Among | None = None
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    without: Ref | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """A subquery of (entity_name, record_id), the records that match; `binds` as in `bound`."""

    sql: str
    binds: Mapping[str, Any]


class Fields(Protocol):
    """Where the values of records' fields stand."""

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        """The field of each record that has it."""

    def facet(self, connection: Connection, matches: Matches, field: str, limit: int) -> list[tuple[Any, int]]:
        """The most frequent values among the matches and how many records have each; a list counts for each of its
        members."""


class NamedFields(Fields, Protocol):
    """Those of one mapped class."""

    def check(self, names: Sequence[str]) -> None:
        """Raises InvalidFilter for a name that is no field of it."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A leg's own: raw scores, best first, and in `others` its scores of the other leg's candidates that have one.

    `most` is what no record could score more than, None where that is not known; `totals` is the store's own: the
    state of the index that scores were reckoned with. `is_exact` is False where a better record might have been passed
    over. `unknown` are words of the query that are in no record. `scanned` is how many records were looked at, 0 where
    that is not known.
    """

    scores: Mapping[Key, float]
    others: Mapping[Key, float] = field(default_factory=dict)
    is_exact: bool = True
    terms: tuple[Term, ...] = ()
    chosen_by: tuple[Term, ...] = ()
    most: float | None = None
    totals: Any = None
    how: str = ""
    scanned: int = 0
    unknown: tuple[str, ...] = ()


def united(parts: Sequence[Candidates]) -> Candidates:
    """One leg's candidates in several scopes that have no record in common."""
    if len(parts) == 1:
        return parts[0]
    chosen_by = {term.stem: term for part in parts for term in part.chosen_by}
    return replace(
        max(parts, key=lambda part: len(part.terms)),
        scores={key: score for part in parts for key, score in part.scores.items()},
        others={key: score for part in parts for key, score in part.others.items()},
        is_exact=all(part.is_exact for part in parts),
        chosen_by=tuple(chosen_by.values()),
        scanned=sum(part.scanned for part in parts),
    )


class OldTables(Protocol):
    """The tables of another schema version, in a transaction that rebuilds the index. `columns` are those of each table
    that can be copied."""

    columns: Mapping[str, Sequence[str]]

    def lock(self) -> None:
        """Waits for those who are writing to the tables, and lets nobody write until the transaction ends."""

    def set_aside(self, tables: Sequence[str]) -> None:
        """Copies these to temporary tables and drops all."""

    def grant_again(self) -> None:
        """Gives other roles the rights that they had."""

    def keep_embeddings(self, generation: Generation) -> bool:
        """Puts back the embeddings that were made from the contents that are there now; False where their table had
        another shape."""

    def drop_kept(self, tables: Sequence[str]) -> None:
        """Drops the copies."""


class Store(Fields, Protocol):
    """The record store's fields are its own: dotted paths into `kdb_records.data`."""

    tables: Tables
    vocabulary: Vocabulary

    def translating(self) -> AbstractContextManager[None]:
        """Turns driver errors into StorageErrors, with the driver's as their cause."""

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        """Whether all is there that `create` makes. Raises SchemaMismatch, and InvalidInput where the index was made
        with other options than this store's."""

    def create(self, connection: Connection, *, with_vectors: bool) -> None:
        """Creates what is missing. Idempotent."""

    def is_in_memory(self) -> bool:
        """Whether the database is gone when its last connection is closed."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection of our own in a transaction that sees one state of the database. Raises StorageError where that
        would be the caller's."""

    def writing(self) -> AbstractContextManager[Connection]:
        """The same, in a transaction that will write and commits at the end, waiting for its turn up to the driver's
        time-out."""

    def identity(self, connection: Connection) -> tuple[Any, ...] | None:
        """What tells the connection's database from every other; None for one in memory."""

    def joining(self, connection: Connection) -> AbstractContextManager[None]:
        """Work inside the caller's transaction; one of our own on his connection if that commits every statement."""

    def visiting(self, connection: Connection) -> AbstractContextManager[None]:
        """Reading inside the caller's transaction, whose settings are left as they were found, whatever fails. Below
        REPEATABLE READ its statements may see different states."""

    def savepoint(self, connection: Connection) -> AbstractContextManager[None]:
        """Takes back what is written inside when it raises, where other writers may come in between at all."""

    def caveat(self, connection: Connection) -> str:
        """What the connection's own savepoints do not hold; empty where they hold all."""

    def take_turn(self, connection: Connection) -> None:
        """Makes the caller's transaction wait for other writers now, where the database has one writer at a time."""

    def has_turn(self, connection: Connection) -> bool:
        """Whether `take_turn` has nothing to wait for, in this transaction."""

    def has_spare_connection(self) -> bool:
        """Whether a second connection can be had and write while the caller's transaction is open."""

    def hold(self, connection: Connection, refs: Sequence[Ref]) -> None:
        """Locks the index's rows of these records, in the order of their keys."""

    def has_reader(self) -> bool:
        """Whether a second connection can be had and read while the caller's transaction is open."""

    def old_tables(self, connection: Connection) -> OldTables:
        """kameleon's tables as they are, of whichever schema version."""

    def lock_registry(self, connection: Connection, *, is_first: bool = False) -> None:
        """Waits until no other transaction is adding a generation. Search never waits for it. Who does so as the first
        thing in a transaction of ours sees all that was committed before, whatever the engine's isolation."""

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        """Creates the table that holds a generation's embeddings."""

    def refusal(self, connection: Connection, dimensions: int) -> str:
        """Why embeddings of that many dimensions cannot be kept or compared here; empty if they can."""

    def index_fields(self, connection: Connection, names: Sequence[str]) -> None:
        """Makes what filters on these fields of the record store look records up by, where that is missing and pays."""

    def index_vectors(
        self,
        generation: Generation,
        *,
        concurrently: bool = True,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> bool:
        """Builds the approximate index over a generation where that is worth it and not done yet; True if it did. In
        transactions of its own; reading goes on, and writing if it is done `concurrently`. `progress` is called about
        once a second, where a third connection can be had; what it raises cancels the build."""

    def vector_index(self, connection: Connection, generation: Generation) -> str:
        """How the generation's vectors are searched: `exact`, `hnsw`, or what keeps `hnsw` from being used."""

    def distribute(self, connection: Connection, generations: Sequence[Generation]) -> list[str]:
        """Spreads the tables over a cluster's servers; tells which it did. Raises StorageError where there is none."""

    def prepare_search(self, connection: Connection) -> None:
        """Settings of this transaction for a query."""

    def states(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> Mapping[tuple[str, str], State]: ...

    def upsert(
        self, connection: Connection, entries: Sequence[Entry], generations: Sequence[Generation], now: datetime
    ) -> Mapping[tuple[str, str], Key]:
        """Stores contents, one entry a ref; their embeddings of other contents go from every generation. Their keys."""

    def write_embeddings(
        self,
        connection: Connection,
        generation: Generation,
        embeddings: Sequence[Embedding],
        now: datetime,
        keys: Mapping[tuple[str, str], Key],
    ) -> None:
        """Stores those whose record still says what they were made from, in the place of all that it has.

        `keys` are those `upsert` gave in this transaction; others are looked up.
        """

    def give_up(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Ref]:
        """Makes tombstones of those that the server failed on ATTEMPTS times, and tells which."""

    def delete(self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]) -> int: ...

    def by_keyword(self, connection: Connection, query: str, scope: Scope, *, limit: int, enough: int) -> Candidates:
        """The `limit` best by BM25. The rarest terms choose; commoner ones join until `enough` records are found."""

    def by_vector(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        limit: int,
        keyword: Candidates,
    ) -> tuple[Candidates, Candidates]:
        """The keyword leg with its scores of the vector leg's candidates, and the vector leg by cosine with its scores
        of the keyword leg's."""

    def matches(self, terms: Sequence[Term], scope: Scope, keys: Sequence[Key]) -> Matches:
        """The records of a scope that have any of the terms, and those of `keys`, which are in it."""

    def count(self, connection: Connection, matches: Matches) -> int: ...
    def entities(self, connection: Connection) -> list[str]:
        """Those that are in the index, by name."""

    def matched_terms(
        self, connection: Connection, keys: Sequence[Key], terms: Sequence[Term]
    ) -> Mapping[Key, tuple[str, ...]]:
        """Which of the terms each record holds, as they were asked."""

    def embedding(self, connection: Connection, generation: Generation, ref: Ref) -> bytes | None:
        """A record's, of its first passage; None where there is none of what it says now."""

    def count_words(self, connection: Connection, words: Sequence[str]) -> Mapping[str, int]:
        """How many records have each word, as the index reads it."""

    def learn(self, connection: Connection, tokens: set[str]) -> None:
        """Adds the words of what stands between spaces in lower-case contents to the vocabulary."""

    def refs(self, connection: Connection, keys: Sequence[Key]) -> Mapping[Key, Ref]: ...
    def hits(
        self, connection: Connection, keys: Sequence[Key], generation: Generation | None = None, vector: Any = None
    ) -> dict[Key, Hit]:
        """With the passages that are nearest to a vector, if there is one."""

    def spans(self, connection: Connection, query: str, texts: Sequence[str]) -> list[Spans]:
        """For each text the (start, end) places of the query's words, in order, none overlapping."""

    def status(self, connection: Connection, generation: Generation | None, *, has_provider: bool) -> list[IndexStatus]:
        """By entity; pending and failed against the generation. Without one, all is pending if there is a provider."""

    def pending(
        self,
        connection: Connection,
        generation: Generation | None,
        *,
        after: Any,
        limit: int,
        is_failed: bool = False,
        is_tried: bool | None = None,
        upto: Any = None,
        entities: Sequence[str] = (),
    ) -> tuple[list[Entry], Any]:
        """The next `limit` records without a current embedding (`is_failed`: with a tombstone; `is_tried`: of those
        that the server failed on before, or of all others), of `entities` alone if
        any are named, and where to go on: a key, which `after` and `upto` are too. The content of a record that cannot
        be read is empty."""

    def bounds(self, connection: Connection, size: int) -> list[Any]:
        """The key of every `size`th record, each a value that JSON can hold."""

    def copy_embeddings(
        self,
        connection: Connection,
        source: Generation,
        target: Generation,
        *,
        without: Sequence[str],
        after: Any,
        upto: Any,
    ) -> None:
        """Those of records between two keys (None is the first or the last), but for some entities', into a generation
        of the same model."""

    def wait_for_readers(self) -> bool:
        """Until every transaction that has read the registry before is over; False if that takes too long."""

    def drop_generation(self, generation: Generation) -> bool:
        """Drops its table, once no transaction is left that may know of it; False if that takes too long, or if its
        index is being built. In transactions of its own."""

    def failures(self, connection: Connection, generation: Generation) -> list[Failure]:
        """Every tombstone, by entity and id."""

    def cached(self, connection: Connection, fingerprint: str, keys: Sequence[str]) -> list[Cached]:
        """The rows of the embedding cache that are there."""

    def stored_ids(self, connection: Connection, entity: str, ids: Sequence[str]) -> set[str]:
        """Those of them that `kdb_records` has."""

    def add_records(
        self, connection: Connection, entity: str, rows: Sequence[tuple[str, Mapping[str, Any]]], now: datetime
    ) -> None:
        """(id, data) in the order of their ids, none of which is there. Raises TransactionConflict where one is by
        now."""

    def cache(self, connection: Connection, fingerprint: str, rows: Sequence[tuple[str, bytes]], now: datetime) -> None:
        """Adds (key, embedding) to `kdb_embedding_cache`, in their order, leaving those that are there."""

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        """What the index holds of these records; those that are not there are left out."""

    def can_hold_rows(self) -> bool:
        """Whether single rows can be locked, or passed over where another transaction has."""

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of `kdb_queue`, replacing those that are there."""

    def set_triggers(
        self, connection: Connection, table: Table, key: Sequence[tuple[Any, str]], entities: Sequence[str]
    ) -> None:
        """Triggers that put a mark into `kdb_dirty` for each row of the table that changes, under each of the entities;
        without any, the triggers go. `key` as in `id_text`."""

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        """Whether a statement with such prefixes may take other rows of the table away than it names."""

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        """Gives what returns the keys of the rows that were taken away inside without a trace."""

    def faults(self, connection: Connection, *, has_provider: bool) -> list[Fault]:
        """What is wrong with the database's settings and extensions."""

    def index_faults(self, connection: Connection) -> list[Fault]:
        """The broken indexes; in a transaction that may write."""

    def mend(self, fault: Fault) -> None:
        """Does what can be done about a fault without an administrator, in transactions of its own."""

    def embedding_tables(self, connection: Connection) -> set[int]:
        """The numbers of the generations that have a table with embeddings, registered or not."""

    def restore_generation(self, connection: Connection, generation: Generation) -> None:
        """Makes its table anew, empty."""

    def ids_after(self, connection: Connection, entity: str, after: str, limit: int) -> list[str]:
        """The next `limit` ids of an entity in the index, in order."""

    def duplicates(self, connection: Connection, after: Any, limit: int) -> tuple[Sequence[Ref], Any]:
        """The next records that have several rows in the index, and where to go on; None at the end."""

    def leftovers(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        """The next embeddings whose record is not in the index, and where to go on."""

    def bad_vectors(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        """The next embeddings that are not of length 1 in the generation's dimensions, and where to go on."""

    def drop_embeddings(self, connection: Connection, generation: Generation, keys: Sequence[Key]) -> None: ...
    def unused_index(self, connection: Connection, generation: Generation) -> str:
        """Why searches do without the approximate index that so many embeddings should have; empty if they do not."""

    def id_text(self, columns: Sequence[tuple[Any, str]]) -> ColumnElement[str]:
        """A record's id in SQL, from a mapped class's primary key: (column, kind) as `identity` has them."""

    def key_rows(self, columns: Sequence[tuple[Any, str]], keys: Sequence[Sequence[Any]]) -> "KeyRows":
        """Primary keys as a table of one bind for each column, or for all; (column, kind) as in `id_text`."""

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        """A condition on `kdb_records.data` and its binds."""
