"""Appends documents to the keyword index in the transaction of their records. Writers insert and do nothing else: who
deleted its own tail row would deadlock with a fold. Imports `stores`."""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ..stores.keyword_tables import LIVE
from .dialect import Dialect, Partition
from .packing import Document, TailRow, Words, pack
from .segments import PostingRow, Segment, of_documents

SEGMENT_FROM = 255
"""A transaction that appends more documents of a partition writes a segment of them, which a fold would make next.
Written in batches of 500, 10,000 records take 1.4 s, and 3.4 s where these go to the tail first."""
RANDOM_BITS = 31
"""Of a number that is made, which has 63 bits."""
TAIL = ("tenant", "entity_name", "mark", *TailRow._fields)
DEAD = ("tenant", "entity_name", "doc", "docs")
SEGMENT = ("tenant", "entity_name", "segment", "state", "records", "place_bytes", "parents", "docs", "lengths")
WORD = ("tenant", "entity_name", "segment", "last", "first", "words")
POSTING = ("tenant", "entity_name", "segment", *PostingRow._fields)


def append(connection: Connection, dialect: Dialect, documents: Mapping[Partition, Sequence[Document]]) -> None:
    """Adds documents, whose numbers no document of the database has had. Those of all partitions are inserted at once:
    a batch may have as many as records."""
    tail: list[tuple[Any, ...]] = []
    mark = new_number()
    for partition, group in sorted(documents.items()):
        if len(group) > SEGMENT_FROM:
            insert(connection, dialect, rows_of(partition, of_documents(group)))
        else:
            tail += [(*partition, mark, *pack(document)) for document in group]
    if tail:
        dialect.insert(connection, "kdb_tail", TAIL, tail)


def bury(connection: Connection, dialect: Dialect, docs: Mapping[Partition, Iterable[int]]) -> None:
    """Marks documents as dead, whose record was replaced or deleted by this transaction. Each is read under its
    record's row lock, so that it is marked once."""
    if rows := [(*partition, doc, b"") for partition, group in sorted(docs.items()) for doc in sorted(group)]:
        dialect.insert(connection, "kdb_dead", DEAD, rows)


class Rows(NamedTuple):
    """Of one segment, or of some of its terms: what is inserted while SQLite's write lock is held is made before."""

    segment: Sequence[tuple[Any, ...]]
    words: Sequence[tuple[Any, ...]]
    postings: Sequence[tuple[Any, ...]]


def rows_of(partition: Partition, segment: Segment) -> Rows:
    key = (*partition, new_number())
    docs, lengths = segment.docs.tobytes(), segment.lengths.tobytes()
    postings = [key + row for row in segment.rows()]
    head = (*key, LIVE, len(segment.docs), segment.place_bytes, b"", docs, lengths)
    return Rows([head], word_rows(key, segment.columns.terms, segment.words), postings)


def word_rows(key: tuple[Any, ...], terms: Sequence[str], words: Words) -> list[tuple[Any, ...]]:
    return [(*key, terms[-1], terms[0], words.pack())] if terms else []


def insert(connection: Connection, dialect: Dialect, rows: Rows) -> None:
    dialect.insert(connection, "kdb_segment", SEGMENT, rows.segment)
    dialect.insert(connection, "kdb_word", WORD, rows.words)
    dialect.insert(connection, "kdb_posting", POSTING, rows.postings)


def new_number() -> int:
    """Of a segment, or of the rows that are appended to a tail at once: no others have it, nor have those of a
    transaction that was rolled back. The seconds come first, so that a segment's postings go to the end of their index:
    among older ones each page that they fill is split in two."""
    return int(time.time()) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
