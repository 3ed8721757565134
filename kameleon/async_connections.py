"""Opens connections of an asynchronous engine for threads. Imports `errors`, `event_loop` and
`memory_pool`.

kameleon's own work (searching, syncing, rebuilding) is synchronous. On an AsyncEngine it runs on connections that the
application's engine opens itself, with its dialect, arguments, listeners and execution options, in a second pool with
the options of its own one. A connection of an asyncio driver belongs to an event loop: these belong to one loop of
kameleon's, on a daemon thread, one a process. The application's loop does none of kameleon's own work.

SQLAlchemy has no public way to give an engine a second pool, and none to await in a thread. The private attributes that
this takes are used in this module alone: `Engine._proxied` and `_has_events`; `Pool._invoke_creator`,
`_dialect`, `_pre_ping`, `_recycle`, `_reset_on_return`, `_orig_logging_name`; `QueuePool._pool`, `_max_overflow`,
`_timeout`; `Pool._do_get`, `_do_return_conn`, `_create_connection`; `_ConnectionRecord.get_connection`;
`AdaptedConnection._connection`, and `__sqlalchemy_greenlet_provider__`, by which `await_only` recognises a greenlet.
"""

import asyncio
import copy
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet, finalize, ref

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]
from sqlalchemy import Engine, NullPool, Pool, QueuePool, event
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import greenlet_spawn

from .errors import InvalidInput, StorageError
from .event_loop import EventLoop, awaited, on_own_thread_of
from .memory_pool import OneAsyncConnection, OneConnection, TakesTurns

T = TypeVar("T")

KEPT = "kameleon_own_engine"
EXECUTES = ("execute", "executemany")
FETCHES = ("fetchone", "fetchmany", "fetchall")


class _Provider(greenlet):  # type: ignore[misc]
    __sqlalchemy_greenlet_provider__ = True


class _Connecting(_Provider):
    pass


def drive(function: Callable[[], T], wait: Callable[[Awaitable[Any]], Any], provider: type[_Provider] = _Provider) -> T:
    """Call a function on this thread, in a greenlet in which `await_only` works: `wait` gets what it awaits."""
    current = getcurrent()
    context = provider(function, current)
    context.gr_context = current.gr_context
    result = context.switch()
    while not context.dead:
        try:
            value = wait(result)
        except BaseException:  # noqa: BLE001 - every error of what is awaited is raised where the function awaits it
            result = context.throw(*sys.exc_info())
        else:
            result = context.switch(value)
    found: T = result
    return found


async def on_thread(call: Callable[[], T]) -> T:
    """Call a function on a thread; what it awaits there is awaited on this event loop. A cancellation waits until the
    thread has left the function, which would otherwise go on with a session."""
    loop = asyncio.get_running_loop()
    awaiting: list[Future[Any]] = []
    is_cancelled = threading.Event()

    def wait(awaitable: Awaitable[Any]) -> Any:
        awaiting[:] = [asyncio.run_coroutine_threadsafe(awaited(awaitable), loop)]
        if is_cancelled.is_set():
            awaiting[0].cancel()
        return awaiting[0].result()

    thread = asyncio.ensure_future(on_own_thread_of(partial(drive, call, wait)))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        is_cancelled.set()
        for future in awaiting:
            future.cancel()
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()  # retrieved, lest asyncio logs it: the cancellation is raised instead
        raise


class BridgedConnection:
    """A DBAPI connection whose methods and attributes are run on kameleon's loop."""

    __slots__ = ("_target",)

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_target", target)

    @property
    def _connection(self) -> Any:
        """The driver's, which SQLAlchemy gives as `driver_connection`. Listeners that await it on connect get it as it
        is, threads as a synchronous one."""
        driver = self._target._connection
        return driver if isinstance(getcurrent(), _Connecting) else Synchronous(driver)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return partial(_loop.call, value) if inspect.ismethod(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        _loop.call(setattr, self._target, name, value)

    def cursor(self, *args: Any, **options: Any) -> "BridgedCursor":
        """A cursor with arguments is on the server, and fetches from it."""
        return BridgedCursor(partial(self._target.cursor, *args, **options), bool(args or options))


class BridgedCursor:
    """A cursor that is made together with its first statement, in one trip to the loop."""

    __slots__ = ("_fetches", "_made", "_make")

    def __init__(self, make: Callable[[], Any], fetches: bool) -> None:
        object.__setattr__(self, "_make", make)
        object.__setattr__(self, "_fetches", fetches)
        object.__setattr__(self, "_made", None)

    def _target(self) -> Any:
        """Runs on the loop."""
        if self._made is None:
            object.__setattr__(self, "_made", self._make())
        return self._made

    def _execute(self, name: str, *args: Any) -> Any:
        return getattr(self._target(), name)(*args)

    def __getattr__(self, name: str) -> Any:
        if name in EXECUTES:
            return partial(_loop.call, self._execute, name)
        target = self._made or _loop.call(self._target)
        value = getattr(target, name)
        if not inspect.ismethod(value) or (name in FETCHES and not self._fetches):
            return value
        return partial(_loop.call, value)

    def __setattr__(self, name: str, value: Any) -> None:
        _loop.call(lambda: setattr(self._target(), name, value))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def close(self) -> None:
        """Does not wait: the next statement on the connection is run after it."""
        if self._made is not None:
            _loop.submit(greenlet_spawn(self._made.close))


class Synchronous:
    """An object of an asyncio driver for threads: its coroutines are waited for, its asynchronous context managers are
    plain ones."""

    __slots__ = ("_target",)

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "_target", target)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return partial(self._call, value) if inspect.ismethod(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __enter__(self) -> Any:
        return _plain(_loop.wait(self._target.__aenter__()))

    def __exit__(self, *raised: Any) -> Any:
        return _loop.wait(self._target.__aexit__(*raised))

    @staticmethod
    def _call(method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = method(*args, **options)
        return _plain(_loop.wait(result) if inspect.isawaitable(result) else result)


def _plain(value: Any) -> Any:
    return Synchronous(value) if hasattr(value, "__aenter__") else value


class _Driven(Pool):
    """Listeners that await on connect and on check-out can: SQLAlchemy's own do, of psycopg's types."""

    def connect(self) -> Any:
        return drive(super().connect, _loop.wait, _Connecting)


class OwnQueuePool(_Driven, QueuePool):
    pass


class OwnNullPool(_Driven, NullPool):
    pass


class BorrowingPool(_Driven, TakesTurns):
    """Takes the application's connection of a database in memory, in turn with the application."""

    def __init__(self, given: "ref[Engine]", **options: Any) -> None:
        super().__init__(self._bridged, **options)
        self._given = given
        self._options = options
        self._record: Any = None
        self._target: Any = None
        self._taken: tuple[OneConnection, Any] | None = None

    @property
    def lender(self) -> OneConnection:
        pool = getattr(self._given(), "pool", None)
        if not isinstance(pool, OneConnection):
            raise StorageError("the asynchronous engine of this database in memory is gone: keep it as long as this")
        return pool

    def _bridged(self, connection_record: Any = None) -> BridgedConnection:
        return BridgedConnection(self._target)

    def _do_get(self) -> Any:
        lender = self.lender
        taken: Any = _loop.call(lender._do_get)
        try:
            target = _loop.call(taken.get_connection)
            if self._record is None or target is not self._target:
                self._target = target
                self._record = self._create_connection()
        except BaseException:  # whatever ends it, an interrupt too, another waits for the connection
            lender._do_return_conn(taken)
            raise
        self._taken = lender, taken
        return self._record

    def _do_return_conn(self, record: Any) -> None:
        if self._taken is not None:
            (lender, taken), self._taken = self._taken, None
            lender._do_return_conn(taken)

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        """The connection is the application's to close."""
        connection.rollback()

    def recreate(self) -> "BorrowingPool":
        return BorrowingPool(self._given, **self._options)

    def dispose(self) -> None:
        self._record = self._target = None


def own_engine(given: Engine) -> Engine:
    """An engine for threads that differs from an asynchronous one in its pool alone. There is one pool for each of the
    application's, disposed of with that. Raises InvalidInput for a pool that cannot be had twice."""
    inner = getattr(given, "_proxied", None)
    if inner is not None:
        made = _copied(given)
        made._proxied = own_engine(inner)  # type: ignore[attr-defined]
        return made
    if KEPT not in vars(given):
        pool = _own_pool(given)
        made = _copied(given)
        made.pool = pool
        _own.add(made)
        _close_with(made)
        event.listen(given, "engine_disposed", partial(_disposed, ref(made)))
        vars(given)[KEPT] = made
    kept: Engine = vars(given)[KEPT]
    return kept


def dispose(engine: Engine) -> None:
    """Close the connections that `own_engine` opened; it opens others when it is used again. Any other engine is left
    alone."""
    while (inner := getattr(engine, "_proxied", None)) is not None:
        engine = inner
    if engine in _own:
        _renewed(engine).dispose()


def _own_pool(given: Engine) -> Pool:
    pool = given.pool
    create = pool._invoke_creator

    def creator(connection_record: Any = None) -> Any:
        return BridgedConnection(_loop.call(create, connection_record))

    options: dict[str, Any] = {
        "recycle": pool._recycle,
        "pre_ping": pool._pre_ping,
        "reset_on_return": pool._reset_on_return,
        "echo": pool.echo,
        "logging_name": pool._orig_logging_name,
        "dialect": _for_threads(pool._dialect),
    }
    made: Pool
    if type(pool) is OneAsyncConnection:
        made = BorrowingPool(ref(given), **options)
    elif type(pool) is NullPool:
        made = OwnNullPool(creator, **options)
    elif type(pool) is AsyncAdaptedQueuePool:
        options |= {"pool_size": pool._pool.maxsize, "max_overflow": pool._max_overflow, "timeout": pool._timeout}
        made = OwnQueuePool(creator, use_lifo=pool._pool.use_lifo, **options)
    else:
        raise InvalidInput(
            f"kameleon opens connections of its own beside those of an async engine, and cannot make a second "
            f"{type(pool).__name__}. Give kameleon.create_async_engine no poolclass=, or NullPool; it opens a "
            "database in memory, too"
        )
    made.dispatch = pool.dispatch
    return made


def _for_threads(dialect: Any) -> Any:
    """The dialect for the pool: a connection that was lost can be taken back, and closed, on any thread."""
    made = copy.copy(dialect)
    made.is_async = False
    return made


def _copied(engine: Engine) -> Engine:
    engine.dispatch  # noqa: B018 - made by its first use, and shared by the copy
    made = copy.copy(engine)
    made._has_events = True
    return made


def _renewed(engine: Engine) -> Pool:
    """Give it an empty pool; returns the one that it had."""
    before = engine.pool
    _finalizers.pop(engine).detach()
    engine.pool = before.recreate()
    engine.pool.dispatch = before.dispatch
    _close_with(engine)
    return before


def _close_with(engine: Engine) -> None:
    """Close the connections of an engine that is dropped without being closed."""
    _finalizers[engine] = finalize(engine, _close, engine.pool)


def _close(pool: Pool) -> None:
    if _loop.is_this_thread():
        threading.Thread(target=pool.dispose, daemon=True).start()
    else:
        pool.dispose()


def _disposed(own: "ref[Engine]", _given: Engine) -> None:
    if (engine := own()) is not None:
        dispose(engine)


def _forget() -> None:
    """Make a new loop and empty pools in a forked process, which has neither the loop's thread nor connections."""
    global _loop
    _loop = EventLoop()
    _left.extend(_renewed(engine) for engine in _own)


_loop = EventLoop()
_own: WeakSet[Engine] = WeakSet()
_finalizers: WeakKeyDictionary[Engine, Any] = WeakKeyDictionary()
_left: list[Pool] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
