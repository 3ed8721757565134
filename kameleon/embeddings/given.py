"""The model of an index whose vectors come from outside. Imports `errors`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from ..errors import ProviderRefused
from .options import outside
from .provider import EmbeddingProvider, check_model


class GivenVectors(EmbeddingProvider):
    """Names the model of vectors that callers give: `insert(…, embeddings=[…])`, `index_records_batch(…,
    embeddings=[…])`. It embeds nothing: records without a vector stay pending, and a query's words are searched by
    keyword.

    `dimensions` are those of the index, or else of the first vector that is given, where they are None. `model_name`,
    `revision` and the prefixes identify the vectors as in EmbeddingProvider: a provider that makes such vectors, with
    the same of all these, searches and completes this index. `options` are `noise`, `passage_prefix`, `query_prefix`,
    `revision` and `vector_weight`.
    """

    name: ClassVar[str] = "given"
    attempts: int = 1
    is_given: bool = True

    def __init__(
        self,
        model_name: str,
        dimensions: int | None = None,
        *,
        noise: tuple[float, float] | None = None,
        vector_weight: float = 0.7,
        revision: str = "",
        query_prefix: str = "",
        passage_prefix: str = "",
    ) -> None:
        check_model(model_name, 1 if dimensions is None else dimensions)
        self.model_name = model_name
        self._dimensions, self._is_stated = dimensions, dimensions is not None
        self._set_options(noise=noise, vector_weight=vector_weight, revision=revision)
        self._set_options(query_prefix=query_prefix, passage_prefix=passage_prefix)

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        """Raises ProviderRefused where they are not known yet."""
        if self._dimensions is None:
            raise ProviderRefused(
                f"the dimensions of {self.model_name} are not known before the first vector is given: "
                "insert(…, embeddings=[…]), or GivenVectors(model_name, dimensions)"
            )
        return self._dimensions

    def learn(self, dimensions: int) -> None:
        """Take these dimensions where none were stated: they are those of the index, or of vectors that are about to be
        its first."""
        if not self._is_stated:
            self._dimensions = dimensions

    def embed(self, text: str) -> NoReturn:
        raise ProviderRefused(outside(self.model_name))

    def embed_batch(self, texts: Sequence[str]) -> NoReturn:
        raise ProviderRefused(outside(self.model_name))

    @property
    def options(self) -> Mapping[str, Any]:
        names = ("revision", "query_prefix", "passage_prefix")
        return {"model_name": self.model_name, "dimensions": self.dimensions, **self.changed(*names)}
