"""PostgreSQL's statements of the keyword index that differ from SQLite's: reading at once, many rows, locks."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine

from ..ownership import is_own, own_connection, own_driver
from . import copy as pgwire

Row = Sequence[Any]

READ = """
    SELECT 0, segment, records, NULL,
      CASE WHEN segment = ANY(CAST(%(known)s AS bigint[])) THEN NULL ELSE docs END,
      CASE WHEN segment = ANY(CAST(%(known)s AS bigint[])) THEN NULL ELSE lengths END, NULL
    FROM {prefix}kdb_segment WHERE tenant = %(tenant)s AND entity_name = %(entity)s AND state = 0
    UNION ALL
    SELECT 1, doc, length, NULL, hashes, counts, CASE WHEN CAST(%(placed)s AS text[]) <> '{{}}' THEN places END
    FROM {prefix}kdb_tail WHERE tenant = %(tenant)s AND entity_name = %(entity)s
    UNION ALL
    SELECT 2, doc, 0, NULL, docs, NULL, NULL
    FROM {prefix}kdb_dead WHERE tenant = %(tenant)s AND entity_name = %(entity)s
"""
# A subquery with OFFSET 0 is planned by itself: postings are read by their key, whatever the statistics say.
READ_NEW = """
    UNION ALL
    SELECT 3, p.segment, p.df, p.term, p.docs, p.counts, p.places
    FROM {prefix}kdb_segment AS s CROSS JOIN LATERAL (
      SELECT p.segment, p.df, p.term, p.docs, p.counts,
        CASE WHEN p.term = ANY(CAST(%(placed)s AS text[])) THEN p.places END AS places
      FROM {prefix}kdb_posting AS p
      WHERE p.tenant = %(tenant)s AND p.entity_name = %(entity)s AND p.segment = s.segment
        AND p.term = ANY(CAST(%(terms)s AS text[])) OFFSET 0
    ) AS p
    WHERE s.tenant = %(tenant)s AND s.entity_name = %(entity)s AND s.state = 0
      AND s.segment <> ALL(CAST(%(known)s AS bigint[]))
"""
READ_PAIRS = """
    UNION ALL
    SELECT 3, p.segment, p.df, p.term, p.docs, p.counts, p.places
    FROM unnest(CAST(%(segments)s AS bigint[]), CAST(%(pair_terms)s AS text[])) AS n (segment, term)
      CROSS JOIN LATERAL (
        SELECT p.segment, p.df, p.term, p.docs, p.counts,
          CASE WHEN p.term = ANY(CAST(%(placed)s AS text[])) THEN p.places END AS places
        FROM {prefix}kdb_posting AS p
        WHERE p.tenant = %(tenant)s AND p.entity_name = %(entity)s AND p.segment = n.segment
          AND p.term = n.term COLLATE "C" OFFSET 0
      ) AS p
"""
READ_WORDS = """
    SELECT 0, segment, CASE WHEN segment = ANY(CAST(%(known)s AS bigint[])) THEN NULL ELSE words END
    FROM {prefix}kdb_segment WHERE tenant = %(tenant)s AND entity_name = %(entity)s AND state = 0
    UNION ALL
    SELECT 1, doc, words FROM {prefix}kdb_tail WHERE tenant = %(tenant)s AND entity_name = %(entity)s
"""
# Blobs are incompressible or read whole: what is kept out of line is stored as it is.
SET_UP = (
    "ALTER TABLE {prefix}kdb_posting ALTER docs SET STORAGE EXTERNAL, ALTER counts SET STORAGE EXTERNAL, "
    "ALTER places SET STORAGE EXTERNAL",
    "ALTER TABLE {prefix}kdb_segment ALTER docs SET STORAGE EXTERNAL, ALTER lengths SET STORAGE EXTERNAL, "
    "ALTER words SET STORAGE EXTERNAL",
    *(
        f"ALTER TABLE {{prefix}}{table} SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)"
        for table in ("kdb_tail", "kdb_dead")
    ),
)
# A role that row security shows a part of the rows would fold that part.
TRY_LOCK = """
    SELECT CASE WHEN row_security_active('{prefix}kdb_tail') OR row_security_active('{prefix}kdb_dead')
      OR row_security_active('{prefix}kdb_segment') OR row_security_active('{prefix}kdb_posting') THEN false
      ELSE pg_try_advisory_xact_lock(hashtextextended('kameleon keywords ' || %s, 0)) END
"""
INSERT = "INSERT INTO {prefix}{table} ({columns}) SELECT * FROM unnest({arrays})"
TYPES = {"tenant": "text", "entity_name": "text", "term": "text", "form": "text", "doc": "bigint", "segment": "bigint"}
INTEGERS = {"length", "df", "records"}
ROWS_A_STATEMENT, ROWS_A_COPY = 5_000, 20_000
short, integer, long = (struct.Struct(f">{letter}").pack for letter in "hiq")


class PostgreSQLPostings:
    """`fold_rows` tail rows go into one fold, `step_rows` postings into one step of a merge: readers and writers wait
    for neither, these bound memory (chosen, not measured)."""

    fold_rows = 2_000
    step_rows = 20_000

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        known, new, pairs = (part.format(prefix=prefix) for part in (READ, READ_NEW, READ_PAIRS))
        self._read, self._read_pairs = known + new, known + new + pairs
        self._read_words = READ_WORDS.format(prefix=prefix)

    def set_up(self, connection: Connection) -> None:
        """For tables that are empty."""
        for statement in SET_UP:
            connection.exec_driver_sql(statement.format(prefix=self._prefix))

    def read(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        return self._fetched(connection, self._read_pairs if binds["segments"] else self._read, binds)

    def read_words(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        return self._fetched(connection, self._read_words, binds)

    def _fetched(self, connection: Connection, statement: str, binds: dict[str, Any]) -> Sequence[Row]:
        """Binary results on kameleon's own connections: bytes in text are twice as long."""
        if not is_own(connection):
            return connection.exec_driver_sql(statement, binds).all()
        with own_driver(connection).cursor(binary=True) as cursor:
            return cursor.execute(statement, binds, prepare=False).fetchall()  # type: ignore[no-any-return]

    def insert(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """COPY on kameleon's own connections, arrays on others; a single row as it is."""
        rows = iter(rows)
        copies = is_own(connection) and own_driver(connection).info.encoding == "utf-8"
        while part := list(islice(rows, ROWS_A_COPY if copies else ROWS_A_STATEMENT)):
            if len(part) == 1:
                marks = ", ".join(["%s"] * len(columns))
                names = ", ".join(columns)
                statement = f"INSERT INTO {self._prefix}{table} ({names}) VALUES ({marks})"
                connection.exec_driver_sql(statement, tuple(part[0]))
            elif copies:
                pgwire.copy_into(own_driver(connection), f"{self._prefix}{table}", columns, encoded(columns, part))
            else:
                arrays = ", ".join(f"CAST(%s AS {type_of(column)}[])" for column in columns)
                statement = INSERT.format(prefix=self._prefix, table=table, columns=", ".join(columns), arrays=arrays)
                connection.exec_driver_sql(statement, tuple(map(list, zip(*part, strict=True))))

    def may_fold(self, engine: Engine) -> bool:
        return True

    @contextmanager
    def folding(self, engine: Engine) -> Iterator[Connection]:
        """A transaction at READ COMMITTED, whatever the engine's level: at SERIALIZABLE a fold fails the commits of the
        application."""
        with own_connection(engine) as connection:
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                yield connection

    def try_lock(self, connection: Connection, tenant: str, entity: str) -> bool:
        statement = TRY_LOCK.format(prefix=self._prefix)
        return bool(connection.exec_driver_sql(statement, (f"{self._prefix}{tenant}\t{entity}",)).scalar())

    def begin_writing(self, connection: Connection) -> None:
        """Writers do not wait for a fold."""


def type_of(column: str) -> str:
    return TYPES.get(column) or ("integer" if column in INTEGERS else "bytea")


def encoded(columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    """Rows in COPY's binary format."""
    encoders: list[Any] = []
    for column in columns:
        kind = type_of(column)
        encoders.append({"text": str.encode, "bigint": long, "integer": integer, "bytea": bytes}[kind])
    head = short(len(columns))
    parts = [pgwire.HEADER]
    for row in rows:
        parts.append(head)
        for encode, value in zip(encoders, row, strict=True):
            raw = encode(value)
            parts += (integer(len(raw)), raw)
    return b"".join([*parts, pgwire.TRAILER])
