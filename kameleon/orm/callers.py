"""The connection of the transaction that a caller gives as `connection=` or `session=`. SQLAlchemy's ORM loads only
where a session is given. Imports `errors`, `content`, `event_loop`,
`async_connections` and `indexing`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from ..content import bound_tenant, check_tenant
from ..errors import InvalidInput
from ..event_loop import on_a_thread_of
from ..indexing.index import Index
from ..indexing.writer import Indexing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from .sessions import Sessions

T = TypeVar("T")


class TenantCalls:
    """Calls for a tenant, in a transaction of the caller's or of their own."""

    def __init__(self, index: Index, tenant: str = "") -> None:
        """With a `tenant` all calls are for this one."""
        self._index = index
        self._tenant = tenant

    def _named(self, tenant: object) -> str:
        return check_tenant(bound_tenant(self._tenant, tenant))

    def _written(
        self,
        change: Callable[[Connection, str], T],
        tenant: object,
        connection: Connection | None,
        session: "Session | None",
        async_name: str,
    ) -> T:
        """What `change` returns for the connection of the transaction and the tenant."""
        name = self._named(tenant)
        connection = connection_within(self._index, connection, session, async_name)

        def attempt() -> T:
            with self._index.transaction(connection, (name,)) as conn:
                return change(conn, name)

        return self._index.retried(attempt, connection)


def sessions_of(index: Index) -> "Sessions":
    from .sessions import Sessions

    return index.part(Sessions)


def attach(index: Index, target: T, indexing: Indexing | None) -> T:
    from . import attaching

    return attaching.attach(sessions_of(index), target, indexing)


def connection_within(
    index: Index, connection: Connection | None, session: "Session | None", async_name: str
) -> Connection | None:
    """The connection of the caller's transaction, None without one. `async_name` is the verb for coroutines. Raises
    InvalidInput."""
    if session is None:
        return connection
    if connection is not None:
        raise InvalidInput("connection= and session= are two transactions: give one of them")
    return sessions_of(index).connection_of(session, async_name)


async def on_a_thread(index: Index, call: Callable[..., T], session: "AsyncSession | None") -> T:
    """Call a function on a thread, with the session beneath an AsyncSession as its `session=`."""
    if session is None:
        return await on_a_thread_of(call)
    from ..async_connections import on_thread

    inner = await sessions_of(index).begun(session)
    return await on_thread(partial(call, session=inner))
