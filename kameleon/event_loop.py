"""What threads await: on an event loop of kameleon's, or on that of the coroutine that called. Imports nothing of
kameleon's."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")

LOOKS_EVERY_S = 1.0
"""How soon a thread sees that the event loop which it waits for has stopped. Chosen, not measured."""


class EventLoop:
    """An event loop on a daemon thread, begun with its first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.SelectorEventLoop()  # psycopg takes no other on Windows
                self._thread = threading.Thread(target=self._loop.run_forever, name="kameleon-asyncio", daemon=True)
                self._thread.start()
            return self._loop

    def is_this_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def submit(self, awaitable: Awaitable[T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(awaited(awaitable), self._started())

    def wait(self, awaitable: Awaitable[T]) -> T:
        """The result, awaited on the loop; an interrupt of this thread cancels it."""
        if self.is_this_thread():
            raise RuntimeError("kameleon's event loop would wait for itself: use this connection on another thread")
        future = self.submit(awaitable)
        try:
            return future.result()
        except BaseException:  # an interrupt of this thread, too, ends what is awaited for it
            future.cancel()
            raise

    def call(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a function of SQLAlchemy's adaptation of a driver, which awaits inside."""
        from sqlalchemy.util import greenlet_spawn  # a provider alone does not load SQLAlchemy

        return self.wait(greenlet_spawn(function, *args, **options))


async def awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


_calling: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("kameleon_calling", default=None)
"""The event loop whose coroutine awaits what this context does on a thread."""


async def on_a_thread_of(call: Callable[[], T]) -> T:
    """What the call returns on a thread; `on_calling_loop` leads from there to the loop that runs now."""
    loop = asyncio.get_running_loop()

    def run() -> T:
        _calling.set(loop)
        return call()

    return await asyncio.to_thread(run)


async def on_own_thread_of(call: Callable[[], T]) -> T:
    """The same on a thread that is made for it: of those of `asyncio.to_thread` all may be waiting for what the caller
    holds."""
    loop, found = asyncio.get_running_loop(), Future[T]()
    found.set_running_or_notify_cancel()  # the thread is left to itself where the coroutine is cancelled
    context = copy_context()

    def run() -> None:
        _calling.set(loop)
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            found.set_exception(error)
        else:
            found.set_result(result)

    threading.Thread(target=context.run, args=(run,), name="kameleon-call", daemon=True).start()
    return await asyncio.wrap_future(found)


def calling_loop() -> asyncio.AbstractEventLoop | None:
    """The running event loop whose coroutine awaits what is done here; None where a plain call does it."""
    loop = _calling.get()
    return loop if loop is not None and loop.is_running() else None


def on_calling_loop(loop: asyncio.AbstractEventLoop, verb: Callable[..., Awaitable[T]], *args: Any) -> T:
    """What the verb returns, awaited on the loop while this thread waits. Raises RuntimeError where the loop stops."""

    async def called() -> T:
        _calling.set(None)  # a plain call of what is awaited would wait for its own loop
        return await verb(*args)

    future = asyncio.run_coroutine_threadsafe(called(), loop)
    try:
        while not wait([future], LOOKS_EVERY_S).done:
            if not loop.is_running():
                raise RuntimeError("the event loop of the coroutine that called has stopped")
        return future.result()
    except BaseException:  # an interrupt of this thread, too, ends what is awaited for it
        future.cancel()
        raise
