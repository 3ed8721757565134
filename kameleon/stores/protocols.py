"""What a store must do: the parts of a `Store`, which each dialect implements. Imports `values` and `boosts`.

A store keeps no transaction of its own: every method works on the connection that it is given.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Table

from ..boosts import Boost
from ..values import Failure, Generation, IndexStatus, Ref, Tenants, TenantStatus
from .counting import Members
from .database_protocols import Connections, Health, Policies, Schema
from .filters import Filter
from .marking import Marking, Trigger
from .paths import ANY, FieldNames
from .search_protocols import Postings, Scopes, ServerTerms, Vectors
from .settings import Settings
from .tables import Tables
from .values import (
    Cached,
    Embedding,
    Entry,
    Hit,
    Key,
    KeyRows,
    Matches,
    Part,
    Probe,
    Probed,
    Scope,
    State,
    Stored,
    Written,
)

NOTHING: Mapping[Any, Any] = {}


class Writes(Protocol):
    """Writes to the index's records and to the queue."""

    def upsert(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        generations: Sequence[Generation],
        now: datetime,
        kept: Mapping[Ref, str] = NOTHING,
    ) -> Mapping[Ref, Written]:
        """Stores contents, one entry a ref, each with a number of its own, deletes their embeddings of other contents
        from every generation, and returns the numbers. Those of a content with a hash that is `kept` become the new
        one's. Those that are replaced are read under the rows' locks."""

    def delete(
        self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]
    ) -> list[tuple[Ref, int]]:
        """Deletes records and their embeddings; returns those that there were."""

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes rows of `kdb_queue`, replacing those that are there."""


class Embeddings(Protocol):
    """The embeddings of each generation, what of them is pending, and the cache."""

    def write(
        self,
        connection: Connection,
        generation: Generation,
        embeddings: Sequence[Embedding],
        now: datetime,
        docs: Mapping[Ref, int],
    ) -> None:
        """Stores those whose record still has the content that they were made from, replacing all that it has. `docs`
        are those that `upsert` wrote in this transaction; others are looked up."""

    def give_up(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Ref]:
        """Makes tombstones of those that the server failed on ATTEMPTS times, and returns them."""

    def drop(self, connection: Connection, generation: Generation, keys: Sequence[Key]) -> None:
        """Deletes the embeddings of these keys."""

    def copy(
        self,
        connection: Connection,
        source: Generation,
        target: Generation,
        *,
        without: Part,
        after: Any,
        upto: Any,
    ) -> None:
        """Copies those of records between two keys (None is the first or the last), but for those of a part, into a
        generation of the same model."""

    def rekey(self, connection: Connection, generation: Generation, moves: Sequence[tuple[Ref, int, Ref, int]]) -> None:
        """Gives the embeddings of records that got another tenant to their new keys; (old, old doc, new, new doc)."""

    def vectors_at(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> Mapping[Ref, bytes]:
        """Returns the vectors, float32 little-endian, of the first passages of these records that have one of their
        present content, with one statement for up to 10,000."""

    def vectors_of(self, connection: Connection, generation: Generation, docs: Sequence[int]) -> Mapping[int, bytes]:
        """Returns the vectors of the first passages of these contents that have one, with one statement."""

    def status(
        self,
        connection: Connection,
        generation: Generation | None,
        *,
        has_provider: bool,
        tenants: Tenants = None,
    ) -> list[IndexStatus]:
        """Counts by entity; pending and failed in the generation. Without one, all is pending if there is a
        provider."""

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
        tenants: Tenants = None,
    ) -> tuple[list[Entry], Any]:
        """Returns the next `limit` records without a current embedding (`is_failed`: with a tombstone; `is_tried`: of
        those that the server failed on before, or of all others), of `entities` alone if any are named and of
        `tenants`, and the key to continue at, which `after` and `upto` are too. Of a content the part that is embedded;
        that of a record which cannot be read is empty."""

    def bounds(self, connection: Connection, size: int) -> list[Any]:
        """Returns the key of every `size`th record, each a value that JSON can hold."""

    def failures(self, connection: Connection, generation: Generation, tenants: Tenants = None) -> list[Failure]:
        """Returns every tombstone, by entity, id and tenant."""

    def cached(self, connection: Connection, fingerprint: str, keys: Sequence[tuple[str, str]]) -> list[Cached]:
        """Returns the rows of the embedding cache that are there, by (tenant, text hash)."""

    def cache(
        self, connection: Connection, fingerprint: str, rows: Sequence[tuple[str, str, bytes]], now: datetime
    ) -> None:
        """Adds (tenant, text hash, embedding) to the embedding cache, in their order, leaving those that are there."""


class Contents(Protocol):
    """Reads of the index's records."""

    def states(self, connection: Connection, refs: Sequence[Ref], generation: Generation | None) -> Mapping[Ref, State]:
        """Returns the hashes that the index holds of each record."""

    def located(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> list[tuple[Ref, State]]:
        """Returns the records of these entities and ids under whichever tenants, with their hashes."""

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        """Returns what the index holds of these records, without those that are not there."""

    def entities(self, connection: Connection, tenants: Tenants = None) -> list[str]:
        """Returns those that are in the index, by name."""

    def tenants(self, connection: Connection, limit: int) -> list[TenantStatus]:
        """Returns the tenants that have most records."""

    def named(
        self, connection: Connection, tenants: Sequence[str], entities: Sequence[str], ids: Sequence[str]
    ) -> Mapping[int, str]:
        """Returns the entities of records of the record store that have these ids; `entities` empty means all."""

    def refs(self, connection: Connection, docs: Sequence[int]) -> Mapping[int, Ref]:
        """Returns the records of those that are there."""

    def hits(
        self, connection: Connection, docs: Sequence[int], generation: Generation | None = None, vector: Any = None
    ) -> dict[int, Hit]:
        """Returns contents and data, with their passages by nearness to a vector, if there is one."""

    def texts(
        self, connection: Connection, generation: Generation | None, *, after: int, limit: int
    ) -> list[tuple[int, str]]:
        """Returns what is embedded of the contents of the next `limit` records, by number; in a generation their
        passages."""

    def matches(self, scope: Scope, docs: Sequence[int] | None = None) -> Matches:
        """Selects the records of those docs that are in the scope, all of it where none are given."""

    def count(self, connection: Connection, matches: Matches, docs: Sequence[int] | None = None) -> int:
        """Counts the matches; `docs` are these where all are known to be in the scope, as far as they may be read."""


class Exports(Protocol):
    """Reads whole records of a tenant."""

    def records(self, connection: Connection, after: Ref, limit: int) -> list[Stored]:
        """Returns the next `limit` records of the tenant of `after`, in the order of their keys."""

    def embeddings(self, connection: Connection, generation: Generation, docs: Mapping[int, Ref]) -> list[Embedding]:
        """Returns all passages and tombstones of these contents."""

    def embeddings_of(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Embedding]:
        """Returns all passages and tombstones of these records' contents."""


class Fields(Protocol):
    """The values of records' fields."""

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        """Returns the field of each record that has it."""

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[tuple[str, str, str], Any]:
        """Returns the field of each of the matches that has it, with one statement; by plain tuples, which are equal to
        refs and made in a third of the time."""

    def members(self, connection: Connection, records: Mapping[int, Ref], field: str) -> Mapping[int, Members]:
        """Returns the values of the field of each content that has any, as facets count them: of a list each of its
        members, of several related rows each row's."""

    def facets(
        self, connection: Connection, matches: Matches, fields: Sequence[str], limit: int
    ) -> Mapping[str, list[tuple[Any, int]]]:
        """Returns the most frequent values of each field among the matches and how many records have each; a list
        counts for each of its members."""

    def count_each(
        self, connection: Connection, matches: Matches, conditions: Sequence[Mapping[str, Any]]
    ) -> Sequence[int]:
        """Counts the matches that each of the conditions, given as `where` is, holds for."""

    def days(self, connection: Connection, matches: Matches, field: str) -> Mapping[date, int]:
        """Counts the matches by the day, in UTC, of a field that is a date or a time."""


class NamedFields(Fields, Protocol):
    """The fields of one mapped class."""

    def check(self, names: Sequence[str]) -> None:
        """Raises InvalidFilter for a name that is no field of it."""

    def check_boosts(self, boosts: Sequence[Boost]) -> None:
        """Raises InvalidFilter for a boost by a field that it has not, or whose values have another type."""

    def boosting(
        self, connection: Connection, refs: Sequence[Ref], boosts: Sequence[Boost]
    ) -> tuple[Sequence[Ref], Sequence[Sequence[Any]]]:
        """Returns the records that are rows of the class, and for each boost the column of their values, of a condition
        whether it holds, with one statement."""


class Records(Protocol):
    """The record store's table, whose fields are paths of names into `kdb_records.data`."""

    def values(self, connection: Connection, refs: Sequence[Ref], path: Sequence[str]) -> Mapping[Ref, Any]:
        """As `Fields`."""

    def values_among(
        self, connection: Connection, matches: Matches, path: Sequence[str]
    ) -> Mapping[tuple[str, str, str], Any]:
        """As `Fields`."""

    def facets(
        self, connection: Connection, matches: Matches, paths: Sequence[Sequence[str]], limit: int
    ) -> list[list[tuple[Any, int]]]:
        """As `Fields`, in the order of the paths."""

    def count_each(
        self,
        connection: Connection,
        matches: Matches,
        conditions: Sequence[Mapping[str, Any]],
        fields: FieldNames = ANY,
    ) -> Sequence[int]:
        """As `Fields`; `fields` are the names that paths may have."""

    def days(self, connection: Connection, matches: Matches, path: Sequence[str]) -> Mapping[date, int]:
        """As `Fields`."""

    def values_of(self, connection: Connection, docs: Sequence[int], path: Sequence[str]) -> Mapping[int, Any]:
        """Returns the field of the record of each content that has it."""

    def probed(self, connection: Connection, docs: Sequence[int], probes: Sequence[Probe]) -> Probed:
        """Returns the records of those contents that are there, with what the probes are, with one statement."""

    def stored_ids(self, connection: Connection, entity: str, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Returns those of (tenant, id) that `kdb_records` has."""

    def add(
        self, connection: Connection, entity: str, rows: Sequence[tuple[str, str, Mapping[str, Any]]], now: datetime
    ) -> None:
        """Inserts (tenant, id, data) in the order of their keys, none of which is there. Raises TransactionConflict
        where one is by now."""

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        """Renders a condition on `kdb_records.data` and its binds."""


class Keys(Protocol):
    """Primary keys of mapped classes, in SQL: (column, kind) as `identity` has them."""

    def id_text(self, columns: Sequence[tuple[Any, str]]) -> ColumnElement[str]:
        """Renders a record's id from a mapped class's primary key."""

    def in_utc(self, column: Any) -> Any:
        """Renders a time with a zone as one in UTC without one."""

    def representable(self, column: Any) -> Any:
        """Renders a date or a time as null where Python has none: infinity, and what is not of the years 1 to 9999."""

    def rows(self, columns: Sequence[tuple[Any, str]], keys: Sequence[Sequence[Any]]) -> KeyRows:
        """Renders primary keys as a table of one bind for each column, or for all."""


class Triggers(Protocol):
    """Triggers on the application's tables."""

    def refusal(self, connection: Connection, table: Table) -> str:
        """Why no triggers can be on it, such as that it is a view; empty where they can."""

    def plan(self, connection: Connection, markings: Sequence[Marking]) -> list[Trigger]:
        """Renders triggers that put a mark into `kdb_dirty` for each record that a changed row concerns. Raises
        InvalidInput where one cannot be made."""

    def make(self, connection: Connection, trigger: Trigger) -> None:
        """Creates one. Raises InvalidInput where the role lacks a right."""

    def drop(self, connection: Connection, names: Sequence[str]) -> None:
        """Drops triggers by their names; one that is not there is left."""

    def present(self, connection: Connection, names: Sequence[str]) -> Mapping[str, str]:
        """Digests of what these are in the database, without those that are not there."""

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        """Whether a statement with such prefixes may delete other rows of the table than it names."""

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        """Yields a function that returns the keys of the rows that REPLACE deleted inside."""


@dataclass(frozen=True)
class Store:
    """One database, by what is done with it."""

    tables: Tables
    connections: Connections
    schema: Schema
    writes: Writes
    embeddings: Embeddings
    contents: Contents
    exports: Exports
    records: Records
    keys: Keys
    scopes: Scopes
    postings: Postings
    vectors: Vectors
    triggers: Triggers
    policies: Policies
    health: Health
    settings: Settings
    server_terms: ServerTerms | None = None

    @property
    def ranking_server(self) -> ServerTerms | None:
        """What ranks keywords in the server, for an index made with `keyword_search="server"`."""
        return self.server_terms if self.settings.keyword_search == "server" else None

    @property
    def language(self) -> str:
        """The language of the index, a name of `analysis.languages`."""
        return self.settings.language
