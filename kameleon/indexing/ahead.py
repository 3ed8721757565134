"""Embeds what a transaction is about to write, before it holds a lock. Imports `values`, `errors`, `embeddings` and
`stores`."""

import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ..errors import ProviderError
from ..stores.catalog import mismatch
from ..stores.refs import tenants_of
from .embedded import Ahead, flattened, owners_of
from .entries import Contents, make_entry
from .index import Index
from .services import nothing_stored
from .time_limits import is_on_loop, run_off_loop
from .writer import Indexing

if TYPE_CHECKING:
    from ..embeddings.service import EmbeddingService


def embed_ahead(
    index: Index,
    records: Contents,
    texts: Sequence[tuple[str, str]],
    *,
    connection: Connection | None,
    indexing: Indexing,
    unique: Collection[str] = (),
    callers: int = 1,
) -> Ahead | None:
    """Embed `records`, where they differ from the index, and the (tenant, text) of new ones; `unique` is as in
    `write_changes`. `connection` is that of the transaction, if it has begun. With "auto" no longer than `budget_s`;
    then, and with "deferred", a worker embeds them. New texts alone go to the service of the commit before: should the
    index have moved to another model since, the write finds out. `callers` at a time share the provider's concurrency.
    Raises ProviderError where the engine's `on_provider_error` is "raise"."""
    if index.services.provider is None:
        return None
    service, owned = _to_embed(index, records, texts, connection, unique)
    if service is None or service.is_given or not owned:
        return None
    contents = list(dict.fromkeys(content for _, content in owned))
    if indexing == "deferred":
        return Ahead(service)
    try:
        split = service.split(contents)
    except ProviderError:
        return None  # the write meets it again, and reports it
    budget_s = index.budget_s if indexing == "auto" else None
    cache = index.services.cache(service, connection, on_a_thread=is_on_loop() or budget_s is not None)
    if cache is not None:
        cache.owners = owners_of(owned, split)
    workers = max(1, service.workers // callers)
    call = partial(service.embed_batch, flattened(contents, split), on_error="collect", cache=cache, workers=workers)
    began = time.monotonic()
    made = index.within_budget(budget_s, call, service)
    if made is not None and made.outage is not None and index.services.raises:
        raise nothing_stored(made.outage) from made.outage
    return Ahead(service, made, cache, split, time.monotonic() - began)


def _to_embed(
    index: Index,
    records: Contents,
    texts: Sequence[tuple[str, str]],
    connection: Connection | None,
    unique: Collection[str],
) -> "tuple[EmbeddingService | None, list[tuple[str, str]]]":
    service, changed = index.services.wrote_last, list[tuple[str, str]]()
    if records or service is None:
        joined = None if index.store.connections.has_spare_reader() else connection
        compare = partial(_compare, index, records, joined, unique)
        service, changed = run_off_loop(compare) if joined is None else compare()
    return service, [*changed, *((tenant, text) for tenant, text in texts if text and not text.isspace())]


def _compare(
    index: Index, records: Contents, connection: Connection | None, unique: Collection[str]
) -> "tuple[EmbeddingService | None, list[tuple[str, str]]]":
    """The service that will embed, None if none can, and the texts of records that it has to. An estimate, so made
    beside the transaction where that can be: on SQLite one that has read may not write after another did."""
    wanted = [make_entry(ref, *content) for ref, content in records.items()]
    with index.reading(connection, tenants_of(entry.ref for entry in wanted)) as conn:
        compared = index.compared(conn, wanted, unique)
    service = compared.service
    if service is not None and mismatch(compared.generations or (), service.provider):
        service = None
    return service, [(entry.ref.tenant, entry.content) for entry in compared.to_embed if entry.content]


def batches_ahead(index: Index, texts: int) -> int:
    """How many batches of so many texts to embed ahead at a time, on threads of their own: as many as the provider
    takes requests for, and two at least where it takes several, for one of them is being looked up. 0 where nothing
    is embedded, or no thread can look at the index while another writes."""
    if not index.store.connections.has_spare_reader():
        return 0
    with index.reading() as connection:
        service = index.services.writing(connection, index.catalog.generations(connection))
    if service is None or service.is_given:
        return 0
    return max(min(2, service.workers), service.workers // -(-texts // service.batch_size))
