"""OpenAI's embeddings, and every server that speaks the same protocol (`base_url=`).

The key comes from the argument or `OPENAI_API_KEY`; it is handed to the client and kept nowhere else.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from ..errors import MissingExtra, ProviderRefused, ProviderUnavailable, TextRefused
from .provider import EmbeddingProvider

try:
    import openai
except ImportError as error:
    raise MissingExtra("openai", "openai") from error


class OpenAIProvider(EmbeddingProvider):
    """`dimensions` is asked of the server, which shortens the vectors of the text-embedding-3 models."""

    name: ClassVar[str] = "openai"
    batch_size = 100

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        dimensions: int = 384,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.model_name = model
        self.dimensions = dimensions
        self._key = api_key
        self._base_url = base_url
        self._timeout_s = timeout_s

    @property
    def options(self) -> Mapping[str, Any]:
        base = {"base_url": self._base_url} if self._base_url else {}
        return {"model": self.model_name, "dimensions": self.dimensions, **base}

    def embed_batch(self, texts: Sequence[str]) -> list[Any]:
        try:
            answer = self._client.embeddings.create(
                input=list(texts), model=self.model_name, dimensions=self.dimensions
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ProviderRefused(f"{type(error).__name__}: {error.message}") from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise TextRefused(f"{type(error).__name__}: {error.message}") from error
        except openai.OpenAIError as error:
            raise ProviderUnavailable(f"{type(error).__name__}: {error}") from error
        return [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]

    @cached_property
    def _client(self) -> openai.OpenAI:
        try:
            return openai.OpenAI(api_key=self._key, base_url=self._base_url, timeout=self._timeout_s, max_retries=0)
        except openai.OpenAIError as error:
            raise ProviderRefused("no key: set OPENAI_API_KEY or pass api_key=") from error
