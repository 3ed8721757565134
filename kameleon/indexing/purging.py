"""Purges what is left of records that were deleted or changed: from the keyword index, and from the embedding cache.
Imports `embeddings`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Delete, delete, select

from .index import Index

TEXTS_AT_ONCE = 1_000
"""Bounds the texts that are in memory at a time. Chosen, not measured."""
DROPPED_AT_ONCE = 500
"""Bounds how long a transaction that drops cached embeddings makes other writers wait. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """How many steps of folds and merges were made, and how many texts left the embedding cache."""

    merges: int = 0
    cached: int = 0


def purge(index: Index) -> PurgeReport:
    """Merges every segment with deleted documents, and drops cached embeddings of texts that no record has."""
    return PurgeReport(index.keywords.maintain_all(purges=True), _drop_cached(index))


def _drop_cached(index: Index) -> int:
    from ..embeddings.cache import text_key  # NumPy loads with it

    table = index.tables.embedding_cache
    with index.reading() as connection:
        cached = set(connection.scalars(select(table.c.text_hash).distinct()))
        if cached:
            for text in _texts(index, connection):
                cached.discard(text_key(text))
    gone = sorted(cached)
    for start in range(0, len(gone), DROPPED_AT_ONCE):
        part = delete(table).where(table.c.text_hash.in_(gone[start : start + DROPPED_AT_ONCE]))
        index.committed(partial(_executed, statement=part))
    return len(gone)


def _executed(connection: Connection, statement: Delete) -> None:
    connection.execute(statement)


def _texts(index: Index, connection: Connection) -> Iterator[str]:
    """The contents of the index, and their passages in each generation."""
    numbers = index.store.schema.embedding_tables(connection)
    generations = [one for one in index.catalog.generations(connection) if one.number in numbers]
    for generation in [None, *generations]:
        after = 0
        while texts := index.store.contents.texts(connection, generation, after=after, limit=TEXTS_AT_ONCE):
            yield from (text for _, text in texts)
            after = texts[-1][0]
