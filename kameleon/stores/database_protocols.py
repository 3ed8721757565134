"""What a store must do for its database as a whole: connections, tables, policies, checks. Imports `values`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, FromClause

from ..values import Generation, Ref, Sizes, Tenants
from .old_tables import OldTables
from .paths import Path
from .values import Fault, Key


class Connections(Protocol):
    """Connections, transactions and locks."""

    def translating(self) -> AbstractContextManager[None]:
        """Turns driver errors into StorageErrors, with the driver's as their cause."""

    def is_in_memory(self) -> bool:
        """Whether the database is gone when its last connection is closed."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Opens a connection of our own in a transaction that sees one state of the database. Raises StorageError where
        that would be the caller's."""

    def writing(self) -> AbstractContextManager[Connection]:
        """Opens one in a transaction that writes and commits at the end; waits for locks up to the driver's
        time-out."""

    def identity(self, connection: Connection) -> tuple[Any, ...] | None:
        """Returns what identifies the connection's database; None for one in memory."""

    def joining(self, connection: Connection) -> AbstractContextManager[None]:
        """Works inside the caller's transaction, or in one of our own if the connection commits every statement."""

    def fetched(self, connection: Connection, statement: str) -> Sequence[Sequence[Any]]:
        """Returns the rows of a statement without binds, on kameleon's own connections without SQLAlchemy."""

    def prepare_search(self, connection: Connection) -> None:
        """Sets what suits a query, for its transaction."""

    def act_for(self, connection: Connection, tenants: Tenants) -> None:
        """Lets the policies of a protected index see the tenant, for the transaction of a connection of our own; does
        nothing for those of "". Raises StorageError for several where the role sees one at a time."""

    def preserving(self, connection: Connection) -> AbstractContextManager[None]:
        """Reads inside the caller's transaction and leaves its settings as they were, whatever fails. Below REPEATABLE
        READ its statements may see different states."""

    def savepoint(self, connection: Connection) -> AbstractContextManager[None]:
        """Rolls back what is written inside when it raises, where other writers may interfere at all."""

    def savepoint_problem(self, connection: Connection) -> str:
        """Describes what the connection's own savepoints do not roll back; empty where they roll back all."""

    def acquire_write_lock(self, connection: Connection) -> None:
        """Makes the caller's transaction wait for other writers now, where the database has one writer at a time."""

    def has_write_lock(self, connection: Connection) -> bool:
        """Whether `acquire_write_lock` has nothing to wait for in this transaction."""

    def lock_rows(self, connection: Connection, refs: Sequence[Ref]) -> None:
        """Locks the index's rows of these records, in the order of their keys."""

    def may_lock(self, connection: Connection, tables: Sequence[FromClause]) -> bool:
        """Whether the rows of the application's tables can be locked, and the connection's role may do so."""

    def can_lock_rows(self) -> bool:
        """Whether single rows can be locked, or skipped where another transaction locked them."""

    def has_spare_connection(self) -> bool:
        """Whether a second connection can be opened and write while the caller's transaction is open."""

    def has_spare_reader(self) -> bool:
        """Whether a second connection can be opened and read while the caller's transaction is open."""


class Schema(Protocol):
    """The tables."""

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        """Whether all is there that `create` makes. Raises SchemaMismatch, and InvalidInput where the index was made
        with other options than this store's."""

    def create(self, connection: Connection, *, with_vectors: bool) -> None:
        """Creates what is missing. Idempotent."""

    def old_tables(self, connection: Connection) -> OldTables:
        """Returns kameleon's tables as they are, of whichever schema version."""

    def lock_registry(self, connection: Connection, *, is_first: bool = False) -> None:
        """Waits until no other transaction is adding a generation. Search never waits for it. Where `is_first` in a
        transaction of ours, all that was committed before is seen, whatever the engine's isolation level."""

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        """Creates the table of a generation's embeddings."""

    def restore_generation(self, connection: Connection, generation: Generation) -> None:
        """Creates its table again, empty."""

    def wait_for_readers(self) -> bool:
        """Waits until every transaction that has read the registry before is over; False if that takes too long."""

    def drop_generation(self, generation: Generation) -> bool:
        """Drops its table once no transaction is left that may read it; False if that takes too long, or if its index
        is being built. In transactions of its own."""

    def embedding_tables(self, connection: Connection) -> set[int]:
        """Returns the numbers of the generations that have a table with embeddings, registered or not."""

    def index_fields(self, connection: Connection, fields: Sequence[tuple[Path, str]]) -> None:
        """Creates the missing indexes that filters on these fields of the record store use, by path and type, and drops
        others, where that waits for nobody."""

    def build_field_indexes(self, fields: Sequence[tuple[Path, str]]) -> bool:
        """Does the same while others write, in transactions of its own; True if there was something to do."""

    def distribute(self, connection: Connection, generations: Sequence[Generation], by: str = "record_id") -> list[str]:
        """Distributes the tables over a cluster's servers, by record_id or tenant, and returns which. Raises
        StorageError where there is none."""

    def stop_writers(self, connection: Connection) -> None:
        """At the beginning of a transaction: has writers of records wait until it ends, so that it sees and deletes all
        that they wrote."""

    def drop_tenant(self, connection: Connection, tenant: str, generations: Sequence[Generation]) -> None:
        """Deletes what the tables hold of a tenant, in every one of them, after `stop_writers`."""

    def lock_entities(self, connection: Connection) -> None:
        """Waits until no other transaction is left that has read which entities there are, and makes later ones wait
        for this one. Raises DatabaseLocked where that takes too long."""

    def rename_entity(self, connection: Connection, old: str, new: str, generations: Sequence[Generation]) -> None:
        """Gives the contents and embeddings of an entity to another one, of which there are none."""

    def drop_entity(self, connection: Connection, entity: str, generations: Sequence[Generation]) -> None:
        """Deletes the contents and embeddings of an entity."""

    def known_entities(self, connection: Connection) -> tuple[set[str], dict[str, datetime]]:
        """Returns the entities of which records with a tenant were ever written, and the table entities with the times
        of their definitions, with one statement."""

    def add_tenanted(self, connection: Connection, entities: Sequence[str]) -> None:
        """Notes that these entities have tenants, where it is not noted."""

    def add_class(self, connection: Connection, row: Mapping[str, Any]) -> None:
        """Adds the row of a class to `kdb_class`, where it has none."""


class Policies(Protocol):
    """Row-level security on kameleon's own tables."""

    def protect(self, connection: Connection, setting: str, workers: Sequence[str]) -> list[str]:
        """Puts policies on every table with a tenant, that show a role the tenant of this setting alone, and all to the
        roles of workers; replaces those of before. Returns the tables. Raises StorageError where there are none."""

    def unprotect(self, connection: Connection) -> list[str]:
        """Takes the policies off, and returns the tables that had them."""

    def apply_to(self, connection: Connection, table: str) -> None:
        """Puts the policies of a protected index on a table that was made since."""

    def acting_for(self, connection: Connection) -> str | None:
        """The one tenant whose rows policies let the connection write; None where they let it write those of all."""

    def faults(self, connection: Connection) -> list[Fault]:
        """Finds what a protected index lacks of its policies, and roles that they do not hold for."""


class Health(Protocol):
    """Checks of the database and the index for the doctor."""

    def faults(self, connection: Connection, *, has_provider: bool) -> list[Fault]:
        """Finds what is wrong with the database's settings and extensions."""

    def index_faults(self, connection: Connection) -> list[Fault]:
        """Finds the broken indexes; in a transaction that has read nothing before, since those being built are not."""

    def mend(self, fault: Fault) -> None:
        """Repairs a fault as far as no administrator is needed, in transactions of its own."""

    def refs_after(self, connection: Connection, entity: str, after: Ref | None, limit: int) -> list[Ref]:
        """Returns the next `limit` records of an entity in the index, in the order of their keys."""

    def duplicates(self, connection: Connection, after: Any, limit: int) -> tuple[Sequence[Ref], Any]:
        """Returns the next records that have several rows in the index, and the key to continue at; None at the end."""

    def keyword_faults(self, connection: Connection) -> list[Fault]:
        """Finds contents that the keyword index lacks, and those in it that are no record's."""

    def leftovers(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        """Returns the next embeddings whose record is not in the index, and the key to continue at."""

    def bad_vectors(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        """Returns the next embeddings that are not of length 1 in the generation's dimensions, and the key to continue
        at."""

    def sizes(self, connection: Connection) -> Sizes:
        """Returns the bytes of the database, and of each table where the database counts them."""

    def unused_index(self, connection: Connection, generation: Generation) -> str:
        """Explains why searches do not use the approximate index that so many embeddings should have; else empty."""
