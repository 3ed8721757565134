"""Building an HNSW index in PostgreSQL: with the memory and workers it has use for, watched from a second connection,
and cancelled on the server when the caller gives up."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection

from ..ownership import own_driver
from ..protocols import IndexProgress
from . import statements as sql

MEMORY, WORKERS, TIMEOUT = "maintenance_work_mem", "max_parallel_maintenance_workers", "statement_timeout"
# A graph that outgrows its memory is built on pages, many times as slowly. What other backends need stays theirs.
MEMORY_CAP_KB = 1024 * 1024
# Below, PostgreSQL gives no worker: it wants 32 MB for each and for the leader.
PARALLEL_FROM_KB = 64 * 1024
# pgvector takes 3 MB of a parallel build's memory for the rest.
BESIDE_GRAPH_KB = 4 * 1024
# An element and the heads of its lists; then 16 bytes a neighbour: 2m, and m on each higher level that it reaches.
ELEMENT_BYTES, NEIGHBOUR_BYTES = 200, 16
# Earlier, a parallel build wrote past its buffer.
PARALLEL_SINCE = (0, 8, 2)
POLL_S = 1.0
UNSEEN = IndexProgress("", 0, 0, None)


class Setting(NamedTuple):
    """In PostgreSQL's own unit. `is_set` if the session said it: RESET would not bring it back."""

    value: int
    is_set: bool


class Session(NamedTuple):
    """`is_pooled` behind a pooler: the next statement may reach another server process."""

    settings: Mapping[str, Setting]
    is_pooled: bool


def bytes_a_row(dimensions: int, component: int, m: int) -> int:
    """A fifth of it is reserve, for what is written meanwhile too."""
    return (dimensions * component + NEIGHBOUR_BYTES * 2 * (m + 1) + ELEMENT_BYTES) * 5 // 4


def most_rows(row_bytes: int) -> int:
    """How many reach the cap."""
    return MEMORY_CAP_KB * 1024 // row_bytes


def session_of(connection: Connection) -> Session:
    """A pooler makes up the process id that it greets with."""
    driver = own_driver(connection)
    rows = driver.execute(sql.BUILD_SETTINGS, prepare=False).fetchall()
    settings = {name: Setting(value, is_set) for name, value, is_set, _ in rows}
    return Session(settings, rows[0][3] != driver.info.backend_pid)


def wanted(session: Session, graph_bytes: int, version: tuple[int, ...]) -> dict[str, int]:
    """None is lower than it was. Who forbade parallel builds by a 0 keeps that."""
    memory = max(PARALLEL_FROM_KB, BESIDE_GRAPH_KB + graph_bytes // 1024)
    workers = session.settings[WORKERS].value
    if workers and version >= PARALLEL_SINCE:
        workers = max(workers, session.settings["max_parallel_workers"].value)
    return {
        MEMORY: max(session.settings[MEMORY].value, min(MEMORY_CAP_KB, memory)),
        WORKERS: workers,
        TIMEOUT: 0,
    }


@contextmanager
def in_transaction(connection: Connection, _session: Session, settings: Mapping[str, int]) -> Iterator[None]:
    driver = own_driver(connection)
    with driver.transaction():
        driver.execute("; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items()), prepare=False)
        yield


@contextmanager
def in_session(connection: Connection, session: Session, settings: Mapping[str, int]) -> Iterator[None]:
    """Outside any transaction; the session's settings are then as they were found."""
    driver = own_driver(connection)
    before = {name: session.settings[name] for name in settings}
    back = [f"SET {name} = {was.value}" if was.is_set else f"RESET {name}" for name, was in before.items()]
    try:
        driver.execute("; ".join(f"SET {name} = {value}" for name, value in settings.items()), prepare=False)
        yield
    finally:
        if not driver.closed:
            driver.execute("; ".join(back), prepare=False)


def is_short_of_shared_memory(error: BaseException | None) -> bool:
    """By the place that raised it: the words are in the server's language, the codes those of a full disk too."""
    return (getattr(getattr(error, "diag", None), "source_file", None) or "").endswith("dsm_impl.c")


def watch(
    build: Callable[[], None],
    builder: Connection,
    poll: Callable[[], IndexProgress | None],
    progress: Callable[[IndexProgress], None],
) -> None:
    """Builds on a thread of its own; this one polls. What is raised here cancels the build first."""
    with ThreadPoolExecutor(1, "kameleon-index") as pool:
        driver = own_driver(builder)
        building = pool.submit(build)
        try:
            while not wait([building], POLL_S).done:
                progress(poll() or UNSEEN)
        except BaseException:
            cancel(driver, building)
            raise
        building.result()


def cancel(driver: Any, building: Future[None]) -> None:
    """Until it has ended: a request that comes between two statements is lost."""
    while not building.done():
        with suppress(psycopg.Error):
            driver.cancel_safe(timeout=10)
        wait([building], POLL_S)


def seen_from(watcher: Connection, table: str) -> IndexProgress | None:
    """None where nothing is to be seen, be it that the connection is gone: the build goes on."""
    with suppress(psycopg.Error):
        row = own_driver(watcher).execute(sql.INDEX_PROGRESS, (table,), prepare=False).fetchone()
        return row and IndexProgress(*row)
    return None
