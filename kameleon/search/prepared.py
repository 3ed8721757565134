"""Prepares a query: its service, generation and embedding, before the transaction that answers it is open. Imports
`values`, `errors`, `embeddings` and `stores`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import ProviderError
from ..stores.catalog import active, of_fingerprint, unread
from ..values import Generation
from .query import Query

if TYPE_CHECKING:
    from ..embeddings.provider import Vector
    from ..embeddings.service import EmbeddingService


@dataclass(frozen=True)
class Prepared:
    """`service` and `generation` were chosen by `generations`; a vector that the caller gave needs no service where the
    index names the model. `unavailable` is why there is no service, `unread` why
    the service's model has no generation to search; `error` is what the provider raised."""

    generations: Sequence[Generation] = ()
    service: "EmbeddingService | None" = None
    generation: Generation | None = None
    dimensions: int = 0
    unavailable: ProviderError | None = None
    unread: str = ""
    vector: "Vector | None" = None
    is_cached: bool = False
    known_share: float = 1.0
    error: ProviderError | None = None


def prepare(query: Query, generations: Sequence[Generation], service: "EmbeddingService") -> Prepared:
    """The query's embedding by a service, if there is anything to compare it with; the caller's own as it is."""
    provider = service.provider
    fingerprint = provider.fingerprint
    chosen = Prepared(
        generations,
        service,
        of_fingerprint(generations, fingerprint),
        int(provider.dimensions),
        unread=unread(generations, provider),
        vector=query.vector,
    )
    if query.vector is not None or chosen.generation is None or not query.has_text:
        return chosen
    try:
        vector, is_cached = (None, False) if query.like else service.queries.embed(query.text, query.tenants)
        is_weighed = query.weight is None
        share = service.known_share(query.text) if is_weighed else 1.0
    except ProviderError as error:
        return replace(chosen, error=error)
    return replace(chosen, vector=vector, is_cached=is_cached, known_share=share)


def prepare_given(query: Query, generations: Sequence[Generation]) -> Prepared:
    """The caller's vector, to be compared with the active generation's, whose model is not called."""
    generation = active(generations)
    unread = ""
    if generations and generation is None:
        unread = "the embeddings of this index are still being built: `kameleon embeddings status` shows how far"
    return Prepared(generations, generation=generation, unread=unread, vector=query.vector)
