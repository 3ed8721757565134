"""Waiting for a provider: not for ever, and not on an event loop."""

import asyncio
import logging
from collections.abc import Callable
from threading import Lock, Thread
from typing import TypeVar

from sqlalchemy.util import await_only

from ..forking import per_process

log = logging.getLogger("kameleon.embeddings")

T = TypeVar("T")


class Patience:
    """Calls on a thread of their own, which nobody waits for at the end. While one has outlasted its budget no other is
    begun: a provider that hangs is asked once."""

    @per_process
    def _going(self) -> Lock:
        return Lock()

    def within(self, budget_s: float | None, call: Callable[[], T]) -> T | None:
        """What the call returns, None if that takes longer than the budget; it then goes on to no effect."""
        if budget_s is None:
            return call()
        if not self._going.acquire(timeout=budget_s):
            return None
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                errors.append(error)
            finally:
                self._going.release()

        thread = Thread(target=run, name="kameleon-budget", daemon=True)
        thread.start()
        thread.join(budget_s)
        if errors:
            raise errors[0]
        if not results:
            log.info("embed_batch:deferred budget_s=%s", budget_s)
        return results[0] if results else None


def off_the_loop(call: Callable[[], T]) -> T:
    """What the call returns, from a thread: in a greenlet of SQLAlchemy's asyncio the event loop goes on meanwhile."""
    return await_only(asyncio.to_thread(call))
