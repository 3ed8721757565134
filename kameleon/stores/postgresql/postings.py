"""PostgreSQL's statements of the keyword index that differ from SQLite's: reading at once, many rows, locks. Imports
this package alone."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine

from ..own_connections import is_own, own_connection, own_driver
from . import policies
from .copy import Copy
from .fetching import fetched

Row = Sequence[Any]

STATE = """
    WITH now AS MATERIALIZED (
      SELECT coalesce(md5(string_agg(concat(doc, ' ', mark), ',' ORDER BY doc)), '') AS state
      FROM {prefix}kdb_tail WHERE {scope}
    )
"""
READ = (
    STATE
    + """
    SELECT 0, segment, records, entity_name,
      CASE WHEN segment = ANY(CAST(%(known)s AS bigint[])) THEN NULL ELSE docs END,
      CASE WHEN segment = ANY(CAST(%(known)s AS bigint[])) THEN NULL ELSE lengths END, NULL, NULL
    FROM {prefix}kdb_segment WHERE {scope} AND state = 0
    UNION ALL
    SELECT 1, doc, length, entity_name, hashes, counts,
      CASE WHEN cardinality(CAST(%(placed)s AS text[])) > 0 THEN places END, words
    FROM {prefix}kdb_tail WHERE {scope} AND (SELECT state FROM now) <> %(tail)s
    UNION ALL
    SELECT 4, 0, 0, state, NULL, NULL, NULL, NULL FROM now
    UNION ALL
    SELECT 2, doc, 0, NULL, docs, NULL, NULL, NULL
    FROM {prefix}kdb_dead WHERE {scope}
"""
)
# A subquery with OFFSET 0 is planned by itself: postings are read by their key, whatever the statistics say.
READ_NEW = """
    UNION ALL
    SELECT 3, p.segment, p.df, p.term, p.docs, p.counts, p.places, NULL
    FROM {prefix}kdb_segment AS s CROSS JOIN LATERAL (
      SELECT p.segment, p.df, p.term, p.docs, p.counts,
        CASE WHEN p.term = ANY(CAST(%(placed)s AS text[])) THEN p.places END AS places
      FROM {prefix}kdb_posting AS p
      WHERE p.tenant = s.tenant AND p.entity_name = s.entity_name AND p.segment = s.segment
        AND p.term = ANY(CAST(%(terms)s AS text[])) OFFSET 0
    ) AS p
    WHERE {scope_of_s} AND s.state = 0
      AND s.segment <> ALL(CAST(%(known)s AS bigint[]))
"""
READ_PAIRS = """
    UNION ALL
    SELECT 3, p.segment, p.df, p.term, p.docs, p.counts, p.places, NULL
    FROM unnest(CAST(%(segments)s AS bigint[]), CAST(%(pair_terms)s AS text[]), CAST(%(pair_entities)s AS text[]))
        AS n (segment, term, entity)
      CROSS JOIN LATERAL (
        SELECT p.segment, p.df, p.term, p.docs, p.counts,
          CASE WHEN p.term = ANY(CAST(%(placed)s AS text[])) THEN p.places END AS places
        FROM {prefix}kdb_posting AS p
        WHERE p.tenant = %(tenant)s AND p.entity_name = n.entity COLLATE "C" AND p.segment = n.segment
          AND p.term = n.term COLLATE "C" OFFSET 0
      ) AS p
"""
READ_WORDS = """
    SELECT s.segment, w.words
    FROM {prefix}kdb_segment AS s LEFT JOIN {prefix}kdb_word AS w
      ON w.tenant = s.tenant AND w.entity_name = s.entity_name AND w.segment = s.segment
    WHERE {scope_of_s} AND s.state = 0 AND s.segment = ANY(CAST(%(segments)s AS bigint[]))
    ORDER BY s.segment, w.last
"""
ONES, ALL = "tenant = %(tenant)s AND entity_name = ANY(CAST(%(entities)s AS text[]))", "tenant = %(tenant)s"
# Blobs are incompressible or read whole: what is kept out of line is stored as it is.
SET_UP = (
    "ALTER TABLE {prefix}kdb_posting ALTER docs SET STORAGE EXTERNAL, ALTER counts SET STORAGE EXTERNAL, "
    "ALTER places SET STORAGE EXTERNAL",
    "ALTER TABLE {prefix}kdb_segment ALTER docs SET STORAGE EXTERNAL, ALTER lengths SET STORAGE EXTERNAL",
    "ALTER TABLE {prefix}kdb_word ALTER words SET STORAGE EXTERNAL",
    *(
        f"ALTER TABLE {{prefix}}{table} SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)"
        for table in ("kdb_tail", "kdb_dead")
    ),
)
# A role that row security shows a part of the rows would fold that part.
TRY_LOCK = f"""
    SELECT CASE WHEN bool_or({policies.HIDES_ROWS.format(table="name")}) THEN false
      ELSE pg_try_advisory_xact_lock(hashtextextended(%s, 0)) END
    FROM unnest(CAST(%s AS text[])) AS name
"""
TABLES = ("kdb_tail", "kdb_dead", "kdb_segment", "kdb_word", "kdb_posting")
INSERT = "INSERT INTO {prefix}{table} ({columns}) SELECT * FROM unnest({arrays})"
TYPES = {
    **dict.fromkeys(("tenant", "entity_name", "term", "form", "first", "last"), "text"),
    **dict.fromkeys(("doc", "mark", "segment"), "bigint"),
    **dict.fromkeys(("length", "df", "records"), "integer"),
    **dict.fromkeys(("state", "place_bytes"), "smallint"),
}
ROWS_A_STATEMENT, ROWS_A_COPY = 5_000, 20_000


class PostgreSQLPostings:
    """`fold_rows` tail rows go into one fold, `step_rows` postings into one step of a merge: readers and writers wait
    for neither, these bound memory (chosen, not measured)."""

    fold_rows = 2_000
    step_rows = 20_000

    def __init__(self, prefix: str = "", copying: Copy | None = None) -> None:
        self._prefix = prefix
        self._copying = copying
        self._read = scoped(READ + READ_NEW, prefix)
        self._read_pairs = scoped(READ + READ_NEW + READ_PAIRS, prefix)
        self._read_words = scoped(READ_WORDS, prefix)

    def set_up(self, connection: Connection) -> None:
        """For tables that are empty."""
        for statement in SET_UP:
            connection.exec_driver_sql(statement.format(prefix=self._prefix))

    def read(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        statements = self._read_pairs if binds["pairs"] else self._read
        entities, segments, terms = zip(*binds["pairs"], strict=True) if binds["pairs"] else ((), (), ())
        pairs = {"pair_entities": list(entities), "segments": list(segments), "pair_terms": list(terms)}
        return fetched(connection, statements[not binds["entities"]], {**binds, **pairs})

    def read_words(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        return fetched(connection, self._read_words[not binds["entities"]], binds)

    def insert(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """COPY on kameleon's own connections, arrays on others; a single row as it is."""
        rows = iter(rows)
        copies = is_own(connection) and own_driver(connection).info.encoding == "utf-8"
        if copies and self._copying is not None:
            copies = not self._copying.is_refused(connection)
        while part := list(islice(rows, ROWS_A_COPY if copies else ROWS_A_STATEMENT)):
            if len(part) == 1:
                marks = ", ".join(["%s"] * len(columns))
                names = ", ".join(columns)
                statement = f"INSERT INTO {self._prefix}{table} ({names}) VALUES ({marks})"
                connection.exec_driver_sql(statement, tuple(part[0]))
            elif copies:
                self._copy(connection, table, columns, part)
            else:
                arrays = ", ".join(f"CAST(%s AS {type_of(column)}[])" for column in columns)
                statement = INSERT.format(prefix=self._prefix, table=table, columns=", ".join(columns), arrays=arrays)
                connection.exec_driver_sql(statement, tuple(map(list, zip(*part, strict=True))))

    def _copy(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        statement = f"COPY {self._prefix}{table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
        with own_driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(list(map(type_of, columns)))
            for row in rows:
                copy.write_row(row)

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
        tables = [f"{self._prefix}{table}" for table in TABLES]
        what = f"kameleon keywords {self._prefix}{tenant}\t{entity}"
        return bool(connection.exec_driver_sql(TRY_LOCK, (what, tables)).scalar())

    def begin_writing(self, connection: Connection) -> None:
        """Writers do not wait for a fold."""


def scoped(statement: str, prefix: str) -> tuple[str, str]:
    """Renders a statement on some partitions of a tenant, and on all."""
    ones, every = (
        statement.format(prefix=prefix, scope=scope, scope_of_s="s." + scope.replace("entity_name", "s.entity_name"))
        for scope in (ONES, ALL)
    )
    return ones, every


def type_of(column: str) -> str:
    return TYPES.get(column, "bytea")
