"""Between the write path and a provider: texts in, one embedding or one error a position out, in order. Imports
`values`, `errors`, `telemetry` and `forking`.

validate -> deduplicate -> look up in the cache -> slice -> request -> check -> merge -> report

A failure has one of three kinds. *Bad text*: the slice is halved until the text is alone, so that every other text is
embedded. *Outage*: the request is tried again, while all others wait; if it stays, the run ends and what was not
embedded stays pending. *Refused for all*: the run ends at once. What is done is kept in every case. `batch_run` decides
which it is.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeVar

import numpy as np

from ..errors import InvalidInput, ProviderError, ProviderRefused, TextRefused
from ..forking import per_process
from ..values import BATCH_GENERATED, Noise
from .awaiting import embed_batch
from .batch_run import BatchRun
from .batching import Limits, slices
from .cache import EmbeddingCache, text_key
from .checking import outage
from .describing import batch, count_texts
from .in_flight import InFlight, InFlightTexts
from .noise import SENTENCES, noise_of
from .options import check_passage_tokens, check_query_timeout
from .passages import Place, split_long
from .provider import EmbeddingProvider, Vector
from .queries import MAX_CACHED, Queries, query_timeout_of
from .report import EmbeddingReport as EmbeddingReport
from .requesting import Outcome
from .retry import Pace

log: logging.Logger = logging.getLogger("kameleon.embeddings")

T = TypeVar("T")

OnError = Literal["raise", "collect"]
Truncate = Literal["end", "error"]
Listener = Callable[[str, Mapping[str, float]], None]

TEXTS_A_CHUNK = 10_000
"""Bounds the texts whose vectors and requests are held besides the report. Chosen, not measured."""


class EmbeddingService:
    """All calls of one provider go through it. Threads may share it.

    `batch_size` (texts a request) and `workers` (requests at a time) lower what the provider states. `cache=None` looks
    nothing up. `truncate="error"` refuses a text over the model's limit instead of embedding its beginning. `backoff_s`
    is the wait before the second attempt, doubled for each further one. `listeners` may be shared between services.
    `query_timeout` replaces the provider's own.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        *,
        cache: EmbeddingCache | None = None,
        batch_size: int | None = None,
        workers: int | None = None,
        truncate: Truncate = "end",
        backoff_s: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
        listeners: list[Listener] | None = None,
        query_timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = {"batch_size": batch_size, "workers": workers}
        limits |= {f"{provider.model_name}'s {name}": getattr(provider, name) for name in ("batch_size", "concurrency")}
        for name, value in limits.items():
            if value is not None and value < 1:
                raise InvalidInput(f"{name} is at least 1, not {value}")
        check_passage_tokens(provider.passage_tokens)
        self.provider = provider
        self.cache = cache
        self.batch_size: int = min(batch_size or provider.batch_size, provider.batch_size)
        self.workers: int = min(workers or provider.concurrency, provider.concurrency)
        self.truncate = truncate
        self.backoff_s = backoff_s
        self.pace: Pace = Pace(sleep)
        self.limits: Limits = Limits(self.batch_size, self.workers)
        self._listeners = listeners if listeners is not None else []
        self.outage: ProviderError | None = None
        limit_s = query_timeout_of(provider, check_query_timeout(query_timeout))
        self.queries: Queries = Queries(provider, timeout_s=limit_s, load=self.load, clock=clock)
        self._noise: Noise | None = None
        self._is_noise_known = False
        self._known_shares = lru_cache(MAX_CACHED)(self._known_share)

    @per_process
    def _in_flight(self) -> InFlightTexts[Outcome]:
        return InFlightTexts()

    @per_process
    def _is_loaded(self) -> bool:
        return False

    @per_process
    def is_identified(self) -> bool:
        return False

    @property
    def is_given(self) -> bool:
        """Whether the vectors come from outside, and the provider is not called."""
        return bool(getattr(self.provider, "is_given", False))

    def load(self) -> None:
        """Load the model, if that is not done. Raises ProviderError."""
        if not self._is_loaded:
            self.identify()
            self._call_method(lambda provider: provider.load())
            self._is_loaded = True

    def identify(self) -> None:
        """Raises ProviderError where the provider fails to give its fingerprint, dimensions or options, such as where
        a file is missing."""
        if not self.is_identified:
            self._call_method(lambda provider: (provider.fingerprint, provider.dimensions, provider.options))
            self.is_identified, self.outage = True, None

    def split(self, texts: Sequence[str]) -> dict[str, list[Place]]:
        """The passages of those texts that have more than one. Raises ProviderError."""
        return self._call_method(lambda provider: split_long(texts, provider))

    def _call_method(self, call: Callable[[EmbeddingProvider], T]) -> T:
        try:
            return call(self.provider)
        except InvalidInput:
            raise  # it is declared wrongly, which no later try mends
        except Exception as error:  # a provider is the application's code: whatever it raises is an outage
            self.outage = outage(error)
            raise self.outage from error

    def listen(self, listener: Listener) -> None:
        """Call `listener(event, figures)` after each batch, on the caller's thread. The event is
        `embedding.batch_generated`, with total_count, cache_hits, api_calls, processing_time_ms, avg_latency_ms."""
        self._listeners.append(listener)

    def embed_batch(
        self,
        texts: Sequence[str],
        *,
        on_error: OnError = "raise",
        progress: Callable[[int], None] | None = None,
        cache: EmbeddingCache | None = None,
        workers: int | None = None,
    ) -> EmbeddingReport:
        """Embed passages. `on_error="raise"` raises the first error, one in the input before any request;
        `"collect"` leaves each in its position. `progress(done)` counts texts; `cache` replaces the service's,
        and `workers` its number of requests at a time."""
        started = time.perf_counter()
        report = EmbeddingReport(self.provider.model_name, self.batch_size, workers or self.workers)
        if texts:
            with batch(self.provider) as observed:
                self._embed(texts, on_error, progress, cache or self.cache, report)
                count_texts(observed, report)
        if report.outage or report.requests:
            self.outage = report.outage
        report.texts = texts
        report.processing_time_seconds = time.perf_counter() - started
        self._publish(report)
        if on_error == "raise" and (error := next(filter(None, report.errors), None)):
            raise error
        return report

    def embed_query(self, text: str) -> Vector:
        """A query's unit vector, kept in memory: one try, within `query_timeout`. Raises ProviderError."""
        return self.queries.embed(text)[0]

    def known_share(self, text: str) -> float:
        """The share of a query that the model's vocabulary covers, 0 to 1, kept in memory as the query's vector is; 1
        where the provider fails."""
        try:
            return self._known_shares(text)
        except ProviderError as error:
            log.warning("known_share: %s", error)
            return 1.0

    def knows_word(self, word: str) -> bool:
        """Whether the model's vocabulary has a word; False where the provider fails."""
        try:
            return bool(self._call_method(lambda provider: provider.knows_word(word)))
        except ProviderError as error:
            log.warning("knows_word: %s", error)
            return False

    def noise(self) -> Noise | None:
        """The provider's, or measured with one more request, once. None where it cannot be measured, or not now."""
        if not self._is_noise_known:
            stated = self._call_method(lambda provider: provider.noise)
            report = None if stated else self.embed_batch(SENTENCES, on_error="collect")
            self._noise = noise_of(report.embeddings) if report else stated
            self._is_noise_known = report is None or report.outage is None
        return self._noise

    def forget_queries(self) -> None:
        """Drop what is kept of queries: the model may give other vectors now."""
        self.queries.forget()
        self._known_shares.cache_clear()

    def _known_share(self, text: str) -> float:
        return min(1.0, max(0.0, self._call_method(lambda provider: provider.known_share(text))))

    def _embed(
        self,
        texts: Sequence[str],
        on_error: OnError,
        progress: Callable[[int], None] | None,
        cache: EmbeddingCache | None,
        report: EmbeddingReport,
    ) -> None:
        outcomes: dict[str, Vector | ProviderError] = {}
        invalid = self._invalid(texts)
        if invalid and on_error == "raise":
            position, error = next(iter(invalid.items()))
            raise TextRefused(f"text {position}: {error}", reason=error.reason)
        wanted = [text for position, text in enumerate(texts) if position not in invalid] if invalid else texts
        distinct = list(dict.fromkeys(wanted))
        log.info("embed_batch:enter texts=%d distinct=%d model=%s", len(texts), len(distinct), report.model)
        hits: set[str] = set()
        run = BatchRun(self, self._call, report)
        for start in range(0, len(distinct), TEXTS_A_CHUNK):
            outcomes.update(self._embedded(distinct[start : start + TEXTS_A_CHUNK], run, cache, hits))
            if progress:
                progress(min(len(distinct), start + TEXTS_A_CHUNK) + len(texts) - len(distinct))
        merged = [invalid[i] if i in invalid else outcomes[t] for i, t in enumerate(texts)]
        report.embeddings = [None if isinstance(o, ProviderError) else o for o in merged]
        report.errors = [o if isinstance(o, ProviderError) else None for o in merged]
        report.cached = [text in hits for text in texts] if hits else [False] * len(texts)
        report.reused = repeated(texts) if len(distinct) < len(wanted) else frozenset()

    def _invalid(self, texts: Sequence[Any]) -> dict[int, TextRefused]:
        limit = self.provider.max_tokens if self.truncate == "error" else None
        found: dict[int, TextRefused] = {}
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                found[position] = TextRefused(f"not a text but {type(text).__name__}")
            elif not text:
                found[position] = TextRefused("an empty text has no embedding")
            elif limit is not None and (tokens := self.provider.count_tokens(text)) > limit:
                found[position] = TextRefused(f"{tokens} tokens, the model takes {limit}", reason="too_long")
        return found

    def _embedded(
        self, texts: list[str], run: BatchRun, cache: EmbeddingCache | None, hits: set[str]
    ) -> dict[str, Outcome]:
        """Embed each text once, whichever other threads embed it at this moment; `hits` gets those that the cache had.
        What another thread embeds counts as embedded, and is put in this call's cache: its caller may write for other
        tenants."""
        outcomes: dict[str, Outcome] = {}
        try:
            self.identify()
        except ProviderError as error:
            return dict.fromkeys(texts, error)
        while texts:
            with self._in_flight.begun(texts) as in_flight:
                found = self._cached(in_flight.own, cache)
                in_flight.resolve(found)
                missing = [text for text in in_flight.own if text not in found]
                outcomes.update(found)
                outcomes.update(self._requested(missing, run, cache, in_flight))
            awaited = {text: other.outcome(text) for text, other in in_flight.others.items()}
            shared = {text: outcome for text, outcome in awaited.items() if outcome is not None}
            hits.update(found)
            outcomes.update(shared)
            self._put(shared, cache)
            texts = [text for text in awaited if text not in shared]
        return outcomes

    def _cached(self, texts: Sequence[str], cache: EmbeddingCache | None) -> dict[str, Vector]:
        if cache is None or not texts:
            return {}
        keys = {text_key(text): text for text in texts}
        return {keys[key]: vector for key, vector in cache.get(self.provider.fingerprint, list(keys)).items()}

    def _requested(
        self, texts: list[str], run: BatchRun, cache: EmbeddingCache | None, in_flight: InFlight[Outcome]
    ) -> dict[str, Outcome]:
        """Embed texts that are not in the cache, and put them there."""
        if not texts:
            return {}
        try:
            wanted = self._call_method(lambda provider: list(self._slices(texts, provider)))
        except ProviderError as error:
            return dict.fromkeys(texts, error)
        outcomes = run.process(texts, wanted, in_flight.resolve)
        in_flight.resolve(outcomes)
        self._put(outcomes, cache)
        return outcomes

    def _put(self, outcomes: Mapping[str, Outcome], cache: EmbeddingCache | None) -> None:
        if cache is not None:
            made = {text_key(t): o for t, o in outcomes.items() if not isinstance(o, ProviderError)}
            if made:
                cache.put(self.provider.fingerprint, made)

    def _slices(self, texts: Sequence[str], provider: EmbeddingProvider) -> Iterator[list[int]]:
        limit = provider.max_batch_tokens
        tokens = [provider.count_tokens(text) for text in texts] if limit is not None else [0] * len(texts)
        return slices(tokens, texts=min(self.batch_size, self.limits.size), total=limit)

    def _call(self, texts: Sequence[str]) -> Any:
        prefix = self.provider.passage_prefix
        vectors = embed_batch(self.provider, [prefix + text for text in texts] if prefix else texts)
        self.queries.recovered()
        if isinstance(vectors, list | tuple | np.ndarray):
            return vectors
        if not isinstance(vectors, Iterable) or isinstance(vectors, str | bytes | Mapping):
            name = type(vectors).__name__
            raise ProviderRefused(f"{self.provider.model_name}: embed_batch gives vectors, not {name}")
        return list(vectors)

    def _publish(self, report: EmbeddingReport) -> None:
        log.info(
            "embed_batch:success texts=%d embedded=%d failed=%d cached=%d requests=%d ms=%.1f",
            report.total_count,
            sum(vector is not None for vector in report.embeddings),
            sum(error is not None for error in report.errors),
            report.cache_hits,
            report.requests,
            1000 * report.processing_time_seconds,
        )
        figures = {
            "total_count": report.total_count,
            "cache_hits": report.cache_hits,
            "api_calls": report.requests,
            "processing_time_ms": 1000 * report.processing_time_seconds,
            "avg_latency_ms": report.avg_latency_ms,
        }
        for listener in self._listeners:
            listener(BATCH_GENERATED, figures)


def repeated(texts: Sequence[str]) -> frozenset[int]:
    """The positions of texts that have an equal one before them."""
    first: dict[str, int] = {}
    return frozenset(position for position, text in enumerate(texts) if first.setdefault(text, position) != position)
