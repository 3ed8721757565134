"""Sends requests to a provider: checks their answers, repeats them during an outage, and tests the provider with a
probe. Imports `errors`."""

import logging
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Protocol

from ..errors import ProviderError, ProviderRefused, ProviderUnavailable, TextRefused
from .batching import Limits
from .checking import Unexplained, checked, provider_error
from .describing import request
from .provider import EmbeddingProvider, Vector
from .report import EmbeddingReport
from .retry import LONGEST_WAIT_S, Pace, backoff_s

log: logging.Logger = logging.getLogger("kameleon.embeddings")

PROBE = "A short text."
RATE_LIMITS = (408, 409, 425, 429)
"""HTTP statuses that are never about the texts of one request."""

Outcome = Vector | ProviderError


class Shared(Protocol):
    """What all runs of a service share: an EmbeddingService."""

    provider: EmbeddingProvider
    limits: Limits
    pace: Pace
    backoff_s: float


class Requests:
    """The requests of one run, safe to share between threads; counted in `report`.

    `stopped` is the error that ended the run. `quickest_s` is the shortest time in which a request was answered,
    `failed_s` how long the last one took that was not.
    """

    def __init__(self, service: Shared, call: Callable[[Sequence[str]], Any], report: EmbeddingReport) -> None:
        self._service = service
        self._provider = service.provider
        self._call = call
        self.report = report
        self.stopped: ProviderError | None = None
        self.quickest_s: float = 0.0
        self.failed_s: float = 0.0
        self._has_recovered = False
        self._counting = Lock()
        self._recovering = Lock()

    def answer(self, texts: Sequence[str], *, is_isolating: bool) -> Sequence[Outcome] | ProviderError:
        """The vectors and errors of a slice's texts, or the error of the request. `is_isolating`: the texts are part of
        a slice that was refused."""
        try:
            return self._checked(self._request(texts, is_isolating=is_isolating), len(texts))
        except ProviderError as error:
            return error

    def probe(self) -> ProviderError | None:
        """Why the provider does not take a short text of the service's own, None if it does."""
        self.report.probes += 1
        try:
            (outcome,) = self._checked(self._send([PROBE]), 1)
        except ProviderError as error:
            return error
        return outcome if isinstance(outcome, ProviderError) else None

    def stop(self, error: ProviderError) -> ProviderError:
        """End the run with the error of all texts, the first one's if there was one."""
        if isinstance(error, TextRefused):
            error = ProviderRefused(f"{self._provider.model_name} fails on every text: {error}")
        self.stopped = self.stopped or error
        self._service.limits.failed()
        return self.stopped

    def _checked(self, vectors: Sequence[Any], texts: int) -> Sequence[Outcome]:
        if len(vectors) != texts:
            raise Unexplained(f"{self._provider.model_name} gave {len(vectors)} vectors for {texts} texts")
        return [checked(vector, self._provider.dimensions) for vector in vectors]

    def _request(self, texts: Sequence[str], *, is_isolating: bool) -> Any:
        """One request, repeated during an outage; meanwhile the others wait for its outcome."""
        with self._recovering:
            pass
        if self.stopped is not None:
            raise self.stopped
        try:
            return self._send(texts)
        except ProviderUnavailable as error:
            if error.timed_out and len(texts) > 1:
                raise
            if (is_isolating or self._has_recovered) and error.status not in RATE_LIMITS:
                raise
            with self._recovering:
                return self._repeat(texts, error, is_isolating=is_isolating)

    def _repeat(self, texts: Sequence[str], error: ProviderError, *, is_isolating: bool) -> Any:
        """Before the last attempt the probe is sent: it ends the run, or shows that the error is of these texts."""
        attempts = min(2, self._provider.attempts) if is_isolating else self._provider.attempts
        is_of_texts = is_isolating
        for attempt in range(1, attempts):
            if self.stopped is not None:
                raise self.stopped
            if not self._pause(attempt, error, len(texts)):
                is_of_texts = False
                break
            if attempt == attempts - 1 and not is_isolating:
                if (failure := self.probe()) is not None:
                    raise self.stop(failure)
                is_of_texts = self._has_recovered = True
            self.report.retries += 1
            try:
                return self._send(texts)
            except ProviderUnavailable as again:
                error = again
        raise error if is_of_texts else self.stop(error)

    def _pause(self, attempt: int, error: ProviderError, texts: int) -> bool:
        """Make all requests of the service wait before the next attempt; False if that is to be too long."""
        wait_s = error.retry_after_s if isinstance(error, ProviderUnavailable) else None
        if wait_s is not None and wait_s > LONGEST_WAIT_S:
            return False
        pause = backoff_s(attempt, self._service.backoff_s) if wait_s is None else wait_s
        log.warning("embed_batch:retry texts=%d attempt=%d wait_s=%.2f", texts, attempt + 1, pause)
        self._service.pace.slow_down(pause)
        return True

    def _send(self, texts: Sequence[str]) -> Any:
        """Call the provider; what it raises beyond kameleon's errors is an outage or a refusal of these texts."""
        self._service.pace.wait()
        log.debug("embed_batch:provider_call texts=%d", len(texts))
        started = time.perf_counter()
        is_answered = False
        try:
            with request(self._provider, "passages", len(texts)):
                answer = self._call(texts)
            is_answered = True
            return answer
        except ProviderError:
            raise
        except Exception as error:  # a provider is the application's code: provider_error classifies what it raises
            raise provider_error(error) from error
        finally:
            seconds = time.perf_counter() - started
            with self._counting:
                self.report.requests += 1
                self.report.busy_seconds += seconds
                if not is_answered:
                    self.failed_s = seconds
                elif texts != [PROBE]:
                    self.quickest_s = min(self.quickest_s or seconds, seconds)
