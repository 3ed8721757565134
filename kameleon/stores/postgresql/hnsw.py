"""Builds the HNSW index of a generation. Imports `values`."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...values import Generation
from ..own_connections import own_driver
from ..values import IndexProgress, Progress
from . import statements_vectors as sql
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
MANY_INDEXES = 200
"""Tenants with an index from which on a warning is logged: each statement on the table is planned with all of them.
Chosen, not measured."""
BUILT, BUILDING = "hnsw", "hnsw is being built"
BROKEN = "hnsw is broken: `kameleon embeddings sync` rebuilds it"
NOT_VISIBLE = IndexProgress("", 0, 0, None)

log = logging.getLogger("kameleon.search")


class Wanted(NamedTuple):
    """An index that there are enough embeddings for: over a tenant's, whose number is in its name and condition, or
    over all where no record has a tenant."""

    name: str
    tenant: str = ""
    number: int | None = None


def state(connection: Connection, templates: Templates, generation: Generation) -> str:
    """Returns how the generation's vectors are searched."""
    found = states(connection, templates, generation).values()
    return next((worst for worst in (BROKEN, BUILDING, BUILT) if worst in found), "exact")


def states(connection: Connection, templates: Templates, generation: Generation) -> dict[str, str]:
    """Returns the state of each index that there is, by name."""
    binds = {"embedding": templates.embedding(generation), "hnsw": templates.hnsw_name(generation)}
    return {
        row.name: BUILT if row.indisvalid else BUILDING if row.is_building else BROKEN
        for row in connection.execute(sql.HNSW_STATES, binds)
    }


def missing(connection: Connection, templates: Templates, generation: Generation) -> str:
    """Returns why each search reads all embeddings though they are many; empty where it does not."""
    there = states(connection, templates, generation)
    lacking = [index for index in wanted(connection, templates, generation, there) if index.name not in there]
    if not lacking:
        return ""
    if lacking[0].number is None:
        return f"{INDEXED_FROM:,} embeddings or more have no HNSW index, so each search reads all of them"
    return (
        f"{INDEXED_FROM:,} embeddings or more of {len(lacking):,} tenants each have no HNSW index, so each search of "
        "such a tenant reads all of its own"
    )


def wanted(
    connection: Connection, templates: Templates, generation: Generation, there: Mapping[str, str]
) -> list[Wanted]:
    """Returns the indexes that there are enough embeddings for; one over all that is there is not too large."""
    if not connection.scalar(templates.text(sql.HAS_TENANTS)):
        whole = templates.hnsw_name(generation)
        is_wanted = whole in there or count(connection, templates, generation, INDEXED_FROM) >= INDEXED_FROM
        return [Wanted(whole)] if is_wanted else []
    large = connection.execute(templates.text(sql.LARGE_TENANTS, generation), {"before": INDEXED_FROM - 1}).all()
    if len(large) > MANY_INDEXES:
        log.warning("vector_index:many generation=%d tenants=%d", generation.number, len(large))
    return [Wanted(templates.hnsw_name(generation, number), tenant, number) for tenant, number in large]


def count(connection: Connection, templates: Templates, generation: Generation, many: int) -> int:
    """Counts the embeddings up to `many`."""
    return connection.scalar(templates.text(sql.COUNT_EMBEDDINGS, generation), {"many": many}) or 0


def unbuilt(connection: Connection, templates: Templates, generation: Generation, concurrently: bool) -> list[str]:
    """Renders what builds the indexes that are wanted, and drops those that are broken, or over all of a divided
    index: the planner would take it for a tenant's."""
    there = states(connection, templates, generation)
    if BUILDING in there.values():
        return []
    how = "CONCURRENTLY" if concurrently else ""
    over_all = templates.hnsw_name(generation)
    indexes = wanted(connection, templates, generation, there)
    lacking = [index for index in indexes if there.get(index.name) != BUILT]
    dropped = [index.name for index in lacking if index.name in there]
    made = [
        templates.format(sql.CREATE_HNSW, generation, hnsw_name=index.name, where=where, concurrently=how)
        for index in lacking
        for where in ["" if index.number is None else f"WHERE {condition(index)}"]
    ]
    left = [over_all] if over_all in there and over_all not in [index.name for index in indexes] else []
    dropping, leaving = (
        [templates.format(sql.DROP_HNSW, hnsw=name, concurrently=how) for name in names] for names in (dropped, left)
    )
    return [*dropping, *made, *leaving]


def condition(index: Wanted, alias: str = "") -> str:
    """Renders what the rows of a tenant's index have in common."""
    return sql.OF_TENANT.format(alias=alias, number=index.number)


def build(
    connections: PostgreSQLConnections,
    templates: Templates,
    generation: Generation,
    concurrently: bool,
    progress: Progress | None,
) -> bool:
    """Builds the indexes on a connection outside any transaction, as CONCURRENTLY requires. Another holds the lock
    meanwhile, in a transaction without a snapshot, which the build would wait for; a lock of a session would stay with
    a pooler. Where there is nothing to build one connection is enough."""
    with connections.outside_transactions() as connection:
        templates.load_extensions(connection)
        if not unbuilt(connection, templates, generation, concurrently):
            return False
    with connections.at_read_committed() as guard:
        guard.exec_driver_sql(sql.NO_IDLE_LIMIT)
        if not guard.exec_driver_sql(templates.try_lock(generation)).scalar():
            return False
        with connections.outside_transactions() as connection:
            statements = unbuilt(connection, templates, generation, concurrently)
            if not statements:
                return False
            started = time.perf_counter()

            def run() -> None:
                with logging_notices(connection), raised_memory(connection, templates, generation):
                    for statement in statements:
                        connection.exec_driver_sql(statement)
                    for analyze in (sql.ANALYZE_EMBEDDING, sql.ANALYZE_SEARCH):
                        connection.execute(templates.text(analyze, generation))

            _watched(run, connection, connections, templates.embedding(generation), progress)
            log.info("vector_index:built generation=%d seconds=%.1f", generation.number, time.perf_counter() - started)
            return state(connection, templates, generation) == BUILT


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
