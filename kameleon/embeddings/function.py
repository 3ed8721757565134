"""Any function as a provider."""

from collections.abc import Callable, Sequence
from typing import Any

from .options import check_query_timeout
from .provider import EmbeddingProvider, check_passage_tokens


class CallableProvider(EmbeddingProvider):
    """`function(texts)` gives one vector of `dimensions` numbers a text, in order, or an exception in a position.

    `model_name` and `revision` identify the vectors, with the dimensions and the prefixes: change one of them when the
    function gives others. The function itself is no part of the identity, so equal options are the same model in every
    process. `limits` are EmbeddingProvider's `batch_size`, `concurrency`, `attempts`, `is_costly`, `max_tokens`,
    `max_batch_tokens`, `passage_tokens`, `passage_prefix`, `query_prefix`, `query_timeout`, `revision` and
    `vector_weight`.
    """

    def __init__(
        self, function: Callable[[Sequence[str]], Any], *, dimensions: int, model_name: str, **limits: Any
    ) -> None:
        unknown = sorted(set(limits) - LIMITS)
        if unknown:
            raise TypeError(f"unknown limit {unknown[0]!r}. Known: {', '.join(sorted(LIMITS))}")
        check_passage_tokens(limits.get("passage_tokens"))
        check_query_timeout(limits.get("query_timeout"))
        self.function = function
        self.dimensions = dimensions
        self.model_name = model_name
        for name, value in limits.items():
            setattr(self, name, value)

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return self.function(texts)


LIMITS = {
    "attempts",
    "batch_size",
    "concurrency",
    "is_costly",
    "max_batch_tokens",
    "max_tokens",
    "passage_prefix",
    "passage_tokens",
    "query_prefix",
    "query_timeout",
    "revision",
    "vector_weight",
}
