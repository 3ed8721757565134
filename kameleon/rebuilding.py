"""Rebuilds an index of another schema version from its contents, in one transaction. Imports `values`, `errors`,
`content`, `database`, `embeddings`, `stores`, `keywords`, `indexing`, `records` and `engine`."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from sqlalchemy import Connection, Table, column, func, insert, literal, select, table, tuple_, update

from .content import content_hash, layout_of_text
from .database import synchronous
from .errors import KameleonError, SchemaMissing, StorageError
from .indexing.entries import make_entry
from .keywords.index import KeywordIndex
from .records.entities import record_entry
from .stores.catalog import Catalog, Entity, current, entity_of
from .stores.factory import StoreOptions, make_store
from .stores.old_tables import OldTables
from .stores.protocols import Store
from .stores.settings import CURATION, is_current, keyword_search_of
from .stores.tables import SCHEMA_VERSION, document, instant, key
from .stores.transactions import Transactions
from .stores.values import Entry
from .values import Generation, Noise, Ref

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


ROWS_A_PAGE = 1_000
"""Bounds the contents that are in memory at a time. Chosen, not measured."""
REWRITTEN = ("kdb_search", "kdb_entities")
TIMES = ("created_at", "updated_at")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """`records` of the index by entity, and of these by entity those whose weighted fields cannot be derived from the
    contents: they count once until `doctor` with their class indexes them again. `is_needed` is False for an
    index that this kameleon reads as it is, which is left alone."""

    from_version: str | None
    to_version: str
    records: Mapping[str, int] = field(default_factory=dict)
    unweighted: Mapping[str, int] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    embeddings_kept: int = 0
    pending: int = 0
    is_needed: bool = True
    is_done: bool = False


def rebuild(
    engine: "Engine | AsyncEngine",
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
    **options: Unpack[StoreOptions],
) -> RebuildReport:
    """Rebuild an index of another schema version from its contents: all in one transaction, or nothing.

    Records, entities, marks of tracked tables, other roles' rights and what the index holds of each record stay.
    Embeddings stay where their table has this version's columns; else they are pending, for `sync`. `options` are those
    of SearchEngine for this database; the language is the index's own, and so is `keyword_search` if it is not given:
    another one rebuilds an index of this version, too. Stop what writes to the index before: PostgreSQL locks its
    tables until the end. `dry_run` counts. Raises SchemaMissing, and StorageError for tables without contents.
    """
    opened = synchronous(engine)
    store = make_store(opened, options)
    transactions = Transactions(opened, store)
    if dry_run:
        with transactions.reading() as connection:
            return Rebuild(connection, store, options, progress).plan()
    report = transactions.committed(lambda connection: Rebuild(connection, store, options, progress).run())
    if report.is_done:
        KeywordIndex(store, opened).maintain_all()
    if report.embeddings_kept:
        from .engine import SearchEngine

        own: Any = {**options, "language": None, "keyword_search": None}
        SearchEngine(opened, "static", **own).admin.index_vectors()
    return report


class Rebuild:
    def __init__(self, connection: Connection, store: Store, options: StoreOptions, progress: Progress | None) -> None:
        self._connection = connection
        self._tables = store.tables
        self._names = self._tables.names
        self._old: OldTables = store.schema.old_tables(connection)
        self._settings = self._old_settings()
        language = options.get("language") or self._settings.get("language")
        keyword_search = options.get("keyword_search") or keyword_search_of(self._settings)
        own: dict[str, Any] = {**options, "language": language, "keyword_search": keyword_search}
        self._store = make_store(connection.engine, own)
        self._catalog = Catalog(self._store)
        self._keywords = KeywordIndex(self._store, connection.engine)
        self._progress = progress or (lambda _done, _total: None)
        self._unweighted: Counter[str] = Counter()

    def plan(self) -> RebuildReport:
        """Count what is to be rebuilt."""
        report = RebuildReport(self._settings.get("schema_version"), str(SCHEMA_VERSION))
        if self._is_as_wanted and not self._store.health.keyword_faults(self._connection):
            return replace(report, is_needed=False)
        self._check()
        entity = column("entity_name", key)
        counted = select(entity, func.count()).select_from(self._old_table(self._names("kdb_search"))).group_by(entity)
        return replace(report, records={row[0]: row[1] for row in self._connection.execute(counted)})

    def run(self) -> RebuildReport:
        self._old.lock()
        report = self.plan()
        if not report.is_needed:
            return report
        wanted, embeddings = (*self._restored, *map(self._names, REWRITTEN)), self._names("kdb_embedding_g")
        kept = [name for name in self._old.columns if name in wanted or name.startswith(embeddings)]
        self._old.set_aside(kept)
        has_models = self._tables.generations.name in kept
        self._create(with_vectors=has_models)
        self._restore(kept)
        self._write(sum(report.records.values()))
        classes = self._tables.classes
        self._connection.execute(classes.delete().where(classes.c.entity_name.in_(list(self._unweighted))))
        models = self._restore_embeddings() if has_models else []
        embedded, pending = self._count(models)
        self._old.drop_kept(kept)
        return replace(
            report,
            unweighted=dict(self._unweighted),
            models=tuple(model.model_name for model in models),
            embeddings_kept=embedded,
            pending=pending,
            is_done=True,
        )

    @property
    def _is_as_wanted(self) -> bool:
        return is_current(self._settings) and keyword_search_of(self._settings) == self._store.settings.keyword_search

    # the old tables

    def _old_table(self, name: str) -> Any:
        """An old table, where the index has its tables."""
        return table(name, schema=self._tables.metadata.schema)

    def _old_settings(self) -> dict[str, str]:
        if (search := self._names("kdb_search")) not in self._old.columns:
            raise SchemaMissing(f"this database has no index to rebuild: it has no table {search}")
        if not {"key", "value"} <= set(self._old.columns.get(self._tables.meta.name, ())):
            return {}
        rows: Any = self._connection.execute(
            select(column("key"), column("value")).select_from(self._old_table(self._tables.meta.name))
        )
        return {row.key: row.value for row in rows}

    def _check(self) -> None:
        """Raises StorageError where contents or records could not be read."""
        for table_name, wanted in (
            ("kdb_search", {"entity_name", "record_id", "content"}),
            ("kdb_entities", {"name", "definition"}),
            ("kdb_records", {"entity_name", "id", "data"}),
        ):
            name = self._names(table_name)
            missing = sorted(wanted.difference(self._old.columns.get(name, wanted)))
            if missing:
                raise StorageError(
                    f"this index cannot be rebuilt: {name} has no column {', '.join(missing)}. It is left as it was; "
                    "the kameleon that made it reads it"
                )

    @property
    def _restored(self) -> dict[str, Table]:
        own = self._tables
        of_searches = own.synonyms, own.query_rules, own.judgements
        of_records = own.records, own.generations, own.embedding_cache, own.queue, own.dirty, own.tenanted
        return {made.name: made for made in (*of_records, own.classes, own.existing_tables, *of_searches)}

    # the new tables

    def _create(self, *, with_vectors: bool) -> None:
        self._store.schema.create(self._connection, with_vectors=with_vectors)
        self._old.grant_again()
        meta = self._tables.meta
        version = self._settings.get(CURATION, "")
        self._connection.execute(meta.update().where(meta.c.key == CURATION).values(value=version))
        tracked = [{"key": k, "value": v} for k, v in self._settings.items() if k.startswith("tracked:")]
        if tracked:
            self._connection.execute(meta.insert(), tracked)

    def _restore(self, kept: Sequence[str]) -> None:
        for name, made in self._restored.items():
            if name in kept:
                self._copy(made, self._old.columns[name])
        if self._tables.entities.name in kept:
            declared = select(column("name", key), column("definition", document))
            declared = declared.select_from(table(self._names.kept(self._tables.entities.name)))
            for name, definition in self._connection.execute(declared).all():
                self._catalog.write_entity(self._connection, entity_of(name, definition), is_new=True)
            self._catalog.index_fields(self._connection)

    def _copy(self, made: Table, old: Sequence[str]) -> None:
        """Copy the columns that both have; a table without a column that this version needs is left empty."""
        columns = [one for one in made.columns if one.identity is None]
        now = datetime.now(UTC)
        added: dict[str, Any] = {**dict.fromkeys(TIMES, literal(now, instant)), "tenant": literal("", key)}
        absent = [one for one in columns if one.name not in old and not one.nullable and one.name not in added]
        if absent:
            return
        values = {
            one.name: column(one.name) if one.name in old else added[one.name]
            for one in columns
            if one.name in old or one.name in added
        }
        rows = select(*values.values()).select_from(table(self._names.kept(made.name)))
        self._connection.execute(insert(made).from_select(list(values), rows))

    def _write(self, total: int) -> None:
        entities = self._catalog.entities(self._connection)
        done = 0
        for rows in self._pages():
            entries = self._entries(entities, rows)
            written = self._store.writes.upsert(self._connection, entries, [], datetime.now(UTC))
            self._keywords.write(self._connection, entries, written, self._keywords.analysed(entries))
            done += len(rows)
            self._progress(done, total)

    def _pages(self) -> Iterator[Sequence[Any]]:
        there = self._old.columns[self._names("kdb_search")]
        keys = [column(name, key) for name in ("tenant", "entity_name", "record_id") if name in there]
        columns = [*keys, *(column(name) for name in ("content", "content_hash", "gaps") if name in there)]
        rows = (
            select(*columns)
            .select_from(table(self._names.kept(self._names("kdb_search"))))
            .order_by(*keys)
            .limit(ROWS_A_PAGE)
        )
        page = rows
        while found := self._connection.execute(page).all():
            yield found
            page = rows.where(tuple_(*keys) > tuple_(*map(literal, found[-1][: len(keys)])))

    def _entries(self, entities: Mapping[str, Entity], rows: Sequence[Any]) -> list[Entry]:
        """The records of the record store, rendered; of others the contents as they are."""
        records = self._tables.records.c
        stored: dict[Ref, Entry] = {}
        refs = list(map(ref_of, rows))
        for name in {ref.entity for ref in refs} & set(entities):
            own = [ref for ref in refs if ref.entity == name]
            data = select(records.tenant, records.id, records.data).where(
                records.tenant.in_({ref.tenant for ref in own}),
                records.entity_name == name,
                records.id.in_({ref.id for ref in own}),
            )
            for tenant, id_, value in self._connection.execute(data):
                stored[Ref(name, id_, tenant)] = record_entry(entities[name], id_, value, tenant)
        return [stored.get(ref) or self._as_it_was(ref, row) for ref, row in zip(refs, rows, strict=True)]

    def _as_it_was(self, ref: Ref, row: Any) -> Entry:
        hash_ = getattr(row, "content_hash", None)
        gaps, extent = layout_of_text(getattr(row, "gaps", ""))
        entry = make_entry(ref, row.content, gaps=gaps, extent=extent)
        if hash_ and hash_ not in (entry.content_hash, content_hash(row.content)):
            self._unweighted[row.entity_name] += 1
        return entry

    # embeddings

    def _restore_embeddings(self) -> list[Generation]:
        """The models of the index, each with a table. One whose provider names its model otherwise now has its
        embeddings made again."""
        made = []
        for generation in self._catalog.generations(self._connection):
            self._store.schema.add_generation(self._connection, generation)
            fingerprint, noise = described_again(generation)
            if noise is not None and generation.noise is None:
                self._catalog.set_noise(self._connection, generation.number, noise)
            if fingerprint == generation.fingerprint:
                self._old.keep_embeddings(generation)
            else:
                registry = self._tables.generations
                own = update(registry).where(registry.c.number == generation.number)
                self._connection.execute(own.values(fingerprint=fingerprint))
            made.append(generation)
        return made

    def _count(self, models: Sequence[Generation]) -> tuple[int, int]:
        """Records with an embedding of the index's model, and those without."""
        found = self._store.embeddings.status(self._connection, current(models), has_provider=bool(models))
        return sum(one.indexed - one.pending - one.failed for one in found), sum(one.pending for one in found)


def ref_of(row: Any) -> Ref:
    """The key of an old row, without a tenant where its table had none."""
    return Ref(row.entity_name, row.record_id, getattr(row, "tenant", ""))


def described_again(generation: Generation) -> tuple[str, Noise | None]:
    """The model's fingerprint and noise in this version; the index's where its provider cannot be made here."""
    if not generation.provider:
        return generation.fingerprint, None
    from .embeddings import get_provider

    try:
        provider = get_provider(generation.provider, **generation.options)
        return provider.fingerprint, provider.noise
    except KameleonError:
        return generation.fingerprint, None
