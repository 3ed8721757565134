"""Describes calls of a provider to observers. Imports `errors` and `telemetry`."""

from ..errors import TextRefused
from ..telemetry import Operation, operation
from ..telemetry.measures import EMBEDDING, EMBEDDINGS, MODEL, OPERATION, PROVIDER, RETRIES, TEXTS
from .provider import EmbeddingProvider
from .report import EmbeddingReport


def request(provider: EmbeddingProvider, of: str, texts: int) -> Operation:
    """A call of the provider for texts, which are "passages" or a "query", to be entered."""
    begun = operation()
    if not begun.is_observed:
        return begun
    attributes = {
        **_model(provider),
        OPERATION: EMBEDDINGS,
        "gen_ai.embeddings.dimension.count": provider.dimensions,
        "kameleon.embedding.input": of,
        "kameleon.embedding.batch.size": texts,
    }
    return begun.begin(EMBEDDINGS, f"{EMBEDDINGS} {provider.model_name}", attributes)


def batch(provider: EmbeddingProvider) -> Operation:
    """The embedding of texts with as many calls as that takes, to be entered."""
    begun = operation()
    return begun.begin(EMBEDDING, attributes=_model(provider)) if begun.is_observed else begun


def count_texts(observed: Operation, report: EmbeddingReport) -> None:
    if not observed.is_observed:
        return
    failed = [error for error in report.errors if error is not None]
    refused = sum(isinstance(error, TextRefused) for error in failed)
    made = report.total_count - len(failed) - report.cache_hits - len(report.reused)
    outcomes = {
        "embedded": max(0, made),
        "cached": report.cache_hits,
        "reused": len(report.reused),
        "refused": refused,
        "pending": len(failed) - refused,
    }
    observed.count(TEXTS, outcomes)
    observed.count(RETRIES, {"retry": report.retries, "division": report.fallbacks, "test": report.probes})


def _model(provider: EmbeddingProvider) -> dict[str, str]:
    return {PROVIDER: provider.name or type(provider).__name__, MODEL: provider.model_name}
