"""Calls a provider with a time limit, and off an event loop. Imports `forking` and `event_loop`."""

import logging
import sys
import time
from collections.abc import Callable
from contextvars import copy_context
from threading import BoundedSemaphore, Lock, Thread
from typing import TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from ..event_loop import on_own_thread_of
from ..forking import per_process

log = logging.getLogger("kameleon.embeddings")

T = TypeVar("T")


class BudgetedCalls:
    """Calls on threads of their own, at most `concurrency` at a time for each service. One that outlasts its budget
    keeps its place until it ends, so a provider that hangs is given no more calls than that."""

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    @per_process
    def _places(self) -> WeakKeyDictionary[object, BoundedSemaphore]:
        return WeakKeyDictionary()

    def within(self, budget_s: float | None, call: Callable[[], T], service: object, concurrency: int) -> T | None:
        """What the call returns, None if that takes longer than the budget, waiting for a place included; it then goes
        on to no effect."""
        if budget_s is None:
            return call()
        until = time.monotonic() + budget_s
        places = self._places_of(service, concurrency)
        if not places.acquire(timeout=max(0.0, budget_s)):
            log.info("embed_batch:deferred budget_s=%s, %d calls under way", budget_s, concurrency)
            return None
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                errors.append(error)
            finally:
                places.release()

        thread = Thread(target=copy_context().run, args=(run,), name="kameleon-budget", daemon=True)
        thread.start()
        thread.join(max(0.0, until - time.monotonic()))
        if errors:
            raise errors[0]
        if not results:
            log.info("embed_batch:deferred budget_s=%s", budget_s)
        return results[0] if results else None

    def _places_of(self, service: object, concurrency: int) -> BoundedSemaphore:
        """A forked process has none of its parent's threads, which would give their places back."""
        with self._lock:
            if service not in self._places:
                self._places[service] = BoundedSemaphore(concurrency)
            return self._places[service]


def is_on_loop() -> bool:
    """Whether this runs in a greenlet of SQLAlchemy's asyncio, as the commit of an AsyncSession does."""
    return "greenlet" in sys.modules and in_greenlet()


def run_off_loop(call: Callable[[], T]) -> T:
    """What the call returns; in a greenlet of SQLAlchemy's asyncio from a thread, so that the event loop goes on."""
    return await_only(on_own_thread_of(call)) if is_on_loop() else call()
