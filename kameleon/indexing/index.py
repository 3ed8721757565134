"""`Index`: what the packages above build on. It joins the store, the catalog of generations, the embedding services and
the write path (compare, embed, apply) of one database. Imports `values`, `errors`, `telemetry`, `forking`,
`async_connections`, `memory_pool`, `database`, `embeddings`, `stores` and `keywords`."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from sqlalchemy import Connection, Engine, SingletonThreadPool, StaticPool

from ..database import synchronous
from ..embeddings.options import check_query_timeout
from ..errors import Outdated
from ..forking import per_process
from ..memory_pool import TakesTurns
from ..stores.catalog import Catalog, active
from ..stores.factory import make_store
from ..stores.refs import tenants_of
from ..stores.transactions import Transactions
from ..stores.values import Entry, State
from ..telemetry.measures import RECORDS
from ..values import Failure, Generation, IndexReport, Ref, Tenants
from .classes import Classes, redefined, topic
from .curation import Curation
from .describing import writing
from .embedded import Ahead
from .entries import Contents, make_entry
from .filling import Filling
from .given import Given, check_service
from .services import Services, check_on_provider_error, first_outage, nothing_stored
from .tenanted import Tenanted
from .time_limits import BudgetedCalls, is_on_loop, run_off_loop
from .writer import NOTHING, Indexing, Plan, Progress, Writer, check_indexing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ..embeddings.provider import EmbeddingProvider
    from ..embeddings.service import EmbeddingService

T = TypeVar("T")

ONE_CONNECTION = (TakesTurns, StaticPool, SingletonThreadPool)


class HasIndex(Protocol):
    """A SearchEngine, for the packages that it imports."""

    @property
    def index(self) -> "Index": ...


class Index(Transactions):
    """The index in the database of `engine`. SearchEngine documents the arguments, and has their defaults. Threads may
    share it."""

    def __init__(
        self,
        engine: "Engine | AsyncEngine",
        embedding_provider: "str | EmbeddingProvider | None",
        *,
        on_provider_error: Literal["defer", "raise"],
        cache: bool | None,
        cache_limit: int,
        indexing: Indexing,
        budget_s: float,
        query_timeout: float | None,
        **options: Any,
    ) -> None:
        check_on_provider_error(on_provider_error)
        self.indexing, self.budget_s = check_indexing(indexing), budget_s
        opened = synchronous(engine)
        self.application_engine: Engine = engine if isinstance(engine, Engine) else engine.sync_engine
        self.store = make_store(opened, options)
        super().__init__(opened, self.store)
        self.tables = self.store.tables
        self.catalog = Catalog(self.store)
        self.services = Services(
            self,
            self.store,
            embedding_provider,
            is_caching=cache,
            cache_limit=cache_limit,
            query_timeout=check_query_timeout(query_timeout),
            raises=on_provider_error == "raise",
        )
        from ..keywords.index import KeywordIndex  # NumPy loads with the first engine

        self.keywords: KeywordIndex = KeywordIndex(self.store, opened)
        self.curation = Curation(self.store)
        self.classes = Classes(self.store, self.curation)
        self.known_entities = Tenanted(self.store.schema)
        self.writer = Writer(self.store, self.catalog, self.keywords, self.known_entities)
        self.filling = Filling(self, self.store, self.catalog, self.writer, self.services)
        self._budgeted = BudgetedCalls()
        self._parts: dict[object, Any] = {}

    @per_process
    def _making(self) -> RLock:
        return RLock()

    def part(self, make: "Callable[[Index], T]") -> T:
        """The one object that `make`, a class of a package above, has for this index; made at its first use."""
        if make not in self._parts:
            with self._making:
                if make not in self._parts:
                    self._parts[make] = make(self)
        made: T = self._parts[make]
        return made

    def prepare_schema(self, *, create_tables: bool) -> None:
        """Check the tables and create what is missing. Raises SchemaMismatch, SchemaMissing and StorageError."""
        with_vectors = self.services.provider is not None
        with self.leaving_no_connection():
            with self.reading() as conn:
                is_complete = self.store.schema.check(conn, with_vectors=with_vectors)
            if create_tables and not is_complete:
                with self.transaction() as conn:
                    self.store.schema.create(conn, with_vectors=with_vectors)

    # the write path

    def write(
        self,
        wanted: Sequence[Entry],
        connection: Connection | None = None,
        progress: Progress | None = None,
        given: Given | None = None,
    ) -> IndexReport:
        """Index entries in the connection's transaction, or in one that begins after embedding and commits."""

        tenants = tenants_of(entry.ref for entry in wanted)

        def attempt() -> IndexReport:
            plan = self.plan(wanted, connection=connection, progress=progress, given=given)
            with self.transaction(connection, tenants) as conn:
                self.check_current(plan, conn)
                return self.apply(plan, conn)

        report = self.retried(attempt, connection)
        self.maintain_keywords(connection)
        return report

    def delete(self, refs: Sequence[Ref], connection: Connection | None = None) -> int:
        """Delete records from the index, in the connection's transaction or one that commits; returns how many were
        there."""
        if not refs:
            return 0

        def attempt() -> int:
            with self.transaction(connection, tenants_of(refs)) as conn:
                self.store.connections.acquire_write_lock(conn)
                return self._delete(conn, refs)

        count = self.retried(attempt, connection)
        self.maintain_keywords(connection)
        return count

    def _delete(self, connection: Connection, refs: Iterable[Ref]) -> int:
        ordered = sorted(refs, key=attrgetter("key"))
        with writing(connection, len(ordered)) as observed:
            deleted = self.store.writes.delete(connection, ordered, self.catalog.generations(connection))
            self.keywords.bury(connection, deleted)
            observed.count(RECORDS, {"deleted": len(deleted)})
        return len(deleted)

    def maintain_keywords(self, connection: Connection | None) -> None:
        """Folds and merges keywords as far as that is due, unless the caller's transaction goes on."""
        if connection is None:
            self.keywords.maintain()

    def write_changes(
        self,
        connection: Connection,
        changed: Contents,
        deleted: Sequence[Ref],
        *,
        unique: Collection[str] = (),
        ahead: Ahead | None,
        indexing: Indexing,
        budget_s: float,
    ) -> IndexReport:
        """Apply what the connection's transaction has changed to the index, inside it. "auto" leaves embeddings to a
        worker that take longer than `budget_s`. `unique` are the entities in which one record at most has an id,
        whatever its tenant: what is there under another tenant moves, and a ref without one is deleted under any."""
        wanted = [make_entry(ref, *content) for ref, content in changed.items()]
        is_late = budget_s <= 0 or (ahead is not None and ahead.made is None)
        is_deferred = indexing == "deferred" or (indexing == "auto" and is_late)
        with self.transaction(connection) as conn:
            if deleted and (gone := self._located(conn, deleted, unique)):
                self._delete(conn, gone)
            if not wanted:
                return IndexReport()
            limit_s = budget_s if indexing == "auto" else None
            plan = self.plan(
                wanted, connection=conn, unique=unique, ahead=ahead, is_deferred=is_deferred, budget_s=limit_s
            )
            for entity in self.classes.note(conn, plan.standings, plan.version):
                self.services.notices.report(topic(entity), redefined(entity, plan.standings[entity]))
            return self.apply(plan, conn)

    def _located(self, connection: Connection, refs: Iterable[Ref], unique: Collection[str]) -> list[Ref]:
        """The refs, those of unique entities with the tenants that they have in the index."""
        found: list[Ref] = []
        movable: list[Ref] = []
        for ref in refs:
            (movable if ref.entity in unique else found).append(ref)
        if movable:
            self.begin_writing(connection)
            found += [ref for ref, _ in self.store.contents.located(connection, movable, None)]
        return found

    def plan(
        self,
        wanted: Sequence[Entry],
        *,
        connection: Connection | None = None,
        progress: Progress | None = None,
        unique: Collection[str] = (),
        former: Mapping[Ref, Ref] = NOTHING,
        ahead: Ahead | None = None,
        is_altered: bool = False,
        is_deferred: bool = False,
        budget_s: float | None = None,
        given: Given | None = None,
    ) -> Plan:
        """Compare entries with the index and embed what differs, unless that `is_deferred`. Writes nothing, and holds
        no lock while embedding; inside the caller's transaction SQLite's write lock is acquired first, for a
        transaction that reads and then writes is refused when another wrote in between. `ahead` is what was embedded
        before; what is missing there is left to a worker if it takes longer than `budget_s`. `unique` as in
        `write_changes`; `former` are the refs under which the index has entries that get another tenant. `is_altered`
        where a content may have changed without its text that is embedded. With `given` embeddings none is made."""
        with self.reading(connection, tenants_of(entry.ref for entry in wanted)) as conn:
            if connection is not None:
                self.begin_writing(conn)
            compared = self.compared(conn, wanted, unique, former, is_altered=is_altered, given=given)
            service, generations = compared.service, compared.generations or []
            seen_by_caller = generations if connection is not None else None
            compared = replace(compared, is_deferred=is_deferred, generations=seen_by_caller)
        compared = replace(compared, analysed=self.keywords.analysed(compared.changed))
        if is_deferred:
            return replace(compared, outage=first_outage(service, generations))
        cache = ahead.cache if ahead else None
        on_a_thread = is_on_loop() or budget_s is not None
        cache = cache or self.services.cache(service, connection, on_a_thread=on_a_thread)
        embed = partial(self.writer.embed, compared, progress=progress, cache=cache, ahead=ahead)
        plan = self.within_budget(budget_s, embed, service)
        if plan is None:
            return replace(compared, is_deferred=True)
        if plan.outage is not None and self.services.raises:
            raise nothing_stored(plan.outage) from plan.outage
        return plan

    def compared(
        self,
        connection: Connection,
        wanted: Sequence[Entry],
        unique: Collection[str],
        former: Mapping[Ref, Ref] = NOTHING,
        *,
        is_altered: bool = False,
        given: Given | None = None,
    ) -> Plan:
        """What differs from the index, by the service that will embed it."""
        generations, version, _ = self.catalog.registry(connection)
        service = self.services.writing(connection, generations, given.dimensions if given else None)
        if given is not None and given.embeddings:
            check_service(service, generations, self.services.notices.joined(""))
        entities = {entry.ref.entity for entry in wanted}
        standings = self.classes.unread(connection, entities, version)
        is_altered = is_altered or self.classes.is_altered(entities, standings)
        given = given if service is not None else None
        plan = self.writer.compare(
            connection, wanted, service, generations, unique, former, is_altered=is_altered, given=given
        )
        return replace(plan, generations=generations, standings=standings, version=version)

    def within_budget(
        self, budget_s: float | None, call: Callable[[], T], service: "EmbeddingService | None"
    ) -> T | None:
        """What the call returns, off the event loop; None if it takes longer than the budget."""
        return run_off_loop(partial(self._budgeted.within, budget_s, call, service, service.workers if service else 1))

    def check_current(self, plan: Plan, connection: Connection) -> None:
        """Raises Outdated if a plan may not be applied any more; called inside the transaction that will."""
        if not self.writer.is_current(connection, plan):
            raise Outdated("these records kept being changed by others. Try again")

    def apply(self, plan: Plan, connection: Connection) -> IndexReport:
        """Write a plan inside the connection's transaction. Raises Outdated where it was made outside of it and the
        index has moved to another model since, which an engine opened by name follows."""
        if plan.generations is None:
            generations = self.catalog.generations(connection)
            if plan.service is not None and self.services.has_moved(generations, plan.service):
                raise Outdated("the index kept being moved to another model. Try again")
            plan = replace(plan, generations=generations)
        return self.writer.apply(connection, plan)

    def maintain(self) -> None:
        """After a commit, as far as that is due: fold and merge keywords, and take surplus embeddings out of the cache.
        Where the pool would have to wait for a connection nothing is done; where all share the one of a database in
        memory, which the commit has left, keywords alone."""
        has_spare_reader = self.store.connections.has_spare_reader()
        if has_spare_reader:
            self.services.evict(is_whole=False)
        if has_spare_reader or isinstance(self.engine.pool, ONE_CONNECTION):
            self.keywords.maintain()

    # locks

    def hold(self, connection: Connection, refs: Iterable[Ref]) -> None:
        """Lock these records' index rows to the end of the transaction: who reads their tables after that, and writes
        what is there, writes the newest."""
        with self.store.connections.translating():
            self.store.connections.lock_rows(connection, sorted(refs, key=attrgetter("key")))

    def begin_writing(self, connection: Connection) -> None:
        """At the beginning of a transaction that reads before it writes: acquire SQLite's write lock and hold it to the
        end, so that no other writes in between. The model is loaded before. On PostgreSQL there is nothing to wait
        for."""
        self._check_connection(connection)
        with self.store.connections.translating():
            self.acquire_write_lock(connection)

    def acquire_write_lock(self, connection: Connection) -> None:
        """Acquire SQLite's write lock before a statement of the application's, which gets the driver's own error."""
        if self.store.connections.has_write_lock(connection):
            return
        if self.services.must_load and self.store.connections.has_spare_reader():
            run_off_loop(self._load)
        self.store.connections.acquire_write_lock(connection)

    def _load(self) -> None:
        self.services.load(self.generations())

    # generations

    def generations(self) -> list[Generation]:
        """The models that have embeddings in this index, oldest first."""
        with self.reading() as conn:
            return self.catalog.generations(conn)

    def forget(self) -> None:
        """Forget the words, postings and query vectors that are in memory."""
        self.keywords.forget()
        self.services.forget_queries()

    def state(self, ref: Ref, connection: Connection | None = None) -> State | None:
        """What the index holds of a record; None if it is not there."""
        with self.reading(connection, (ref.tenant,)) as conn:
            generation = self.services.reported(self.catalog.generations(conn))
            return self.store.contents.states(conn, [ref], generation).get(ref)

    def tenanted(self, connection: Connection | None = None) -> frozenset[str]:
        """The entities of which records with a tenant were ever written, read at most once a second."""
        if not self.known_entities.is_due:
            return self.known_entities.known
        with self.preserving(connection) as conn:
            return self.known_entities.read(conn)

    def failures(self, connection: Connection | None = None, tenants: Tenants = None) -> list[Failure]:
        """The records that the provider refused, by entity, id and tenant."""
        with self.reading(connection, tenants or ()) as conn:
            generation = self.services.reported(self.catalog.generations(conn))
            return self.store.embeddings.failures(conn, generation, tenants) if generation else []

    def index_vectors(self) -> bool:
        """Build the vector index where that is worth it, and those of declared fields; True if it built the former."""
        with self.reading() as conn:
            fields = self.catalog.indexed_fields(conn)
        with self.store.connections.translating():
            self.store.schema.build_field_indexes(fields)
        current = active(self.generations())
        with self.store.connections.translating():
            return current is not None and self.store.vectors.build_index(current)

    def missing_vector_index(self, connection: Connection, generations: Sequence[Generation]) -> str:
        """Explains what keeps the active generation's vectors from being searched fast, with the next step; empty where
        nothing does."""
        current = active(generations)
        problem = current and self.store.vectors.missing_index(connection, current)
        return f"{problem}: a worker or `kameleon embeddings sync` builds it" if problem else ""

    def vector_index(self, generation: Generation) -> str:
        """How a generation's vectors are searched: `exact`, `hnsw`, or what keeps `hnsw` from being used."""
        with self.reading() as conn:
            return self.store.vectors.index_state(conn, generation)

    # closing

    def close(self) -> None:
        """Close the connections that are kameleon's own: those opened beside an asynchronous engine's."""
        self.is_closed = True
        if self.engine is not self.application_engine:
            from ..async_connections import dispose

            dispose(self.engine)
