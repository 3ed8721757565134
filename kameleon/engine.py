"""`SearchEngine`, the facade: each verb checks its arguments and calls a package below, all of which it may import.
Imports `values`, `errors`, `content`, `embeddings`, `stores`, `indexing`, `search`, `orm`, `reindex`, `tenants`,
`administration` and `coroutines`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, Unpack

from sqlalchemy import Connection, Engine, Select

from .administration import VerbGroups
from .content import check_entity, check_id, check_tenants
from .coroutines import Coroutines
from .errors import InvalidInput, seen
from .indexing.entries import entries
from .indexing.given import given_embeddings
from .indexing.index import Index
from .indexing.tenants import tenant_written
from .indexing.writer import Indexing, Progress
from .orm import syncing
from .orm.callers import attach, connection_within, sessions_of
from .orm.queries import Queries
from .search.options import SearchOptions, TenantOption
from .stores.factory import StoreOptions
from .tenants import ForTenant
from .values import (
    ALL_TENANTS,
    BATCH_GENERATED,
    Failure,
    Generation,
    IndexReport,
    IndexStatus,
    Ref,
    ReindexReport,
    SearchResults,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.orm import Session

    from .embeddings.provider import EmbeddingProvider
    from .embeddings.service import Listener
    from .reindex.request import ReindexOptions

T = TypeVar("T")


class SearchEngine(Coroutines, VerbGroups):
    """Hybrid search in the database of `engine`. For an asynchronous one (aiosqlite, psycopg) the work that is not a
    session's is done on connections that it opens for threads, in a second pool of the same size.

    `embedding_provider` is None (keywords only), a name or a provider object. A name serves a new index; an index that
    has embeddings names its own model, and an engine opened by name follows it.
    `on_provider_error` is what a writing call does while the provider is down: "defer" stores the keywords and leaves
    embeddings pending for `sync`, "raise" stores nothing and raises ProviderUnavailable or ProviderRefused.

    `cache` keeps embeddings by text in `kdb_embedding_cache`, about `cache_limit` texts; None leaves that
    to the provider: those that cost money or time are cached.
    `indexing` is how sessions that it is attached to commit: "sync" with the embeddings, "deferred" leaves these to
    `kameleon embeddings worker`, "auto" does so where they take longer than `budget_s`. `session.info` may
    set another for one session, under "kameleon_indexing".

    `query_timeout` is how many seconds a search waits for its query's embedding before it answers by keywords; None
    leaves that to the provider: 3 seconds over the network, no limit for a local model. After a failure, searches do
    without such a provider for 5 seconds.

    Constructing it makes kameleon's tables where they are missing; `create_tables=False` leaves that to migrations.

    `options` are the database's own, `StoreOptions`. Safe to share between threads; all database work is done on the
    caller's.
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
        self.index = Index(
            engine,
            embedding_provider,
            on_provider_error=on_provider_error,
            cache=cache,
            cache_limit=cache_limit,
            indexing=indexing,
            budget_s=budget_s,
            query_timeout=query_timeout,
            **options,
        )
        self.index.prepare_schema(create_tables=create_tables)
        self._queries = self.index.part(Queries)

    @property
    def engine(self) -> Engine:
        """The engine that kameleon's own work goes through; beside an asynchronous one, its second pool."""
        return self.index.engine

    @property
    def namespace(self) -> str | None:
        """That of its tables, None for the default one."""
        return self.index.tables.names.namespace

    @property
    def provider(self) -> "str | EmbeddingProvider | None":
        """As it was given."""
        return self.index.services.provider

    def for_tenant(self, tenant: object) -> ForTenant:
        """The verbs that read and write, for one tenant's records alone."""
        return ForTenant(self, tenant)

    # sessions

    def attach(self, sessions: T, *, indexing: Indexing | None = None) -> T:
        """Index what sessions commit of classes declared `@searchable`, in their own transactions. Takes a
        sessionmaker, async_sessionmaker or scoped_session and returns it; takes a Session class and returns one derived
        from it. `indexing` replaces the engine's own in these sessions."""
        return attach(self.index, sessions, indexing)

    def flush(self, session: "Session") -> None:
        """Flush an attached session and write its index rows now, inside its transaction: searches with its connection
        see them before it commits."""
        if hasattr(session, "sync_session"):
            raise InvalidInput("an AsyncSession is for coroutines: await aflush(session)")
        session.flush()
        sessions_of(self.index).write(session)

    def track(self, cls: type) -> None:
        """Put triggers on a class's tables, so that rows which no session writes (Core, raw SQL, another program) are
        marked, for `sync` or a worker to index. Raises StorageError where the role may not."""
        sessions_of(self.index).tracking.track(cls)

    def untrack(self, cls: type) -> None:
        """Drop the triggers, and the marks that are left."""
        sessions_of(self.index).tracking.untrack(cls)

    # writing

    def index_record(
        self,
        entity: str,
        id: str | int,
        content: str,
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> IndexReport:
        """Index one record's text, replacing what was there; as `index_records_batch`."""
        return self.index_records_batch([(entity, id, content)], tenant=tenant, connection=connection, session=session)

    def index_records_batch(
        self,
        records: Iterable[tuple[str, str | int, str]],
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
        progress: Progress | None = None,
        embeddings: Iterable[Any] | None = None,
    ) -> IndexReport:
        """Index (entity, id, text) records in one transaction, with one call of the embedding service for all.
        `tenant`, a text, a whole number, a UUID or an Enum with such a value, is that of all of them; their keys are
        its own. Raises TenantRequired without one for an entity that has tenants, of which "" is those without.
        A record whose text is unchanged costs neither an embedding nor a write; of two with one key the last wins.
        `connection` or `session` writes inside the caller's transaction and commits nothing; without them the call
        commits its own, begun after embedding. With an attached session that is done when it commits, together with
        all else that it changed; the report is empty then. `progress(done, total)` counts records. Raises InvalidRecord
        before anything is written.

        `embeddings` are the caller's own, one a record: no provider is called, and of None the record is left pending.
        They are written at once, in an attached session too.
        """
        records = list(records)
        wanted = entries(records)
        if not wanted:
            return IndexReport()
        connection = connection_within(self.index, connection, session, "aindex_records_batch")
        name = tenant_written(self.index, (entry.ref.entity for entry in wanted), tenant, connection)
        wanted = [entry._replace(ref=entry.ref._replace(tenant=name)) for entry in wanted] if name else wanted
        refs = [Ref(record[0], check_id(record[1]), name) for record in records]
        given = given_embeddings(refs, embeddings)
        attached = session is not None and given is None
        if attached and (changes := sessions_of(self.index).changes_of(session)) is not None:
            for entry in wanted:
                changes.upsert(entry.ref, entry.content)
            return IndexReport()
        report = self.index.write(wanted, connection, progress, given)
        if progress:
            progress(len(wanted), len(wanted))
        return report

    def delete_record(
        self,
        entity: str,
        id: str | int,
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> bool:
        """Delete a record from the index; False if it was not there. With an attached `session` that is done when it
        commits, and the answer is True."""
        return self.delete_records([(entity, id)], tenant=tenant, connection=connection, session=session) == 1

    def delete_records(
        self,
        records: Iterable[tuple[str, str | int]],
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Delete a tenant's (entity, id) records from the index in one transaction; returns how many were there. With
        an attached `session` that is done when it commits, and they are counted as given. Raises TenantRequired as
        `index_records_batch`."""
        found = {(check_entity(entity), check_id(id_)) for entity, id_ in records}
        if not found:
            return 0
        connection = connection_within(self.index, connection, session, "adelete_records")
        name = tenant_written(self.index, (entity for entity, _ in found), tenant, connection)
        refs = sorted(Ref(*key, name) for key in found)
        if session is not None and (changes := sessions_of(self.index).changes_of(session)) is not None:
            for ref in refs:
                changes.delete(ref)
            return len(refs)
        return self.index.delete(refs, connection)

    def sync(
        self,
        *,
        batch_size: int = 1000,
        retry_failed: bool = False,
        tenant: object = ALL_TENANTS,
        progress: Progress | None = None,
        only_marked: bool = False,
    ) -> IndexReport:
        """Index again the rows of classes imported by this process whose declarations were changed since they were
        indexed; then rows that triggers marked, those that workers have claimed and not finished last, and rows of
        these classes which are not in the index; then embed what is pending, `batch_size` records a transaction, newest
        text wins; stops at an outage. At the end PostgreSQL's vector index is built, if it is missing and the
        embeddings are many. `retry_failed` also tries again what the provider refused. With `tenant`, one or several,
        only what is pending of their records is embedded, and no class is indexed again; with `only_marked`, only the
        rows that triggers marked are indexed. `progress(done, total)` counts records.
        """
        return syncing.sync(
            self.index,
            batch_size,
            retry_failed=retry_failed,
            tenants=check_tenants(tenant),
            progress=progress,
            only_marked=only_marked,
        )

    def reindex(self, *entities: object, **options: "Unpack[ReindexOptions]") -> ReindexReport:
        """Make the index's embeddings again, with another model or the same, while search and writing go on.

        `options` are `ReindexOptions`: the target model, what is embedded, and when to stop. A run that was killed or
        stopped resumes when it is run again. Raises ReindexRunning while another one runs.
        """
        from .reindex.request import Request

        return self.reindexing.run(Request(self._queries.names(entities), **options))

    # reading

    def search(
        self,
        query: str = "",
        *,
        entity: object = None,
        entities: Iterable[object] | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """The best records for a query, best first, scores 0..1 relative to the best there could be in each leg; for an
        empty query all records, by entity and id.

        Any string is a query; `"exact phrase"`, `-word`, `prefix*` and `field:word` are operators. `entity` is a name
        or a mapped class, or a list of them, as `entities` is; of none nothing is found. `options` are `SearchOptions`.
        `connection` or `session` searches in the caller's transaction, what it has written included.

        What is pinned comes first; equal scores are ordered by (entity, id). Writes nothing. Raises InvalidInput and
        its kind for bad arguments; with mode="vector" also NoProvider, ModelMismatch, ProviderUnavailable, where hybrid
        answers by keywords alone and reports it in `plan.note`."""
        connection = connection_within(self.index, connection, session, "asearch")
        return self._queries.search(query, entity, entities, connection, session, **options)

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
        connection = connection_within(self.index, connection, session, "asimilar")
        return self._queries.similar(entity, id, entities, connection, session, **options)

    def suggest(
        self,
        text: str,
        *,
        entity: object = None,
        entities: Iterable[object] | None = None,
        limit: int = 10,
        connection: Connection | None = None,
        session: "Session | None" = None,
        **options: Unpack[TenantOption],
    ) -> list[str]:
        """What a text may become: its last word completed by words of the index, those in most records first. Any
        string will do; nothing is suggested after a space. `entity`, `entities` and `tenant` as in `search`."""
        connection = connection_within(self.index, connection, session, "asuggest")
        return self._queries.suggest(text, entity, entities, connection, limit, **options)

    def select(
        self,
        cls: type[T],
        query: str = "",
        *,
        connection: Connection | None = None,
        session: "Session | None" = None,
        **options: Unpack[SearchOptions],
    ) -> Select[tuple[T]]:
        """The hits as a SELECT of a mapped class's objects, best first, to be run by any session of the database. The
        search is done now, the statement names its hits. Joins and loader options go on it as on any; a condition added
        to it narrows the hits, `where=` here finds `limit` that meet it."""
        connection = connection_within(self.index, connection, session, "aselect")
        return self._queries.select(cls, query, connection, **options)

    def get_status(self, entity: str | None = None, *, tenant: object = ALL_TENANTS) -> list[IndexStatus]:
        """One IndexStatus an entity that is in the index, by name, of one tenant's records, of several or of all;
        `pending` and `failed` are 0 without a provider."""
        return syncing.status(self.index, entity, check_tenants(tenant))

    def failures(
        self,
        *,
        tenant: object = ALL_TENANTS,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> list[Failure]:
        """The records that the provider refused, by entity, id and tenant."""
        connection = connection_within(self.index, connection, session, "afailures")
        return self.index.failures(connection, check_tenants(tenant))

    def generations(self) -> list[Generation]:
        """The models that have embeddings in this index, oldest first."""
        return self.index.generations()

    def on(self, event: str, listener: "Listener") -> None:
        """Call `listener(event, figures)` after each batch of embeddings. Known: embedding.batch_generated, with
        total_count, cache_hits, api_calls, processing_time_ms, avg_latency_ms."""
        if event != BATCH_GENERATED:
            raise InvalidInput(f"unknown event {seen(event)}. Known: {BATCH_GENERATED}")
        self.index.services.listeners.append(listener)

    # closing

    def close(self) -> None:
        """Close the connections that are kameleon's own: those opened beside an asynchronous engine's. The engine that
        it was given is left as it is. Neither this SearchEngine nor what was made with it is of use afterwards."""
        self.index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a SearchEngine is neither pickled nor copied, for it holds a database engine: give the other process the "
            "database's URL and the provider, and make one there"
        )
