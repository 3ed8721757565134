"""Chroma in a folder, as its documentation has it: defaults, the largest batches it takes, cosine."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import chromadb
from chromadb.config import Settings

from .given import LIMIT, Given, Peer, Question, main


class Chroma(Peer):
    def fill(self, given: Given) -> None:
        self.client: Any = chromadb.PersistentClient(str(given.store), settings=Settings(anonymized_telemetry=False))
        self.records: Any = self.client.create_collection(
            "records", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )
        batch = self.client.get_max_batch_size()
        for start in range(0, len(given.ids), batch):
            part = slice(start, start + batch)
            self.records.add(ids=given.ids[part], documents=given.texts[part], embeddings=given.vectors[part])

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("chromadb"),
            "mode": "vector",
            "why": "in a folder it has no keyword ranking: its documents' words are a filter, search() is its cloud's",
            "vector_index": "HNSW",
            "text_index": "trigrams, to filter",
        }

    def hybrid(self, question: Question) -> list[str]:
        return list(self.records.query(query_embeddings=[question.vector], n_results=LIMIT)["ids"][0])

    nearest = hybrid


if __name__ == "__main__":
    main(Chroma())
