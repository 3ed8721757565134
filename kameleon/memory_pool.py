"""Pools for a SQLite database in memory, which is gone with its connection: one, that all take in turn. Imports
`errors`.

What this takes of SQLAlchemy that is private: `Pool._do_return_conn`, `_invoke_creator` and `_close_connection`,
`QueuePool._queue_class` and `_is_asyncio`, and `_ConnectionFairy._checkout_existing`, by which its
`SingletonThreadPool` gives a thread its connection again.
"""

import asyncio
from collections import deque
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock, get_ident
from typing import Any
from weakref import ref

from sqlalchemy import ExceptionContext, Pool, QueuePool
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet
from sqlalchemy.util.queue import Empty

from .errors import InvalidInput

ONE = "a database in memory has a single connection"


class ConnectionInUse(PoolTimeout):
    pass


@dataclass(eq=False)
class Holding:
    """Who has the connection, until it is given back."""

    pool: Pool
    connection: "ref[PoolProxiedConnection]"
    thread: int
    is_held: bool = True


_held: ContextVar[tuple[Holding, ...]] = ContextVar("kameleon_held", default=())
"""What this context took and has not given back; `asyncio.to_thread` and tasks begin with a copy."""


class TakesTurns(Pool):
    """Whoever takes the connection waits until another has given it back, but never for itself, nor for what called it
    as `asyncio.to_thread` does. While no transaction is open, the thread that has the connection gets it again."""

    blocks = True
    """Whether a thread that waits does nothing else."""

    @property
    def lender(self) -> "OneConnection":
        """The pool that has the connection."""
        raise NotImplementedError

    def connect(self) -> PoolProxiedConnection:
        holding = self.lender.holding
        if holding is not None and self._is_here(holding):
            if self.is_in_use_here():
                raise ConnectionInUse(
                    f"{ONE}, which this thread, or what called it, is using: pass connection= or session=, or give it "
                    "back first"
                )
            if (connection := holding.connection()) is not None:
                again: PoolProxiedConnection = connection._checkout_existing()
                return again
        try:
            taken = super().connect()
        except PoolTimeout as error:
            raise ConnectionInUse(
                f"{ONE}, which others kept for {self.lender.timeout():g} s. End transactions before work that takes "
                "long, or open a file, which many read at once"
            ) from error
        self.lender.holding = holding = Holding(self, ref(taken), get_ident())
        _held.set((*(other for other in _held.get() if other.is_held), holding))
        return taken

    def is_in_use_here(self) -> bool:
        """Whether to wait for the connection would be to wait for who waits."""
        holding = self.lender.holding
        if holding is None or not self._is_here(holding):
            return False
        if not self.blocks or holding.pool is not self or holding.thread != get_ident():
            return True
        connection = holding.connection()
        driver: Any = connection and connection.driver_connection
        return driver is not None and driver.in_transaction

    def _is_here(self, holding: Holding) -> bool:
        return holding.is_held and ((self.blocks and holding.thread == get_ident()) or holding in _held.get())


class OneConnection(TakesTurns, QueuePool):
    """The pool of an engine for threads. A connection that SQLAlchemy would replace, as it was never given back or is
    older than `pool_recycle`, is rolled back and used again."""

    def __init__(self, creator: Any, pool_size: int = 1, max_overflow: int = 0, **options: Any) -> None:
        if (pool_size, max_overflow) != (1, 0):
            raise InvalidInput(
                f"{ONE}, and another would lead to another database: give create_engine neither "
                f"pool_size={pool_size} nor max_overflow={max_overflow}, or the URL of a file"
            )
        super().__init__(creator, pool_size=1, max_overflow=0, **options)
        self.holding: Holding | None = None
        self._made: Any = None
        self._make: Any = self._invoke_creator
        self._invoke_creator: Any = self._made_once

    @property
    def lender(self) -> "OneConnection":
        return self

    def _do_return_conn(self, record: Any) -> None:
        if self.holding is not None:
            self.holding.is_held, self.holding = False, None
        super()._do_return_conn(record)

    def _made_once(self, record: Any = None) -> Any:
        if self._made is None:
            self._made = self._make(record)
        else:
            self._made.rollback()
        return self._made

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        if connection is not self._made:
            super()._close_connection(connection, terminate=terminate)

    def dispose(self) -> None:
        self._made = None
        super().dispose()


class Turns:
    """The queue of a pool, in which coroutines of any event loop and threads wait: first come, first served."""

    def __init__(self, maxsize: int = 1, use_lifo: bool = False) -> None:
        self.maxsize, self.use_lifo = maxsize, use_lifo
        self._lock = Lock()
        self._left: deque[Any] = deque()
        self._waiting: deque[Future[Any]] = deque()

    def qsize(self) -> int:
        return len(self._left)

    def put(self, item: Any, _block: bool = True) -> None:
        with self._lock:
            while self._waiting:
                first = self._waiting.popleft()
                if first.set_running_or_notify_cancel():
                    first.set_result(item)
                    return
            self._left.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        with self._lock:
            if self._left:
                return self._left.popleft()
            if not block:
                raise Empty
            own: Future[Any] = Future()
            self._waiting.append(own)
        try:
            if in_greenlet():
                return await_only(asyncio.wait_for(asyncio.wrap_future(own), timeout))
            return own.result(timeout)
        except BaseException as error:  # a cancellation, too, passes on a turn that came with it
            if not own.cancel():
                self.put(own.result())
            if isinstance(error, TimeoutError):
                raise Empty from error
            raise


class OneAsyncConnection(OneConnection):
    """The pool of an engine for coroutines."""

    _is_asyncio = True
    _queue_class = Turns  # type: ignore[assignment]
    blocks = False


def keep_connection(context: ExceptionContext) -> None:
    """A listener for `handle_error`: SQLAlchemy would close the connection of a statement that is cancelled or
    interrupted."""
    if not isinstance(context.original_exception, Exception):
        context.is_disconnect = False


def share_a_connection(pool: Pool, other: Pool) -> bool:
    """Whether they are pools of one database in memory."""
    return isinstance(pool, TakesTurns) and isinstance(other, TakesTurns) and pool.lender is other.lender
