"""Gives the records of an entity, with their embeddings, for a file or another place. Imports `values`, `documents`,
`errors`, `content`, `files`, `stores`, `indexing`, `orm`, `records` and `entities`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from sqlalchemy import Column as TableColumn
from sqlalchemy import Connection

from .content import bound_tenant, check_tenants
from .documents import as_json
from .entities import named
from .errors import InvalidInput, TenantRequired, is_secret_column
from .files.vectors import EMBEDDING, MODEL, PASSAGES
from .files.writing import Column, Row, write
from .indexing.index import HasIndex, Index
from .orm.callers import sessions_of
from .records import RecordStore
from .stores.catalog import current
from .stores.values import Embedding, Stored, numbers
from .values import Generation, Ref

if TYPE_CHECKING:
    from .orm.mapping import Mapped
    from .stores.catalog import Entity

RECORDS_A_PAGE = 1_000
"""Bounds the records that are read at a time. Chosen, not measured."""
TENANTS = 2**31 - 1
"""Bounds the tenants whose records are exported to all."""
WRITTEN = ("text", "integer", "number", "boolean")
"""The types of columns that Parquet has, too; others are found in the values."""


class Export:
    """The records of an entity that are in the index: of the record store, of a mapped class or an existing table, or
    texts of `index_records_batch`. Each iteration reads them, page by page, each in a transaction of its own.

    A row is a mapping that JSON can hold: `id`, the fields, `tenant` where no field has it, and `with_embeddings`
    `embedding` and `embedding_model`; `embedding_passages` are the embeddings of a text of several passages. An
    embedding is null where it is pending or was refused. `tenant` is one, several or all. Raises UnknownEntity and
    TenantRequired.
    """

    def __init__(self, search: HasIndex, entity: str, *, with_embeddings: bool = False, tenant: object = None) -> None:
        (found,) = named(search, [entity])
        tenant = bound_tenant(getattr(search, "tenant", None), tenant)
        self.entity = entity
        self._index: Index = search.index
        self._mapped = sessions_of(self._index).mappings.searchable(found) if isinstance(found, type) else None
        stored = {one.name: one for one in RecordStore(search).entities()}
        self._stored: Entity | None = stored.get(entity) if self._mapped is None else None
        is_tenanted = entity in self._index.tenanted() or (self._mapped is not None and self._mapped.has_tenants)
        if is_tenanted and tenant is None:
            raise TenantRequired(entity)
        self._tenants = ("",) if tenant is None else check_tenants(tenant)
        self._with_embeddings = with_embeddings
        has_field = self._mapped is not None or (self._stored is not None and bool(self._stored.tenant_field))
        self._has_tenant = is_tenanted and not has_field
        self._check_names()

    def _check_names(self) -> None:
        names = [column.name for column in self.columns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InvalidInput(
                f"{self.entity} has a field {twice[0]!r}, which an export gives to what it adds: rename the field, or "
                "leave the embeddings out"
            )

    @property
    def columns(self) -> list[Column]:
        """What rows may have, in order."""
        names = [Column("id", "text"), *([Column("tenant", "text")] if self._has_tenant else []), *self._fields()]
        if self._with_embeddings:
            names += [Column(EMBEDDING, "vector"), Column(EMBEDDING + PASSAGES, "passages")]
            names += [Column(EMBEDDING + MODEL, "text")]
        return names

    def _fields(self) -> list[Column]:
        if self._mapped is not None:
            return [Column(name) for name in attributes(self._mapped)]
        if self._stored is not None:
            return [Column(f.name, f.type if f.type in WRITTEN else "any") for f in self._stored.fields]
        return [Column("text", "text")]

    def write(self, stream: BinaryIO, format: str = "jsonl") -> int:
        """Write the rows to a binary stream, as jsonl, csv or parquet; returns how many."""
        return write(stream, format, self.columns, lambda: self, lambda: self._read(with_embeddings=False))

    def __iter__(self) -> Iterator[Row]:
        return self._read(with_embeddings=self._with_embeddings)

    def _read(self, *, with_embeddings: bool) -> Iterator[Row]:
        for tenant in self._owners():
            owner = {"tenant": tenant} if self._has_tenant else {}
            after: Ref | None = Ref(self.entity, "", tenant)
            while after is not None:
                with self._index.reading(tenants=(tenant,)) as connection:
                    read = self._index.store.exports.records(connection, after, RECORDS_A_PAGE)
                    page = [stored for stored in read if stored.entry.ref.entity == self.entity]
                    rows = self._rows(connection, page)
                    embeddings = self._embeddings(connection, page) if with_embeddings else {}
                for ref, fields in rows.items():
                    yield {"id": ref.id, **owner, **fields, **embeddings.get(ref, {})}
                after = page[-1].entry.ref if page else None

    def _owners(self) -> Sequence[str]:
        if self._tenants is not None:
            return self._tenants
        with self._index.reading(tenants=()) as connection:
            found = self._index.store.contents.tenants(connection, TENANTS)
        return ["", *sorted(status.tenant for status in found)]

    def _rows(self, connection: Connection, page: Sequence[Stored]) -> dict[Ref, Mapping[str, Any]]:
        """The fields of these records; of a mapped class without those whose rows are gone, or another tenant's now."""
        if self._mapped is None:
            return {
                stored.entry.ref: {"text": stored.entry.content} if stored.data is None else stored.data
                for stored in page
            }
        from .orm.described import rows_of

        refs, names = [stored.entry.ref for stored in page], attributes(self._mapped)
        found = rows_of(connection, self._mapped, names, [ref.id for ref in refs])
        return {
            ref: {name: json_value(found[ref.id, ref.tenant].get(name)) for name in names}
            for ref in refs
            if (ref.id, ref.tenant) in found
        }

    def _embeddings(self, connection: Connection, page: Sequence[Stored]) -> dict[Ref, dict[str, Any]]:
        generation = current(self._index.catalog.generations(connection))
        refs = {stored.doc: stored.entry.ref for stored in page}
        hashes = {stored.entry.ref: stored.entry.content_hash for stored in page}
        by_ref: dict[Ref, list[Embedding]] = {}
        for each in self._index.store.exports.embeddings(connection, generation, refs) if generation else ():
            if each.content_hash == hashes[each.ref]:
                by_ref.setdefault(each.ref, []).append(each)
        return {ref: as_fields(by_ref.get(ref, []), generation) for ref in refs.values()}


def as_fields(embeddings: Sequence[Embedding], generation: Generation | None) -> dict[str, Any]:
    """The fields of a record's embeddings: null where one of its passages has none."""
    if generation is None or not embeddings or any(each.vector is None for each in embeddings):
        return {EMBEDDING: None}
    made = {EMBEDDING: list(numbers(embeddings[0].vector or b"")), EMBEDDING + MODEL: model_text(generation)}
    if len(embeddings) > 1:
        made[EMBEDDING + PASSAGES] = [
            {"start": each.start_at, "end": each.end_at, "embedding": list(numbers(each.vector or b""))}
            for each in embeddings
        ]
    return made


def model_text(generation: Generation) -> str:
    """What names the model of an embedding beside it: its name, and the fingerprint that is compared."""
    return f"{generation.model_name} {generation.fingerprint}"


def attributes(mapped: "Mapped") -> list[str]:
    """The columns of a mapped class, and its searched fields, but those that are named as a secret, and `id`, which is
    the record's own."""
    columns = [each.key for each in mapped.mapper.column_attrs if isinstance(each.columns[0], TableColumn)]
    names = dict.fromkeys([*columns, *mapped.declaration.fields])
    return [name for name in names if name != "id" and not is_secret_column(name)]


def json_value(value: Any) -> Any:
    """An attribute's or a column's value as JSON has it."""
    from .orm.mapping import plain  # SQLAlchemy's ORM loads with it

    return as_json(plain(value))
