"""Purges what is left of records that were deleted or changed: from the keyword index, and from the embedding cache.
Imports `embeddings`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Delete, delete, select, tuple_

from .index import Index

TEXTS_AT_ONCE = 1_000
"""Bounds the texts that are in memory at a time. Chosen, not measured."""
DROPPED_AT_ONCE = 400
"""Bounds how long a transaction that drops cached embeddings makes other writers wait. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """How many steps of folds and merges were made, and how many texts left the embedding cache."""

    merges: int = 0
    cached: int = 0


def purge(index: Index) -> PurgeReport:
    """Takes deleted documents out of the keyword index, and drops cached embeddings of texts that no record of their
    tenant has."""
    return PurgeReport(index.keywords.maintain_all(purges=True), _drop_cached(index))


def _drop_cached(index: Index) -> int:
    from ..embeddings.cache import text_key  # NumPy loads with it

    table = index.tables.embedding_cache
    key = (table.c.tenant, table.c.text_hash)
    with index.reading() as connection:
        cached = {tuple(row) for row in connection.execute(select(*key).distinct())}
        has_tenants = any(tenant for tenant, _ in cached)
        for tenant, content in _texts(index, connection, has_tenants) if cached else ():
            cached.discard((tenant, text_key(content)))
    gone = sorted(cached)
    for start in range(0, len(gone), DROPPED_AT_ONCE):
        part = delete(table).where(tuple_(*key).in_(gone[start : start + DROPPED_AT_ONCE]))
        index.committed(partial(_executed, statement=part))
    return len(gone)


def _executed(connection: Connection, statement: Delete) -> None:
    connection.execute(statement)


def _texts(index: Index, connection: Connection, has_tenants: bool) -> Iterator[tuple[str, str]]:
    """The contents of the index, and their passages in each generation, with their tenants."""
    contents, numbers = index.store.contents, index.store.schema.embedding_tables(connection)
    generations = [one for one in index.catalog.generations(connection) if one.number in numbers]
    for generation in [None, *generations]:
        after = 0
        while texts := contents.texts(connection, generation, after=after, limit=TEXTS_AT_ONCE):
            refs = contents.refs(connection, sorted({doc for doc, _ in texts})) if has_tenants else {}
            yield from ((refs[doc].tenant if doc in refs else "", text) for doc, text in texts)
            after = texts[-1][0]
