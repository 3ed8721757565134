"""Hybrid search as it is written by hand: FTS5 and sqlite-vec, tsvector and pgvector; every word ORed, a hundred of
each leg, reciprocal ranks, the ten best read.

FTS5 and sqlite-vec need a driver that loads extensions: pysqlite3, which then serves both sides. A matrix in memory,
multiplied by NumPy, needs none.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from kameleon.embeddings import EmbeddingProvider

from .database import SQLITE

Search = Callable[[str], list[Any]]

LEG = 100

SQLITE_TEXTS = """
    CREATE TABLE hand (id INTEGER PRIMARY KEY, content TEXT);
    CREATE VIRTUAL TABLE hand_fts USING fts5(content, content = 'hand', content_rowid = 'id', tokenize = 'porter');
    INSERT INTO hand SELECT id, content FROM kdb_search;
    INSERT INTO hand_fts (rowid, content) SELECT id, content FROM hand;
"""
SQLITE_VECTORS = """
    CREATE VIRTUAL TABLE hand_vec USING vec0(embedding float[{dimensions}] distance_metric=cosine);
    INSERT INTO hand_vec (rowid, embedding) SELECT search_id, embedding FROM kdb_embedding_g1;
"""
SQLITE_KEYWORD = "SELECT rowid FROM hand_fts WHERE hand_fts MATCH ? ORDER BY rank LIMIT 100"
SQLITE_VECTOR = "SELECT rowid FROM hand_vec WHERE embedding MATCH ? AND k = ? ORDER BY distance"
SQLITE_MATRIX = "SELECT search_id, embedding FROM kdb_embedding_g1"
SQLITE_CONTENT = "SELECT id, content FROM hand WHERE id IN (SELECT value FROM json_each(?))"
POSTGRESQL_TABLES = """
    CREATE TABLE hand AS SELECT s.record_id, s.content, to_tsvector('english', s.content) AS terms, e.embedding
    FROM kdb_search AS s JOIN kdb_embedding_g1 AS e USING (entity_name, record_id);
    ALTER TABLE hand ADD PRIMARY KEY (record_id);
    CREATE INDEX ON hand USING gin (terms);
    CREATE INDEX ON hand USING hnsw (embedding vector_cosine_ops);
    ANALYZE hand;
"""
# The question's words ORed; plainto_tsquery alone would require all of them and find nothing.
POSTGRESQL_KEYWORD = text("""
    SELECT record_id
    FROM hand, CAST(replace(CAST(plainto_tsquery('english', :query) AS text), '&', '|') AS tsquery) AS q
    WHERE terms @@ q ORDER BY ts_rank_cd(terms, q) DESC LIMIT 100
""")
POSTGRESQL_VECTOR = text("SELECT record_id FROM hand ORDER BY embedding <=> CAST(:vector AS vector) LIMIT :k")
POSTGRESQL_CONTENT = text("SELECT record_id, content FROM hand WHERE record_id = ANY(:ids)")


def by_hand(engine: Engine, provider: EmbeddingProvider) -> Search | None:
    """A search of hand-made tables, filled from those of the index; None where the driver loads no extensions."""
    if engine.dialect.name != SQLITE:
        with engine.begin() as connection:
            connection.exec_driver_sql(POSTGRESQL_TABLES)
        return partial(query_postgresql, engine, provider)
    driver: Any = engine.raw_connection().driver_connection
    if not hasattr(driver, "enable_load_extension"):
        return None
    load_vec(driver)
    driver.executescript(SQLITE_TEXTS + SQLITE_VECTORS.format(dimensions=provider.dimensions))
    return partial(query_sqlite, driver, nearest_of_table(driver, provider))


def keyword_and_hybrid(engine: Engine, provider: EmbeddingProvider) -> dict[str, Search]:
    """The ten best by keywords alone, and by both legs; on SQLite the vectors are a matrix in memory."""
    if engine.dialect.name != SQLITE:
        with engine.begin() as connection:
            connection.exec_driver_sql(POSTGRESQL_TABLES)
        keyword = partial(keyword_postgresql, engine)
        return {"keyword": keyword, "hybrid": partial(query_postgresql, engine, provider)}
    driver: Any = engine.raw_connection().driver_connection
    driver.executescript(SQLITE_TEXTS)
    nearest = nearest_of_matrix(driver, provider)
    return {"keyword": partial(query_sqlite, driver, no_vectors), "hybrid": partial(query_sqlite, driver, nearest)}


def load_vec(driver: Any) -> None:
    import sqlite_vec

    driver.enable_load_extension(True)
    sqlite_vec.load(driver)


def query_sqlite(driver: Any, nearest: Search, query: str) -> list[Any]:
    """(id, content)."""
    match = " OR ".join(f'"{word}"' for word in query.split())
    keyword = [row[0] for row in driver.execute(SQLITE_KEYWORD, (match,))]
    return list(driver.execute(SQLITE_CONTENT, (json.dumps(best_of(keyword, nearest(query))),)))


def no_vectors(query: str) -> list[Any]:
    return []


def nearest_of_table(driver: Any, provider: EmbeddingProvider) -> Search:
    def nearest(query: str) -> list[Any]:
        vector = np.asarray(provider.embed_query(query), "<f4").tobytes()
        return [row[0] for row in driver.execute(SQLITE_VECTOR, (vector, LEG))]

    return nearest


def nearest_of_matrix(driver: Any, provider: EmbeddingProvider) -> Search:
    rows = driver.execute(SQLITE_MATRIX).fetchall()
    ids, matrix = np.array([row[0] for row in rows]), np.stack([np.frombuffer(row[1], "<f4") for row in rows])
    leg = min(LEG, len(ids))

    def nearest(query: str) -> list[Any]:
        scores = matrix @ np.asarray(provider.embed_query(query), "<f4")
        best = np.argpartition(-scores, leg - 1)[:leg]
        found: list[Any] = ids[best[np.argsort(-scores[best])]].tolist()
        return found

    return nearest


def keyword_postgresql(engine: Engine, query: str) -> list[Any]:
    """(record_id, content)."""
    with engine.connect() as connection:
        keyword = connection.execute(POSTGRESQL_KEYWORD, {"query": query}).scalars().all()
        return list(connection.execute(POSTGRESQL_CONTENT, {"ids": best_of(keyword)}))


def query_postgresql(engine: Engine, provider: EmbeddingProvider, query: str) -> list[Any]:
    """(record_id, content)."""
    vector = str(np.asarray(provider.embed_query(query)).tolist())
    with engine.connect() as connection:
        keyword = connection.execute(POSTGRESQL_KEYWORD, {"query": query}).scalars().all()
        nearest = connection.execute(POSTGRESQL_VECTOR, {"vector": vector, "k": LEG}).scalars().all()
        return list(connection.execute(POSTGRESQL_CONTENT, {"ids": best_of(keyword, nearest)}))


def best_of(*legs: Sequence[Any]) -> list[Any]:
    scores: dict[Any, float] = {}
    for leg in legs:
        for rank, id_ in enumerate(leg, 1):
            scores[id_] = scores.get(id_, 0.0) + 1 / (60 + rank)
    return sorted(scores, key=lambda id_: -scores[id_])[:10]
