"""Embeddings that were paid for, by what was embedded: never part of correctness, so a miss only costs money.

The key of a text holds its exact characters and its role; the fingerprint tells whose embedding it is.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from .provider import Vector


class EmbeddingCache(Protocol):
    """Unit vectors by `text_key`, of one fingerprint at a time. Neither verb raises for what a database may do."""

    def get(self, fingerprint: str, keys: Sequence[str]) -> Mapping[str, Vector]: ...
    def put(self, fingerprint: str, vectors: Mapping[str, Vector]) -> None: ...


def text_key(text: str, role: str = "passage") -> str:
    """SHA-256 of role and text, in hex."""
    return hashlib.sha256(f"{role}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
