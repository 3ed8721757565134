"""kameleon, with the bundled model's vectors at hand."""

from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
from sqlalchemy import text

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import CallableProvider, StaticProvider

from .given import LIMIT, Given, Peer, Question, main


class Ours(Peer):
    def fill(self, given: Given) -> None:
        vectors = given.by_text()
        provider = CallableProvider(
            lambda texts: np.stack([vectors[one] for one in texts]),
            dimensions=given.vectors.shape[1],
            model_name="at-hand",
            batch_size=100_000,
            vector_weight=StaticProvider.vector_weight,
        )
        self.engine = kameleon.create_engine(given.url or f"sqlite:///{given.store / 'ours.db'}")
        self.search = SearchEngine(self.engine, provider)
        self.search.index_records_batch([("Record", *record) for record in zip(given.ids, given.texts, strict=True)])
        self.search.admin.index_vectors()

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("kameleon"),
            "mode": "hybrid",
            "vector_index": "HNSW" if self.has_hnsw() else "exact",
            "text_index": "kameleon's own, BM25",
        }

    def has_hnsw(self) -> bool:
        if self.engine.dialect.name == "sqlite":
            return False
        with self.engine.connect() as connection:
            statement = "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema() AND indexdef LIKE '%hnsw%'"
            return bool(connection.scalar(text(statement)))

    def hybrid(self, question: Question) -> list[str]:
        return [hit.id for hit in self.search.search(question.text, limit=LIMIT)]

    def nearest(self, question: Question) -> list[str]:
        return [hit.id for hit in self.search.search(question.text, limit=LIMIT, mode="vector")]

    def settle(self) -> None:
        if self.engine.dialect.name != "sqlite":
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM ANALYZE")

    def close(self) -> None:
        self.engine.dispose()


if __name__ == "__main__":
    main(Ours())
