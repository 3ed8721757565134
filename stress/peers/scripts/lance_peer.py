"""LanceDB in a folder: its own full text index and, as its documentation advises to 100,000 rows, no vector index."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import lancedb
import pyarrow
from lancedb.rerankers import RRFReranker

from .given import LIMIT, Given, Peer, Question, main

EXACT_ROWS = 100_000


class Lance(Peer):
    reranker = RRFReranker()

    def fill(self, given: Given) -> None:
        vectors = pyarrow.FixedSizeListArray.from_arrays(given.vectors.ravel(), given.vectors.shape[1])
        rows = pyarrow.table({"id": given.ids, "text": given.texts, "vector": vectors})
        self.records: Any = lancedb.connect(given.store).create_table("records", rows)
        self.records.create_fts_index("text")
        self.is_exact = len(given.ids) <= EXACT_ROWS
        if not self.is_exact:
            self.records.create_index(metric="cosine")

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("lancedb"),
            "mode": "hybrid",
            "vector_index": "exact" if self.is_exact else "IVF_PQ",
            "text_index": "its own, BM25",
        }

    def hybrid(self, question: Question) -> list[str]:
        query = self.records.search(query_type="hybrid").vector(question.vector).text(question.text)
        query = query.distance_type("cosine").rerank(self.reranker)
        return [row["id"] for row in query.select(["id", "text"]).limit(LIMIT).to_list()]

    def nearest(self, question: Question) -> list[str]:
        query = self.records.search(question.vector).distance_type("cosine")
        return [row["id"] for row in query.select(["id", "text"]).limit(LIMIT).to_list()]


if __name__ == "__main__":
    main(Lance())
