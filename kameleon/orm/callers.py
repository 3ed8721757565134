"""The transaction that a caller gives as `connection=` or `session=`. The ORM is imported where a session is given."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection

from ..errors import InvalidInput
from ..indexing.index import Index

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from .events import Sessions

T = TypeVar("T")


def sessions_of(index: Index) -> "Sessions":
    from .events import Sessions

    return index.part(Sessions)


def connection_within(
    index: Index, connection: Connection | None, session: "Session | None", async_name: str
) -> Connection | None:
    """The connection of the caller's transaction, None if he gives none. `async_name` is the verb for coroutines.
    Raises InvalidInput."""
    if session is None:
        return connection
    if connection is not None:
        raise InvalidInput("connection= and session= are two transactions: give one of them")
    return sessions_of(index).connection_of(session, async_name)


async def on_a_thread(index: Index, call: Callable[..., T], session: "AsyncSession | None") -> T:
    """What a call returns on a thread, which gets the session beneath an AsyncSession as its `session=`."""
    if session is None:
        return await asyncio.to_thread(call)
    from ..async_connections import on_thread

    inner = await sessions_of(index).begun(session)
    return await on_thread(partial(call, session=inner))
