"""langchain-postgres' PGVectorStore: hybrid by its example (reciprocal ranks), its indexes applied after the load.

A store keeps the first query's words as its keyword query for good, so each search brings a configuration of its own.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import sqlalchemy
from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig, reciprocal_rank_fusion
from langchain_postgres.v2.indexes import HNSWIndex

from .given import LIMIT, Given, Peer, Question, main

LEG = 40


class AtHand:
    """The half of langchain's Embeddings that the store calls."""

    def __init__(self, given: Given) -> None:
        self.vectors = given.by_text()

    async def aembed_query(self, text: str) -> list[float]:
        return [float(number) for number in self.vectors[text]]


class Langchain(Peer):
    def fill(self, given: Given) -> None:
        self.server = sqlalchemy.create_engine(given.url, isolation_level="AUTOCOMMIT")
        with self.server.connect() as connection:
            schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        engine: Any = PGEngine.from_connection_string(given.url)
        engine.init_vectorstore_table(
            "records",
            given.vectors.shape[1],
            schema_name=schema,
            id_column=Column("langchain_id", "TEXT", nullable=False),
            hybrid_search_config=configuration(),
        )
        self.records: Any = PGVectorStore.create_sync(
            engine, AtHand(given), "records", schema_name=schema, hybrid_search_config=configuration()
        )
        self.records.add_embeddings(given.texts, given.vectors.tolist(), ids=list(given.ids))
        self.records.apply_hybrid_search_index()
        self.records.apply_vector_index(HNSWIndex())

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("langchain-postgres"),
            "mode": "hybrid",
            "why": "its keyword leg requires all words, which a question cut from a passage has",
            "vector_index": "HNSW",
            "text_index": "tsvector, ts_rank_cd of all words",
        }

    def hybrid(self, question: Question) -> list[str]:
        found = self.records.similarity_search(question.text, k=LIMIT, hybrid_search_config=configuration())
        return [document.id for document in found]

    def nearest(self, question: Question) -> list[str]:
        vector = question.vector.tolist()
        found = self.records.similarity_search_by_vector(vector, k=LIMIT, hybrid_search_config=None)
        return [document.id for document in found]

    def settle(self) -> None:
        with self.server.connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")

    def close(self) -> None:
        self.server.dispose()


def configuration() -> HybridSearchConfig:
    return HybridSearchConfig(
        tsv_column="content_tsv",
        fusion_function=reciprocal_rank_fusion,
        primary_top_k=LEG,
        secondary_top_k=LEG,
    )


if __name__ == "__main__":
    main(Langchain())
