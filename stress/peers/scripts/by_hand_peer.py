"""What people write by hand: FTS5 and sqlite-vec through pysqlite3, or tsvector and HNSW; fused by reciprocal ranks."""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import kameleon
from kameleon.embeddings import EmbeddingProvider
from stress.search_by_hand import (
    POSTGRESQL_VECTOR,
    SQLITE_VECTOR,
    load_vec,
    nearest_of_table,
    query_postgresql,
    query_sqlite,
)

from .given import LIMIT, Given, Peer, Question, main

SQLITE = """
    PRAGMA journal_mode = wal;
    CREATE TABLE hand (id INTEGER PRIMARY KEY, content TEXT);
    CREATE VIRTUAL TABLE hand_fts USING fts5(content, content = 'hand', content_rowid = 'id', tokenize = 'porter');
    CREATE VIRTUAL TABLE hand_vec USING vec0(embedding float[{dimensions}] distance_metric=cosine);
"""
POSTGRESQL = """
    CREATE TABLE hand (
      record_id text PRIMARY KEY, content text NOT NULL, embedding vector({dimensions}) NOT NULL,
      terms tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED
    )
"""
COPY = "COPY hand (record_id, content, embedding) FROM STDIN WITH (FORMAT BINARY)"
INDEXES = (
    "CREATE INDEX ON hand USING gin (terms)",
    "CREATE INDEX ON hand USING hnsw (embedding vector_cosine_ops)",
    "ANALYZE hand",
)


class AtHand(EmbeddingProvider):
    model_name = "at-hand"

    def __init__(self, given: Given) -> None:
        self.dimensions = given.vectors.shape[1]
        self.vectors = given.by_text()

    def embed_batch(self, texts: Sequence[str]) -> Any:
        return [self.vectors[text] for text in texts]


class OnSQLite(Peer):
    def fill(self, given: Given) -> None:
        import pysqlite3

        self.provider = AtHand(given)
        self.driver: Any = pysqlite3.connect(given.store / "hand.db")
        load_vec(self.driver)
        self.driver.executescript(SQLITE.format(dimensions=given.vectors.shape[1]))
        with self.driver:
            self.driver.executemany(
                "INSERT INTO hand VALUES (?, ?)", zip(map(int, given.ids), given.texts, strict=True)
            )
            self.driver.execute("INSERT INTO hand_fts (rowid, content) SELECT id, content FROM hand")
            blobs = ((int(id_), vector.tobytes()) for id_, vector in zip(given.ids, given.vectors, strict=True))
            self.driver.executemany("INSERT INTO hand_vec (rowid, embedding) VALUES (?, ?)", blobs)

    def about(self) -> Mapping[str, str]:
        (sqlite,) = self.driver.execute("SELECT sqlite_version()").fetchone()
        return {
            "version": f"SQLite {sqlite}, sqlite-vec {version('sqlite-vec')}",
            "mode": "hybrid",
            "vector_index": "exact",
            "text_index": "FTS5, BM25",
        }

    def hybrid(self, question: Question) -> list[str]:
        return [
            str(id_)
            for id_, _ in query_sqlite(self.driver, nearest_of_table(self.driver, self.provider), question.text)
        ]

    def nearest(self, question: Question) -> list[str]:
        vector = question.vector.astype("<f4").tobytes()
        return [str(id_) for (id_,) in self.driver.execute(SQLITE_VECTOR, (vector, LIMIT))]

    def close(self) -> None:
        self.driver.close()


class OnPostgreSQL(Peer):
    def fill(self, given: Given) -> None:
        from pgvector.psycopg import register_vector

        self.provider = AtHand(given)
        self.engine = kameleon.create_engine(given.url)
        with self.engine.begin() as connection:
            connection.exec_driver_sql(POSTGRESQL.format(dimensions=given.vectors.shape[1]))
            driver: Any = connection.connection.driver_connection
            register_vector(driver)
            with driver.cursor().copy(COPY) as copy:
                copy.set_types(["text", "text", "vector"])
                for row in zip(given.ids, given.texts, given.vectors, strict=True):
                    copy.write_row(row)
            for statement in INDEXES:
                connection.exec_driver_sql(statement)

    def about(self) -> Mapping[str, str]:
        return {
            "version": f"pgvector-python {version('pgvector')}, psycopg {version('psycopg')}",
            "mode": "hybrid",
            "vector_index": "HNSW",
            "text_index": "tsvector, ts_rank_cd of any word",
        }

    def hybrid(self, question: Question) -> list[str]:
        return [row.record_id for row in query_postgresql(self.engine, self.provider, question.text)]

    def nearest(self, question: Question) -> list[str]:
        with self.engine.connect() as connection:
            vector = str(question.vector.tolist())
            return list(connection.scalars(POSTGRESQL_VECTOR, {"vector": vector, "k": LIMIT}))

    def settle(self) -> None:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")

    def close(self) -> None:
        self.engine.dispose()


if __name__ == "__main__":
    main(OnPostgreSQL() if len(sys.argv) > 3 else OnSQLite())
