"""Makes a provider of any function. Imports this package alone."""

from collections.abc import Callable, Sequence
from typing import Any

from .provider import EmbeddingProvider

LIMITS = EmbeddingProvider.__annotations__.keys() - {"name", "model_name", "dimensions"}


class CallableProvider(EmbeddingProvider):
    """`function(texts)` gives one vector of `dimensions` numbers a text, in order, or an exception in a position.

    `model_name` and `revision` identify the vectors, with the dimensions and the prefixes: change one of them when the
    function gives others. The function itself is no part of the identity, so equal options are the same model in every
    process. `limits` are EmbeddingProvider's `batch_size`, `concurrency`, `attempts`, `is_costly`, `max_tokens`,
    `max_batch_tokens`, `passage_tokens`, `passage_prefix`, `price_per_million`, `query_prefix`, `query_timeout`,
    `revision` and `vector_weight`.
    """

    def __init__(
        self, function: Callable[[Sequence[str]], Any], *, dimensions: int, model_name: str, **limits: Any
    ) -> None:
        if unknown := sorted(limits.keys() - LIMITS):
            raise TypeError(f"unknown limit {unknown[0]!r}. Known: {', '.join(sorted(LIMITS))}")
        self.function = function
        self.dimensions = dimensions
        self.model_name = model_name
        self._set_options(**limits)

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return self.function(texts)
