"""Builds the HNSW index of a generation. Imports `values`."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...values import Generation
from ..own_connections import own_driver
from ..values import IndexProgress, Progress
from . import statements as sql
from .connections import PostgreSQLConnections
from .templates import Templates

INDEXED_FROM = 10_000
"""Embeddings from which on an index is built. Chosen, not measured."""
MOST_MEMORY_KB = 1024 * 1024
"""Bounds what a build takes of the server's memory. A graph that outgrows its memory is built on pages, many times as
slowly."""
ROW_BYTES, NEIGHBOUR_BYTES, COMPONENT_BYTES = 250, 20, 3
"""An element of the graph, each of the 2 (m + 1) neighbours, each component, as pgvector has them, and a quarter more
for what is written meanwhile."""
POLL_S = 1.0
"""How often the progress of a build is read, and its cancellation is repeated until it has ended."""
NOT_VISIBLE = IndexProgress("", 0, 0, None)

log = logging.getLogger("kameleon.search")


def state(connection: Connection, templates: Templates, generation: Generation) -> str:
    """Returns how the generation's vectors are searched."""
    found = connection.execute(sql.HNSW_STATE, {"hnsw": templates.hnsw(generation)}).one_or_none()
    if found is None:
        return "exact"
    if found.indisvalid:
        return "hnsw"
    return "hnsw is being built" if found.is_building else "hnsw is broken: `kameleon embeddings sync` rebuilds it"


def missing(connection: Connection, templates: Templates, generation: Generation) -> str:
    """Returns why each search reads all embeddings though they are many; empty where it does not."""
    if connection.execute(sql.HNSW_STATE, {"hnsw": templates.hnsw(generation)}).first() is not None:
        return ""
    if count(connection, templates, generation, INDEXED_FROM) < INDEXED_FROM:
        return ""
    return f"{INDEXED_FROM:,} embeddings or more have no HNSW index, so each search reads all of them"


def count(connection: Connection, templates: Templates, generation: Generation, many: int) -> int:
    """Counts the embeddings up to `many`."""
    return connection.scalar(templates.text(sql.COUNT_EMBEDDINGS, generation), {"many": many}) or 0


def build(
    connections: PostgreSQLConnections,
    templates: Templates,
    generation: Generation,
    concurrently: bool,
    progress: Progress | None,
) -> bool:
    """Builds the index on a connection outside any transaction, as CONCURRENTLY requires. Another holds the lock
    meanwhile, in a transaction without a snapshot, which the build would wait for; a lock of a session would stay with
    a pooler. Where there is nothing to build one connection is enough."""
    with connections.outside_transactions() as connection:
        if state(connection, templates, generation) in ("hnsw", "hnsw is being built"):
            return False
        if count(connection, templates, generation, INDEXED_FROM) < INDEXED_FROM:
            return False
    with connections.at_read_committed() as guard:
        guard.exec_driver_sql(sql.NO_IDLE_LIMIT)
        if not guard.exec_driver_sql(templates.try_lock(generation)).scalar():
            return False
        with connections.outside_transactions() as connection:
            before = state(connection, templates, generation)
            if before in ("hnsw", "hnsw is being built"):
                return False
            templates.load_extensions(connection)
            how = "CONCURRENTLY" if concurrently else ""
            statements = (sql.DROP_HNSW, sql.CREATE_HNSW) if before != "exact" else (sql.CREATE_HNSW,)
            started = time.perf_counter()

            def run() -> None:
                with logging_notices(connection), raised_memory(connection, templates, generation):
                    for statement in (*statements, sql.ANALYZE_EMBEDDING, sql.ANALYZE_SEARCH):
                        connection.execute(templates.text(statement, generation, concurrently=how))

            _watched(run, connection, connections, templates.embedding(generation), progress)
            log.info("vector_index:built generation=%d seconds=%.1f", generation.number, time.perf_counter() - started)
            return state(connection, templates, generation) == "hnsw"


@contextmanager
def raised_memory(connection: Connection, templates: Templates, generation: Generation) -> Iterator[None]:
    """Gives the session memory for the whole graph, and no less than it had."""
    row_bytes = ROW_BYTES + NEIGHBOUR_BYTES * 2 * (templates.m + 1) + COMPONENT_BYTES * generation.dimensions
    binds = {"most_kb": MOST_MEMORY_KB, "row_bytes": row_bytes, "pid": own_driver(connection).info.backend_pid}
    raised = connection.execute(templates.text(sql.RAISE_MEMORY, generation), binds).first()
    try:
        yield
    finally:
        if raised is not None and not own_driver(connection).closed:
            connection.execute(sql.RESTORE_MEMORY, {"before": raised[0]})


def _watched(
    run: Callable[[], None],
    builder: Connection,
    connections: PostgreSQLConnections,
    table: str,
    progress: Progress | None,
) -> None:
    watcher = _spare(connections) if progress is not None else None
    if progress is None or watcher is None:
        run()
        return
    with watcher, ThreadPoolExecutor(1, "kameleon-index") as pool:
        building = pool.submit(run)
        try:
            while not wait([building], POLL_S).done:
                progress(seen_from(watcher, table))
        except BaseException:  # an interrupt, too, cancels the build on the server; between two statements that is lost
            while not building.done():
                with suppress(psycopg.Error):
                    own_driver(builder).cancel_safe(timeout=10)
                wait([building], POLL_S)
            raise
        building.result()


def _spare(connections: PostgreSQLConnections) -> Connection | None:
    """Opens a connection outside any transaction, for a build waits for snapshots; None where there is none."""
    if not connections.has_spare_connection():
        return None
    try:
        return connections.outside_transactions()
    except (DBAPIError, PoolTimeout) as error:
        log.info("vector_index:unwatched error=%s", error)
        return None


def seen_from(watcher: Connection, table: str) -> IndexProgress:
    """Reads the progress of the build. Where the connection is lost the build goes on, without."""
    with suppress(psycopg.Error):
        row = own_driver(watcher).execute(sql.INDEX_PROGRESS, (table,), prepare=False).fetchone()
        return IndexProgress(*row) if row else NOT_VISIBLE
    return NOT_VISIBLE


@contextmanager
def logging_notices(connection: Connection) -> Iterator[None]:
    """Logs the notices of PostgreSQL: pgvector sends one when a graph outgrows maintenance_work_mem, which is slow."""
    driver = own_driver(connection)
    driver.add_notice_handler(_warn)
    try:
        yield
    finally:
        driver.remove_notice_handler(_warn)


def _warn(notice: Any) -> None:
    log.warning("vector_index: PostgreSQL reports: %s %s", notice.message_primary, notice.message_hint or "")
