"""Judgements, `search.judgements`: how relevant records are to a query. Imports `content`, `errors`, `indexing`,
`search`, `orm` and `values`."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from .content import check_entity, check_tenants
from .errors import InvalidInput, seen
from .indexing.judgements import (
    MAX_JUDGEMENTS,
    Pair,
    check_gain,
    check_query,
    delete_judgements,
    read_judgements,
    write_judgements,
)
from .indexing.judgements import Judgement as Judgement
from .orm.callers import TenantCalls, connection_within, on_a_thread
from .orm.queries import Queries
from .search.given_refs import RefReader
from .values import Ref

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

Listed = list[Judgement]


class Judgements(TenantCalls):
    """Kept with the index, for `kameleon.evaluation.evaluate`; searches do not depend on them."""

    def set(
        self,
        query: str,
        records: Iterable[object],
        gain: float = 1.0,
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Listed:
        """Judge records for a query, in place of what was judged before: a gain of 0 is not relevant. Records are
        (entity, id) pairs, hits or refs, and need not be there. Hits of a tenant are judged for that one."""
        text, gain, refs = check_query(query), check_gain(gain), self._refs(records)
        tenant = self._tenant_of(refs) if tenant is None and not self._tenant else tenant
        pairs = _pairs(refs, self._named(tenant))
        given = [Judgement(text, *pair, gain) for pair in pairs]
        return self._written(partial(self._write, given), tenant, connection, session, "aset")

    def load(
        self,
        judgements: Iterable[Judgement],
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Keep judgements of any queries in one transaction, in place of those of the same query and record; how many
        there were. `tenant` is that of all, else each is of its own; of several tenants each has a transaction."""
        given = [one.checked() for one in judgements]
        tenants = sorted({one.tenant for one in given}) if tenant is None and not self._tenant else [tenant]
        for name in tenants:
            own = [one for one in given if len(tenants) == 1 or one.tenant == name]
            self._written(partial(self._write, own), name or None, connection, session, "aload")
        return len({(one.tenant, *one.key) for one in given})

    def list(
        self,
        *,
        query: str | None = None,
        entities: Sequence[str] = (),
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> Listed:
        """Those of a tenant, of several or of `kameleon.ALL_TENANTS`, by tenant, query and record; of those without one
        where none is given. Of a query, and of entities, if they are named."""
        tenants = check_tenants(self._named(tenant) if self._tenant or tenant is None else tenant)
        if isinstance(entities, str):
            raise InvalidInput(f"entities is a list of names; for one, use entities=[{seen(entities)}]")
        queries = None if query is None else [check_query(query)]
        names = [check_entity(name) for name in self._index.part(Queries).names(entities)]
        connection = connection_within(self._index, connection, session, "alist")
        with self._index.reading(connection, tenants or ()) as conn:
            return read_judgements(self._index, conn, tenants, queries, names)

    def remove(
        self,
        query: str,
        records: Iterable[object] | None = None,
        *,
        tenant: object = None,
        connection: Connection | None = None,
        session: "Session | None" = None,
    ) -> int:
        """Remove what was judged of a query, of these records alone if they are given; how many there were."""
        text, refs = check_query(query), None if records is None else self._refs(records)
        tenant = self._tenant_of(refs) if refs and tenant is None and not self._tenant else tenant
        pairs = None if refs is None else _pairs(refs, self._named(tenant))
        return self._written(partial(self._remove, text, pairs), tenant, connection, session, "aremove")

    async def aset(
        self,
        query: str,
        records: Iterable[object],
        gain: float = 1.0,
        *,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> Listed:
        """`set` for coroutines, in the transaction of a `session`."""
        return await on_a_thread(self._index, partial(self.set, query, records, gain, tenant=tenant), session)

    async def aload(
        self, judgements: Iterable[Judgement], *, tenant: object = None, session: "AsyncSession | None" = None
    ) -> int:
        """`load`, as `aset`."""
        return await on_a_thread(self._index, partial(self.load, judgements, tenant=tenant), session)

    async def alist(
        self,
        *,
        query: str | None = None,
        entities: Sequence[str] = (),
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> Listed:
        """`list`, as `aset`."""
        return await on_a_thread(
            self._index, partial(self.list, query=query, entities=entities, tenant=tenant), session
        )

    async def aremove(
        self,
        query: str,
        records: Iterable[object] | None = None,
        *,
        tenant: object = None,
        session: "AsyncSession | None" = None,
    ) -> int:
        """`remove`, as `aset`."""
        return await on_a_thread(self._index, partial(self.remove, query, records, tenant=tenant), session)

    def _write(self, given: Sequence[Judgement], connection: Connection, tenant: str) -> Listed:
        return write_judgements(self._index, connection, tenant, given)

    def _remove(self, query: str, pairs: Sequence[Pair] | None, connection: Connection, tenant: str) -> int:
        return delete_judgements(self._index, connection, tenant, query, pairs)

    def _refs(self, records: Iterable[object]) -> Sequence[Ref]:
        reader = RefReader(lambda one: self._index.part(Queries).names([one])[0])
        return reader.read("records", records, MAX_JUDGEMENTS)

    def _tenant_of(self, refs: Iterable[Ref]) -> str | None:
        """That of the records which have one. Raises InvalidInput where they have several."""
        several = sorted({ref.tenant for ref in refs if ref.tenant})
        if len(several) > 1:
            raise InvalidInput(
                f"these records are of the tenants {seen(several[0])} and {seen(several[1])}: judge those of one at a "
                "time"
            )
        return next(iter(several), None)


def _pairs(refs: Iterable[Ref], tenant: str) -> Sequence[Pair]:
    """Raises InvalidInput for a record of another tenant."""
    if others := [ref for ref in refs if ref.tenant not in ("", tenant)]:
        raise InvalidInput(
            f"records names {others[0].entity} {seen(others[0].id)} of the tenant {seen(others[0].tenant)}, and these "
            f"judgements are of {seen(tenant) if tenant else 'none'}: give its tenant as tenant="
        )
    return list(dict.fromkeys((ref.entity, ref.id) for ref in refs))
