"""What operators need of an index beside its everyday verbs, `search.admin` and `search.cache`, and the groups of verbs
of a SearchEngine. Imports `values`, `errors`, `content`, `stores`, `indexing`, `search`, `orm`, `reindex`, `synonyms`,
`query_rules`, `judgements`, `existing_tables` and `tenants`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from sqlalchemy import Connection

from . import tenants
from .content import check_entity, check_id, check_tenant
from .errors import InvalidInput, NoProvider
from .indexing import caching
from .indexing.index import Index
from .indexing.purging import PurgeReport, purge
from .indexing.writer import Progress
from .judgements import Judgements
from .orm.callers import connection_within, on_a_thread
from .orm.queries import Queries
from .query_rules import QueryRules
from .search.checks import check_weight
from .search.options import TenantOption
from .search.weighting import Weighting, check_weighting
from .stores.catalog import active
from .stores.values import State
from .synonyms import Synonyms
from .tenants import ImportReport, one_tenant
from .values import CacheStatus, Generation, IndexReport, Ref, Sizes, TenantStatus

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from .content import SearchFields
    from .existing_tables import ExistingTables, TableOptions
    from .reindex.generations import Reindexing
    from .search.retrieval import Legs


class Administration:
    def __init__(self, index: Index) -> None:
        self._index = index

    def index_vectors(self) -> bool:
        """Build the approximate vector index where that is worth it and not done yet: PostgreSQL's HNSW, from 10,000
        embeddings on. True if it did. Reading and writing go on meanwhile."""
        return self._index.index_vectors()

    def index_class(self, cls: object, *, batch_size: int = 1000, progress: Progress | None = None) -> IndexReport:
        """Index all rows of a mapped class, or of the entity of that name, again as they and their declaration are now,
        `batch_size` a transaction. What is as it was is not written, nothing is embedded whose text is as it was, and a
        run that was interrupted is completed by another. `sync` does it for each class whose declaration was changed;
        what `content=` or `when=` do otherwise than before it cannot see. `progress(done, total)` counts rows. Raises
        InvalidInput for a class that is not searchable or has no table here."""
        from .orm.redefined import Redefined  # SQLAlchemy's ORM loads with it

        classes = self._index.part(Redefined)
        return classes.index(classes.named(cls), batch_size, progress)

    def purge(self) -> PurgeReport:
        """Take out of the keyword index and the embedding cache what is left of records that were deleted or changed.
        Reading and writing go on meanwhile. A worker does so once a day."""
        return purge(self._index)

    def vector_index(self, generation: Generation) -> str:
        """How a generation's vectors are searched: `exact`, `hnsw`, or what keeps `hnsw` from being used."""
        return self._index.vector_index(generation)

    def sizes(self) -> Sizes:
        """How many bytes the database has, and each of kameleon's tables where the database counts them."""
        with self._index.reading() as conn:
            return self._index.store.health.sizes(conn)

    def tenants(self, limit: int = 100) -> list[TenantStatus]:
        """The tenants that have most records, with how many; at most `limit`."""
        return tenants.listed(self._index, limit)

    def distribute(self, by: Literal["record_id", "tenant"] = "record_id") -> list[str]:
        """Distribute the tables over a Citus cluster, rows and all, by record id or by tenant, whose queries one server
        answers; returns those that were not yet. Writers wait meanwhile. Raises StorageError where there is no
        Citus."""
        with self._index.transaction() as conn:
            return self._index.store.schema.distribute(conn, self._index.catalog.generations(conn), by)

    def protect(self, setting: str = "app.tenant", workers: Iterable[str] = ()) -> list[str]:
        """Put policies of row-level security on every table of the index that has a tenant; returns the tables. A role
        then reads and writes the tenant that `setting` names in its transaction, and reads what has no tenant; the
        roles of `workers` have all. Replaces the policies of before. Raises StorageError on SQLite."""
        names = list(workers)
        with self._index.transaction() as conn:
            return self._index.store.policies.protect(conn, setting, names)

    def unprotect(self) -> list[str]:
        """Take the policies off again; returns the tables that had them."""
        with self._index.transaction() as conn:
            return self._index.store.policies.unprotect(conn)

    def set_weight(
        self,
        weight: float,
        generation: Generation | None = None,
        *,
        weighting: "Weighting | Mapping[str, Any] | None" = None,
    ) -> Generation:
        """Let the vector count for `weight` (0..1) against the keywords in every search from here on, or for what a
        `weighting` makes of a query, as `kameleon.evaluation.evaluate` fits it; without one the weight is that of all
        queries again. Kept with the generation, the active one if none is given, and by its model's reindex. Raises
        NoProvider where there is none, InvalidInput for one of another index."""
        weight = check_weight(weight)
        fitted = None if weighting is None else check_weighting(weighting).as_document()
        with self._index.transaction() as conn:
            generations = self._index.catalog.generations(conn)
            generation = generation or active(generations)
            if generation is None:
                raise NoProvider("the index has no embeddings, so there is no weight to keep")
            if (generation.number, generation.model_name) not in {(g.number, g.model_name) for g in generations}:
                has = ", ".join(f"{each.number} ({each.model_name})" for each in generations) or "none"
                raise InvalidInput(
                    f"generation {generation.number} ({generation.model_name}) is not of this index. It has: {has}"
                )
            self._index.catalog.set_weight(conn, generation.number, weight, fitted)
        return replace(generation, weight=weight, weighting=fitted)

    def legs(
        self,
        query: str,
        *,
        entities: Iterable[object] | None = None,
        limit: int = 10,
        **options: Unpack[TenantOption],
    ) -> "Legs":
        """What each leg finds for a query that `search` would answer with `limit` hits, before any fusion."""
        return self._index.part(Queries).legs(query, entities, limit, **options)

    def drop_tenant(self, tenant: object) -> int:
        """Delete every trace of a tenant, the database's statistics included; returns how many records it had. Files of
        the database keep what was deleted until VACUUM (SQLite) or VACUUM FULL (PostgreSQL)."""
        return tenants.drop(self._index, one_tenant(tenant))

    def export_tenant(self, tenant: object, file: str | PathLike[str]) -> int:
        """Write a tenant's contents, records, embeddings, synonyms, query rules and judgements to a file for
        `import_tenant`, of either database; returns how many records. Raises InvalidInput where it has none. Which
        words of mapped classes are in fields of more weight is read from their rows, so import these classes before."""
        return tenants.export(self._index, one_tenant(tenant), Path(file))

    def import_tenant(self, file: str | PathLike[str]) -> ImportReport:
        """Write the records of a file that `export_tenant` made, replacing those of the same keys, and its
        synonyms, query rules and judgements beside those that are there. Nothing is embedded: what has no embedding in
        the file, or one of another model, is pending."""
        return tenants.load(self._index, Path(file))

    def state(
        self,
        entity: str,
        id: str | int,
        *,
        tenant: object = "",
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> State | None:
        """What the index holds of a record: the hash of its content, and of the content that its embedding was made
        from, None without a provider. None if the record is not there."""
        ref = Ref(check_entity(entity), check_id(id), check_tenant(tenant))
        return self._index.state(ref, connection_within(self._index, connection, session, "astate"))

    async def astate(
        self, entity: str, id: str | int, *, tenant: object = "", session: "AsyncSession | None" = None
    ) -> State | None:
        """`state` for coroutines, in the transaction of a `session`."""
        return await on_a_thread(self._index, partial(self.state, entity, id, tenant=tenant), session)


class CacheAdministration:
    """The embedding cache, `kdb_embedding_cache`."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def status(self) -> list[CacheStatus]:
        """What it holds, by fingerprint."""
        with self._index.reading() as conn:
            return caching.status(conn, self._index.tables.embedding_cache)

    def clear(self, unused_since: datetime | None = None) -> int:
        """Empty it, or drop what was last used before a moment; returns how many texts that were."""
        with self._index.transaction() as conn:
            return caching.clear(conn, self._index.tables.embedding_cache, unused_since)


class VerbGroups:
    """The groups of verbs of a SearchEngine, whose index `index` is."""

    index: Index

    @property
    def reindexing(self) -> "Reindexing":
        """Generations: `plan`, `status`, `rollback`, `prune`, `cancel`."""
        from .reindex.generations import Reindexing

        return self.index.part(Reindexing)

    @property
    def cache(self) -> CacheAdministration:
        """The embedding cache: `status`, `clear`."""
        return self.index.part(CacheAdministration)

    @property
    def admin(self) -> Administration:
        """For operators: `set_weight`, `legs`, `state`, `astate`, `sizes`, `tenants`, `index_class`, `index_vectors`,
        `vector_index`, `purge`, `distribute`, `protect`, `unprotect`, `drop_tenant`, `export_tenant`,
        `import_tenant`."""
        return self.index.part(Administration)

    @property
    def tables(self) -> "ExistingTables":
        """Tables that no mapped class describes, as entities: `add`, `define`, `plan`, `get`, `list`, `status`,
        `refresh`, `remove`."""
        from .existing_tables import ExistingTables  # SQLAlchemy's ORM loads with it

        return self.index.part(ExistingTables)

    def table(self, table: str, text: "SearchFields | None" = None, **options: "Unpack[TableOptions]") -> type:
        """The entity of a table that no mapped class describes, as `tables.define` makes it; without `text` the
        one that was added under this name, by whichever program. Raises InvalidInput, UnknownEntity."""
        return self.tables.get(table) if text is None else self.tables.define(table, text, **options)

    @property
    def rules(self) -> QueryRules:
        """Pinned and hidden records for a query: `set`, `list`, `remove`, and the same for coroutines."""
        return self.index.part(QueryRules)

    @property
    def judgements(self) -> Judgements:
        """How relevant records are to a query: `set`, `load`, `remove`, `list`, and the same for coroutines."""
        return self.index.part(Judgements)

    @property
    def synonyms(self) -> Synonyms:
        """Words that find each other: `add`, `load`, `remove`, `list`, and the same for coroutines."""
        return self.index.part(Synonyms)
