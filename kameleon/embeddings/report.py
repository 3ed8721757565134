"""What one call of the embedding service brought. Imports `errors`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ProviderError, TextRefused
from .provider import EmbeddingResult, Vector


@dataclass
class EmbeddingReport:
    """What `embed_batch` brought: `embeddings`, `errors` and `cached` have one entry a text; of the first two exactly
    one is not None.

    `requests` counts calls of the provider, `retries` those that repeated one, `fallbacks` those that halving a refused
    slice added, `probes` those of a short text of the service's own, which show whether the provider takes any;
    `reused` are the positions served by an identical text of the same call. `worker_utilization` is the share of the
    workers' time, 0..1, in which a request was under way; `avg_latency_ms` is that of a request.
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
    probes: int = 0
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
    def avg_latency_ms(self) -> float:
        return 1000 * self.busy_seconds / self.requests if self.requests else 0.0

    @property
    def worker_utilization(self) -> float:
        possible = self.requesting_seconds * self.concurrent_workers
        return min(1.0, self.busy_seconds / possible) if possible else 0.0

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
