"""zvec in a folder: its HNSW and its own full text index, fused by its RRF."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import zvec

from .given import LIMIT, Given, Peer, Question, main

BATCH = 1_000
CANDIDATES = 100


class Zvec(Peer):
    reranker = zvec.RrfReRanker()

    def fill(self, given: Given) -> None:
        words = zvec.FtsIndexParam(filters=["lowercase", "stemmer"])
        graph = zvec.HnswIndexParam(metric_type=zvec.MetricType.COSINE)
        dimensions = given.vectors.shape[1]
        schema = zvec.CollectionSchema(
            "records",
            zvec.FieldSchema("text", zvec.DataType.STRING, index_param=words),
            zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, dimensions, graph),
        )
        self.records: Any = zvec.create_and_open(str(given.store / "records"), schema)
        rows = list(zip(given.ids, given.texts, given.vectors, strict=True))
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            docs = [zvec.Doc(id_, vectors={"vector": vector}, fields={"text": text}) for id_, text, vector in part]
            failed = [one for one in self.records.insert(docs) if not one.ok()]
            if failed:
                raise ValueError(f"{len(failed)} records were not inserted: {failed[0].message()}")
        self.records.optimize()

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("zvec"),
            "mode": "hybrid",
            "vector_index": "HNSW",
            "text_index": "its own, BM25",
        }

    def hybrid(self, question: Question) -> list[str]:
        words = zvec.Query("text", fts=zvec.Fts(match_string=question.text))
        queries = [zvec.Query("vector", vector=question.vector), words]
        found = self.records.query(queries, topk=CANDIDATES, reranker=self.reranker, output_fields=["text"])
        return [one.id for one in found[:LIMIT]]

    def nearest(self, question: Question) -> list[str]:
        found = self.records.query(zvec.Query("vector", vector=question.vector), topk=LIMIT, output_fields=["text"])
        return [one.id for one in found]


if __name__ == "__main__":
    main(Zvec())
