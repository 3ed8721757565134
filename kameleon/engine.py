"""`SearchEngine`, what users hold: each verb opens or joins a transaction and hands the work on to its room."""

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, Unpack

from sqlalchemy import ColumnElement, Connection, Engine, Select, select, text, true

from .analysis.spelling import parted
from .content import check_entity, check_id
from .database import synchronous
from .embeddings.options import check_query_timeout
from .errors import InvalidInput, NoProvider, Outdated, ProviderError, RecordMissing, seen
from .forking import lazy
from .indexing import caching
from .indexing.filling import Filling
from .indexing.services import Services, nothing_stored
from .indexing.waiting import BudgetedCalls, is_on_loop, off_the_loop
from .indexing.writer import Ahead, Indexing, Plan, Progress, Writer, check_indexing, entries, flattened, make_entry
from .reindex.building import Building
from .search.answering import Answering
from .search.query import Query, SearchOptions, ask, check_text, check_weight, check_whole
from .search.retrieval import Legs
from .search.syntax import may_name_field
from .stores.catalog import Catalog, active, mismatch
from .stores.claims import LEASE, worker_name
from .stores.factory import StoreOptions, make_store
from .stores.filters import parse_filter
from .stores.protocols import Store
from .stores.transactions import Transactions
from .stores.values import Among, Entry, State
from .values import (
    BATCH_GENERATED,
    CacheStatus,
    Failure,
    Generation,
    IndexReport,
    IndexStatus,
    Ref,
    ReindexReport,
    SearchResults,
)

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
    from sqlalchemy.orm import Session

    from .embeddings.provider import EmbeddingProvider
    from .embeddings.service import EmbeddingService, Listener
    from .orm.events import Sessions
    from .orm.mapping import Mapped
    from .orm.pending import Put
    from .orm.unindexed import Unindexed
    from .reindex.generations import Reindexing
    from .reindex.request import ReindexOptions

ON_PROVIDER_ERROR = ("defer", "raise")
SIMILAR_CHARACTERS = 10_000

T = TypeVar("T")


class SearchEngine(Transactions):
    """Hybrid search in the database of `engine`. For an asynchronous one (aiosqlite, psycopg) the work that is not a
    session's is done on connections that it opens for threads, in a second pool of the same size.

    `embedding_provider` is None (keywords only), a name or a provider object. A name serves a new index; an index that
    has embeddings names its own model, and an engine opened by name follows it.

    `on_provider_error` says what a writing call does while the provider is down: "defer" stores the keywords and leaves
    embeddings pending for `sync`, "raise" stores nothing and raises ProviderUnavailable or ProviderRefused.

    `cache` keeps embeddings by text in `kdb_embedding_cache`, about `cache_limit` texts; None asks the provider
    whether that is worth it.

    `indexing` is how sessions that it is attached to commit: "sync" with the embeddings, "deferred" leaves these to
    `kameleon embeddings worker`, "auto" does so where they take longer than `budget_s`. `session.info` may say
    otherwise for one session, under "kameleon_indexing".

    `query_timeout` is how many seconds a search waits for its query's embedding before it answers by keywords; None
    leaves that to the provider: 3 seconds over the network, no limit for a local model. After a failure, searches do
    without such a provider for 5 seconds.

    Constructing it makes kameleon's tables where they are missing; `create_tables=False` leaves that to migrations.

    `options` belong to the database. `language` is how a new index reads texts: "english" (default), "simple" (words as
    they are), on PostgreSQL any text search configuration; an existing index has its own. SQLite: `vector_search`
    ("auto", "numpy", "sqlite-vec"). PostgreSQL: `schema` holds the tables (default: the connection's own), `m` and
    `ef_construction` shape the HNSW index (16, 64), `ef_search` is how far a query looks in it (600).

    Safe to share between threads; all database work is done on the caller's.
    """

    def __init__(
        self,
        engine: "Engine | AsyncEngine",
        embedding_provider: "str | EmbeddingProvider | None" = None,
        *,
        create_tables: bool = True,
        on_provider_error: Literal["defer", "raise"] = "defer",
        cache: bool | None = None,
        cache_limit: int = 200_000,
        indexing: Indexing = "sync",
        budget_s: float = 1.0,
        query_timeout: float | None = None,
        **options: Unpack[StoreOptions],
    ) -> None:
        if on_provider_error not in ON_PROVIDER_ERROR:
            raise InvalidInput(
                f"unknown on_provider_error {on_provider_error!r}. Known: {', '.join(ON_PROVIDER_ERROR)}"
            )
        self.indexing = check_indexing(indexing)
        self.budget_s = budget_s
        self._budgeted = BudgetedCalls()
        opened = synchronous(engine)
        self.application_engine: Engine = engine if isinstance(engine, Engine) else engine.sync_engine
        super().__init__(opened, make_store(opened, options))
        self.tables = self._store.tables
        self.catalog = Catalog(self._store)
        self.services = Services(
            self,
            self._store,
            embedding_provider,
            is_caching=cache,
            cache_limit=cache_limit,
            query_timeout=check_query_timeout(query_timeout),
            raises=on_provider_error == "raise",
        )
        self.answering = Answering(self, self._store, self.catalog, self.services)
        self._writer = Writer(self._store, self.catalog)
        self.building = Building(self, self._store, self.catalog, self._writer, self.services)
        self.filling = Filling(self, self._store, self.catalog, self._writer, self.services)
        self._on_provider_error = on_provider_error
        self._prepare_schema(create_tables)

    # sessions

    @lazy
    def reindexing(self) -> "Reindexing":
        """Generations: what `reindex` does not say itself (`rollback`, `prune`, `cancel`, `status`)."""
        from .reindex.generations import Reindexing

        return Reindexing(self)

    @lazy
    def sessions(self) -> "Sessions":
        """What hears of sessions. The ORM loads with its first use: a command does without."""
        from .orm.events import Sessions

        return Sessions(self)

    def attach(self, sessions: T, *, indexing: Indexing | None = None) -> T:
        """Index what sessions commit of classes declared `@searchable`, in their own transactions.

        Takes a sessionmaker, async_sessionmaker or scoped_session and returns it; takes a Session class and returns one
        derived from it. `indexing` stands for the engine's own in these sessions.
        """
        return self.sessions.attach(sessions, indexing)

    def flush(self, session: "Session") -> None:
        """Flush an attached session and write its index rows now, inside its transaction: searches with its connection
        see them before it commits."""
        if hasattr(session, "sync_session"):
            raise InvalidInput("an AsyncSession is for coroutines: await aflush(session)")
        session.flush()
        self.sessions.write(session)

    def track(self, cls: type) -> None:
        """Put triggers on a class's tables, so that rows which no session shows (Core, raw SQL, another program) are
        marked, for `sync` or a worker to index. Raises StorageError where the role may not."""
        self.sessions.tracking.track(self.sessions.searchable(cls))

    def untrack(self, cls: type) -> None:
        """Take the triggers away, and the marks that are left."""
        self.sessions.tracking.untrack(self.sessions.searchable(cls))

    def set_triggers(
        self, connection: Connection, table: "Table", key: Sequence[tuple[Any, str]], entities: Sequence[str]
    ) -> None:
        """Triggers that mark a table's rows as records of the entities; none of them takes the triggers away."""
        self._store.triggers.set(connection, table, key, entities)

    def catch_up(
        self, limit: int = 1000, *, worker: str | None = None, lease: timedelta = LEASE, takes_over: bool = False
    ) -> IndexReport | None:
        """Index up to `limit` rows that triggers marked, as they stand; None if none is due. They are `worker`'s alone
        until the `lease` ends; `takes_over` those that others have claimed, too. Marks whose classes
        are not imported are logged and noted in the status."""
        with self.reading() as conn:
            if conn.execute(select(self.tables.dirty.c.seq).limit(1)).first() is None:
                return None
            unknown = self.sessions.tracking.unknown(conn)
        self.services.notices.report("marks", unknown_marks(unknown))
        return self.sessions.tracking.catch_up(limit, worker or worker_name(), lease, takes_over=takes_over)

    # writing

    def index_record(
        self,
        entity: str,
        id: str | int,
        content: str,
        *,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> IndexReport:
        """Index one record's text, replacing what was there; as `index_records_batch`."""
        return self.index_records_batch([(entity, id, content)], connection=connection, session=session)

    def index_records_batch(
        self,
        records: Iterable[tuple[str, str | int, str]],
        *,
        connection: Connection | None = None,
        session: "Session | None" = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Index (entity, id, text) records in one transaction, with one call of the embedding service for all.

        A record whose text is unchanged costs neither an embedding nor a write; of two with one key the last wins.
        `connection` or `session` writes inside the caller's transaction and commits nothing; without them the call
        commits its own, begun after embedding. With an attached session that is done when it commits, together with
        all else that it changed; the report is empty then. `progress(done, total)` counts records. Raises InvalidRecord
        before anything is written.
        """
        wanted = entries(records)
        if not wanted:
            return IndexReport()
        connection = self.within(connection, session, "aindex_records_batch")
        if (queue := self.sessions.queue_of(session)) is not None:
            for entry in wanted:
                queue.put(entry.ref, entry.content)
            return IndexReport()

        def attempt() -> IndexReport:
            plan = self.plan(wanted, connection=connection, progress=progress)
            with self.transaction(connection) as conn:
                self.check_current(plan, conn)
                return self.apply(plan, conn)

        report = self.retried(attempt, connection)
        if progress:
            progress(len(wanted), len(wanted))
        return report

    def plan(
        self,
        wanted: Sequence[Entry],
        *,
        connection: Connection | None = None,
        progress: Progress | None = None,
        ahead: Ahead | None = None,
        is_deferred: bool = False,
        budget_s: float | None = None,
    ) -> Plan:
        """Compare entries with the index and embed what differs, unless that `is_deferred`. Writes nothing, and holds
        no lock while embedding; inside the caller's transaction SQLite's write lock is taken first, for a transaction
        that reads and then writes is refused when another wrote in between. `ahead` is what was embedded before; what
        is missing there is left to a worker if it takes longer than `budget_s`."""
        with self.reading(connection) as conn:
            if connection is not None:
                self.take_turn(conn)
            known = self.catalog.generations(conn)
            service = self.services.writing(conn, known)
            compared = self._writer.compare(conn, wanted, service, known)
            compared = replace(compared, known=known if connection is not None else None, is_deferred=is_deferred)
        if is_deferred:
            return replace(compared, outage=self._first_outage(service, known))
        on_a_thread = is_on_loop() or budget_s is not None
        cache = (
            ahead.cache if ahead and ahead.cache else self.services.cache(service, connection, on_a_thread=on_a_thread)
        )
        embed = partial(self._writer.embed, compared, progress=progress, cache=cache, ahead=ahead)
        waited = partial(self._budgeted.within, budget_s, embed, service, service.workers if service else 1)
        plan = off_the_loop(waited)
        if plan is None:
            return replace(compared, is_deferred=True)
        if plan.outage is not None and self._on_provider_error == "raise":
            raise nothing_stored(plan.outage) from plan.outage
        return plan

    @staticmethod
    def _first_outage(service: "EmbeddingService | None", known: Sequence[Generation]) -> ProviderError | None:
        """Why the model that an index without embeddings is to have cannot be loaded: a broken file is not registered
        as that model."""
        if service is None or known:
            return None
        try:
            service.load()
        except ProviderError as error:
            return error
        return None

    def embed_ahead(
        self,
        known: "Mapping[Ref, Put]",
        new: Sequence[str],
        *,
        connection: Connection | None,
        indexing: Indexing,
        abreast: int = 1,
    ) -> Ahead | None:
        """Embed what a transaction is about to write, before it holds a lock: `known` records, where they differ from
        the index, and the texts of `new` ones. `connection` is the transaction's, if it has begun. With "auto" no
        longer than `budget_s`; then, and with "deferred", a worker is left to it. New texts alone go to the service of
        the commit before: should the index have moved to another model since, that is seen on writing. `abreast` calls
        at a time share the provider's concurrency. Raises ProviderError where the engine's `on_provider_error` is
        "raise"."""
        if self.services.provider is None:
            return None
        service, changed = self.services.wrote_last, list[str]()
        if known or service is None:
            joined = None if self._store.connections.has_spare_reader() else connection
            compare = partial(self._compare_ahead, known, joined)
            service, changed = off_the_loop(compare) if joined is None else compare()
        contents = list(dict.fromkeys([*changed, *(text for text in new if text and not text.isspace())]))
        if service is None or not contents:
            return None
        if indexing == "deferred":
            return Ahead(service)
        try:
            split = service.split(contents)
        except ProviderError:
            return None  # the write meets it again, and reports it
        texts = flattened(contents, split)
        budget_s = self.budget_s if indexing == "auto" else None
        cache = self.services.cache(service, connection, on_a_thread=is_on_loop() or budget_s is not None)
        workers = max(1, service.workers // abreast)
        call = partial(service.embed_batch, texts, on_error="collect", cache=cache, workers=workers)
        embed = partial(self._budgeted.within, budget_s, call, service, service.workers)
        began = time.monotonic()
        made = off_the_loop(embed)
        if made is not None and made.outage is not None and self._on_provider_error == "raise":
            raise nothing_stored(made.outage) from made.outage
        return Ahead(service, made, cache, split, time.monotonic() - began)

    def batches_ahead(self, texts: int) -> int:
        """How many batches of so many texts to embed ahead at a time, on threads of their own: as many as the provider
        takes requests for, and two at least where it takes several, for one of them is being looked up. 0 where nothing
        is embedded, or no thread can look at the index while another writes."""
        if not self._store.connections.has_spare_reader():
            return 0
        with self.reading() as connection:
            service = self.services.writing(connection, self.catalog.generations(connection))
        if service is None:
            return 0
        return max(min(2, service.workers), service.workers // -(-texts // service.batch_size))

    def _compare_ahead(
        self, known: "Mapping[Ref, Put]", connection: Connection | None
    ) -> "tuple[EmbeddingService | None, list[str]]":
        """The service that will embed, None if none can, and the texts of known records that it has to. An estimate, so
        made beside the transaction where that can be: on SQLite one that has read may not write after another did."""
        with self.reading(connection) as conn:
            generations = self.catalog.generations(conn)
            service = self.services.writing(conn, generations)
            wanted = [make_entry(ref, *put) for ref, put in known.items()]
            compared = self._writer.compare(conn, wanted, service, generations)
        if service is not None and mismatch(generations, service.provider):
            service = None
        return service, [entry.content for entry in compared.to_embed]

    def write_changes(
        self,
        connection: Connection,
        puts: "Mapping[Ref, Put]",
        drops: Sequence[Ref],
        *,
        ahead: Ahead | None,
        indexing: Indexing,
        budget_s: float,
    ) -> IndexReport:
        """Bring the index to what the connection's transaction has changed, inside it. "auto" leaves embeddings to a
        worker that take longer than `budget_s`."""
        wanted = [make_entry(ref, *put) for ref, put in puts.items()]
        is_late = budget_s <= 0 or (ahead is not None and ahead.made is None)
        is_deferred = indexing == "deferred" or (indexing == "auto" and is_late)
        with self.transaction(connection) as conn:
            if drops:
                self._store.writes.delete(conn, sorted(drops), self.catalog.generations(conn))
            if not wanted:
                return IndexReport()
            limit_s = budget_s if indexing == "auto" else None
            plan = self.plan(wanted, connection=conn, ahead=ahead, is_deferred=is_deferred, budget_s=limit_s)
            return self.apply(plan, conn)

    def caveat(self, connection: Connection) -> None:
        """Notes what savepoints on a session's connection do not hold."""
        self.services.notices.report("savepoints", self._store.connections.savepoint_problem(connection))

    def evict_if_due(self) -> None:
        """Take surplus embeddings out of the cache after a commit, where a second connection can be had."""
        if self._store.connections.has_spare_reader():
            self.services.evict(is_whole=False)

    @property
    def can_hold_rows(self) -> bool:
        return self._store.connections.can_lock_rows()

    def hold(self, connection: Connection, refs: Iterable[Ref]) -> None:
        """From here to the end of the transaction no other writes these records to the index: who reads their tables
        after that, and writes what they say, writes the newest."""
        with self._store.connections.translating():
            self._store.connections.lock_rows(connection, sorted(refs))

    def take_turn(self, connection: Connection) -> None:
        """At the beginning of a transaction that reads before it writes: wait for SQLite's write lock and hold it to
        the end, so that no other writes in between. The model is loaded before. On PostgreSQL there is nothing to wait
        for."""
        self._check_connection(connection)
        with self._store.connections.translating():
            self.wait_to_write(connection)

    def wait_to_write(self, connection: Connection) -> None:
        """The same before a statement of the application's, which hears the driver's own error."""
        if self._store.connections.has_write_lock(connection):
            return
        if self.services.is_to_load and self._store.connections.has_spare_reader():
            off_the_loop(self._load)
        self._store.connections.acquire_write_lock(connection)

    def _load(self) -> None:
        with self.reading() as connection:
            known = self.catalog.generations(connection)
        self.services.load(known)

    def check_current(self, plan: Plan, connection: Connection) -> None:
        """Raises Outdated if a plan may not be applied any more; called inside the transaction that will."""
        if not self._writer.is_current(connection, plan):
            raise Outdated("these records kept being changed by others. Try again")

    def apply(self, plan: Plan, connection: Connection) -> IndexReport:
        """Write a plan inside the connection's transaction. Raises Outdated where it was made outside of it and the
        index has moved to another model since, which an engine opened by name follows."""
        if plan.known is None:
            known = self.catalog.generations(connection)
            if plan.service is not None and self.services.has_left(known, plan.service):
                raise Outdated("the index kept being moved to another model. Try again")
            plan = replace(plan, known=known)
        return self._writer.apply(connection, plan)

    def delete_record(
        self, entity: str, id: str | int, *, connection: Connection | None = None, session: "Session | None" = None
    ) -> bool:
        """Take a record out of the index; False if it was not there. With an attached `session` that is done when it
        commits, and the answer is True."""
        return self.delete_records([(entity, id)], connection=connection, session=session) == 1

    def delete_records(
        self,
        records: Iterable[tuple[str, str | int]],
        *,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Take (entity, id) records out of the index in one transaction; returns how many were there. With an attached
        `session` that is done when it commits, and they are counted as given."""
        refs = sorted({Ref(check_entity(entity), check_id(id_)) for entity, id_ in records})
        if not refs:
            return 0
        connection = self.within(connection, session, "adelete_records")
        if (queue := self.sessions.queue_of(session)) is not None:
            for ref in refs:
                queue.drop(ref)
            return len(refs)

        def attempt() -> int:
            with self.transaction(connection) as conn:
                self._store.connections.acquire_write_lock(conn)
                return self._store.writes.delete(conn, refs, self.catalog.generations(conn))

        return self.retried(attempt, connection)

    def sync(
        self, *, batch_size: int = 1000, retry_failed: bool = False, progress: Progress | None = None
    ) -> IndexReport:
        """Index rows that triggers marked, those that workers have claimed and not finished last, and rows of the
        classes that this process knows which are not in the index; then embed what is pending, `batch_size` records a
        transaction, newest text wins; stops at an outage. At the end PostgreSQL's vector index is built, if it is
        missing and the embeddings are many.

        `retry_failed` also tries again what the provider refused. `progress(done, total)` counts records.
        """
        report = IndexReport()
        worker = worker_name()
        for takes_over in (False, True):
            while (caught := self.catch_up(batch_size, worker=worker, takes_over=takes_over)) is not None:
                report += replace(caught, unchanged=0)
        if self._knows_classes:
            report += self._unindexed.index(batch_size)
        filled = self.filling.fill(batch_size=batch_size, retry_failed=retry_failed, progress=progress)
        if not filled.outage:
            self.index_vectors()
        self.services.evict(is_whole=True)
        return report + filled

    def reindex(self, *entities: object, **options: "Unpack[ReindexOptions]") -> ReindexReport:
        """Make the index's embeddings anew, with another model or the same, while search and writing go on.

        The target is `provider` (a name or an object) with its `model` (a name or a folder) and `dimensions`; without
        any of them the engine's provider object, or a build that was interrupted, or the index's own model. If the
        index has that model, what is pending is embedded, of `entities` (names or mapped classes) alone if any are
        given; `force` embeds all of them anew. Else a generation is built beside the active one, `batch_size` records a
        transaction, and switched to; `drop_old` then drops the others, `in_place` drops them first, and search goes by
        keywords alone meanwhile.

        `gate`, an overlap@10 or a `kameleon.reindex.gate.Gate`, compares what both find before the switch and raises
        GateRefused. `max_minutes` and `max_cost` (at
        `price_per_million` tokens, or the provider's own price) end the run between two batches. `concurrent_index`
        builds PostgreSQL's vector index without making writers wait. `progress(phase, done, total)` counts records, of
        0 in a phase that has none to count.

        A run that was killed or stopped resumes when it is run again. Raises ReindexRunning while another one runs.
        """
        from .reindex.request import Request

        return self.reindexing.run(Request(self.names(entities), **options))

    def names(self, entities: Iterable[object]) -> tuple[str, ...]:
        """Of entities by name or mapped class."""
        return tuple(name if isinstance(name, str) else self.sessions.searchable(name).entity for name in entities)  # type: ignore[arg-type]

    def index_vectors(self) -> bool:
        """Build the approximate vector index where that is worth it and not done yet: PostgreSQL's HNSW, from 10,000
        embeddings on. True if it did. Reading and writing go on meanwhile."""
        with self.reading() as conn:
            current = active(self.catalog.generations(conn))
        with self._store.connections.translating():
            return current is not None and self._store.vectors.build_index(current)

    def vector_index(self, generation: Generation) -> str:
        """How a generation's vectors are searched: `exact`, `hnsw`, or what keeps `hnsw` from being used."""
        with self.reading() as conn:
            return self._store.vectors.index_state(conn, generation)

    def distribute(self) -> list[str]:
        """Spread the tables over a Citus cluster by record id, rows and all; tells which were not yet. Writers wait
        meanwhile. Raises StorageError where there is no Citus."""
        with self.transaction() as conn:
            return self._store.schema.distribute(conn, self.catalog.generations(conn))

    # the cache

    def cache_status(self) -> list[CacheStatus]:
        """What the embedding cache holds, by fingerprint."""
        with self.reading() as conn:
            return caching.status(conn, self._store.tables.embedding_cache)

    def clear_cache(self, unused_since: datetime | None = None) -> int:
        """Empty the embedding cache, or drop what was last used before a moment; tells how many texts went."""
        with self.transaction() as conn:
            return caching.clear(conn, self._store.tables.embedding_cache, unused_since)

    # reading

    def search(
        self,
        query: str,
        *,
        entity: object = None,
        entities: Iterable[object] | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """The best records for a query, best first, scores 0..1 relative to the best there could be in each leg.

        Any string is a query; `"exact phrase"`, `-word`, `prefix*` and `field:word` say more of it. `entity` is a name
        or a mapped class, `entities` several, of none nothing is found. `options`:

        `limit` (10) hits after the first `offset` (0), or after the page whose `cursor` is given: then no hit of an
        earlier page comes again, whatever was written in between. `min_score` (0) leaves out hits below it. `where`
        filters inside both legs: by the fields of stored records, by the columns of a mapped class, or by any
        SQLAlchemy condition on one. `mode` is hybrid, keyword or vector.

        `fusion` makes one ranking of two: weighted, rrf, dbsf, or a function of the `fusion.Leg`s that gives a score
        from 0 to 1 by key; `weight` is the vector's (0..1) in this query, the model's own where it is None.

        `sort` orders the 1,000 best by a field ("-price": the greatest first), in a hybrid search those that have a
        word of the query. `group_by="entity"` gives `limit` hits of each entity. `facets` names fields whose values are
        counted over all that match, `count` counts those. `rerank` is a callable (query, texts) -> scores 0..1 that
        orders the `rerank_top` (50) best anew, and leaves out the others. `highlight` fills `spans`, `explain` fills
        `explanation`.

        `connection` or `session` searches in the caller's transaction, what it has written included.

        Equal scores are ordered by (entity, id). Writes nothing. Raises InvalidInput and its kind for bad arguments;
        with mode="vector" also NoProvider, ModelMismatch, ProviderUnavailable, where hybrid answers by keywords alone
        and says so in `plan.note`.
        """
        connection = self.within(connection, session, "asearch")
        asked = self._asked(query, entity, entities, connection, **options)
        return self.answering.search(asked, connection)

    def similar(
        self,
        entity: object,
        id: str | int,
        *,
        entities: Iterable[object] | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """The records most like one that is in the index, itself left out: by its words, and by its embedding as it is
        stored. Among its own entity's, or those of `entities`; `options` as in `search`. Raises RecordMissing."""
        connection = self.within(connection, session, "asimilar")
        (name,) = self.names([entity])
        ref = Ref(check_entity(name), check_id(id))
        with self.reading(connection) as conn:
            found = self._store.contents.entries(conn, [ref])
        if not found:
            raise RecordMissing(f"{name} {ref.id!r:.80} is not in the index, so nothing can be similar to it")
        content = found[0].content[:SIMILAR_CHARACTERS]
        asked = self._asked(content, None, [entity] if entities is None else entities, connection, like=ref, **options)
        return self.answering.search(asked, connection)

    def _asked(
        self,
        query: str,
        entity: object,
        entities: Iterable[object] | None,
        connection: Connection | None,
        like: Ref | None = None,
        **options: Unpack[SearchOptions],
    ) -> Query:
        if isinstance(entities, str):
            raise InvalidInput(f"entities is a list of names; for one, use entity={seen(entities)}")
        names: list[object] = [*([] if entity is None else [entity]), *(entities or ())]
        typed, where = check_text(query), options.get("where")
        fields = () if like else self._fields(typed, names, connection)
        among = columns = None
        if any(isinstance(name, type) for name in names) or not (where is None or isinstance(where, Mapping)):
            columns = self.sessions.class_fields(names)
            where = self.sessions.saying(typed, names, where, fields)
            names, among = self.sessions.scope(names, where)
        options["where"] = where if among is None else None
        return ask(
            typed,
            fields=fields,
            entities=names if names or entities is None else None,
            among=None if among is None else self._among(*among),
            columns=columns,
            like=like,
            **options,
        )

    def suggest(
        self,
        text: str,
        *,
        limit: int = 10,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> list[str]:
        """What a text may become: its last word completed by words of the index, those in most records first. Any
        string will do; nothing is suggested after a space."""
        before, word = parted(check_text(text))
        check_whole("limit", limit, 1)
        if not word:
            return []
        connection = self.within(connection, session, "asuggest")
        with self.preserving(connection) as conn:
            self._store.keywords.prepare_search(conn)
            counts = partial(self._store.keywords.count_words, conn)
            return [before + whole for whole in self._store.keywords.vocabulary.completions(conn, word, counts, limit)]

    def select(
        self,
        cls: type[T],
        query: str,
        *,
        connection: Connection | None = None,
        session: "Session | None" = None,
        **options: Unpack[SearchOptions],
    ) -> Select[tuple[T]]:
        """The hits as a SELECT of a mapped class's objects, best first, to be run by any session of the database.

        The search is done now, the statement names its hits. Joins and loader options go on it as on any; a condition
        added to it narrows the hits, `where=` here finds `limit` that meet it.
        """
        mapped = self.sessions.searchable(cls)
        connection = self.within(connection, session, "aselect")
        hits = self.search(query, entity=cls, connection=connection, **options)
        return mapped.ranked(select(cls), cls, [hit.id for hit in hits], self._store.keys.rows)

    def _fields(self, query: str, names: Sequence[object], connection: Connection | None) -> Collection[str]:
        """Those that a query may name: of a mapped class that is asked alone, or of the record store's entities. Looked
        up before the query is embedded."""
        if not may_name_field(query):
            return ()
        if any(isinstance(name, type) for name in names):
            columns = self.sessions.class_fields(names)
            return columns.names if columns else ()
        with self.preserving(connection) as conn:
            declared = self.catalog.entities(conn)
        asked = [entity for name, entity in declared.items() if not names or name in names]
        return {name for entity in asked for name in entity.field_names}

    def legs(self, query: str, *, entities: Iterable[object] | None = None, limit: int = 10) -> Legs:
        """What each leg finds for a query that `search` would answer with `limit` hits, before any fusion."""
        return self.answering.legs(self._asked(query, None, entities or None, None, limit=limit))

    def set_weight(self, weight: float, generation: Generation | None = None) -> Generation:
        """Let the vector count for `weight` (0..1) against the keywords in every search from here on; kept with the
        generation, the active one if none is given, and by its model's reindex. Raises NoProvider where there is
        none, InvalidInput for one of another index."""
        weight = check_weight(weight)
        with self.transaction() as conn:
            known = self.catalog.generations(conn)
            generation = generation or active(known)
            if generation is None:
                raise NoProvider("the index has no embeddings, so there is no weight to keep")
            if (generation.number, generation.model_name) not in {(each.number, each.model_name) for each in known}:
                has = ", ".join(f"{each.number} ({each.model_name})" for each in known) or "none"
                raise InvalidInput(
                    f"generation {generation.number} ({generation.model_name}) is not of this index. It has: {has}"
                )
            self.catalog.set_weight(conn, generation.number, weight)
        return replace(generation, weight=weight)

    def _among(self, mapped: "Mapped", cls: type, where: ColumnElement[bool]) -> Among:
        from .orm.criteria import compiled

        wanted = select(self._store.keys.id_text(mapped.id_columns(cls))).select_from(cls).where(where)
        return compiled(mapped.own(wanted, cls), self.engine)

    def get_status(self, entity: str | None = None) -> list[IndexStatus]:
        """One IndexStatus an entity that is in the index, by name; `pending` and `failed` are 0 without a provider."""
        with self.reading() as conn:
            known = self.catalog.generations(conn)
            generation = self.services.reported(known)
            found = self._store.embeddings.status(conn, generation, has_provider=self.services.provider is not None)
            unindexed = self._unindexed.counts(conn) if self._knows_classes else {}
        note = self.services.notices.joined(self.services.problem(known))
        entities = {status.entity for status in found}
        found += [
            IndexStatus(name, 0, 0, None) for name in sorted(unindexed) if unindexed[name] and name not in entities
        ]
        return [
            replace(status, note=note, unindexed=unindexed.get(status.entity, 0))
            for status in found
            if entity in (None, status.entity)
        ]

    @property
    def _knows_classes(self) -> bool:
        """Without the ORM there are none."""
        return "kameleon.orm.mapping" in sys.modules

    @lazy
    def _unindexed(self) -> "Unindexed":
        from .orm.unindexed import Unindexed

        return Unindexed(self)

    def failures(self, *, connection: Connection | None = None, session: "Session | None" = None) -> list[Failure]:
        """The records that the provider refused, by entity and id."""
        connection = self.within(connection, session, "afailures")
        with self.reading(connection) as conn:
            generation = self.services.reported(self.catalog.generations(conn))
            return self._store.embeddings.failures(conn, generation) if generation else []

    def state(
        self, entity: str, id: str | int, *, connection: Connection | None = None, session: "Session | None" = None
    ) -> State | None:
        """What the index holds of a record; None if it is not there. Without a provider nothing is told of
        embeddings."""
        ref = Ref(check_entity(entity), check_id(id))
        connection = self.within(connection, session, "astate")
        with self.reading(connection) as conn:
            generation = self.services.reported(self.catalog.generations(conn))
            return self._store.contents.states(conn, [ref], generation).get(ref)

    @property
    def is_embedding(self) -> bool:
        """Whether it has a provider."""
        return self.services.provider is not None

    def generations(self) -> list[Generation]:
        """The models that have embeddings in this index, oldest first."""
        with self.reading() as conn:
            return self.catalog.generations(conn)

    def condition(self, where: Mapping[str, Any], fields: Collection[str]) -> ColumnElement[bool]:
        """`where` as a condition on `kdb_records.data`. Raises InvalidFilter."""
        parsed = parse_filter(where, fields)
        if parsed is None:
            return true()
        sql, binds = self._store.records.filter_sql(parsed)
        return text(sql).bindparams(**binds)  # type: ignore[return-value]

    # asyncio

    async def asearch(
        self,
        query: str,
        *,
        entity: object = None,
        entities: Iterable[object] | None = None,
        session: "AsyncSession | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """`search` for coroutines: on a thread, so that neither the model nor the database holds the event loop up. In
        the transaction of a `session`, whose statements run where they always do."""
        return await self.awaited(partial(self.search, query, entity=entity, entities=entities, **options), session)

    async def asimilar(
        self,
        entity: object,
        id: str | int,
        *,
        entities: Iterable[object] | None = None,
        session: "AsyncSession | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """`similar`, as `asearch`."""
        return await self.awaited(partial(self.similar, entity, id, entities=entities, **options), session)

    async def asuggest(self, text: str, *, limit: int = 10, session: "AsyncSession | None" = None) -> list[str]:
        """`suggest`, as `asearch`."""
        return await self.awaited(partial(self.suggest, text, limit=limit), session)

    async def aselect(
        self, cls: type[T], query: str, *, session: "AsyncSession | None" = None, **options: Unpack[SearchOptions]
    ) -> Select[tuple[T]]:
        """`select`, as `asearch`."""
        return await self.awaited(partial(self.select, cls, query, **options), session)

    async def aflush(self, session: "AsyncSession") -> None:
        """`flush` for an AsyncSession."""
        await session.run_sync(self.flush)

    async def afailures(self, *, session: "AsyncSession | None" = None) -> list[Failure]:
        """`failures`, as `asearch`."""
        return await self.awaited(self.failures, session)

    async def astate(self, entity: str, id: str | int, *, session: "AsyncSession | None" = None) -> State | None:
        """`state`, as `asearch`."""
        return await self.awaited(partial(self.state, entity, id), session)

    async def aindex_record(
        self, entity: str, id: str | int, content: str, *, session: "AsyncSession | None" = None
    ) -> IndexReport:
        """`index_record`, as `asearch`."""
        return await self.awaited(partial(self.index_record, entity, id, content), session)

    async def aindex_records_batch(
        self,
        records: Iterable[tuple[str, str | int, str]],
        *,
        session: "AsyncSession | None" = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """`index_records_batch`, as `asearch`; `progress` is called on the thread."""
        return await self.awaited(partial(self.index_records_batch, records, progress=progress), session)

    async def adelete_record(self, entity: str, id: str | int, *, session: "AsyncSession | None" = None) -> bool:
        """`delete_record`, as `asearch`."""
        return await self.awaited(partial(self.delete_record, entity, id), session)

    async def adelete_records(
        self, records: Iterable[tuple[str, str | int]], *, session: "AsyncSession | None" = None
    ) -> int:
        """`delete_records`, as `asearch`."""
        return await self.awaited(partial(self.delete_records, records), session)

    def within(self, connection: Connection | None, session: "Session | None", async_name: str) -> Connection | None:
        """The connection of the caller's transaction, be it given by his session. Raises InvalidInput."""
        if session is None:
            return connection
        if connection is not None:
            raise InvalidInput("connection= and session= are two transactions: give one of them")
        return self.sessions.connection_of(session, async_name)

    async def awaited(self, call: Callable[..., T], session: "AsyncSession | None") -> T:
        """What a call returns on a thread, which gets the session beneath an AsyncSession as its `session=`."""
        if session is None:
            return await asyncio.to_thread(call)
        from .async_connections import on_thread

        inner = await self.sessions.begun(session)
        return await on_thread(partial(call, session=inner))

    # closing

    def close(self) -> None:
        """Close the connections that are kameleon's own: those opened beside an asynchronous engine's. The engine that
        it was given is left as it is. Neither this SearchEngine nor what was made with it is of use afterwards."""
        self.is_closed = True
        if self.engine is not self.application_engine:
            from .async_connections import dispose

            dispose(self.engine)

    async def aclose(self) -> None:
        """`close` for coroutines."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def store(self) -> Store:
        """The seam to the database, for rooms that look after it."""
        return self._store

    @property
    def provider(self) -> "str | EmbeddingProvider | None":
        """As the engine was given it."""
        return self.services.provider

    def _prepare_schema(self, create_tables: bool) -> None:
        with_vectors = self.services.provider is not None
        with self.leaving_no_connection():
            with self.reading() as conn:
                is_complete = self._store.schema.check(conn, with_vectors=with_vectors)
            if create_tables and not is_complete:
                with self.transaction() as conn:
                    self._store.schema.create(conn, with_vectors=with_vectors)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a SearchEngine is neither pickled nor copied, for it holds a database engine: give the other process the "
            "database's URL and the provider, and make one there"
        )

    # the provider

    def on(self, event: str, listener: "Listener") -> None:
        """Call `listener(event, figures)` after each batch of embeddings. Known: embedding.batch_generated, with
        total_count, cache_hits, api_calls, processing_time_ms, avg_latency_ms."""
        if event != BATCH_GENERATED:
            raise InvalidInput(f"unknown event {seen(event)}. Known: {BATCH_GENERATED}")
        self.services.listeners.append(listener)


def unknown_marks(entities: Sequence[str]) -> str:
    """Of marked rows whose classes are not imported; empty for none."""
    return f"rows of {', '.join(entities)} are marked, and no class of that name is imported here" if entities else ""
