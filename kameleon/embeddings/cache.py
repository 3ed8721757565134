"""The cache of embeddings by text, as the service uses it: a miss costs a request, never correctness. Imports this
package alone.

The key of a text is of its exact characters and its role; the fingerprint identifies the model.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from .provider import Vector


class EmbeddingCache(Protocol):
    """Unit vectors by `text_key`, of one fingerprint at a time. Neither verb raises for what a database may do, and
    `put` leaves what is there."""

    def get(self, fingerprint: str, keys: Sequence[str]) -> Mapping[str, Vector]: ...
    def put(self, fingerprint: str, vectors: Mapping[str, Vector]) -> None: ...


def text_key(text: str) -> str:
    """SHA-256 of role and text, in hex."""
    return hashlib.sha256(f"passage\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
