"""Embeds queries: one try each, within a time limit, and never behind a bulk job of the same provider."""

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Lock, Thread
from weakref import WeakSet

from ..errors import ProviderError, ProviderUnavailable, TextRefused
from .checking import check_vector, provider_error
from .provider import EmbeddingProvider, Vector

log = logging.getLogger("kameleon.embeddings")

QUERIES_REMEMBERED = 256
NETWORK_TIMEOUT_S = 3.0
"""Bounds what a search waits for a provider over the network that does not name a limit of its own."""
PAUSE_S = 5.0
"""For this long after a failed try, queries do without the provider; then one of them tries it again."""
MOST_ABANDONED = 8
"""Bounds the threads that still wait for answers which no search waits for any more."""

_all: "WeakSet[Queries]" = WeakSet()


class Queries:
    """The queries of one provider, safe to share between threads. One text that several threads embed at a time is sent
    once. `timeout_s` None is no limit: then a failure is not remembered either."""

    def __init__(
        self,
        provider: EmbeddingProvider,
        *,
        timeout_s: float | None,
        load: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._timeout_s = timeout_s
        self._load = load
        self._clock = clock
        self._known: OrderedDict[str, Vector] = OrderedDict()
        self._failure: ProviderError | None = None
        self._pause_ends = 0.0
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """Forget what other threads were doing: a forked child has none of them."""
        self._lock = Lock()
        self._in_flight: dict[str, Future[Vector]] = {}
        self._abandoned: set[Future[Vector]] = set()

    def embed(self, text: str) -> tuple[Vector, bool]:
        """The query's unit vector, and whether it was in memory. Raises ProviderError, at once while a failure is
        remembered."""
        if (vector := self._remembered(text)) is not None:
            return vector, True
        if self._timeout_s is not None:
            self._load()
        with self._lock:
            if text in self._known:  # another thread has embedded it meanwhile
                return self._known[text], True
            self._check_pause()
            flight = self._in_flight.get(text)
            is_first = flight is None
            flight = self._in_flight[text] = flight or Future()
        if is_first:
            self._start(text, flight)
        return self._awaited(text, flight), False

    def _remembered(self, text: str) -> Vector | None:
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
            return self._known.get(text)

    def recovered(self) -> None:
        """The provider has answered, here or elsewhere."""
        self._failure = None

    def forget(self) -> None:
        """Nothing is remembered of queries any more: the model may give other vectors now."""
        with self._lock:
            self._known.clear()

    def _check_pause(self) -> None:
        """Raises what was raised last, until the pause is over. Whoever comes first then tries for all."""
        if self._failure is None:
            return
        if self._clock() < self._pause_ends or len(self._abandoned) >= MOST_ABANDONED:
            raise self._failure.with_traceback(None)
        self._pause_ends = self._clock() + PAUSE_S

    def _start(self, text: str, flight: "Future[Vector]") -> None:
        if self._timeout_s is None:
            self._run(text, flight)
            return
        run = copy_context().run
        Thread(target=run, args=(self._run, text, flight), name="kameleon-query", daemon=True).start()

    def _run(self, text: str, flight: "Future[Vector]") -> None:
        try:
            asked = self._provider.query_prefix + text
            vector = check_vector(self._provider.embed_query(asked), self._provider.dimensions)
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self._ended(text, flight)
            flight.set_exception(provider_error(error))
        except BaseException:
            self._ended(text, flight)
            flight.set_exception(ProviderUnavailable("the thread that embedded this query was interrupted"))
            raise
        else:
            self._ended(text, flight, vector)
            flight.set_result(vector)

    def _ended(self, text: str, flight: "Future[Vector]", vector: Vector | None = None) -> None:
        with self._lock:
            self._abandoned.discard(flight)
            if self._in_flight.get(text) is flight:
                del self._in_flight[text]
            if vector is None:
                return
            self._failure = None
            self._known[text] = vector
            while len(self._known) > QUERIES_REMEMBERED:
                self._known.popitem(last=False)

    def _awaited(self, text: str, flight: "Future[Vector]") -> Vector:
        try:
            return flight.result(self._timeout_s)
        except TextRefused:
            raise
        except ProviderError as error:
            self._fail(error)
            raise
        except TimeoutError:
            name = self._provider.model_name
            late = ProviderUnavailable(f"{name} gave no answer within {self._timeout_s:g} s (query_timeout)")
            self._abandon(text, flight)
            self._fail(late)
            raise late from None

    def _abandon(self, text: str, flight: "Future[Vector]") -> None:
        with self._lock:
            if not flight.done():
                self._abandoned.add(flight)
                self._in_flight.pop(text, None)

    def _fail(self, error: ProviderError) -> None:
        if self._timeout_s is None:
            return
        log.warning("embed_query:failed pause_s=%g: %s", PAUSE_S, error)
        with self._lock:
            self._failure = error
            self._pause_ends = self._clock() + PAUSE_S


def query_timeout_of(provider: EmbeddingProvider, given: float | None) -> float | None:
    """Seconds: as given, or the provider's own, or those of its kind; None is no limit."""
    if given is not None or provider.query_timeout is not None:
        return provider.query_timeout if given is None else given
    return NETWORK_TIMEOUT_S if provider.is_costly else None


def _renew_after_fork() -> None:
    for queries in list(_all):
        queries.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
