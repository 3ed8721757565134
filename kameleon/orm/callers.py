"""The connection of the transaction that a caller gives as `connection=` or `session=`. SQLAlchemy's ORM loads only
where a session is given. Imports `errors`, `async_connections` and `indexing`."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from ..errors import InvalidInput
from ..indexing.index import Index
from ..indexing.writer import Indexing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from .sessions import Sessions

T = TypeVar("T")


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
        return await asyncio.to_thread(call)
    from ..async_connections import on_thread

    inner = await sessions_of(index).begun(session)
    return await on_thread(partial(call, session=inner))
