"""The keyword index under continuous writing: keyword and hybrid search by number of records against the same by hand,
disk, threads, statements and bytes; commits of one object, with their log.

Each index is measured as commits leave it, with the tail one row under its bound and one in twenty documents dead. By
hand is FTS5 and a NumPy matrix in memory, or tsvector and pgvector's HNSW.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, text
from sqlalchemy.orm import sessionmaker

from kameleon import SearchEngine
from kameleon.embeddings import EmbeddingProvider, StaticProvider
from kameleon.keywords.folding import FOLD_FROM
from kameleon.stores.tables import parts

from .by_hand import Hand
from .commit import Article, Base
from .corpus import passages
from .database import POSTGRESQL, SQLITE, database
from .insert import AtHand
from .peers import size_of
from .report import Arguments, Figures, latencies, stopwatch
from .search import open_engine, opened, questions, timed
from .search_by_hand import keyword_and_hybrid, query_postgresql
from .wire import wired

SIZES = (1_000, 30_000, 100_000)
DEAD = 20
BATCH = 100
THREADS = 8
WARM = 20
MODES = ("hybrid", "keyword")
COMMITS = 10_000
CHECKPOINT = 1_000
UNCOUNTED = ("BEGIN", "COMMIT", "ROLLBACK")
STATE = {
    "segments": "SELECT count(*) FROM kdb_segment WHERE state = 0",
    "tail": "SELECT count(*) FROM kdb_tail",
    "dead": "SELECT coalesce(sum(CASE WHEN length(docs) = 0 THEN 1 ELSE length(docs) / 8 END), 0) FROM kdb_dead",
    "records": "SELECT count(*) FROM kdb_search",
}
PAGES = """
    SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""

Query = Callable[[str], Any]


def run(args: Arguments) -> Figures:
    """The run's own latencies are those of hybrid search over `rows` records; smaller sizes are measured before."""
    sizes = {size: measured(args, size) for size in [*(size for size in SIZES if size < args.rows), args.rows]}
    of_rows = sizes[args.rows]["hybrid"]
    return {
        "rows": args.rows,
        **{name: of_rows[name] for name in ("p50_ms", "p95_ms", "p99_ms")},
        "sizes": {str(size): figures for size, figures in sizes.items()},
        "commits": commits(args),
    }


def measured(args: Arguments, rows: int) -> Figures:
    texts = passages(rows + rows // (DEAD - 1) + FOLD_FROM, args.seed)
    queries = questions(texts, args.seed)
    provider = StaticProvider()
    with opened(args.backend) as engine:
        search = SearchEngine(engine, provider)
        fill(search, texts, args.seed)
        settle(engine, search)
        found = {**state(engine), "disk_mb": round(disk(engine) / 1e6, 1)}
        ways: dict[str, Query] = {mode: partial(search.search, mode=mode) for mode in MODES}
        threads = {mode: throughput(way, queries) for mode, way in ways.items()}
        by_hand = {f"{mode}_by_hand": way for mode, way in keyword_and_hybrid(engine, provider).items()}
        took = timed({**ways, **by_hand}, queries)
        assert state(engine).items() <= found.items(), "queries changed the index"
        return {
            **found,
            **{mode: against(took[mode], took[f"{mode}_by_hand"]) for mode in ways},
            "threads": threads,
            "a_query": a_query(engine, provider, queries),
        }


def fill(search: SearchEngine, texts: Sequence[str], seed: int) -> None:
    """Batches of 100, then deletions of one record in twenty, then records until the tail is full."""
    records = [("Record", str(n), content) for n, content in enumerate(texts)]
    written, spare = records[:-FOLD_FROM], records[-FOLD_FROM:]
    for part in parts(written, BATCH):
        search.index_records_batch(part)
    search.index.keywords.maintain_all()
    for part in parts(random.Random(seed).sample(written, len(written) // DEAD), BATCH):
        search.delete_records([(entity, id_) for entity, id_, _ in part])
    search.index.keywords.maintain_all()
    with search.index.reading() as connection:
        short = FOLD_FROM - 1 - int(connection.scalar(text(STATE["tail"])) or 0)
    search.index_records_batch(spare[:short])


def settle(engine: Engine, search: SearchEngine) -> None:
    search.admin.index_vectors()
    if engine.dialect.name == POSTGRESQL:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def state(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {name: int(connection.scalar(text(statement)) or 0) for name, statement in STATE.items()}


def disk(engine: Engine) -> int:
    if engine.dialect.name == POSTGRESQL:
        return size_of(engine)
    with engine.connect() as connection:
        return int(connection.scalar(text(PAGES)) or 0)


def against(ours: Sequence[float], theirs: Sequence[float]) -> Figures:
    """Latencies, and how many times those by hand they are."""
    own, by_hand = latencies(ours), latencies(theirs)
    times = {f"times_by_hand_{name[:3]}": round(own[name] / by_hand[name], 2) for name in ("p50_ms", "p95_ms")}
    return {**own, **times, "by_hand": by_hand}


def throughput(way: Query, queries: Sequence[str]) -> Figures:
    """Queries a second of one thread and of eight, after some to open their connections."""
    rates = []
    for threads in (1, THREADS):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(way, queries[-WARM:]))
            with stopwatch() as watch:
                list(pool.map(way, queries))
        rates.append(len(queries) / watch.seconds)
    return {"one_per_second": round(rates[0], 1), "per_second": round(rates[1], 1)}


# what goes to the database


def a_query(engine: Engine, provider: EmbeddingProvider, queries: Sequence[str]) -> Figures:
    """Statements of a query, besides BEGIN and SET LOCAL, and on PostgreSQL its bytes over TCP, those of an engine that
    has queried before."""
    if engine.dialect.name == SQLITE:
        with traced(engine) as (other, seen):
            search = SearchEngine(other, provider)
            each = {mode: statements(seen, partial(search.search, mode=mode), queries) for mode in MODES}
            return {mode: {"statements": number} for mode, number in each.items()}
    with wired(engine.url) as (url, wire):
        other = open_engine(url.render_as_string(hide_password=False))
        search = SearchEngine(other, provider)
        ways: dict[str, Query] = {mode: partial(search.search, mode=mode) for mode in MODES}
        ways["by_hand"] = partial(query_postgresql, other, provider)
        found = {}
        for name, way in ways.items():
            list(map(way, queries[-WARM:]))
            before = (wire.sent, wire.received, wire.statements, wire.prepared)
            list(map(way, queries))
            after = (wire.sent, wire.received, wire.statements, wire.prepared)
            rates = [round((last - first) / len(queries), 1) for first, last in zip(before, after, strict=True)]
            found[name] = dict(zip(("bytes_sent", "bytes_received", "statements", "prepared"), rates, strict=True))
        other.dispose()
        return found


@contextmanager
def traced(engine: Engine) -> Iterator[tuple[Engine, list[str]]]:
    """Another engine on a file of SQLite, and the statements that its connections run."""
    seen: list[str] = []
    other = open_engine(engine.url.render_as_string(hide_password=False))
    event.listen(other, "connect", lambda driver, _: driver.set_trace_callback(seen.append))
    yield other, seen
    other.dispose()


def statements(seen: list[str], way: Query, queries: Sequence[str]) -> float:
    list(map(way, queries[-WARM:]))
    seen.clear()
    list(map(way, queries))
    assert seen, "no statement was traced"
    return round(sum(not statement.startswith(UNCOUNTED) for statement in seen) / len(queries), 1)


# commits


def commits(args: Arguments) -> Figures:
    """One object a commit: with the index, with what `Hand` writes, and alone. Folds and merges are in its time and
    log."""
    bodies = passages(min(COMMITS, args.rows) + 1, args.seed)
    provider = AtHand(bodies, args.seed)
    ours, by_hand, alone = (committed(args.backend, bodies, provider, how) for how in ("index", "hand", "alone"))
    added = {f"added_{name}": round(ours[name] - alone[name], 2) for name in ("p50_ms", "p99_ms")}
    return {"commits": len(bodies) - 1, **ours, **added, "by_hand": by_hand, "unattached": alone}


def committed(backend: str, bodies: Sequence[str], provider: AtHand, how: str) -> dict[str, float]:
    """The first commit, which makes the generation's table, is not counted."""
    with database(backend) as engine:
        log = Log(engine)
        Base.metadata.create_all(engine)
        maker, hand = sessionmaker(engine), Hand(engine)
        if how == "index":
            SearchEngine(engine, provider).attach(maker)
        elif how == "hand":
            hand.make_tables(with_hnsw=False)
        took = []
        for number, body in enumerate(bodies):
            if number == 1:
                log.begin()
            start = time.perf_counter()
            with maker.begin() as session:
                session.add(Article(title="t", body=body))
                if how == "hand":
                    session.flush()
                    driver: Any = session.connection().connection.driver_connection
                    hand.write(driver, [body], provider.matrix[number : number + 1], number)
            took.append(1000 * (time.perf_counter() - start))
            log.follow(number)
        return {**latencies(took[1:]), "log_bytes_a_record": round(log.end() / (len(bodies) - 1))}


class Log:
    """Counts the bytes of PostgreSQL's log, or those of SQLite's WAL file, which is emptied now and then."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bytes = 0
        self._is_sqlite = engine.dialect.name == SQLITE
        if self._is_sqlite:
            event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA wal_autocheckpoint = 0"))

    def begin(self) -> None:
        if self._is_sqlite:
            self._empty()
        self._bytes = 0 if self._is_sqlite else self._position()

    def follow(self, number: int) -> None:
        if self._is_sqlite and number % CHECKPOINT == CHECKPOINT - 1:
            self._empty()

    def end(self) -> int:
        if not self._is_sqlite:
            return self._position() - self._bytes
        self._empty()
        return self._bytes

    def _empty(self) -> None:
        self._bytes += Path(f"{self._engine.url.database}-wal").stat().st_size
        with self._engine.connect() as connection:
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
        assert not busy, "a reader keeps the WAL file"

    def _position(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.scalar(text("SELECT pg_current_wal_insert_lsn() - '0/0'")) or 0)
