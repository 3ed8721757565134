"""The tables of the keyword index, the same on SQLite and PostgreSQL. Imports this package alone.

A partition is a (tenant, entity_name). A record's terms are in one row of `kdb_tail` until a fold moves them to a
segment: one row of `kdb_segment`, one of `kdb_posting` for each term, and the words of its terms in rows of `kdb_word`.
These are immutable; so is a row of the tail, with a random `mark` that no rows of another transaction have under the
same `doc`. A document that is replaced or deleted gets a row in `kdb_dead`. `keywords.packing` documents the bytes of
the LargeBinary columns.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, MetaData, SmallInteger, Table, Text

from .names import named

key = Text().with_variant(Text(collation="C"), "postgresql")
"""The type of the columns of keys."""
LIVE, BUILDING, DROPPING = 0, 1, 2
"""States of a segment: readers see LIVE alone; a merge fills one that is BUILDING and then empties its parents, which
are DROPPING."""


class KeywordTables:
    """The five tables in one metadata, whose schema they take."""

    def __init__(self, metadata: MetaData) -> None:
        self.metadata = metadata
        self.tail = _table(
            "kdb_tail",
            metadata,
            _number("doc"),
            Column("mark", BigInteger, nullable=False),
            Column("length", Integer, nullable=False),
            Column("hashes", LargeBinary, nullable=False),
            Column("counts", LargeBinary, nullable=False),
            Column("places", LargeBinary, nullable=False),
            Column("words", LargeBinary, nullable=False),
        )
        self.segment, self.word, self.posting = _segment(metadata), _word(metadata), _posting(metadata)
        self.dead = _table(
            "kdb_dead",
            metadata,
            _number("doc"),
            Column("docs", LargeBinary, nullable=False),
        )
        self.all = (self.tail, self.segment, self.word, self.posting, self.dead)

    def create(self, connection: Connection) -> None:
        self.metadata.create_all(connection, tables=self.all)


def _table(name: str, metadata: MetaData, *columns: Column[Any], sqlite_with_rowid: bool = False) -> Table:
    """The partition is first in every key. SQLite reads a whole row of a table without rowids to compare its key, which
    only segments are too large for."""
    partition = Column("tenant", key, primary_key=True), Column("entity_name", key, primary_key=True)
    return Table(named(metadata, name), metadata, *partition, *columns, sqlite_with_rowid=sqlite_with_rowid)


def _number(name: str) -> Column[int]:
    """A column of a key, whose numbers kameleon makes."""
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def _segment(metadata: MetaData) -> Table:
    return _table(
        "kdb_segment",
        metadata,
        _number("segment"),
        Column("state", SmallInteger, nullable=False),
        Column("records", Integer, nullable=False),
        Column("place_bytes", SmallInteger, nullable=False),
        Column("parents", LargeBinary, nullable=False),
        Column("docs", LargeBinary, nullable=False),
        Column("lengths", LargeBinary, nullable=False),
        sqlite_with_rowid=True,
    )


def _word(metadata: MetaData) -> Table:
    return _table(
        "kdb_word",
        metadata,
        _number("segment"),
        Column("last", key, primary_key=True),
        Column("first", key, nullable=False),
        Column("words", LargeBinary, nullable=False),
        sqlite_with_rowid=True,
    )


def _posting(metadata: MetaData) -> Table:
    return _table(
        "kdb_posting",
        metadata,
        _number("segment"),
        Column("term", key, primary_key=True),
        Column("df", Integer, nullable=False),
        Column("form", Text, nullable=False),
        Column("docs", LargeBinary, nullable=False),
        Column("counts", LargeBinary, nullable=False),
        Column("places", LargeBinary, nullable=False),
    )
