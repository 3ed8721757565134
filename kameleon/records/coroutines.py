"""The verbs of RecordStore for coroutines, each on a thread. Imports `indexing`, `stores` and `orm`."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..indexing.index import Index
from ..orm.callers import on_a_thread
from ..stores.catalog import Entity
from .rows import OnConflict
from .values import AlterReport, InsertReport, Record

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Verbs(Protocol):
    """What the coroutines call."""

    index: Index

    def create_entity(self, *args: Any, **options: Any) -> Entity: ...
    def alter_entity(self, *args: Any, **options: Any) -> AlterReport: ...
    def rename_entity(self, *args: Any, **options: Any) -> Entity: ...
    def drop_entity(self, *args: Any, **options: Any) -> int: ...
    def entities(self) -> "list[Entity]": ...
    def entity(self, name: str) -> Entity: ...
    def insert(self, *args: Any, **options: Any) -> InsertReport: ...
    def get(self, *args: Any, **options: Any) -> Record: ...
    def get_many(self, *args: Any, **options: Any) -> "list[Record]": ...
    def count(self, *args: Any, **options: Any) -> int: ...
    def list(self, *args: Any, **options: Any) -> "list[Record]": ...
    def update(self, *args: Any, **options: Any) -> Any: ...
    def delete(self, *args: Any, **options: Any) -> int: ...


class Coroutines:
    """The half of RecordStore that is awaited."""

    async def acreate_entity(
        self: "Verbs", name: str, *, session: "AsyncSession | None" = None, **options: Any
    ) -> Entity:
        """`create_entity`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.create_entity, name, **options), session)

    async def aalter_entity(
        self: "Verbs", name: str, *, session: "AsyncSession | None" = None, **options: Any
    ) -> AlterReport:
        """`alter_entity`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.alter_entity, name, **options), session)

    async def arename_entity(
        self: "Verbs", name: str, new_name: str, *, session: "AsyncSession | None" = None
    ) -> Entity:
        """`rename_entity`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.rename_entity, name, new_name), session)

    async def adrop_entity(self: "Verbs", name: str, *, session: "AsyncSession | None" = None) -> int:
        """`drop_entity`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.drop_entity, name), session)

    async def aentities(self: "Verbs", *, session: "AsyncSession | None" = None) -> "list[Entity]":
        """`entities`, as `aentity`."""
        return await on_a_thread(self.index, self.entities, session)

    async def aentity(self: "Verbs", name: str, *, session: "AsyncSession | None" = None) -> Entity:
        """`entity` for coroutines, on a thread; in the transaction of a `session`, if one is given."""
        return await on_a_thread(self.index, partial(self.entity, name), session)

    async def ainsert(
        self: "Verbs",
        entity: str,
        records: Iterable[Mapping[str, Any]],
        *,
        on_conflict: OnConflict = "error",
        create: bool = True,
        tenant: object = None,
        tenant_field: str | None = None,
        session: "AsyncSession | None" = None,
        embeddings: Iterable[Any] | None = None,
    ) -> InsertReport:
        """`insert`, as `aentity`."""
        options = {"on_conflict": on_conflict, "create": create, "tenant": tenant, "tenant_field": tenant_field}
        insert = partial(self.insert, entity, records, **options, embeddings=embeddings)
        return await on_a_thread(self.index, insert, session)

    async def aget(
        self: "Verbs", entity: str, id: str | int, *, tenant: object = None, session: "AsyncSession | None" = None
    ) -> Record:
        """`get`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.get, entity, id, tenant=tenant), session)

    async def aget_many(
        self: "Verbs",
        entity: str,
        ids: Iterable[str | int],
        *,
        vectors: bool = False,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> "list[Record]":
        """`get_many`, as `aentity`."""
        return await on_a_thread(
            self.index, partial(self.get_many, entity, ids, vectors=vectors, tenant=tenant), session
        )

    async def acount(
        self: "Verbs",
        entity: str,
        *,
        where: Mapping[str, Any] | None = None,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> int:
        """`count`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.count, entity, where=where, tenant=tenant), session)

    async def alist(
        self: "Verbs", entity: str, *, session: "AsyncSession | None" = None, **options: Any
    ) -> "list[Record]":
        """`list`, as `aentity`."""
        return await on_a_thread(self.index, partial(self.list, entity, **options), session)

    async def aupdate(
        self: "Verbs",
        entity: str,
        id: str | int | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        replace_all: bool = False,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> Record | int:
        """`update`, as `aentity`."""
        update = partial(self.update, entity, id, changes, where=where, replace_all=replace_all, tenant=tenant)
        changed: Record | int = await on_a_thread(self.index, update, session)
        return changed

    async def adelete(
        self: "Verbs",
        entity: str,
        ids: Iterable[str | int] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> int:
        """`delete`, as `aentity`."""
        delete = partial(self.delete, entity, ids, where=where, tenant=tenant)
        return await on_a_thread(self.index, delete, session)
