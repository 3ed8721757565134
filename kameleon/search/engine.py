"""`SearchEngine`, what users hold: each verb opens or joins a transaction and hands the work on to its room."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from sqlalchemy import ColumnElement, Connection, Engine, Select, select, text, true

from ..content import check_entity, check_id
from ..database import synchronous
from ..errors import (
    InvalidInput,
    NoProvider,
    Outdated,
    ProviderError,
    RecordMissing,
    seen,
)
from ..values import (
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
from . import caching
from .building import Building
from .catalog import Catalog, Entity, active, mismatch
from .filling import Filling
from .filters import parse_filter
from .learning import Learning
from .query import Query, SearchOptions, ask, check_text, check_weight, check_whole
from .retrieval import Embed, Legs, Retriever
from .services import AskedAhead, Services, nothing_stored
from .spelling import parted
from .store import Among, Entry, State, Store
from .stores import StoreOptions, make_store
from .syntax import may_name_field
from .transactions import Transactions
from .waiting import Patience, off_the_loop
from .writing import Ahead, Indexing, Plan, Progress, Writer, check_indexing, entries, flattened, make_entry

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.orm import Session

    from ..embeddings.provider import EmbeddingProvider
    from ..embeddings.service import EmbeddingService, Listener
    from ..listener import Sessions
    from ..mapping import Mapped
    from ..queue import Put
    from ..reindex_request import ReindexOptions
    from ..reindexing import Reindexing

ON_PROVIDER_ERROR = ("defer", "raise")
SIMILAR_CHARACTERS = 10_000

T = TypeVar("T")


class SearchEngine(Transactions):
    """Hybrid search in the database of `engine`. Of an asynchronous one (aiosqlite, psycopg) the engine's own work is
    done through a synchronous engine of the same URL.

    `embedding_provider` is None (keywords only), a name or a provider object. A name serves a new index; an index that
    has embeddings names its own model, and an engine opened by name follows it.

    `on_provider_error` says what a writing call does while the provider is down: "defer" stores the keywords and leaves
    embeddings pending for `sync`, "raise" stores nothing and raises ProviderUnavailable or ProviderRefused.

    `cache` keeps embeddings by text in `kdb_embedding_cache`, about `cache_limit` texts; None asks the provider
    whether that is worth it.

    `indexing` is how sessions that it is attached to commit: "sync" with the embeddings, "deferred" leaves these to
    `kameleon embeddings worker`, "auto" does so where they take longer than `budget_s`. `session.info` may say
    otherwise for one session, under "kameleon_indexing".

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
        **options: Unpack[StoreOptions],
    ) -> None:
        if on_provider_error not in ON_PROVIDER_ERROR:
            raise InvalidInput(
                f"unknown on_provider_error {on_provider_error!r}. Known: {', '.join(ON_PROVIDER_ERROR)}"
            )
        self.indexing = check_indexing(indexing)
        self.budget_s = budget_s
        self.patience = Patience()
        opened = synchronous(engine)
        super().__init__(opened, make_store(opened, options))
        self.tables = self._store.tables
        self.catalog = Catalog(self._store)
        self.services = Services(
            self,
            self._store,
            embedding_provider,
            is_caching=cache,
            cache_limit=cache_limit,
            raises=on_provider_error == "raise",
        )
        self._writer = Writer(self._store, self.catalog)
        self.building = Building(self, self._store, self.catalog, self._writer, self.services)
        self.learning = Learning(self, self._store)
        self.filling = Filling(self, self._store, self.catalog, self._writer, self.services)
        self._on_provider_error = on_provider_error
        self._prepare_schema(create_tables)

    # sessions

    @cached_property
    def reindexing(self) -> "Reindexing":
        """Generations: what `reindex` does not say itself (`rollback`, `prune`, `cancel`, `status`)."""
        from ..reindexing import Reindexing

        return Reindexing(self)

    @cached_property
    def sessions(self) -> "Sessions":
        """What hears of sessions. The ORM loads with its first use: a command does without."""
        from ..listener import Sessions

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
        self._store.set_triggers(connection, table, key, entities)

    def catch_up(self, limit: int = 1000) -> IndexReport | None:
        """Index up to `limit` rows that triggers marked, as they stand; None if none is marked. Warns of marks whose
        classes are not imported."""
        with self.reading() as conn:
            if conn.execute(select(self.tables.dirty.c.seq).limit(1)).first() is None:
                return None
            unknown = self.sessions.tracking.unknown(conn)
        if unknown:
            self.services.warn_once(
                f"rows of {', '.join(unknown)} are marked, and no class of that name is imported here"
            )
        return self.sessions.tracking.catch_up(limit)

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
        """Index one record's text, replacing what was there. With an attached `session` that is done when it commits,
        together with all else that it changed; the report is empty then."""
        if session is None:
            return self.index_records_batch([(entity, id, content)], connection=connection)
        (wanted,) = entries([(entity, id, content)])
        self.sessions.queue_of(session).put(wanted.ref, wanted.content)
        return IndexReport()

    def index_records_batch(
        self,
        records: Iterable[tuple[str, str | int, str]],
        *,
        connection: Connection | None = None,
        progress: Progress | None = None,
    ) -> IndexReport:
        """Index (entity, id, text) records in one transaction, with one call of the embedding service for all.

        A record whose text is unchanged costs neither an embedding nor a write; of two with one key the last wins.
        `connection` writes inside the caller's transaction and commits nothing; without it the call commits its own,
        begun after embedding. `progress(done, total)` counts records. Raises InvalidRecord before anything is written.
        """
        wanted = entries(records)
        if not wanted:
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
        is_async = connection is not None and connection.dialect.is_async
        on_a_thread = is_async or budget_s is not None
        cache = (
            ahead.cache if ahead and ahead.cache else self.services.cache(service, connection, on_a_thread=on_a_thread)
        )
        embed = partial(self._writer.embed, compared, progress=progress, cache=cache, ahead=ahead)
        waited = partial(self.patience.within, budget_s, embed)
        plan = off_the_loop(waited) if is_async else waited()
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
        is_async: bool,
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
            compare = partial(self._compare_ahead, known, connection)
            service, changed = off_the_loop(compare) if is_async and connection is None else compare()
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
        cache = self.services.cache(service, connection, on_a_thread=is_async or budget_s is not None)
        workers = max(1, service.workers // abreast)
        call = partial(service.embed_batch, texts, on_error="collect", cache=cache, workers=workers)
        embed = partial(self.patience.within, budget_s, call)
        made = off_the_loop(embed) if is_async else embed()
        if made is not None and made.outage is not None and self._on_provider_error == "raise":
            raise nothing_stored(made.outage) from made.outage
        return Ahead(service, made, cache, split)

    def batches_ahead(self, texts: int) -> int:
        """How many batches of so many texts to embed ahead at a time, on threads of their own: as many as the provider
        takes requests for, and two at least where it takes several, for one of them is being looked up. 0 where nothing
        is embedded, or no thread can look at the index while another writes."""
        if not self._store.has_reader():
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
        with self.reading(None if self._store.has_reader() else connection) as conn:
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
    ) -> IndexReport:
        """Bring the index to what the connection's transaction has changed, inside it."""
        wanted = [make_entry(ref, *put) for ref, put in puts.items()]
        is_deferred = indexing == "deferred" or (indexing == "auto" and ahead is not None and ahead.made is None)
        with self.transaction(connection) as conn:
            if drops:
                self._store.delete(conn, sorted(drops), self.catalog.generations(conn))
            if not wanted:
                return IndexReport()
            budget_s = self.budget_s if indexing == "auto" else None
            plan = self.plan(wanted, connection=conn, ahead=ahead, is_deferred=is_deferred, budget_s=budget_s)
            return self.apply(plan, conn)

    def caveat(self, connection: Connection) -> None:
        """Warns once of what savepoints on a session's connection do not hold."""
        if said := self._store.caveat(connection):
            self.services.warn_once(said)

    @property
    def can_hold_rows(self) -> bool:
        return self._store.can_hold_rows()

    def hold(self, connection: Connection, refs: Iterable[Ref]) -> None:
        """From here to the end of the transaction no other writes these records to the index: who reads their tables
        after that, and writes what they say, writes the newest."""
        with self._store.translating():
            self._store.hold(connection, sorted(refs))

    def take_turn(self, connection: Connection) -> None:
        """At the beginning of a transaction that reads before it writes: wait for SQLite's write lock and hold it to
        the end, so that no other writes in between. The model is loaded before. On PostgreSQL there is nothing to wait
        for."""
        self._check_connection(connection)
        with self._store.translating():
            self.wait_to_write(connection)

    def wait_to_write(self, connection: Connection) -> None:
        """The same before a statement of the application's, which hears the driver's own error."""
        if self._store.has_turn(connection):
            return
        if self.services.is_to_load and self._store.has_reader():
            off_the_loop(self._load) if connection.dialect.is_async else self._load()
        self._store.take_turn(connection)

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
        if session is not None:
            self.sessions.queue_of(session).drop(Ref(check_entity(entity), check_id(id)))
            return True
        return self.delete_records([(entity, id)], connection=connection) == 1

    def delete_records(self, records: Iterable[tuple[str, str | int]], *, connection: Connection | None = None) -> int:
        """Take (entity, id) records out of the index in one transaction; tells how many were there."""
        refs = sorted({Ref(check_entity(entity), check_id(id_)) for entity, id_ in records})
        if not refs:
            return 0

        def attempt() -> int:
            with self.transaction(connection) as conn:
                self._store.take_turn(conn)
                return self._store.delete(conn, refs, self.catalog.generations(conn))

        return self.retried(attempt, connection)

    def sync(
        self, *, batch_size: int = 1000, retry_failed: bool = False, progress: Progress | None = None
    ) -> IndexReport:
        """Index rows that triggers marked, then embed what is pending, `batch_size` records a transaction, newest text
        wins; stops at an outage. At the end PostgreSQL's vector index is built, if it is missing and the embeddings are
        many.

        `retry_failed` also tries again what the provider refused. `progress(done, total)` counts records.
        """
        report = IndexReport()
        while (caught := self.catch_up(batch_size)) is not None:
            report += replace(caught, unchanged=0)
        self.learning.learn(batch_size)
        filled = self.filling.fill(batch_size=batch_size, retry_failed=retry_failed, progress=progress)
        if not filled.outage:
            self.index_vectors()
        return report + filled

    def reindex(self, *entities: object, **options: "Unpack[ReindexOptions]") -> ReindexReport:
        """Make the index's embeddings anew, with another model or the same, while search and writing go on.

        The target is `provider` (a name or an object) with its `model` (a name or a folder) and `dimensions`; without
        any of them the engine's provider object, or a build that was interrupted, or the index's own model. If the
        index has that model, what is pending is embedded, of `entities` (names or mapped classes) alone if any are
        given; `force` embeds all of them anew. Else a generation is built beside the active one, `batch_size` records a
        transaction, and switched to; `drop_old` then drops the others, `in_place` drops them first, and search goes by
        keywords alone meanwhile.

        `gate`, an overlap@10 or a `kameleon.gate.Gate`, compares what both find before the switch and raises
        GateRefused. `max_minutes` and `max_cost` (at
        `price_per_million` tokens, or the provider's own price) end the run between two batches. `concurrent_index`
        builds PostgreSQL's vector index without making writers wait. `progress(phase, done, total)` counts records, of
        0 in a phase that has none to count.

        A run that was killed or stopped resumes when it is run again. Raises ReindexRunning while another one runs.
        """
        from ..reindex_request import Request

        return self.reindexing.run(Request(self.names(entities), **options))

    def names(self, entities: Iterable[object]) -> tuple[str, ...]:
        """Of entities by name or mapped class."""
        return tuple(name if isinstance(name, str) else self.sessions.searchable(name).entity for name in entities)  # type: ignore[arg-type]

    def index_vectors(self) -> bool:
        """Build the approximate vector index where that is worth it and not done yet: PostgreSQL's HNSW, from 10,000
        embeddings on. True if it did. Reading and writing go on meanwhile."""
        with self.reading() as conn:
            current = active(self.catalog.generations(conn))
        with self._store.translating():
            return current is not None and self._store.index_vectors(current)

    def vector_index(self, generation: Generation) -> str:
        """How a generation's vectors are searched: `exact`, `hnsw`, or what keeps `hnsw` from being used."""
        with self.reading() as conn:
            return self._store.vector_index(conn, generation)

    def distribute(self) -> list[str]:
        """Spread the tables over a Citus cluster by record id, rows and all; tells which were not yet. Writers wait
        meanwhile. Raises StorageError where there is no Citus."""
        with self.transaction() as conn:
            return self._store.distribute(conn, self.catalog.generations(conn))

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

        Equal scores are ordered by (entity, id). Writes nothing. Raises InvalidInput and its kind for bad arguments;
        with mode="vector" also NoProvider, ModelMismatch, ProviderUnavailable, where hybrid answers by keywords alone
        and says so in `plan.note`.
        """
        asked = self._asked(query, entity, entities, connection, **options)
        return self._answer(Retriever.search, asked, self.services.asking_ahead(asked, connection), connection)

    def similar(
        self,
        entity: object,
        id: str | int,
        *,
        entities: Iterable[object] | None = None,
        connection: Connection | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """The records most like one that is in the index, itself left out: by its words, and by its embedding as it is
        stored. Among its own entity's, or those of `entities`; `options` as in `search`. Raises RecordMissing."""
        (name,) = self.names([entity])
        ref = Ref(check_entity(name), check_id(id))
        with self.reading(connection) as conn:
            found = self._store.entries(conn, [ref])
        if not found:
            raise RecordMissing(f"{name} {ref.id!r:.80} is not in the index, so nothing can be similar to it")
        content = found[0].content[:SIMILAR_CHARACTERS]
        asked = self._asked(content, None, [entity] if entities is None else entities, connection, like=ref, **options)
        return self._answer(Retriever.search, asked, AskedAhead(self.services), connection)

    def _answer(
        self,
        way: Callable[[Retriever, Connection, Query], T],
        asked: Query,
        embed: Embed,
        connection: Connection | None = None,
    ) -> T:
        with self.visiting(connection) as conn:
            known, declared = self._catalog_for(conn, asked)
            service, note = (None, "") if asked.mode == "keyword" else self.services.asking(known, asked.mode)
            return way(Retriever(self._store, service, embed, known, declared, note), conn, asked)

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

    async def asearch(
        self,
        query: str,
        *,
        entity: object = None,
        entities: Iterable[object] | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """`search` for coroutines: on a thread, so that neither the model nor the database holds the event loop up."""
        return await asyncio.to_thread(partial(self.search, query, entity=entity, entities=entities, **options))

    def suggest(self, text: str, *, limit: int = 10, connection: Connection | None = None) -> list[str]:
        """What a text may become: its last word completed by words of the index, those in most records first. Any
        string will do; nothing is suggested after a space."""
        before, word = parted(check_text(text))
        check_whole("limit", limit, 1)
        if not word:
            return []
        with self.visiting(connection) as conn:
            self._store.prepare_search(conn)
            counts = partial(self._store.count_words, conn)
            return [before + whole for whole in self._store.vocabulary.completions(conn, word, counts, limit)]

    def select(
        self, cls: type[T], query: str, *, connection: Connection | None = None, **options: Unpack[SearchOptions]
    ) -> Select[tuple[T]]:
        """The hits as a SELECT of a mapped class's objects, best first, to be run by any session of the database.

        The search is done now, the statement names its hits. Joins and loader options go on it as on any; a condition
        added to it narrows the hits, `where=` here finds `limit` that meet it.
        """
        mapped = self.sessions.searchable(cls)
        hits = self.search(query, entity=cls, connection=connection, **options)
        return mapped.ranked(select(cls), [hit.id for hit in hits])

    async def aselect(self, cls: type[T], query: str, **options: Unpack[SearchOptions]) -> Select[tuple[T]]:
        """`select` for coroutines: the search is done on a thread."""
        return await asyncio.to_thread(partial(self.select, cls, query, **options))

    def _fields(self, query: str, names: Sequence[object], connection: Connection | None) -> Collection[str]:
        """Those that a query may name: of a mapped class that is asked alone, or of the record store's entities. Looked
        up before the query is embedded."""
        if not may_name_field(query):
            return ()
        if any(isinstance(name, type) for name in names):
            columns = self.sessions.class_fields(names)
            return columns.names if columns else ()
        with self.visiting(connection) as conn:
            declared = self.catalog.entities(conn)
        asked = [entity for name, entity in declared.items() if not names or name in names]
        return {name for entity in asked for name in entity.field_names}

    def legs(self, query: str, *, entities: Iterable[object] | None = None, limit: int = 10) -> Legs:
        """What each leg finds for a query that `search` would answer with `limit` hits, before any fusion."""
        asked = self._asked(query, None, entities or None, None, limit=limit)
        return self._answer(Retriever.legs, asked, self.services.asking_ahead(asked, None))

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
        from .criteria import compiled

        wanted = select(self._store.id_text(mapped.id_columns(cls))).select_from(cls).where(where)
        return compiled(wanted, self.engine)

    def _catalog_for(self, conn: Connection, asked: Query) -> tuple[list[Generation], dict[str, Entity]]:
        """What a query has to know of the index, with one statement at most."""
        if asked.reads_records:
            return self.catalog.read(conn)
        return [] if asked.mode == "keyword" else self.catalog.generations(conn), {}

    def get_status(self, entity: str | None = None) -> list[IndexStatus]:
        """One IndexStatus an entity that is in the index, by name; `pending` and `failed` are 0 without a provider."""
        with self.reading() as conn:
            known = self.catalog.generations(conn)
            generation = self.services.reported(known)
            found = self._store.status(conn, generation, has_provider=self.services.provider is not None)
        note = self.services.problem(known)
        return [replace(status, note=note) for status in found if entity in (None, status.entity)]

    def failures(self, *, connection: Connection | None = None) -> list[Failure]:
        """The records that the provider refused, by entity and id."""
        with self.reading(connection) as conn:
            generation = self.services.reported(self.catalog.generations(conn))
            return self._store.failures(conn, generation) if generation else []

    def state(self, entity: str, id: str | int, *, connection: Connection | None = None) -> State | None:
        """What the index holds of a record; None if it is not there. Without a provider nothing is told of
        embeddings."""
        ref = Ref(check_entity(entity), check_id(id))
        with self.reading(connection) as conn:
            generation = self.services.reported(self.catalog.generations(conn))
            return self._store.states(conn, [ref], generation).get(ref)

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
        sql, binds = self._store.filter_sql(parsed)
        return text(sql).bindparams(**binds)  # type: ignore[return-value]

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
        with self.reading() as conn:
            is_complete = self._store.check(conn, with_vectors=with_vectors)
        if create_tables and not is_complete:
            with self.transaction() as conn:
                self._store.create(conn, with_vectors=with_vectors)

    # the provider

    def on(self, event: str, listener: "Listener") -> None:
        """Call `listener(event, figures)` after each batch of embeddings. Known: embedding.batch_generated, with
        total_count, cache_hits, api_calls, processing_time_ms, avg_latency_ms."""
        if event != BATCH_GENERATED:
            raise InvalidInput(f"unknown event {seen(event)}. Known: {BATCH_GENERATED}")
        self.services.listeners.append(listener)
