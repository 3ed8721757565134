"""What a query needs of its provider, had before the transaction that answers it is open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ProviderError
from ..stores.catalog import of_fingerprint, unread
from ..values import Generation
from .query import Query

if TYPE_CHECKING:
    from ..embeddings.provider import Vector
    from ..embeddings.service import EmbeddingService


@dataclass(frozen=True)
class Prepared:
    """`known` are the generations that `service` and `generation` were chosen by. `unavailable` is why there is no
    service, `unread` why the service's model has no generation to search; `error` is what the provider raised."""

    known: Sequence[Generation] = ()
    service: "EmbeddingService | None" = None
    generation: Generation | None = None
    dimensions: int = 0
    unavailable: ProviderError | None = None
    unread: str = ""
    vector: "Vector | None" = None
    is_cached: bool = False
    known_share: float = 1.0
    error: ProviderError | None = None


def prepare(query: Query, known: Sequence[Generation], service: "EmbeddingService") -> Prepared:
    """The query's embedding by a service, if there is anything to compare it with."""
    provider = service.provider
    fingerprint = provider.fingerprint
    chosen = Prepared(
        known, service, of_fingerprint(known, fingerprint), int(provider.dimensions), unread=unread(known, provider)
    )
    if chosen.generation is None or not query.says_something:
        return chosen
    try:
        vector, is_cached = (None, False) if query.like else service.queries.embed(query.text)
        is_weighed = query.mode == "hybrid" and query.weight is None
        share = service.known_share(query.text) if is_weighed else 1.0
    except ProviderError as error:
        return replace(chosen, error=error)
    return replace(chosen, vector=vector, is_cached=is_cached, known_share=share)
