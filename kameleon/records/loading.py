"""Loads files into the record store: those that have changed, and on request without the records whose files are gone.
Imports `values`, `errors`, `content`, `files`, `indexing`, `orm` and `stores`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection

from ..content import bound_tenant, check_tenant
from ..errors import InvalidRecord, UnknownEntity
from ..files.folders import with_files_of_folders
from ..files.items import Item, ReadOptions
from ..files.loaded import FILE_FIELD, Loaded, LoadedFiles
from ..files.reading import Given, items
from ..files.sources import sources
from ..indexing.index import Index
from ..orm.callers import connection_within, on_a_thread
from ..stores.catalog import Entity
from ..stores.tables import parts
from ..values import ALL_TENANTS
from .rows import OnConflict
from .values import InsertReport, Record

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

PAGE = 500
"""Bounds the records that are read at a time, to see which files they are of. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What loading files did. `unchanged_files` were as they are stored. `gone` are ids whose file or section is no
    more: they were `removed` if that was requested. `errors` are files and lines that could not be read."""

    inserted: InsertReport = field(default_factory=InsertReport)
    unchanged_files: int = 0
    gone: tuple[str, ...] = ()
    removed: int = 0
    errors: tuple[str, ...] = ()


def named(item: Item, error: object) -> str:
    return f"{item.file}:{item.place}: {error}"


class Store(Protocol):
    """What loading calls of a record store."""

    _bound: str | None
    index: Index

    def load_files(self, *args: Any, **options: Any) -> LoadReport: ...
    def entity(self, name: str, *, connection: Connection | None = None) -> Entity: ...
    def insert(self, *args: Any, **options: Any) -> InsertReport: ...
    def list(self, *args: Any, **options: Any) -> "list[Record]": ...
    def delete(self, *args: Any, **options: Any) -> int: ...


class FilesLoading:
    """The part of RecordStore that reads files."""

    def load_files(
        self: Store,
        entity: str,
        given: Given,
        *,
        sync: bool = False,
        skip_invalid: bool = False,
        on_conflict: OnConflict = "replace",
        create: bool = True,
        tenant: object = None,
        tenant_field: str | None = None,
        batch_size: int = 100,
        progress: Callable[[int], None] = lambda _stored: None,
        connection: Connection | None = None,
        session: "Session | None" = None,
        **reading: Any,
    ) -> LoadReport:
        """Store the records of a file, a folder or several, as `kameleon.files` reads them with the options of
        `ReadOptions`, each batch in a transaction, or all in that of `connection` or `session`. Documents that are as
        they were stored are passed over; `sync` deletes the records of these folders whose file, or section of it, is
        gone. Raises InvalidRecord with file and line for what cannot be read, unless `skip_invalid`; what was stored
        before stays."""
        insert: dict[str, Any] = {"on_conflict": on_conflict, "create": create, "tenant_field": tenant_field}
        run: dict[str, Any] = {"sync": sync, "skip_invalid": skip_invalid, "batch_size": batch_size}
        run |= {"tenant": tenant, "progress": progress}
        within = connection_within(self.index, connection, session, "aload_files")
        return Loading(self, self._bound, within).load(entity, given, ReadOptions(**reading), **run, **insert)

    async def aload_files(
        self: Store, entity: str, given: Given, *, session: "AsyncSession | None" = None, **options: Any
    ) -> LoadReport:
        """`load_files` for coroutines, on a thread; in the transaction of a `session`, if one is given."""
        return await on_a_thread(self.index, partial(self.load_files, entity, given, **options), session)

    @property
    def loading(self: Store) -> "Loading":
        """The steps of `load_files`, for a caller that inserts the records itself."""
        return Loading(self, self._bound)


class Loading:
    """Loads files into one store, which is for the tenant `bound` alone if that is given; in the transaction of a
    connection, if one is."""

    def __init__(self, records: Store, bound: str | None, connection: Connection | None = None) -> None:
        self._records = records
        self._bound = bound
        self._within = {"connection": connection}

    def known(self, entity: str, tenant: Any = None, tenant_field: str | None = None) -> LoadedFiles:
        """The files that an entity has records of; none if there is no such entity."""
        owner = None if (named := bound_tenant(self._bound, tenant)) is None else check_tenant(named)
        try:
            definition = self._records.entity(entity, **self._within)
        except UnknownEntity:
            return LoadedFiles(owner, tenant_field)
        found = LoadedFiles(owner, definition.tenant_field or tenant_field)
        if definition.has_tenants or FILE_FIELD in definition.field_names:
            for record in self._of_files(entity, ALL_TENANTS if definition.has_tenants and owner is None else tenant):
                found.add(record.id, record.tenant, record.data[FILE_FIELD])
        return found

    def types(self, entity: str) -> dict[str, str]:
        """The types of an entity's fields; none if there is no such entity."""
        try:
            return {field.name: field.type for field in self._records.entity(entity, **self._within).fields}
        except UnknownEntity:
            return {}

    def _of_files(self, entity: str, tenant: Any) -> Iterator[Record]:
        where = {f".{FILE_FIELD}.path": {"$exists": True}}
        page: list[Record] = []
        while page := self._records.list(
            entity, where=where, tenant=tenant, limit=PAGE, after=page[-1] if page else None, **self._within
        ):
            yield from page

    def load(
        self,
        entity: str,
        given: Given,
        options: ReadOptions,
        *,
        sync: bool,
        skip_invalid: bool,
        batch_size: int,
        tenant: Any,
        progress: Callable[[int], None],
        **insert: Any,
    ) -> LoadReport:
        known = self.known(entity, tenant, insert.get("tenant_field"))
        found = list(with_files_of_folders(sources(given), options))
        report = LoadReport()
        types = options.default_types or {**self.types(entity), "id": "text"}
        read = items(found, replace(options, loaded=known, default_types=types))
        for batch in iter(lambda: list(islice(read, batch_size)), []):
            bad = [item for item in batch if item.error is not None]
            if bad and (not skip_invalid or bad[-1].is_fatal):
                raise InvalidRecord(named(bad[0], bad[0].error))
            good = [item for item in batch if item.error is None]
            stored, errors = self._store(entity, good, skip_invalid=skip_invalid, tenant=tenant, **insert)
            errors = [*(named(item, item.error) for item in bad), *errors]
            report = replace(report, inserted=report.inserted + stored, errors=(*report.errors, *errors))
            progress(report.inserted.inserted + report.inserted.updated)
        gone = list(known.gone({source.folder for source in found if source.root is not None}))
        removed = self.remove(entity, gone) if sync else 0
        return replace(report, unchanged_files=known.unchanged, gone=tuple(one.id for one in gone), removed=removed)

    def _store(
        self, entity: str, good: list[Item], *, skip_invalid: bool, **insert: Any
    ) -> tuple[InsertReport, list[str]]:
        """Store a batch, without the records that are invalid if these are skipped; these are named."""
        errors: list[str] = []
        while True:
            try:
                return self._records.insert(entity, [item.data for item in good], **insert, **self._within), errors
            except InvalidRecord as error:
                if error.position is None:
                    raise
                errors.append(named(good.pop(error.position), error))
                if not skip_invalid:
                    raise InvalidRecord(errors[0]) from error

    def remove(self, entity: str, gone: Iterable[Loaded]) -> int:
        """Deletes records whose files are gone; returns how many there were."""
        by_tenant: dict[str, list[str]] = {}
        for one in gone:
            by_tenant.setdefault(one.tenant, []).append(one.id)
        return sum(
            self._records.delete(entity, part, tenant=None if self._bound else tenant, **self._within)
            for tenant, ids in by_tenant.items()
            for part in parts(ids, PAGE)
        )
