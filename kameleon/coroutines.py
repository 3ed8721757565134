"""The verbs of SearchEngine for coroutines, each on a thread. Imports `values`, `indexing`, `search` and `orm`."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, Unpack

from sqlalchemy import Select

from .indexing.index import Index
from .indexing.writer import Progress
from .orm.callers import on_a_thread
from .search.options import SearchOptions, TenantOption
from .values import ALL_TENANTS, Failure, IndexReport, SearchResults

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


class Verbs(Protocol):
    """What the coroutines call."""

    index: Index

    def search(self, *args: Any, **options: Any) -> SearchResults: ...
    def similar(self, *args: Any, **options: Any) -> SearchResults: ...
    def suggest(self, *args: Any, **options: Any) -> list[str]: ...
    def select(self, cls: type[T], *args: Any, **options: Any) -> Select[tuple[T]]: ...
    def flush(self, *args: Any) -> None: ...
    def failures(self, *args: Any, **options: Any) -> list[Failure]: ...
    def index_record(self, *args: Any, **options: Any) -> IndexReport: ...
    def index_records_batch(self, *args: Any, **options: Any) -> IndexReport: ...
    def delete_record(self, *args: Any, **options: Any) -> bool: ...
    def delete_records(self, *args: Any, **options: Any) -> int: ...
    def close(self) -> None: ...


class Coroutines:
    """The half of SearchEngine that is awaited."""

    async def asearch(
        self: "Verbs",
        query: str = "",
        *,
        entity: object = None,
        entities: Iterable[object] | None = None,
        session: "AsyncSession | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """`search` for coroutines: on a thread, so that neither the model nor the database holds the event loop up. In
        the transaction of a `session`, whose statements run where they always do."""
        return await on_a_thread(
            self.index, partial(self.search, query, entity=entity, entities=entities, **options), session
        )

    async def asimilar(
        self: "Verbs",
        entity: object,
        id: str | int,
        *,
        entities: Iterable[object] | None = None,
        session: "AsyncSession | None" = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """`similar`, as `asearch`."""
        return await on_a_thread(self.index, partial(self.similar, entity, id, entities=entities, **options), session)

    async def asuggest(
        self: "Verbs",
        text: str,
        *,
        entity: object = None,
        entities: Iterable[object] | None = None,
        limit: int = 10,
        session: "AsyncSession | None" = None,
        **options: Unpack[TenantOption],
    ) -> list[str]:
        """`suggest`, as `asearch`."""
        call = partial(self.suggest, text, entity=entity, entities=entities, limit=limit, **options)
        return await on_a_thread(self.index, call, session)

    async def aselect(
        self: "Verbs",
        cls: type[T],
        query: str = "",
        *,
        session: "AsyncSession | None" = None,
        **options: Unpack[SearchOptions],
    ) -> Select[tuple[T]]:
        """`select`, as `asearch`."""
        return await on_a_thread(self.index, partial(self.select, cls, query, **options), session)

    async def aflush(self: "Verbs", session: "AsyncSession") -> None:
        """`flush` for an AsyncSession."""
        await session.run_sync(self.flush)

    async def afailures(
        self: "Verbs", *, tenant: object = ALL_TENANTS, session: "AsyncSession | None" = None
    ) -> list[Failure]:
        """`failures`, as `asearch`."""
        return await on_a_thread(self.index, partial(self.failures, tenant=tenant), session)

    async def aindex_record(
        self: "Verbs",
        entity: str,
        id: str | int,
        content: str,
        *,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> IndexReport:
        """`index_record`, as `asearch`."""
        return await on_a_thread(self.index, partial(self.index_record, entity, id, content, tenant=tenant), session)

    async def aindex_records_batch(
        self: "Verbs",
        records: Iterable[tuple[str, str | int, str]],
        *,
        tenant: object = None,
        session: "AsyncSession | None" = None,
        progress: Progress | None = None,
        embeddings: Iterable[Any] | None = None,
    ) -> IndexReport:
        """`index_records_batch`, as `asearch`; `progress` is called on the thread."""
        index = partial(self.index_records_batch, records, tenant=tenant, progress=progress, embeddings=embeddings)
        return await on_a_thread(self.index, index, session)

    async def adelete_record(
        self: "Verbs", entity: str, id: str | int, *, tenant: object = None, session: "AsyncSession | None" = None
    ) -> bool:
        """`delete_record`, as `asearch`."""
        return await on_a_thread(self.index, partial(self.delete_record, entity, id, tenant=tenant), session)

    async def adelete_records(
        self: "Verbs",
        records: Iterable[tuple[str, str | int]],
        *,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> int:
        """`delete_records`, as `asearch`."""
        return await on_a_thread(self.index, partial(self.delete_records, records, tenant=tenant), session)

    async def aclose(self: "Verbs") -> None:
        """`close` for coroutines."""
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self: "Verbs", *_: object) -> None:
        await asyncio.to_thread(self.close)
