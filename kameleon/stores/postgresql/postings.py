"""PostgreSQL's statements of the keyword index that differ from SQLite's: reading at once, many rows, locks. Imports
this package alone."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine

from ..names import DEFAULT, Names
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
      CASE WHEN segment = ANY(CAST(%(known)s AS bigint[])) THEN NULL ELSE lengths END, NULL,
      convert_to(tenant, 'UTF8')
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
    FROM unnest(CAST(%(pair_tenants)s AS text[]), CAST(%(pair_entities)s AS text[]), CAST(%(segments)s AS bigint[]),
        CAST(%(pair_terms)s AS text[])) AS n (tenant, entity, segment, term)
      CROSS JOIN LATERAL (
        SELECT p.segment, p.df, p.term, p.docs, p.counts,
          CASE WHEN p.term = ANY(CAST(%(placed)s AS text[])) THEN p.places END AS places
        FROM {prefix}kdb_posting AS p
        WHERE p.tenant = n.tenant COLLATE "C" AND p.entity_name = n.entity COLLATE "C" AND p.segment = n.segment
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
OF_TENANT, OF_TENANTS = "{s}tenant = %(tenant)s", "{s}tenant = ANY(CAST(%(tenants)s AS text[]))"
OF_ENTITIES = "{s}entity_name = ANY(CAST(%(entities)s AS text[]))"
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
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
TABLES = ("kdb_tail", "kdb_dead", "kdb_segment", "kdb_word", "kdb_posting")
INSERT = "INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays})"
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

    def __init__(self, prefix: str = "", copying: Copy | None = None, names: Names = DEFAULT) -> None:
        self._prefix, self._names = prefix, names
        self._copying = copying

    def set_up(self, connection: Connection) -> None:
        """For tables that are empty."""
        for statement in SET_UP:
            connection.exec_driver_sql(self._names(statement).format(prefix=self._prefix))

    def read(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        if not binds["pairs"]:
            return self._fetched(connection, READ + READ_NEW, binds)
        tenants, entities, segments, terms = map(list, zip(*binds["pairs"], strict=True))
        pairs = {"pair_tenants": tenants, "pair_entities": entities, "segments": segments, "pair_terms": terms}
        return self._fetched(connection, READ + READ_NEW + READ_PAIRS, {**binds, **pairs})

    def read_words(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        return self._fetched(connection, READ_WORDS, binds)

    def _fetched(self, connection: Connection, statement: str, binds: dict[str, Any]) -> Sequence[Row]:
        of_tenants = OF_TENANT if binds["tenant"] is not None else "true" if binds["tenants"] is None else OF_TENANTS
        of_entities = OF_ENTITIES if binds["entities"] else "true"
        return fetched(connection, scoped(self._names(statement), self._prefix, of_tenants, of_entities), binds)

    def insert(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """COPY on kameleon's own connections, arrays on others; a single row as it is."""
        table = self._prefix + self._names(table)
        rows = iter(rows)
        copies = is_own(connection) and own_driver(connection).info.encoding == "utf-8"
        if copies and self._copying is not None:
            copies = not self._copying.is_refused(connection)
        while part := list(islice(rows, ROWS_A_COPY if copies else ROWS_A_STATEMENT)):
            if len(part) == 1:
                marks = ", ".join(["%s"] * len(columns))
                names = ", ".join(columns)
                statement = f"INSERT INTO {table} ({names}) VALUES ({marks})"
                connection.exec_driver_sql(statement, tuple(part[0]))
            elif copies:
                self._copy(connection, table, columns, part)
            else:
                arrays = ", ".join(f"CAST(%s AS {type_of(column)}[])" for column in columns)
                statement = INSERT.format(table=table, columns=", ".join(columns), arrays=arrays)
                connection.exec_driver_sql(statement, tuple(map(list, zip(*part, strict=True))))

    def _copy(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
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
        tables = [self._prefix + self._names(table) for table in TABLES]
        return bool(connection.exec_driver_sql(TRY_LOCK, (self._lock_name(tenant, entity), tables)).scalar())

    def lock(self, connection: Connection, tenant: str, entity: str) -> None:
        connection.exec_driver_sql(LOCK, (self._lock_name(tenant, entity),))

    def _lock_name(self, tenant: str, entity: str) -> str:
        namespace = f"{self._names.namespace}\n" if self._names.namespace else ""
        return f"kameleon keywords {self._prefix}{namespace}{tenant}\t{entity}"

    def begin_writing(self, connection: Connection) -> None:
        """Writers do not wait for a fold."""


@lru_cache
def scoped(statement: str, prefix: str, of_tenants: str, of_entities: str) -> str:
    """Renders a statement on the partitions of some tenants and entities."""
    scope = f"{of_tenants} AND {of_entities}"
    return statement.format(prefix=prefix, scope=scope.format(s=""), scope_of_s=scope.format(s="s."))


def type_of(column: str) -> str:
    return TYPES.get(column, "bytea")
