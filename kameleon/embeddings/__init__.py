"""Providers: what turns text into embeddings. Each one's module loads when it is first named."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, UnknownProvider

if TYPE_CHECKING:
    from .fastembed import FastEmbedProvider
    from .openai import OpenAIProvider
    from .provider import EmbeddingProvider, EmbeddingResult
    from .service import EmbeddingReport, EmbeddingService
    from .static import StaticProvider

__all__ = [
    "EmbeddingProvider",
    "EmbeddingReport",
    "EmbeddingResult",
    "EmbeddingService",
    "FastEmbedProvider",
    "OpenAIProvider",
    "StaticProvider",
    "get_provider",
]

_HOMES = {
    "EmbeddingProvider": ".provider",
    "EmbeddingReport": ".service",
    "EmbeddingResult": ".provider",
    "EmbeddingService": ".service",
    "FastEmbedProvider": ".fastembed",
    "OpenAIProvider": ".openai",
    "StaticProvider": ".static",
}
PROVIDERS = {"fastembed": "FastEmbedProvider", "openai": "OpenAIProvider", "static": "StaticProvider"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def get_provider(provider: "str | EmbeddingProvider", **options: Any) -> "EmbeddingProvider":
    """A provider by name with its options, or the object as it is.

    Raises UnknownProvider (a ValueError) for an unknown name, MissingExtra (an ImportError) where its package is not
    installed, InvalidInput for an option it does not have.
    """
    if not isinstance(provider, str):
        return provider
    if provider not in PROVIDERS:
        raise UnknownProvider(f"Unknown embedding provider {provider!r}. Known: {', '.join(sorted(PROVIDERS))}")
    made = __getattr__(PROVIDERS[provider])
    try:
        return made(**options)  # type: ignore[no-any-return]
    except TypeError as error:
        raise InvalidInput(f"provider {provider!r}: {error}") from error
