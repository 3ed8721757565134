"""Makes a provider of any function. Imports `errors` and `forking`."""

from collections.abc import Awaitable, Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np

from ..errors import ProviderRefused, seen
from ..forking import per_process, state_of
from .awaiting import embed_batch
from .provider import EmbeddingProvider

LIMITS = EmbeddingProvider.__annotations__.keys() - {
    *("name", "model_name", "dimensions", "is_given", "aembed_batch", "aembed_query")
}
PROBE = "A short text."


class CallableProvider(EmbeddingProvider):
    """`documents(texts)` gives one vector of `dimensions` numbers a text, in order, or an exception in a position;
    `query(text)` one vector, by default as of a document. `adocuments` and `aquery` are the same for coroutines, whose
    verbs (`asearch`, `ainsert`) await them on their own event loop; without them those call the others on a thread.

    `dimensions` None are those of the index where it has vectors of `model_name`, or else of the first vector:
    `documents` is called once with a short text, before anything is embedded.

    `model_name` and `revision` identify the vectors, with the dimensions and the prefixes: change one of them when the
    functions give others. The functions are no part of the identity, so equal options are the same model in every
    process. `limits` are EmbeddingProvider's `batch_size`, `concurrency`, `attempts`, `is_costly`, `max_tokens`,
    `max_batch_tokens`, `noise`, `passage_tokens`, `passage_prefix`, `price_per_million`, `query_prefix`,
    `query_timeout`, `revision` and `vector_weight`.
    """

    def __init__(
        self,
        documents: Callable[[Sequence[str]], Any],
        *,
        query: Callable[[str], Any] | None = None,
        adocuments: Callable[[Sequence[str]], Awaitable[Any]] | None = None,
        aquery: Callable[[str], Awaitable[Any]] | None = None,
        dimensions: int | None = None,
        model_name: str,
        **limits: Any,
    ) -> None:
        if unknown := sorted(limits.keys() - LIMITS):
            raise TypeError(f"unknown limit {unknown[0]!r}. Known: {', '.join(sorted(LIMITS))}")
        self._documents, self._query = documents, query
        self._dimensions = dimensions
        self.model_name = model_name
        self.aembed_batch = adocuments
        is_of_document = query is None and adocuments is not None
        self.aembed_query = aquery if aquery is not None or not is_of_document else self._query_as_document
        self._set_options(**limits)

    __getstate__ = state_of

    @per_process
    def _measuring(self) -> Lock:
        return Lock()

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        """Raises what `documents` or `adocuments` raises where it is called for them."""
        if self._dimensions is None:
            with self._measuring:
                if self._dimensions is None:
                    self._dimensions = self._measured()
        return self._dimensions

    def _measured(self) -> int:
        vectors = embed_batch(self, [self.passage_prefix + PROBE])
        shape = np.shape(next(iter(vectors), ()))
        if len(shape) != 1 or not shape[0]:
            raise ProviderRefused(
                f"{self.model_name} gave no vector for a short text, by which its dimensions were to be found, but "
                f"{seen(vectors)}. CallableProvider(…, dimensions=…) names them"
            )
        return int(shape[0])

    def learn(self, dimensions: int) -> None:
        """Take these dimensions, which an index has, where none are known."""
        if self._dimensions is None:
            self._dimensions = dimensions

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return self._documents(texts)

    def embed_query(self, text: str) -> Any:
        return super().embed_query(text) if self._query is None else self._query(text)

    async def _query_as_document(self, text: str) -> Any:
        assert self.aembed_batch is not None  # noqa: S101 - else this is not used
        (vector,) = await self.aembed_batch([text])
        if isinstance(vector, Exception):
            raise vector
        return vector
