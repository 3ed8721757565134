"""Between the write path and a provider: texts in, one embedding or one error a position out, in order.

validate -> deduplicate -> look up in the cache -> slice -> request -> check -> merge -> report

A failure has one of three kinds. *Bad text*: the slice is halved until the text stands alone, so that it costs its
neighbours nothing. *Outage*: the request is tried again, while all others wait; if it stays, the run ends and what was
not reached is left for another time. *Refused for all*: the run ends at once. What is done is kept in every case.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import Any, Literal

import numpy as np

from ..errors import InvalidInput, ProviderError, ProviderRefused, ProviderUnavailable, TextRefused
from ..forking import per_process
from ..values import BATCH_GENERATED
from .batching import halves, slices
from .cache import EmbeddingCache, text_key
from .checking import Unexplained, check_all, provider_error
from .options import check_query_timeout
from .provider import EmbeddingProvider, EmbeddingResult, Vector, check_passage_tokens
from .queries import Queries, query_timeout_of
from .retry import LONGEST_WAIT_S, Pace, backoff_s

log = logging.getLogger("kameleon.embeddings")

OnError = Literal["raise", "collect"]
Truncate = Literal["end", "error"]
Listener = Callable[[str, Mapping[str, float]], None]

TEXTS_A_CHUNK = 10_000
DOUBTFUL_TEXTS = 8


@dataclass
class EmbeddingReport:
    """What `embed_batch` brought: `embeddings`, `errors` and `cached` have one entry a text; of the first two exactly
    one is not None.

    `requests` counts calls of the provider, `retries` those that repeated one, `fallbacks` those that halving a refused
    slice added; `reused` are the positions served by an identical text of the same call. `worker_utilization` is the
    share of the workers' time, 0..1, in which a request was under way; `avg_latency_ms` is that of a request.
    """

    model: str
    batch_size: int
    concurrent_workers: int
    texts: Sequence[str] = ()
    embeddings: list[Vector | None] = field(default_factory=list)
    errors: list[ProviderError | None] = field(default_factory=list)
    cached: list[bool] = field(default_factory=list)
    reused: frozenset[int] = frozenset()
    requests: int = 0
    retries: int = 0
    fallbacks: int = 0
    processing_time_seconds: float = 0.0
    requesting_seconds: float = 0.0
    busy_seconds: float = 0.0

    @property
    def total_count(self) -> int:
        return len(self.embeddings)

    @property
    def cache_hits(self) -> int:
        return sum(self.cached)

    @property
    def cache_hit_rate(self) -> float:
        return self.cache_hits / self.total_count if self.total_count else 0.0

    @property
    def avg_latency_ms(self) -> float:
        return 1000 * self.busy_seconds / self.requests if self.requests else 0.0

    @property
    def worker_utilization(self) -> float:
        possible = self.requesting_seconds * self.concurrent_workers
        return min(1.0, self.busy_seconds / possible) if possible else 0.0

    @property
    def errors_by_class(self) -> dict[str, int]:
        return dict(Counter(type(error).__name__ for error in self.errors if error is not None))

    @property
    def results(self) -> list[EmbeddingResult | None]:
        return [
            None if vector is None else EmbeddingResult(text, vector, self.model, len(vector))
            for text, vector in zip(self.texts, self.embeddings, strict=True)
        ]

    @property
    def outage(self) -> ProviderError | None:
        """The error that ended the run before every text was tried, if one did."""
        return next((e for e in self.errors if e is not None and not isinstance(e, TextRefused)), None)


class EmbeddingService:
    """One provider's door, safe to share between threads.

    `batch_size` (texts a request) and `workers` (requests at a time) lower what the provider states. `cache=None` looks
    nothing up. `truncate="error"` refuses a text over the model's limit instead of embedding its beginning. `backoff_s`
    is the wait before the second attempt, doubled for each further one. `listeners` may be shared between services.
    `query_timeout` stands in for the provider's own.
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
        self.batch_size = min(batch_size or provider.batch_size, provider.batch_size)
        self.workers = min(workers or provider.concurrency, provider.concurrency)
        self.truncate = truncate
        self.backoff_s = backoff_s
        self.pace = Pace(sleep)
        self._listeners = listeners if listeners is not None else []
        limit_s = query_timeout_of(provider, check_query_timeout(query_timeout))
        self.queries = Queries(provider, timeout_s=limit_s, load=self.load, clock=clock)

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    @per_process
    def _is_loaded(self) -> bool:
        return False

    def load(self) -> None:
        """Load the model, if that is not done. Raises ProviderError."""
        if not self._is_loaded:
            translate(lambda provider: (provider.fingerprint, provider.load()), self.provider)
            self._is_loaded = True

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
        `"collect"` leaves each in its position. `progress(done)` counts texts; `cache` stands in for the service's,
        and `workers` for its number of requests at a time."""
        started = time.perf_counter()
        report = EmbeddingReport(self.provider.model_name, self.batch_size, workers or self.workers)
        if texts:
            self._embed(texts, on_error, progress, cache or self.cache, report)
        report.texts = texts
        report.processing_time_seconds = time.perf_counter() - started
        self._tell(report)
        if on_error == "raise" and (error := next(filter(None, report.errors), None)):
            raise error
        return report

    def embed_chunks(self, texts: Iterable[str], *, on_error: OnError = "raise") -> Iterator[EmbeddingReport]:
        """`embed_batch` over any number of texts, a report every 10,000: memory is that of a chunk."""
        rest = iter(texts)
        while chunk := list(islice(rest, TEXTS_A_CHUNK)):
            yield self.embed_batch(chunk, on_error=on_error)

    def embed_query(self, text: str) -> Vector:
        """A query's unit vector, remembered in memory: one try, within `query_timeout`. Raises ProviderError."""
        return self.queries.embed(text)[0]

    def known_share(self, text: str) -> float:
        """How much of a question the model knows, 0 to 1."""
        return min(1.0, max(0.0, float(translate(self.provider.known_share, text))))

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
        run = _Run(self, self._call, report.concurrent_workers)
        for start in range(0, len(distinct), TEXTS_A_CHUNK):
            chunk = distinct[start : start + TEXTS_A_CHUNK]
            found = self._cached(chunk, cache)
            hits.update(found)
            outcomes.update(found)
            outcomes.update(self._requested([text for text in chunk if text not in found], run, cache))
            if progress:
                progress(len(outcomes) + len(texts) - len(distinct))
        report.requests, report.retries, report.fallbacks = run.requests, run.retries, run.fallbacks
        report.busy_seconds, report.requesting_seconds = run.busy_seconds, run.requesting_seconds
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

    def _cached(self, texts: Sequence[str], cache: EmbeddingCache | None) -> dict[str, Vector]:
        if cache is None or not texts:
            return {}
        keys = {text_key(text): text for text in texts}
        return {keys[key]: vector for key, vector in cache.get(self.provider.fingerprint, list(keys)).items()}

    def _requested(
        self, texts: list[str], run: "_Run", cache: EmbeddingCache | None
    ) -> dict[str, Vector | ProviderError]:
        limit = self.provider.max_batch_tokens
        tokens = [self.provider.count_tokens(text) for text in texts] if limit is not None else [0] * len(texts)
        run.begin(texts)
        run.process(list(slices(tokens, texts=self.batch_size, total=limit)))
        if cache is not None:
            made = {text_key(t): o for t, o in run.outcomes.items() if not isinstance(o, ProviderError)}
            if made:
                cache.put(self.provider.fingerprint, made)
        return run.outcomes

    def _call(self, texts: Sequence[str]) -> Any:
        prefix = self.provider.passage_prefix
        vectors = self.provider.embed_batch([prefix + text for text in texts] if prefix else texts)
        self.queries.recovered()
        if isinstance(vectors, list | tuple | np.ndarray):
            return vectors
        if not isinstance(vectors, Iterable) or isinstance(vectors, str | bytes | Mapping):
            name = type(vectors).__name__
            raise ProviderRefused(f"{self.provider.model_name}: embed_batch gives vectors, not {name}")
        return list(vectors)

    def _tell(self, report: EmbeddingReport) -> None:
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


class _Run:
    """One call of the service. Requests may run on many threads; outcomes are written on the caller's alone."""

    def __init__(self, service: EmbeddingService, call: Callable[[Any], Any], workers: int = 1) -> None:
        self.service = service
        self.workers = workers
        self.provider = service.provider
        self.call = call
        self.texts: list[str] = []
        self.outcomes: dict[str, Vector | ProviderError] = {}
        self.stopped: ProviderError | None = None
        self.requests = self.retries = self.fallbacks = 0
        self.busy_seconds = self.requesting_seconds = 0.0
        self.accepted = False
        self.doubtful = 0
        self._lock = Lock()
        self._recovering = Lock()

    def begin(self, texts: list[str]) -> None:
        self.texts, self.outcomes = texts, {}

    def process(self, waiting: list[list[int]]) -> None:
        """Request every slice, and the halves of those that are refused, until nothing waits."""
        started = time.perf_counter()
        if self.workers == 1 or len(waiting) == 1:
            self._one_by_one(waiting)
        else:
            self._side_by_side(waiting)
        if self.stopped is not None:
            for text in self.texts:
                self.outcomes.setdefault(text, self.stopped)
        self.requesting_seconds += time.perf_counter() - started

    def _one_by_one(self, waiting: list[list[int]]) -> None:
        while waiting and self.stopped is None:
            slice_ = waiting.pop(0)
            waiting[:0] = self._settle(slice_, self._answer(slice_))

    def _side_by_side(self, waiting: list[list[int]]) -> None:
        with ThreadPoolExecutor(self.workers, thread_name_prefix="kameleon-embed") as pool:
            flying: dict[Future[Any], list[int]] = {}
            while flying or (waiting and self.stopped is None):
                while waiting and len(flying) < self.workers and self.stopped is None:
                    slice_ = waiting.pop(0)
                    flying[pool.submit(self._answer, slice_)] = slice_
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    waiting[:0] = self._settle(flying.pop(future), future.result())

    def _answer(self, slice_: list[int]) -> Sequence[Any] | ProviderError:
        """What the provider says of a slice, as vectors or the error that stands for all of it."""
        texts = [self.texts[position] for position in slice_]
        try:
            vectors = self.request(texts)
        except ProviderError as error:
            return error
        if len(vectors) == len(texts):
            return check_all(vectors, self.provider.dimensions)
        message = f"{self.provider.model_name} gave {len(vectors)} vectors for {len(texts)} texts"
        return TextRefused(message) if len(texts) > 1 else ProviderRefused(f"{message}: its contract is broken")

    def request(self, argument: Any) -> Any:
        """One request, tried again while the provider is down; meanwhile the others wait for its outcome."""
        count = len(argument) if isinstance(argument, list) else 1
        with self._recovering:
            pass
        if self.stopped is not None:
            raise self.stopped
        try:
            return self._send(argument, count)
        except ProviderUnavailable as error:
            with self._recovering:
                return self._recover(argument, count, error)

    def _recover(self, argument: Any, count: int, error: ProviderUnavailable) -> Any:
        attempt = 1
        while attempt < self.provider.attempts and self.stopped is None:
            asked = error.retry_after_s
            if asked is not None and asked > LONGEST_WAIT_S:
                break
            pause = asked if asked is not None else backoff_s(attempt, self.service.backoff_s)
            log.warning("embed_batch:retry texts=%d attempt=%d wait_s=%.2f", count, attempt + 1, pause)
            self.service.pace.slow_down(pause)
            attempt += 1
            self.retries += 1
            try:
                return self._send(argument, count)
            except ProviderUnavailable as again:
                error = again
        self.stopped = self.stopped or error
        raise error

    def _send(self, argument: Any, count: int) -> Any:
        self.service.pace.wait()
        log.debug("embed_batch:provider_call texts=%d", count)
        started = time.perf_counter()
        try:
            return translate(self.call, argument)
        finally:
            with self._lock:
                self.requests += 1
                self.busy_seconds += time.perf_counter() - started

    def _settle(self, slice_: list[int], answer: Sequence[Any] | ProviderError) -> list[list[int]]:
        """Write an answer down. Gives back the halves of a slice that must be asked again."""
        if isinstance(answer, TextRefused) and len(slice_) > 1:
            log.warning("embed_batch:fallback texts=%d", len(slice_))
            self.fallbacks += 2
            return list(halves(slice_))
        texts = [self.texts[position] for position in slice_]
        if isinstance(answer, TextRefused):
            self.outcomes[texts[0]] = answer
            self._doubt(answer)
        elif isinstance(answer, ProviderError):
            self.stopped = self.stopped or answer
        else:
            self._accept(texts, answer)
        return []

    def _doubt(self, refused: TextRefused) -> None:
        """A provider that fails on text after text, and has taken none, is what is broken: its texts stay pending."""
        if not isinstance(refused, Unexplained) or self.accepted:
            return
        self.doubtful += 1
        if self.doubtful >= DOUBTFUL_TEXTS:
            self.stopped = ProviderRefused(f"{self.provider.model_name} fails on every text: {refused}")
            self.outcomes = {t: o for t, o in self.outcomes.items() if not isinstance(o, Unexplained)}

    def _accept(self, texts: list[str], checked: Sequence[Vector | ProviderError]) -> None:
        wrong = [c for c in checked if isinstance(c, TextRefused) and c.reason == "wrong_dimension"]
        if wrong and len(wrong) == len(texts):
            self.stopped = ProviderRefused(f"{self.provider.model_name}: every vector is refused, {wrong[0]}")
            return
        self.accepted = True
        for text, outcome in zip(texts, checked, strict=True):
            self.outcomes[text] = outcome
            if isinstance(outcome, ProviderError) and not isinstance(outcome, TextRefused):
                self.stopped = self.stopped or outcome


def repeated(texts: Sequence[str]) -> frozenset[int]:
    """The positions of texts that stood before."""
    first: dict[str, int] = {}
    return frozenset(position for position, text in enumerate(texts) if first.setdefault(text, position) != position)


def translate(call: Callable[[Any], Any], argument: Any) -> Any:
    """Call a provider; what it raises beyond our own tree is an outage or a refusal of the texts it was given."""
    try:
        return call(argument)
    except ProviderError:
        raise
    except Exception as error:
        raise provider_error(error) from error
