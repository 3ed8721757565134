"""Hybrid search on SQLite: against FTS5 and sqlite-vec by hand, with filters, beside a writer, and its recall.

The hand-written side needs a driver that loads extensions: pysqlite3, which then serves both sides. Embeddings of 384
dimensions are MiniLM's of film extracts, repeated with noise: they stand for speed, not for quality.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

import numpy as np
from sqlalchemy import Engine

import kameleon
from kameleon import RecordStore, SearchEngine
from kameleon.embeddings import CallableProvider, EmbeddingProvider, StaticProvider

from .corpus import SHARED, passages
from .report import line, stopwatch
from .search import questions

MINILM = SHARED / "data" / "embeddings" / "wikipedia_movies.all-MiniLM-L6-v2.f16.npy"
ROWS_A_CALL = 20_000
WARM = 50
FILTERS: dict[str, dict[str, Any]] = {
    "all": {"where": {"half": {"$lt": 2}}},
    "half": {"where": {"half": 1}},
    "twentieth": {"where": {"twentieth": 7}},
    "thousandth": {"where": {"thousandth": 7}},
    "entity": {"entity": "Other"},
}
FIRST = """
import sys, time
start = time.perf_counter()
from stress.search_sqlite import open_engine, provider_of
from kameleon import SearchEngine
search = SearchEngine(open_engine(sys.argv[1]), provider_of(int(sys.argv[2])))
opened = time.perf_counter()
search.search(sys.argv[3])
print(time.perf_counter() - opened, time.perf_counter() - start)
"""
WRITER = """
import itertools, sys, time
from stress.search_sqlite import open_engine, provider_of
from kameleon import SearchEngine
search = SearchEngine(open_engine(sys.argv[1]), provider_of(int(sys.argv[2])))
start = time.perf_counter()
for n in itertools.count():
    search.index_records_batch([("Record", f"new{n}-{m}", f"written beside the queries {n} {m}") for m in range(10)])
    print(n, flush=True)
    time.sleep(max(0.0, start + (n + 1) / 10 - time.perf_counter()))
"""


def run(rows: int, seed: int) -> Iterator[str]:
    texts = passages(rows, seed)
    asked = questions(texts, seed)
    for dimensions in (256, 384) if MINILM.is_file() else (256,):
        with tempfile.TemporaryDirectory() as folder:
            yield from measure(Path(folder) / "search.db", dimensions, texts, asked, seed)


def measure(path: Path, dimensions: int, texts: Sequence[str], asked: Sequence[str], seed: int) -> Iterator[str]:
    engine = open_engine(str(path))
    dbapi: Any = engine.dialect.dbapi
    provider = provider_of(dimensions)
    search = SearchEngine(engine, provider)
    about: dict[str, Any] = {
        "rows": len(texts),
        "seed": seed,
        "dimensions": dimensions,
        "vectors": "static" if dimensions == 256 else "minilm with noise",
        "driver": dbapi.__name__,
    }
    with stopwatch() as built:
        fill(RecordStore(search), texts)
    first = child(FIRST, path, dimensions, asked[0]).communicate()[0].split()
    query_s, with_start_s = (round(float(seconds), 2) for seconds in first)
    about["index_seconds"] = round(built.seconds, 1)
    yield line("search-first", **about, query_s=query_s, with_start_s=with_start_s)
    search.search(asked[0])
    ways: dict[str, Callable[[str], Any]] = {
        mode: partial(search.search, mode=mode) for mode in ("hybrid", "keyword", "vector")
    }
    took = timed(ways, asked)
    yield line("search-modes", **about, **figures(took), **memory())
    scoped = {name: partial(search.search, **options) for name, options in FILTERS.items()}
    took = timed({"hybrid": ways["hybrid"], **scoped}, asked)
    ratios = {f"{name}_to_hybrid": round(p95(took[name]) / p95(took["hybrid"]), 2) for name in FILTERS}
    yield line("search-filters", **about, **figures(took), **ratios)
    yield line("search-recall", **about, recall_at_10=round(recall(engine, search, provider, asked), 4))
    yield line("search-beside-writer", **about, **beside_writer(path, dimensions, search, asked))
    if hasattr(dbapi.Connection, "enable_load_extension"):
        tables = by_hand_tables(engine, dimensions)
        took = timed({"hybrid": ways["hybrid"], "by_hand": lambda query: by_hand(tables, provider, query)}, asked[:50])
        faster = p95(took["by_hand"]) / p95(took["hybrid"])
        yield line("search-by-hand", **about, **figures(took), times_faster=round(faster, 2))
    engine.dispose()


def open_engine(path: str) -> Engine:
    try:
        import pysqlite3
    except ImportError:
        return kameleon.create_engine(f"sqlite:///{path}")
    return kameleon.create_engine(f"sqlite:///{path}", module=pysqlite3)


def provider_of(dimensions: int) -> EmbeddingProvider:
    if dimensions == 256:
        return StaticProvider()
    matrix = np.load(MINILM, mmap_mode="r")

    def embed(texts: Sequence[str]) -> Any:
        seeds = [hash_of(content) for content in texts]
        noise = np.stack([np.random.default_rng(seed).standard_normal(dimensions) for seed in seeds])
        return matrix[[seed % len(matrix) for seed in seeds]] + 0.02 * noise

    return CallableProvider(embed, model_name="minilm-noise", dimensions=dimensions)


def hash_of(content: str) -> int:
    return int.from_bytes(content.encode()[:64], "big") % (2**61 - 1)


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


def timed(ways: dict[str, Callable[[str], Any]], asked: Sequence[str]) -> dict[str, list[float]]:
    """Milliseconds, the ways in turns, after a few to warm up."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number, query in enumerate([*asked[-WARM:], *asked]):
        for name, way in ways.items():
            start = time.perf_counter()
            way(query)
            if number >= WARM:
                took[name].append(1000 * (time.perf_counter() - start))
    return took


def p95(times: Sequence[float]) -> float:
    return quantiles(times, n=20)[18]


def figures(took: dict[str, list[float]]) -> dict[str, float]:
    return {
        **{f"{name}_p50_ms": round(quantiles(times, n=2)[0], 1) for name, times in took.items()},
        **{f"{name}_p95_ms": round(p95(times), 1) for name, times in took.items()},
    }


def memory() -> dict[str, int]:
    """Of this process, which has built the index and holds the corpus too, in MB."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return {}
    found = dict(row.split(":", 1) for row in status.read_text().splitlines())
    return {f"{name}_mb": int(found[name].split()[0]) // 1024 for name in ("VmHWM", "VmRSS")}


def child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    folder = Path(__file__).parents[1]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}
    )


def recall(engine: Engine, search: SearchEngine, provider: EmbeddingProvider, asked: Sequence[str]) -> float:
    """The share of the ten nearest, by exact cosine, that the vector leg has among its first ten."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT s.record_id, e.embedding FROM kdb_embedding_g1 AS e JOIN kdb_search AS s ON s.id = e.search_id"
        ).all()
    places = {row[0]: place for place, row in enumerate(rows)}
    matrix = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), -1)
    shares = []
    for query in asked:
        vector = np.asarray(provider.embed_query(query), dtype=np.float32)
        scores = matrix @ (vector / np.linalg.norm(vector))
        tenth = np.partition(scores, -10)[-10] - 1e-5
        found = [places[hit.id] for hit in search.search(query, mode="vector")]
        shares.append(mean(bool(scores[place] >= tenth) for place in found))
    return mean(shares)


def beside_writer(path: Path, dimensions: int, search: SearchEngine, asked: Sequence[str]) -> dict[str, Any]:
    """`stale` counts records that were committed before a query and not found by it."""
    alone = timed({"alone": search.search}, asked)["alone"]
    writer = child(WRITER, path, dimensions)
    assert writer.stdout is not None
    writer.stdout.readline()
    beside, stale = [], 0
    for query in asked:
        start = time.perf_counter()
        search.search(query)
        beside.append(1000 * (time.perf_counter() - start))
    for number in range(5):
        search.index_record("Record", f"own{number}", f"ownwords{number} of this process")
        stale += f"own{number}" not in [hit.id for hit in search.search(f"ownwords{number} of this process")]
    writer.terminate()
    batches = writer.communicate()[0].count("\n")
    ratio = round(p95(beside) / p95(alone), 2)
    return {**figures({"alone": alone, "beside": beside}), "ratio": ratio, "stale": stale, "written": 10 * batches}


def by_hand_tables(engine: Engine, dimensions: int) -> Any:
    import sqlite_vec

    driver: Any = engine.raw_connection().driver_connection
    driver.enable_load_extension(True)
    sqlite_vec.load(driver)
    driver.executescript(f"""
        CREATE TABLE hand (id INTEGER PRIMARY KEY, content TEXT);
        CREATE VIRTUAL TABLE hand_fts USING fts5(content, content = 'hand', content_rowid = 'id', tokenize = 'porter');
        CREATE VIRTUAL TABLE hand_vec USING vec0(embedding float[{dimensions}] distance_metric=cosine);
        INSERT INTO hand SELECT id, content FROM kdb_search;
        INSERT INTO hand_fts (rowid, content) SELECT id, content FROM hand;
        INSERT INTO hand_vec (rowid, embedding) SELECT search_id, embedding FROM kdb_embedding_g1;
    """)
    return driver


def by_hand(driver: Any, provider: EmbeddingProvider, query: str) -> list[Any]:
    """All words ORed, a hundred of each leg, reciprocal ranks, the ten best read."""
    match = " OR ".join(f'"{word}"' for word in query.split())
    vector = np.asarray(provider.embed_query(query), dtype=np.float32).tolist()
    legs = [
        driver.execute(
            "SELECT rowid FROM hand_fts WHERE hand_fts MATCH ? ORDER BY rank LIMIT 100", (match,)
        ).fetchall(),
        driver.execute(
            "SELECT rowid FROM hand_vec WHERE embedding MATCH ? AND k = 100 ORDER BY distance",
            (struct.pack(f"{len(vector)}f", *vector),),
        ).fetchall(),
    ]
    scores: dict[int, float] = {}
    for leg in legs:
        for rank, (id_,) in enumerate(leg, 1):
            scores[id_] = scores.get(id_, 0.0) + 1 / (60 + rank)
    best = sorted(scores, key=lambda id_: -scores[id_])[:10]
    found = driver.execute(
        "SELECT id, content FROM hand WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(best),)
    )
    return list(found)
