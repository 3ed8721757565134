"""Hybrid search: against the same by hand, with filters, beside a writer, in a new process; its recall and memory.

Its memory is that of a process that opens the index and runs one query, the model included. On SQLite the driver is
pysqlite3, where it is installed, whose SQLite version is reported.

Embeddings of 384 dimensions are MiniLM's of film extracts, repeated with noise: they measure speed, not quality.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from sqlalchemy import Engine, event

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import CallableProvider, EmbeddingProvider, StaticProvider

from .corpus import SHARED, passages
from .database import POSTGRESQL, SQLITE, address, database
from .memory import peak_mb
from .report import Arguments, Figures, latencies, stopwatch, versions
from .search_by_hand import by_hand

MINILM = SHARED / "data" / "embeddings" / "wikipedia_movies.all-MiniLM-L6-v2.f16.npy"
ROWS_A_CALL = 20_000
QUERIES = 200
WORDS = 8
WARM = 20
BY_HAND_QUERIES = 50
TEN = {
    "half": {"$eq": 1, "$ne": 0},
    "twentieth": {"$gte": 5, "$lt": 15, "$ne": 6, "$nin": [8]},
    "thousandth": {"$gte": 100, "$lt": 900, "$ne": 500, "$exists": True},
}
FILTERS: dict[str, dict[str, Any]] = {
    "all": {"where": {"half": {"$lt": 2}}},
    "half": {"where": {"half": 1}},
    "twentieth": {"where": {"twentieth": 7}},
    "thousandth": {"where": {"thousandth": 7}},
    "entity": {"entity": "Other"},
    "facets": {"facets": ["half", "twentieth"]},
    "ten_filters": {"where": TEN},
    "ten_filters_and_facets": {"where": TEN, "facets": ["half", "twentieth"]},
    "ten_narrow_filters_and_facets": {"where": {**TEN, "thousandth": 107}, "facets": ["half", "twentieth"]},
}
EMBEDDINGS = {
    "sqlite": "SELECT s.record_id, e.embedding FROM kdb_embedding_g1 AS e JOIN kdb_search AS s ON s.id = e.search_id",
    "postgresql": "SELECT record_id, CAST(embedding AS text) FROM kdb_embedding_g1",
}


def run(args: Arguments) -> Figures:
    """The run's own figures are those of hybrid search with the bundled model."""
    texts = passages(args.rows, args.seed)
    queries = questions(texts, args.seed)
    figures = dict(measured(args.backend, 256, texts, queries))
    if MINILM.is_file() and args.backend != POSTGRESQL:
        figures["dimensions_384"] = measured(args.backend, 384, texts, queries)
    if args.backend == SQLITE:
        figures["versions"] = versions(args.backend) | {"sqlite": sqlite_version()}
    return figures


def sqlite_version() -> str:
    engine = open_engine("sqlite://")
    with engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT sqlite_version()").scalar())


def measured(backend: str, dimensions: int, texts: Sequence[str], queries: Sequence[str]) -> Figures:
    with opened(backend) as engine:
        provider = provider_of(dimensions)
        search = SearchEngine(engine, provider)
        with stopwatch() as filled:
            fill(RecordStore(search), texts)
        with stopwatch() as built:
            search.admin.index_vectors()
        if backend == POSTGRESQL:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM ANALYZE")
        first = child("first", address(engine), dimensions, queries[0]).communicate()[0].split()
        search.search(queries[0])
        modes = {mode: partial(search.search, mode=mode) for mode in ("hybrid", "keyword", "vector")}
        took = timed(modes, queries)
        found = {
            "rows": len(texts),
            "seconds": round(filled.seconds, 1),
            "rows_per_second": round(len(texts) / filled.seconds),
            "vector_index_s": round(built.seconds, 1),
            "queries": len(queries),
            "dimensions": dimensions,
            **latencies(took["hybrid"]),
            "keyword": latencies(took["keyword"]),
            "vector": latencies(took["vector"]),
            "peak_mb": int(first[2]),
            "first_query_s": float(first[0]),
            "first_query_with_start_s": float(first[1]),
            "statements": statements(engine, search.search, queries[0]),
            "recall_at_10": recall(engine, search, provider, queries),
            "filters": filtered(search, queries),
            "beside_writer": beside_writer(engine, dimensions, search, queries),
        }
        search_by_hand = by_hand(engine, provider)
        if search_by_hand is not None:
            took = timed({"hybrid": modes["hybrid"], "by_hand": search_by_hand}, queries[:BY_HAND_QUERIES])
            found["by_hand"] = {**latencies(took["by_hand"]), "ours_alternating": latencies(took["hybrid"])}
            found["times_by_hand"] = ratio(took["hybrid"], took["by_hand"])
        return found


@contextmanager
def opened(backend: str) -> Iterator[Engine]:
    """On SQLite with the driver that loads extensions, where it is installed."""
    if backend == POSTGRESQL:
        with database(backend) as engine:
            yield engine
        return
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{Path(folder) / 'search.db'}")
        yield engine
        engine.dispose()


def open_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return kameleon.create_engine(url)
    try:
        import pysqlite3
    except ImportError:
        return kameleon.create_engine(url)
    return kameleon.create_engine(url, module=pysqlite3)


def provider_of(dimensions: int) -> EmbeddingProvider:
    if dimensions == 256:
        return StaticProvider()
    matrix = np.load(MINILM, mmap_mode="r")

    def embed(texts: Sequence[str]) -> Any:
        seeds = [int.from_bytes(content.encode()[:64], "big") % (2**61 - 1) for content in texts]
        noise = np.stack([np.random.default_rng(seed).standard_normal(dimensions) for seed in seeds])
        return matrix[[seed % len(matrix) for seed in seeds]] + 0.02 * noise

    return CallableProvider(embed, model_name="minilm-noise", dimensions=dimensions)


def fill(store: RecordStore, texts: Sequence[str]) -> None:
    """Nine tenths of one entity, a tenth of another."""
    fields = {"half": "integer", "twentieth": "integer", "thousandth": "integer"}
    for entity in ("Record", "Other"):
        store.create_entity(entity, search=["text"], fields=fields)
    for start in range(0, len(texts), ROWS_A_CALL):
        rows: list[dict[str, Any]] = [
            {"id": str(n), "text": texts[n], "half": n % 2, "twentieth": n % 20, "thousandth": n % 1000}
            for n in range(start, min(start + ROWS_A_CALL, len(texts)))
        ]
        store.insert("Record", [row for row in rows if int(row["id"]) // 7 % 10])
        store.insert("Other", [row for row in rows if not int(row["id"]) // 7 % 10])


def questions(texts: Sequence[str], seed: int) -> list[str]:
    """Eight words in a row out of a passage."""
    return [question for _, question in questions_of(texts, seed, QUERIES)]


def questions_of(texts: Sequence[str], seed: int, count: int) -> list[tuple[int, str]]:
    """The same, each with the number of its passage."""
    chance = random.Random(seed)
    drawn: list[tuple[int, str]] = []
    while len(drawn) < count:
        number = chance.randrange(len(texts))
        words = re.findall(r"\w+", texts[number])
        start = chance.randrange(max(1, len(words) - WORDS))
        drawn.append((number, " ".join(words[start : start + WORDS])))
    return drawn


def timed(ways: Mapping[str, Callable[[str], Any]], queries: Sequence[str]) -> dict[str, list[float]]:
    """Milliseconds of each way, alternating, after a few to warm up."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number, query in enumerate([*queries[-WARM:], *queries]):
        for name, way in ways.items():
            start = time.perf_counter()
            way(query)
            if number >= WARM:
                took[name].append(1000 * (time.perf_counter() - start))
    return took


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of the 95th percentiles."""
    return round(latencies(ours)["p95_ms"] / latencies(theirs)["p95_ms"], 2)


def filtered(search: SearchEngine, queries: Sequence[str]) -> Figures:
    """The 95th percentile of each filter, over that of no filter."""
    ways: dict[str, Callable[[str], Any]] = {n: partial(search.search, **options) for n, options in FILTERS.items()}
    took = timed({"none": search.search, **ways}, queries)
    return {name: ratio(took[name], took["none"]) for name in FILTERS}


def recall(engine: Engine, search: SearchEngine, provider: EmbeddingProvider, queries: Sequence[str]) -> float:
    """The share of the ten nearest, by exact cosine, that the vector leg has among its first ten."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(EMBEDDINGS[engine.dialect.name]).all()
    places = {row[0]: place for place, row in enumerate(rows)}
    matrix = np.stack([as_vector(row[1]) for row in rows])
    shares = []
    for query in queries:
        vector = np.asarray(provider.embed_query(query), dtype=np.float32)
        scores = matrix @ (vector / np.linalg.norm(vector))
        tenth = np.partition(scores, -10)[-10] - 1e-5
        found = [places[hit.id] for hit in search.search(query, mode="vector")]
        shares.append(sum(bool(scores[place] >= tenth) for place in found) / 10)
    return round(mean(shares), 4)


def as_vector(stored: Any) -> Any:
    if isinstance(stored, bytes):
        return np.frombuffer(stored, "<f4")
    return np.fromstring(stored[1:-1], dtype=np.float32, sep=",")


def statements(engine: Engine, way: Callable[[str], Any], query: str) -> int:
    """How many a search takes, besides SET LOCAL."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        seen.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    way(query)
    event.remove(engine, "before_cursor_execute", note)
    return sum(not statement.startswith("SET LOCAL") for statement in seen)


def beside_writer(engine: Engine, dimensions: int, search: SearchEngine, queries: Sequence[str]) -> Figures:
    """While another process writes ten records ten times a second. `stale` counts records that were committed before a
    query and not found by it."""
    alone = timed({"alone": search.search}, queries)["alone"]
    writer = child("write", address(engine), dimensions, "")
    assert writer.stdout is not None
    writer.stdout.readline()
    beside, stale = [], 0
    for query in queries:
        start = time.perf_counter()
        search.search(query)
        beside.append(1000 * (time.perf_counter() - start))
    for number in range(5):
        words = f"ownwords{number} of this process"
        search.index_record("Record", f"own{number}", words)
        stale += f"own{number}" not in [hit.id for hit in search.search(words)]
    writer.terminate()
    written = 10 * (1 + writer.communicate()[0].count("\n"))
    return {**latencies(beside), "times_alone": ratio(beside, alone), "stale": stale, "written": written}


def child(name: str, url: str, dimensions: int, query: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "stress.search", name, url, str(dimensions), query]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])


def first(url: str, dimensions: int, query: str) -> None:
    """Seconds of a process's first query, alone and with opening the database and the model; then its peak in MB."""
    start = time.perf_counter()
    search = SearchEngine(open_engine(url), provider_of(dimensions))
    made = time.perf_counter()
    search.search(query)
    end = time.perf_counter()
    print(round(end - made, 3), round(end - start, 3), peak_mb())


def write(url: str, dimensions: int, _query: str) -> None:
    search = SearchEngine(open_engine(url), provider_of(dimensions))
    start = time.perf_counter()
    for n in count():
        search.index_records_batch([("Record", f"new{n}-{m}", f"written beside queries {n} {m}") for m in range(10)])
        print(n, flush=True)
        time.sleep(max(0.0, start + (n + 1) / 10 - time.perf_counter()))


if __name__ == "__main__":
    {"first": first, "write": write}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), sys.argv[4])
