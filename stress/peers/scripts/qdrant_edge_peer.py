"""Qdrant Edge in a folder: HNSW and sparse vectors of its own BM25, fused by its RRF."""

from collections.abc import Mapping
from importlib.metadata import version
from statistics import mean
from typing import Any

import qdrant_edge as edge

from .given import LIMIT, Given, Peer, Question, main

BATCH = 1_000
CANDIDATES = 100


class QdrantEdge(Peer):
    def fill(self, given: Given) -> None:
        length = mean(len(text.split()) for text in given.texts)
        self.words: Any = edge.Bm25(edge.Bm25Config(avg_len=length))
        config = edge.EdgeConfig(
            vectors={"dense": edge.EdgeVectorParams(given.vectors.shape[1], edge.Distance.Cosine)},
            sparse_vectors={"words": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        )
        folder = given.store / "records"
        folder.mkdir()
        self.records: Any = edge.EdgeShard.create(str(folder), config)
        rows = list(zip(given.ids, given.texts, given.vectors.tolist(), strict=True))
        for start in range(0, len(rows), BATCH):
            points = [
                edge.Point(int(id_), {"dense": vector, "words": self.words.embed_document(text)}, {"text": text})
                for id_, text, vector in rows[start : start + BATCH]
            ]
            self.records.update(edge.UpdateOperation.upsert_points(points))
        self.records.optimize()
        self.records.flush()

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("qdrant-edge-py"),
            "mode": "hybrid",
            "vector_index": "HNSW",
            "text_index": "sparse vectors, BM25",
        }

    def hybrid(self, question: Question) -> list[str]:
        dense = edge.Query.Nearest(question.vector.tolist(), "dense")
        words = edge.Query.Nearest(self.words.embed_query(question.text), "words")
        fusion: Any = edge.Fusion.Rrf(60)
        prefetches = [edge.Prefetch(CANDIDATES, query) for query in (dense, words)]
        return self._ids(edge.QueryRequest(LIMIT, query=fusion, prefetches=prefetches, with_payload=True))

    def nearest(self, question: Question) -> list[str]:
        query = edge.Query.Nearest(question.vector.tolist(), "dense")
        return self._ids(edge.QueryRequest(LIMIT, query=query, with_payload=True))

    def _ids(self, request: Any) -> list[str]:
        return [str(point.id) for point in self.records.query(request)]

    def close(self) -> None:
        self.records.close()


if __name__ == "__main__":
    main(QdrantEdge())
