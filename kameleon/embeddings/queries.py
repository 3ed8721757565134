"""Embeds queries: one try each, within a time limit, and never behind a bulk job of the same provider. Imports `errors`
and `forking`."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Lock, Thread
from typing import NamedTuple

from ..errors import ProviderError, ProviderUnavailable, TextRefused
from ..forking import per_process
from .awaiting import embed_query
from .checking import check_vector, provider_error
from .describing import request
from .provider import EmbeddingProvider, Vector

log: logging.Logger = logging.getLogger("kameleon.embeddings")

MAX_CACHED = 256
"""Bounds the queries whose vectors are kept in memory. Chosen, not measured."""
NETWORK_TIMEOUT_S = 3.0
"""Bounds what a search waits for a provider over the network that names no limit of its own. Chosen, not measured."""
PAUSE_S = 5.0
"""For this long after a failed try, queries do without the provider; then one of them tries it again."""
MAX_ABANDONED = 8
"""Bounds the threads that still wait for answers which no search waits for any more. Chosen, not measured."""


class Query(NamedTuple):
    """A text, and the tenants whose records it is to find: what others ask is not shared with these."""

    asker: Hashable
    text: str


class Queries:
    """Embeds the queries of one provider. Threads may share it: one text that several embed at a time for one asker is
    sent once. `timeout_s` None is no limit: then a failure is not kept either."""

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
        self._cached: OrderedDict[Query, Vector] = OrderedDict()
        self._failure: ProviderError | None = None
        self._pause_ends = 0.0

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    @per_process
    def _in_flight(self) -> dict[Query, Future[Vector]]:
        return {}

    @per_process
    def _abandoned(self) -> set[Future[Vector]]:
        return set()

    def embed(self, text: str, asker: Hashable = ("",)) -> tuple[Vector, bool]:
        """The query's unit vector, and whether it was in memory for these tenants. Raises ProviderError, at once during
        the pause after a failure."""
        query = Query(asker, text)
        if (vector := self._from_cache(query)) is not None:
            return vector, True
        if self._timeout_s is not None:
            self._load()
        with self._lock:
            if query in self._cached:  # another thread has embedded it meanwhile
                return self._cached[query], True
            self._check_pause()
            flight = self._in_flight.get(query)
            is_first = flight is None
            flight = self._in_flight[query] = flight or Future()
        if is_first:
            self._start(query, flight)
        return self._awaited(query, flight), False

    def _from_cache(self, query: Query) -> Vector | None:
        with self._lock:
            if query in self._cached:
                self._cached.move_to_end(query)
            return self._cached.get(query)

    def recovered(self) -> None:
        """End the pause: the provider has answered, here or elsewhere."""
        self._failure = None

    def forget(self) -> None:
        """Drop all vectors: the model may give other ones now."""
        with self._lock:
            self._cached.clear()

    def _check_pause(self) -> None:
        """Raises what was raised last, until the pause is over. The first query after it tries the provider for all."""
        if self._failure is None:
            return
        if self._clock() < self._pause_ends or len(self._abandoned) >= MAX_ABANDONED:
            raise self._failure.with_traceback(None)
        self._pause_ends = self._clock() + PAUSE_S

    def _start(self, query: Query, flight: Future[Vector]) -> None:
        if self._timeout_s is None:
            self._run(query, flight)
            return
        run = copy_context().run
        Thread(target=run, args=(self._run, query, flight), name="kameleon-query", daemon=True).start()

    def _run(self, query: Query, flight: Future[Vector]) -> None:
        try:
            text = self._provider.query_prefix + query.text
            with request(self._provider, "query", 1):
                vector = check_vector(embed_query(self._provider, text), self._provider.dimensions)
        except Exception as error:  # noqa: BLE001 - raised by `result` in every thread that waits for this query
            self._ended(query, flight)
            flight.set_exception(provider_error(error))
        except BaseException:  # an interrupt of this thread: the others that wait get an error of their own
            self._ended(query, flight)
            flight.set_exception(ProviderUnavailable("the thread that embedded this query was interrupted"))
            raise
        else:
            self._ended(query, flight, vector)
            flight.set_result(vector)

    def _ended(self, query: Query, flight: Future[Vector], vector: Vector | None = None) -> None:
        with self._lock:
            self._abandoned.discard(flight)
            if self._in_flight.get(query) is flight:
                del self._in_flight[query]
            if vector is None:
                return
            self._failure = None
            self._cached[query] = vector
            while len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)

    def _awaited(self, query: Query, flight: Future[Vector]) -> Vector:
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
            with self._lock:
                if not flight.done():
                    self._abandoned.add(flight)
                    self._in_flight.pop(query, None)
            self._fail(late)
            raise late from None

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
