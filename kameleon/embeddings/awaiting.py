"""Calls a provider: its asynchronous verbs where a coroutine waits for the answer, the others elsewhere. Imports
`event_loop`."""

from collections.abc import Sequence
from typing import Any

from ..event_loop import calling_loop, on_calling_loop
from .provider import EmbeddingProvider


def embed_batch(provider: EmbeddingProvider, texts: Sequence[str]) -> Any:
    verb, loop = getattr(provider, "aembed_batch", None), calling_loop()
    return provider.embed_batch(texts) if verb is None or loop is None else on_calling_loop(loop, verb, texts)


def embed_query(provider: EmbeddingProvider, text: str) -> Any:
    verb, loop = getattr(provider, "aembed_query", None), calling_loop()
    return provider.embed_query(text) if verb is None or loop is None else on_calling_loop(loop, verb, text)
