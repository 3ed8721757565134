"""An event loop for what threads await. Imports nothing of kameleon's."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")


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
        return self.wait(greenlet_spawn(function, *args, **options))


async def awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
