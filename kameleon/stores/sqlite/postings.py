"""SQLite's statements of the keyword index that differ from PostgreSQL's: reads at once, many rows, the write lock.
Imports `memory_pool`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from ...memory_pool import TakesTurns
from ..names import DEFAULT, Names
from ..own_connections import is_own, own_connection, own_driver
from .rows import fetched

Row = Sequence[Any]

STATE = """
    WITH now AS MATERIALIZED (
      SELECT coalesce(group_concat(doc || ' ' || mark), '') AS state FROM kdb_tail WHERE {scope}
    )
"""
READ = (
    STATE
    + """
    SELECT 0, segment, records, entity_name,
      CASE WHEN segment IN (SELECT value FROM json_each(:known)) THEN NULL ELSE docs END,
      CASE WHEN segment IN (SELECT value FROM json_each(:known)) THEN NULL ELSE lengths END, NULL,
      CAST(tenant AS BLOB)
    FROM kdb_segment WHERE {scope} AND state = 0
    UNION ALL
    SELECT 1, doc, length, entity_name, hashes, counts, CASE WHEN :placed <> '[]' THEN places END, words
    FROM now CROSS JOIN kdb_tail WHERE {scope} AND state <> :tail
    UNION ALL
    SELECT 4, 0, 0, state, NULL, NULL, NULL, NULL FROM now
    UNION ALL
    SELECT 2, doc, 0, NULL, docs, NULL, NULL, NULL FROM kdb_dead WHERE {scope}
    UNION ALL
    SELECT 3, p.segment, p.df, p.term, p.docs, p.counts,
      CASE WHEN p.term IN (SELECT value FROM json_each(:placed)) THEN p.places END, NULL
    FROM kdb_segment AS s CROSS JOIN json_each(:terms) AS t CROSS JOIN kdb_posting AS p
      ON p.tenant = s.tenant AND p.entity_name = s.entity_name AND p.segment = s.segment AND p.term = t.value
    WHERE {scope_of_s} AND s.state = 0
      AND s.segment NOT IN (SELECT value FROM json_each(:known))
"""
)
READ_PAIRS = """
    UNION ALL
    SELECT 3, p.segment, p.df, p.term, p.docs, p.counts,
      CASE WHEN p.term IN (SELECT value FROM json_each(:placed)) THEN p.places END, NULL
    FROM json_each(:pairs) AS n CROSS JOIN kdb_posting AS p
      ON p.tenant = json_extract(n.value, '$[0]') AND p.entity_name = json_extract(n.value, '$[1]')
      AND p.segment = json_extract(n.value, '$[2]') AND p.term = json_extract(n.value, '$[3]')
"""
READ_WORDS = """
    SELECT s.segment, w.words
    FROM kdb_segment AS s LEFT JOIN kdb_word AS w
      ON w.tenant = s.tenant AND w.entity_name = s.entity_name AND w.segment = s.segment
    WHERE {scope_of_s} AND s.state = 0 AND s.segment IN (SELECT value FROM json_each(:segments))
    ORDER BY s.segment, w.last
"""
OF_TENANT, OF_TENANTS = "{s}tenant = :tenant", "{s}tenant IN (SELECT value FROM json_each(:tenants))"
OF_ENTITIES = "{s}entity_name IN (SELECT value FROM json_each(:entities))"


@lru_cache
def scoped(statement: str, of_tenants: str, of_entities: str) -> str:
    """Renders a statement on the partitions of some tenants and entities."""
    scope = f"{of_tenants} AND {of_entities}"
    return statement.format(scope=scope.format(s=""), scope_of_s=scope.format(s="s."))


class SQLitePostings:
    """`fold_rows` tail rows go into one fold and `step_rows` postings into one step, so that the write lock is held for
    20 ms at most: records of 35 words take 12 ms a fold and 7 a step, CPU."""

    fold_rows = 256
    step_rows = 1_000

    def __init__(self, names: Names = DEFAULT) -> None:
        self._names = names

    def set_up(self, connection: Connection) -> None:
        """SQLite has nothing to set."""

    def read(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        return self._fetched(connection, READ + READ_PAIRS if binds["pairs"] else READ, binds)

    def read_words(self, connection: Connection, binds: dict[str, Any]) -> Sequence[Row]:
        return self._fetched(connection, READ_WORDS, binds)

    def _fetched(self, connection: Connection, statement: str, binds: dict[str, Any]) -> Sequence[Row]:
        of_tenants = OF_TENANT if binds["tenant"] is not None else "true" if binds["tenants"] is None else OF_TENANTS
        given = {name: json.dumps(value) if isinstance(value, list) else value for name, value in binds.items()}
        of_entities = OF_ENTITIES if binds["entities"] else "true"
        return fetched(connection, scoped(self._names(statement), of_tenants, of_entities), given)

    def insert(self, connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Many rows or one, whose bytes stay below what a statement may have."""
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {self._names(table)} ({', '.join(columns)}) VALUES ({marks})"
        if is_own(connection):
            own_driver(connection).executemany(statement, rows)
        elif given := list(rows):
            connection.exec_driver_sql(statement, given)

    def may_fold(self, engine: Engine) -> bool:
        """A database in memory has one connection, which may be in a transaction of the application's."""
        pool = engine.pool
        if isinstance(pool, StaticPool):
            shared = pool.connection.dbapi_connection
            return shared is None or not shared.in_transaction
        if isinstance(pool, TakesTurns):
            return not pool.is_in_use_here()
        if isinstance(pool, SingletonThreadPool):
            with own_connection(engine) as connection:
                return not own_driver(connection).in_transaction
        return True

    @contextmanager
    def folding(self, engine: Engine) -> Iterator[Connection]:
        """A transaction of kameleon's own that reads; `begin_writing` comes before its first write."""
        with own_connection(engine) as connection:
            connection.begin()
            if not own_driver(connection).in_transaction:
                connection.exec_driver_sql("BEGIN")
            yield connection
            connection.commit()

    def try_lock(self, connection: Connection, tenant: str, entity: str) -> bool:
        """Whoever writes is alone; who built the same fold finds its input gone."""
        return True

    def lock(self, connection: Connection, tenant: str, entity: str) -> None:
        """Whoever writes is alone."""

    def begin_writing(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE, without waiting for who writes now. What was read before may be gone."""
        driver = own_driver(connection)
        (timeout_ms,) = driver.execute("PRAGMA busy_timeout").fetchone()
        connection.exec_driver_sql("COMMIT")
        driver.execute("PRAGMA busy_timeout = 0")
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:
            driver.execute(f"PRAGMA busy_timeout = {timeout_ms}")
