"""Appends documents to the keyword index in the transaction of their records. Writers insert and do nothing else: who
deleted its own tail row would deadlock with a fold."""

import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from ..stores.keyword_tables import LIVE
from .dialect import Dialect, Partition
from .packing import Document, TailRow, pack
from .segments import PostingRow, Segment, of_documents

SEGMENT_FROM = 500
"""A transaction that appends more documents of a partition writes a segment of them: every query reads the tail.
Chosen, not measured."""
TAIL = ("tenant", "entity_name", *TailRow._fields)
DEAD = ("tenant", "entity_name", "doc", "docs")
SEGMENT = ("tenant", "entity_name", "segment", "state", "records", "place_bytes", "parents", "docs", "lengths", "words")
POSTING = ("tenant", "entity_name", "segment", *PostingRow._fields)


def append(connection: Connection, dialect: Dialect, partition: Partition, documents: Sequence[Document]) -> None:
    """Adds documents, whose numbers no document of the database has had."""
    if len(documents) > SEGMENT_FROM:
        add_segment(connection, dialect, partition, of_documents(documents))
    elif documents:
        dialect.insert(connection, "kdb_tail", TAIL, [(*partition, *pack(document)) for document in documents])


def bury(connection: Connection, dialect: Dialect, partition: Partition, docs: Iterable[int]) -> None:
    """Marks documents as dead, whose record was replaced or deleted by this transaction. Each is read under its
    record's row lock, so that it is marked once."""
    if rows := [(*partition, doc, b"") for doc in sorted(docs)]:
        dialect.insert(connection, "kdb_dead", DEAD, rows)


def add_segment(connection: Connection, dialect: Dialect, partition: Partition, segment: Segment) -> None:
    number = new_number()
    row = (LIVE, len(segment.docs), segment.place_bytes, b"", segment.docs.tobytes(), segment.lengths.tobytes())
    dialect.insert(connection, "kdb_segment", SEGMENT, [(*partition, number, *row, segment.words.pack())])
    add_postings(connection, dialect, partition, number, segment.rows())


def add_postings(
    connection: Connection, dialect: Dialect, partition: Partition, segment: int, rows: Iterable[PostingRow]
) -> None:
    dialect.insert(connection, "kdb_posting", POSTING, ((*partition, segment, *row) for row in rows))


def new_number() -> int:
    """Of a segment: no other has it, nor has one of a transaction that was rolled back."""
    return secrets.randbits(63)
