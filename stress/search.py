"""Hybrid search on PostgreSQL: against the query that people write by hand, and against an exact scan for recall."""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import mean, quantiles
from typing import Any

import numpy as np
from sqlalchemy import Engine, event, text

from kameleon import SearchEngine
from kameleon.embeddings import StaticProvider

from .corpus import passages
from .database import postgresql
from .report import line, stopwatch

QUERIES = 200
WORDS = 8
BY_HAND = """
    CREATE TABLE hand AS SELECT s.record_id, s.content, to_tsvector('english', s.content) AS terms, e.embedding
    FROM kdb_search AS s JOIN kdb_embedding_g1 AS e USING (entity_name, record_id);
    ALTER TABLE hand ADD PRIMARY KEY (record_id);
    CREATE INDEX ON hand USING gin (terms);
    CREATE INDEX ON hand USING hnsw (embedding vector_cosine_ops);
    ANALYZE hand;
"""
# The question's words ORed; plainto_tsquery alone would ask for all of them at once and find nothing.
KEYWORD_BY_HAND = text("""
    SELECT record_id
    FROM hand, CAST(replace(CAST(plainto_tsquery('english', :query) AS text), '&', '|') AS tsquery) AS q
    WHERE terms @@ q ORDER BY ts_rank_cd(terms, q) DESC LIMIT 100
""")
VECTOR_BY_HAND = text("SELECT record_id FROM hand ORDER BY embedding <=> CAST(:vector AS vector) LIMIT 100")
CONTENT_BY_HAND = text("SELECT record_id, content FROM hand WHERE record_id = ANY(:ids)")


def run(rows: int, seed: int) -> Iterator[str]:
    texts = passages(rows, seed)
    provider = StaticProvider()
    with postgresql() as engine:
        search = SearchEngine(engine, provider)
        search.index_records_batch([("Record", str(n), content) for n, content in enumerate(texts)])
        with stopwatch() as built:
            search.index_vectors()
        with engine.begin() as connection:
            connection.exec_driver_sql(BY_HAND)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")
        yield from measure(engine, search, provider, texts, seed, round(built.seconds, 1))


def measure(
    engine: Engine, search: SearchEngine, provider: StaticProvider, texts: Sequence[str], seed: int, built: float
) -> Iterator[str]:
    asked = questions(texts, seed)
    ways: dict[str, Callable[[str], Any]] = {
        "hybrid": lambda query: search.search(query),
        "by_hand": lambda query: by_hand(engine, provider, query),
        "keyword": lambda query: search.search(query, mode="keyword"),
        "vector": lambda query: search.search(query, mode="vector"),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for query in asked:
        for name, way in ways.items():
            start = time.perf_counter()
            way(query)
            took[name].append(1000 * (time.perf_counter() - start))
    p95 = {name: quantiles(times, n=20)[18] for name, times in took.items()}
    yield line(
        "search",
        rows=len(texts),
        seed=seed,
        queries=len(asked),
        index_seconds=built,
        **{f"{name}_p50_ms": round(quantiles(times, n=2)[0], 1) for name, times in took.items()},
        **{f"{name}_p95_ms": round(value, 1) for name, value in p95.items()},
        p95_to_by_hand=round(p95["hybrid"] / p95["by_hand"], 2),
        recall_at_10=round(recall(search, provider, texts, asked), 4),
        statements=statements(engine, search, asked[0]),
    )


def questions(texts: Sequence[str], seed: int) -> list[str]:
    """Eight words in a row out of a passage."""
    chance = random.Random(seed)
    asked: list[str] = []
    while len(asked) < QUERIES:
        words = re.findall(r"\w+", chance.choice(texts))
        start = chance.randrange(max(1, len(words) - WORDS))
        asked.append(" ".join(words[start : start + WORDS]))
    return asked


def by_hand(engine: Engine, provider: StaticProvider, query: str) -> list[Any]:
    vector = str(np.asarray(provider.embed_query(query)).tolist())
    with engine.connect() as connection:
        legs = [
            connection.execute(KEYWORD_BY_HAND, {"query": query}).scalars().all(),
            connection.execute(VECTOR_BY_HAND, {"vector": vector}).scalars().all(),
        ]
        scores: dict[str, float] = {}
        for leg in legs:
            for rank, id_ in enumerate(leg, 1):
                scores[id_] = scores.get(id_, 0.0) + 1 / (60 + rank)
        best = sorted(scores, key=lambda id_: -scores[id_])[:10]
        return list(connection.execute(CONTENT_BY_HAND, {"ids": best}))


def recall(search: SearchEngine, provider: StaticProvider, texts: Sequence[str], asked: Sequence[str]) -> float:
    """The share of the ten nearest, by exact cosine, that the vector leg has among its first ten."""
    matrix = np.asarray(provider.embed_batch(list(texts)), dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    shares = []
    for query in asked:
        scores = matrix @ np.asarray(provider.embed_query(query), dtype=np.float32)
        tenth = np.partition(scores, -10)[-10] - 1e-5
        found = [int(hit.id) for hit in search.search(query, mode="vector")]
        shares.append(mean(bool(scores[id_] >= tenth) for id_ in found))
    return mean(shares)


def statements(engine: Engine, search: SearchEngine, query: str) -> int:
    """How many a search takes, besides SET LOCAL."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        seen.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    search.search(query)
    event.remove(engine, "before_cursor_execute", note)
    return sum(not statement.startswith("SET LOCAL") for statement in seen)
