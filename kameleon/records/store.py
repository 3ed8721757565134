"""The built-in record store: records as JSON, kept in the same transaction as their index. Imports `values`, `errors`,
`boosts`, `content`, `stores`, `indexing` and `orm`.

For those without tables of their own, and behind `kameleon data …`. A record's `id` is its key; its other keys are
fields. The searchable ones, in the entity's order, are the record's content.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy import Connection

from ..boosts import Boosts
from ..content import Content, SearchFields, bound_tenant, check_entity
from ..errors import InvalidInput
from ..indexing.ahead import batches_ahead, embed_ahead
from ..indexing.embedded import Ahead
from ..indexing.given import given_embeddings
from ..indexing.index import HasIndex, Index
from ..indexing.writer import Progress
from ..orm.callers import connection_within
from ..stores.catalog import Entity
from ..stores.refs import tenants_of
from ..values import Ref
from .administering import Administering
from .changing import Changing, checked_patch
from .coroutines import Coroutines
from .definitions import Definitions
from .entities import by_keyword_alone, record_entry, searchable_since, unsearched
from .loading import FilesLoading
from .reading import Reading
from .rows import OnConflict, check_on_conflict, checked_rows, resolve
from .stored import StoredRows
from .values import AlterReport as AlterReport
from .values import InsertReport as InsertReport
from .values import Record as Record

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class RecordStore(Coroutines, FilesLoading, Reading):
    """Records of declared entities in the database of a SearchEngine; of one tenant, those of a
    `search.for_tenant("t1")`.

    The records of an entity that has tenants are named by tenant and id. `tenant` is a text, a whole number, a UUID or
    an Enum with such a value; without it a call for such an entity raises TenantRequired. "" are records without one.
    """

    def __init__(self, search: HasIndex) -> None:
        if not isinstance(getattr(search, "index", None), Index):
            raise InvalidInput(f"RecordStore takes a SearchEngine, or that of a tenant, not {type(search).__name__}")
        self.search: Any = search
        self._bound: str | None = getattr(search, "tenant", None)
        self.index = search.index
        self._rows = StoredRows(self.index)
        self._definitions = Definitions(self.index, may_create=self._bound is None)
        self._changing = Changing(self.index, self._definitions, self._bound)

    # entities

    def create_entity(
        self,
        name: str,
        *,
        search: SearchFields = (),
        fields: Mapping[str, str] | None = None,
        tenant_field: str | None = None,
        boost: Boosts = (),
        filters: str = "",
        exist_ok: bool = False,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Entity:
        """Declare an entity: `search` names its searchable fields, as a mapping with weights (whole numbers from 1 to
        10) or a `kameleon.Field` of options; `fields` maps a name to a type that is checked. `tenant_field` divides its
        records: the field whose value is a record's tenant, or "" where every call gives `tenant`. `boost` is that of
        every search of it that gives none, of fields that are declared. `filters` is an object of the records in which
        the names of `where`, `sort`, `facets`, `limit_by` and `boost` begin: `fields={"metadata.year": "integer"}`
        declares one of `filters="metadata"`, `year` names it, and `.title` is the record's own title. Raises
        EntityExists; with `exist_ok` only for an entity that is declared otherwise, whatever fields its records have
        added."""
        within = connection_within(self.index, connection, session, "acreate_entity")
        create = self._administering.create
        return create(name, search, fields or {}, tenant_field, boost, filters, within, exist_ok=exist_ok)

    def alter_entity(
        self,
        name: str,
        *,
        search: SearchFields = (),
        unsearch: Iterable[str] = (),
        fields: Mapping[str, str] | None = None,
        batch_size: int = 1000,
        progress: Progress | None = None,
        boost: Boosts | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> AlterReport:
        """Make the fields of `search` searchable, or searchable in another way, and those of `unsearch` not; the others
        stay as they are. Then index the entity's records again, `batch_size` a transaction, or all in that of
        `connection` or `session`: nothing is embedded whose text is as it was, and a run that was interrupted is
        completed by another. `fields` adds or changes types, which
        are checked from then on. `boost` replaces its boosts, [] removes them; these have effect at once, and by
        themselves index nothing. `progress(done, total)` counts records."""
        within = connection_within(self.index, connection, session, "aalter_entity")
        return self._administering.alter(name, search, unsearch, fields or {}, batch_size, progress, boost, within)

    def rename_entity(
        self,
        name: str,
        new_name: str,
        *,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Entity:
        """Rename an entity in one transaction, its records, index and embeddings with it."""
        within = connection_within(self.index, connection, session, "arename_entity")
        return self._administering.rename(name, new_name, within)

    def drop_entity(self, name: str, *, connection: Connection | None = None, session: "Session | None" = None) -> int:
        """Delete an entity, its records and their index in one transaction; returns how many records it had."""
        within = connection_within(self.index, connection, session, "adrop_entity")
        return self._administering.drop(name, within)

    @property
    def _administering(self) -> Administering:
        """Raises InvalidInput in a store that is for one tenant."""
        if self._bound is not None:
            raise InvalidInput("an entity is all tenants': use RecordStore(search), not that of one tenant")
        return self.index.part(Administering)

    def entities(self, *, connection: Connection | None = None, session: "Session | None" = None) -> list[Entity]:
        within = connection_within(self.index, connection, session, "aentities")
        return list(self._definitions.all(within).values())

    def entity(self, name: str, *, connection: Connection | None = None, session: "Session | None" = None) -> Entity:
        """Raises UnknownEntity."""
        return self._definitions.of(name, connection_within(self.index, connection, session, "aentity"))

    # records

    def insert(
        self,
        entity: str,
        records: Iterable[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        create: bool = True,
        tenant: object = None,
        tenant_field: str | None = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
        ahead: Ahead | None = None,
        embeddings: Iterable[Any] | None = None,
    ) -> InsertReport:
        """Store records and index them, in one transaction and with one call of the embedding service.

        A record without `id` gets a random one. Where an id is taken, `on_conflict` "error" raises RecordExists,
        "replace" stores the new record, "merge" sets its fields and keeps the others, "ignore" leaves the stored one. A
        missing entity is made from these records, unless `create=False` (UnknownEntity). `connection` or `session`
        stores them inside the caller's transaction. No records declare nothing. `ahead` is what `embed_ahead` brought.
        `embeddings` are the caller's own, one a record: no provider is called, and of None the record stays pending.
        Raises InvalidRecord with the record's position before anything is written.

        `tenant` is that of all records, and is not needed where a field of theirs names it: one that lacks that field
        is refused, and of one in which it is null the tenant is "". `tenant_field` names that field of an entity that
        is made.
        """
        check_on_conflict(on_conflict)
        check_entity(entity)
        records = list(records)
        connection = connection_within(self.index, connection, session, "ainsert")
        tenant = bound_tenant(self._bound, tenant)
        given = list(embeddings) if isinstance(embeddings, Iterator) else embeddings
        if not records:
            given_embeddings([], given)
            return InsertReport()
        options: dict[str, Any] = {"create": create, "tenant": tenant, "tenant_field": tenant_field}
        define = partial(self._definitions.with_records, entity, records, **options, connection=connection)
        own: dict[str, Any] = {"tenant": tenant, "ahead": ahead, "embeddings": given, "connection": connection}
        report, grown = self.index.retried(partial(self._insert, define, records, on_conflict, **own), connection)
        self.index.maintain_keywords(connection)
        return (
            report if grown is None else replace(report, index=report.index + self._changing.index(grown, connection))
        )

    def _insert(
        self,
        define: Callable[[], tuple[Entity | None, Entity]],
        records: Sequence[Mapping[str, Any]],
        on_conflict: OnConflict,
        *,
        tenant: object,
        ahead: Ahead | None,
        embeddings: Iterable[Any] | None,
        connection: Connection | None,
    ) -> tuple[InsertReport, Entity | None]:
        """What was done, and the entity if the records before are to be indexed by it, too. Raises Outdated where
        another writer changed the entity or took an id since it was read."""
        before, definition = define()
        entity = definition.name
        rows = checked_rows(definition, records, tenant)
        taken = self._rows.taken(entity, rows, connection, on_conflict)
        chosen = resolve(definition, rows, taken, on_conflict)
        entries = [record_entry(definition, row.id, row.data, row.tenant) for row in chosen.values()]
        refs = [Ref(entity, row.id, row.tenant) for row in rows]
        given = given_embeddings(refs, embeddings, first_wins=on_conflict == "ignore")
        plan = self.index.plan(entries, connection=connection, ahead=ahead, given=given)
        with self.index.transaction(connection, tenants_of(entry.ref for entry in entries)) as conn:
            is_new = self._definitions.declare(conn, before, definition)
            self._rows.check_taken(conn, entity, rows, taken, on_conflict)
            self._rows.write(conn, entity, chosen.values(), taken)
            self.index.check_current(plan, conn)
            index = self.index.apply(plan, conn)
        updated = sum(key in taken for key in chosen)
        report = InsertReport(
            len(chosen) - updated,
            updated,
            len(rows) - len(chosen),
            index,
            definition if is_new else None,
            unsearched(definition, records),
            by_keyword_alone(definition, records),
            tuple(row.id for row in rows),
        )
        return report, searchable_since(before, definition)

    def embed_ahead(
        self,
        entity: Entity,
        records: Sequence[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        tenant: object = None,
        callers: int = 1,
    ) -> Ahead | None:
        """Embed what a later `insert` of these records will need, on any thread, while another batch is written.

        `entity` is what `definition` gives for the first records. `callers` such calls at a time share the provider's
        concurrency. What `insert` will refuse or leave is not embedded; what changes in between, it embeds itself.
        Raises ProviderError as `insert` does.
        """
        tenant = bound_tenant(self._bound, tenant)
        rows = checked_rows(self._definitions.grown(entity, records), records, tenant, leaves_invalid=True)
        taken = self._rows.taken(entity.name, rows, None, on_conflict)
        chosen = resolve(entity, rows, taken, "ignore" if on_conflict == "error" else on_conflict)
        entries = [record_entry(entity, row.id, row.data, row.tenant) for row in chosen.values()]
        contents = {e.ref: Content(e.content, e.emphasis, e.gaps, e.ref.tenant, e.extent) for e in entries if e.content}
        return embed_ahead(self.index, contents, [], connection=None, indexing="sync", callers=callers)

    def batches_ahead(self, batch_size: int) -> int:
        """How many batches of so many records `embed_ahead` is to be called for at a time, on threads; 0 where that
        gains nothing."""
        return batches_ahead(self.index, batch_size)

    @overload
    def update(
        self,
        entity: str,
        id: str | int,
        changes: Mapping[str, Any],
        *,
        where: None = None,
        replace_all: bool = False,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Record: ...
    @overload
    def update(
        self,
        entity: str,
        id: None = None,
        changes: Mapping[str, Any] = ...,
        *,
        where: Mapping[str, Any],
        replace_all: bool = False,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int: ...
    def update(
        self,
        entity: str,
        id: str | int | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        replace_all: bool = False,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Record | int:
        """Set the fields of `changes`, keeping the others unless `replace_all`, of the record with an id or of those
        that match `where`; {} is all. What that changes of a content is indexed. Returns the record, or how many
        changed.

        Records of `where` are changed a thousand a transaction, or all in that of `connection` or `session`; their
        `tenant` is one, several or all. A record whose field for the tenant is set to another one moves there;
        RecordExists where that has its id.
        """
        if (id is None) == (where is None):
            raise InvalidInput("name the records to update by an id or by where=, and not by both; where={} is all")
        connection = connection_within(self.index, connection, session, "aupdate")
        given = bound_tenant(self._bound, tenant)
        if where is not None:
            return self._changing.update(entity, where, changes, given, connection, replaces=replace_all)
        assert id is not None  # noqa: S101 - or where is given
        patch = checked_patch(changes, id)

        def attempt() -> tuple[str, Entity | None]:
            definition = self.entity(entity, connection=connection)
            before = self.get(entity, id, tenant=tenant, connection=connection)
            rows, grown = self._changing.change(definition, [before], patch, connection, replaces=replace_all)
            return rows[0].tenant if rows else before.tenant, grown

        now, grown = self.index.retried(attempt, connection)
        if grown is not None:
            self._changing.index(grown, connection)
        return self.get(entity, id, tenant=None if self._bound is not None else now, connection=connection)

    def delete(
        self,
        entity: str,
        ids: Iterable[str | int] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Delete records, those of `ids` or those that match `where` ({} is all), and their index rows in one
        transaction; returns how many there were. Raises UnknownEntity, InvalidFilter."""
        connection = connection_within(self.index, connection, session, "adelete")
        return self._changing.delete(entity, ids, where, bound_tenant(self._bound, tenant), connection)

    def definition(
        self,
        name: str,
        records: Sequence[Mapping[str, Any]],
        *,
        create: bool = True,
        tenant: object = None,
        tenant_field: str | None = None,
    ) -> Entity:
        """The entity as an insert of these records leaves it: as it is plus the fields that they add, or what they make
        of a missing one. Raises UnknownEntity without `create`."""
        options: dict[str, Any] = {"create": create, "tenant": tenant, "tenant_field": tenant_field}
        return self._definitions.with_records(name, records, **options, connection=None)[1]
