"""Providers, which turn text into embeddings, and the service that calls them. Each name's module loads when it is
first used. Imports `errors`."""

from importlib import import_module
from importlib.metadata import entry_points
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, UnknownProvider, seen

if TYPE_CHECKING:
    from .cache import EmbeddingCache as EmbeddingCache
    from .fastembed import FastEmbedProvider as FastEmbedProvider
    from .function import CallableProvider as CallableProvider
    from .given import GivenVectors as GivenVectors
    from .openai import OpenAIProvider as OpenAIProvider
    from .provider import EmbeddingProvider as EmbeddingProvider
    from .provider import EmbeddingResult as EmbeddingResult
    from .report import EmbeddingReport as EmbeddingReport
    from .reranker import FastEmbedReranker as FastEmbedReranker
    from .service import EmbeddingService as EmbeddingService
    from .static import StaticProvider as StaticProvider

MODULES: dict[str, tuple[str, ...]] = {
    ".cache": ("EmbeddingCache",),
    ".fastembed": ("FastEmbedProvider",),
    ".function": ("CallableProvider",),
    ".given": ("GivenVectors",),
    ".openai": ("OpenAIProvider",),
    ".provider": ("EmbeddingProvider", "EmbeddingResult"),
    ".report": ("EmbeddingReport",),
    ".reranker": ("FastEmbedReranker",),
    ".service": ("EmbeddingService",),
    ".static": ("StaticProvider",),
}
"""The public names of each module; type checkers read the imports above."""
__all__ = sorted(["get_provider", *(name for names in MODULES.values() for name in names)])

BUNDLED_MODEL = "static-en-256"
ENTRY_POINTS = "kameleon.providers"
LOCAL = ("static", "fastembed")
"""Providers whose models have fixed dimensions."""
PROVIDERS = {
    "fastembed": "FastEmbedProvider",
    "given": "GivenVectors",
    "openai": "OpenAIProvider",
    "static": "StaticProvider",
}


MODEL_OPTIONS = {"static": "path", "given": "model_name"}
"""The option that names a provider's model, where it is not `model`."""


def __getattr__(name: str) -> Any:
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def provider_class(name: str) -> "type[EmbeddingProvider]":
    if name in PROVIDERS:
        return __getattr__(PROVIDERS[name])  # type: ignore[no-any-return]
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            return entry.load()  # type: ignore[no-any-return]
    raise UnknownProvider(f"Unknown embedding provider {seen(name)}. Known: {', '.join(provider_names())}")


def provider_names() -> list[str]:
    """The names that `get_provider` takes."""
    return sorted({*PROVIDERS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})


def chosen(provider: str | None, model: str | None, dimensions: int | None) -> tuple[str, dict[str, Any]]:
    """A provider's name and options, from what a command names. Without a `provider` the model decides: a folder by the
    files in it, else the provider that has a model of that name."""
    folder = Path(model) if model else None
    if provider is None and folder is not None:
        is_static = model == BUNDLED_MODEL or isfile(folder / "model.safetensors")
        is_openai = str(model).startswith("text-embedding-")
        provider = "static" if is_static else "openai" if is_openai else "fastembed"
    options: dict[str, Any] = {}
    if model and not (provider == "static" and model == BUNDLED_MODEL):
        options[MODEL_OPTIONS.get(provider or "", "model")] = model
    if dimensions is not None and provider not in LOCAL:
        options["dimensions"] = dimensions
    return provider or "static", options


def get_provider(provider: "str | EmbeddingProvider", **options: Any) -> "EmbeddingProvider":
    """A provider by name with its options, or the object as it is.

    Packages add names through the entry-point group `kameleon.providers`.

    Raises UnknownProvider (a ValueError) for an unknown name, MissingExtra (an ImportError) where its package is not
    installed, InvalidInput for an option it does not have.
    """
    if not isinstance(provider, str):
        return provider
    made = provider_class(provider)
    try:
        return made(**options)
    except TypeError as error:
        raise InvalidInput(f"provider {provider!r}: {error}") from error
