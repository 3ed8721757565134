"""Waiting for a provider: not for ever, and not on an event loop."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import TypeVar

from sqlalchemy.util import await_only

log = logging.getLogger("kameleon.embeddings")

T = TypeVar("T")


def within(budget_s: float | None, call: Callable[[], T]) -> T | None:
    """What the call returns, None if that takes longer than the budget; it then goes on by itself, to no effect."""
    if budget_s is None:
        return call()
    pool = ThreadPoolExecutor(1, thread_name_prefix="kameleon-budget")
    going: Future[T] = pool.submit(call)
    pool.shutdown(wait=False)
    try:
        return going.result(budget_s)
    except TooLate:
        log.info("embed_batch:deferred budget_s=%s", budget_s)
        return None


def off_the_loop(call: Callable[[], T]) -> T:
    """What the call returns, from a thread: in a greenlet of SQLAlchemy's asyncio the event loop goes on meanwhile."""
    return await_only(asyncio.to_thread(call))
