"""When to repeat a request: back-off, Retry-After, and one pace for all the requests of a service. Imports
`forking`."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import random
from threading import Lock

from ..forking import per_process

LONGEST_WAIT_S, LONGEST_BACKOFF_S = 120.0, 8.0
"""Bound the wait that a server requests, beyond which the run ends, and the wait without one. Chosen, not measured."""


def backoff_s(attempt: int, base_s: float, chance: Callable[[], float] = random) -> float:
    """Full jitter: evenly between 0 and base · 2^(attempt - 1), 8 seconds at most; `attempt` counts from 1.

    (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
    """
    return chance() * min(LONGEST_BACKOFF_S, base_s * 2.0 ** (attempt - 1))


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a server wants to pass, from `retry-after-ms` or `retry-after` (seconds or an HTTP date)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.isascii() and value.replace(".", "", 1).isdigit():
            return float(value) / unit
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


class Pace:
    """Delays requests: one that has to wait makes all the others wait too."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._not_before = 0.0

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    def slow_down(self, seconds: float) -> None:
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)

    def wait(self) -> None:
        with self._lock:
            seconds = self._not_before - self._clock()
        if seconds > 0:
            self._sleep(seconds)
