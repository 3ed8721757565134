"""Between the write path and a provider: texts in, one embedding or one error a position out, in order.

Identical texts are embedded once. A slice that the provider refuses is halved until the refused text stands alone, so
that it costs its neighbours nothing. What comes back is checked: dimension, finite numbers, length.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import KameleonError, ProviderError, ProviderRefused, ProviderUnavailable, TextRefused
from .provider import EmbeddingProvider, EmbeddingResult, Vector

log = logging.getLogger("kameleon.embeddings")

OnError = Literal["raise", "collect"]
QUERIES_REMEMBERED = 256
VECTORS_AT_ONCE = 1024


@dataclass
class EmbeddingReport:
    """What `embed_batch` brought: `embeddings` and `errors` have one entry a text, exactly one of them not None.

    `requests` counts calls of the provider, `fallbacks` those that halving a refused slice added, `reused` the
    positions served by an identical text of the same call.
    """

    model: str
    texts: Sequence[str]
    embeddings: list[Vector | None]
    errors: list[ProviderError | None]
    requests: int = 0
    fallbacks: int = 0
    reused: frozenset[int] = field(default_factory=frozenset)

    @property
    def results(self) -> list[EmbeddingResult | None]:
        return [
            None if vector is None else EmbeddingResult(text, vector, self.model, len(vector))
            for text, vector in zip(self.texts, self.embeddings, strict=True)
        ]

    @property
    def outage(self) -> ProviderError | None:
        """The error that ended the run before every text was tried, if one did."""
        return next((e for e in self.errors if isinstance(e, ProviderUnavailable | ProviderRefused)), None)


class EmbeddingService:
    """One provider's door. `batch_size` lowers the provider's own; safe to share between threads."""

    def __init__(self, provider: EmbeddingProvider, *, batch_size: int | None = None) -> None:
        self.provider = provider
        self.batch_size = min(batch_size or provider.batch_size, provider.batch_size)
        self._queries: OrderedDict[str, Vector] = OrderedDict()
        self._lock = Lock()

    def embed_batch(
        self, texts: Sequence[str], *, on_error: OnError = "raise", progress: Callable[[int], None] | None = None
    ) -> EmbeddingReport:
        """Embed passages. `on_error="raise"` raises the first error, `"collect"` leaves each in its position.

        `progress(done)` counts distinct texts.
        """
        distinct = list(dict.fromkeys(texts))
        run = _Run(self.provider, {})
        for start in range(0, len(distinct), self.batch_size):
            run.embed(distinct[start : start + self.batch_size])
            if progress:
                progress(min(start + self.batch_size, len(distinct)))
        report = self._merge(texts, run)
        if on_error == "raise" and (error := next(filter(None, report.errors), None)):
            raise error
        return report

    def embed_query(self, text: str) -> Vector:
        """A question's unit vector, remembered in memory. Raises ProviderError."""
        with self._lock:
            if text in self._queries:
                self._queries.move_to_end(text)
                return self._queries[text]
        vector = check_vector(translate(self.provider.embed_query, text), self.provider.dimensions)
        with self._lock:
            self._queries[text] = vector
            while len(self._queries) > QUERIES_REMEMBERED:
                self._queries.popitem(last=False)
        return vector

    def _merge(self, texts: Sequence[str], run: "_Run") -> EmbeddingReport:
        outcomes = [run.outcomes[text] for text in texts]
        return EmbeddingReport(
            model=self.provider.model_name,
            texts=texts,
            embeddings=[None if isinstance(o, ProviderError) else o for o in outcomes],
            errors=[o if isinstance(o, ProviderError) else None for o in outcomes],
            requests=run.requests,
            fallbacks=run.fallbacks,
            reused=repeated(texts) if len(run.outcomes) < len(texts) else frozenset(),
        )


@dataclass
class _Run:
    """One call of the service: every distinct text ends in `outcomes`; `stopped` is the error that ends all."""

    provider: EmbeddingProvider
    outcomes: dict[str, Vector | ProviderError]
    requests: int = 0
    fallbacks: int = 0
    stopped: ProviderError | None = None

    def embed(self, texts: list[str], *, is_fallback: bool = False) -> None:
        if self.stopped is not None:
            self.outcomes.update(dict.fromkeys(texts, self.stopped))
            return
        self.requests += 1
        self.fallbacks += is_fallback
        try:
            vectors = translate(self.provider.embed_batch, texts)
            if len(vectors) != len(texts):
                raise TextRefused(f"{self.provider.model_name} gave {len(vectors)} vectors for {len(texts)} texts")
        except (ProviderUnavailable, ProviderRefused) as error:
            self.stopped = error
            self.outcomes.update(dict.fromkeys(texts, error))
        except TextRefused as error:
            self._refused(texts, error)
        else:
            self._check(texts, vectors)

    def _refused(self, texts: list[str], error: TextRefused) -> None:
        if len(texts) == 1:
            self.outcomes[texts[0]] = error
            return
        for half in halves(texts):
            self.embed(half, is_fallback=True)

    def _check(self, texts: list[str], vectors: Sequence[Any]) -> None:
        checked = check_all(vectors, self.provider.dimensions)
        wrong = [c for c in checked if isinstance(c, TextRefused) and c.reason == "wrong_dimension"]
        if wrong and len(wrong) == len(texts):
            self.stopped = ProviderRefused(f"{self.provider.model_name}: every vector is refused, {wrong[0]}")
            self.outcomes.update(dict.fromkeys(texts, self.stopped))
            return
        self.outcomes.update(zip(texts, checked, strict=True))


def repeated(texts: Sequence[str]) -> frozenset[int]:
    """The positions of texts that stood before."""
    first: dict[str, int] = {}
    return frozenset(position for position, text in enumerate(texts) if first.setdefault(text, position) != position)


def halves(texts: list[str]) -> Iterator[list[str]]:
    middle = len(texts) // 2
    yield texts[:middle]
    yield texts[middle:]


def translate(call: Any, argument: Any) -> Any:
    """Call a provider; whatever it raises beyond our own tree is a refusal of the texts it was given."""
    try:
        return call(argument)
    except KameleonError:
        raise
    except (ConnectionError, TimeoutError) as error:
        raise ProviderUnavailable(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        raise TextRefused(f"{type(error).__name__}: {error}") from error


def check_all(vectors: Sequence[Any], dimensions: int) -> list[Vector | ProviderError]:
    """Every vector with length 1, or the error of its position."""
    checked: list[Vector | ProviderError] = []
    for start in range(0, len(vectors), VECTORS_AT_ONCE):
        some = vectors[start : start + VECTORS_AT_ONCE]
        whole = unit_rows(some, dimensions)
        checked += [checked_or_error(vector, dimensions) for vector in some] if whole is None else list(whole)
    return checked


def unit_rows(vectors: Sequence[Any], dimensions: int) -> NDArray[np.float32] | None:
    """All at once, or None where one of them needs a closer look."""
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError):
        return None
    if array.shape != (len(vectors), dimensions):
        return None
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array))
    return array / lengths[:, None] if np.isfinite(lengths).all() and lengths.all() else None


def checked_or_error(vector: Any, dimensions: int) -> Vector | ProviderError:
    if isinstance(vector, ProviderError):
        return vector
    if isinstance(vector, Exception):
        refused = TextRefused(f"{type(vector).__name__}: {vector}")
        refused.__cause__ = vector
        return refused
    try:
        return check_vector(vector, dimensions)
    except TextRefused as error:
        return error


def check_vector(vector: Any, dimensions: int) -> Vector:
    """The vector as float32 of length 1. Raises TextRefused: wrong_dimension, not_finite (also for a zero vector)."""
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TextRefused(f"not a vector of numbers: {error}") from error
    if array.shape != (dimensions,):
        raise TextRefused(f"{array.shape} numbers, the model says {dimensions}", reason="wrong_dimension")
    length = float(np.sqrt(np.dot(array, array)))
    if not np.isfinite(length):
        raise TextRefused("the vector holds NaN or infinity", reason="not_finite")
    if length == 0.0:
        raise TextRefused("the vector is zero, it points nowhere", reason="not_finite")
    return array / np.float32(length)
