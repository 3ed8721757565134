"""For the tests of applications that use kameleon: a provider that needs no model and counts what it was asked."""

import hashlib
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from .embeddings.provider import EmbeddingProvider, Vector


class HashProvider(EmbeddingProvider):
    """A text's vector is the sum of its words', each a fixed pseudo-random direction: texts that share words are near.

    `calls` lists the texts of every `embed_batch`. `refuse(text)` may raise, or return an error to be put in the
    text's position.
    """

    name: ClassVar[str] = "hash"

    def __init__(
        self,
        dimensions: int = 64,
        *,
        model_name: str = "hash",
        batch_size: int = 1000,
        refuse: Callable[[str], Exception | None] = lambda _text: None,
    ) -> None:
        self.dimensions = dimensions
        self.model_name = model_name
        self.batch_size = batch_size
        self.refuse = refuse
        self.calls: list[list[str]] = []

    def embed_batch(self, texts: Sequence[str]) -> list[Vector | Exception]:
        self.calls.append(list(texts))
        return [self.refuse(text) or self._vector(text) for text in texts]

    def embed_query(self, text: str) -> Vector:
        return self._vector(text)

    def _vector(self, text: str) -> Vector:
        words = text.lower().split() or [""]
        return np.asarray(sum(self._direction(word) for word in words), dtype=np.float32)

    def _direction(self, word: str) -> Vector:
        seed = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        return np.random.default_rng(seed).standard_normal(self.dimensions, dtype=np.float32)
