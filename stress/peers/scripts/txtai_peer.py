"""txtai with its defaults: texts in SQLite, vectors in faiss, terms of its own, saved to a folder."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from txtai import Embeddings

from .given import LIMIT, Given, Peer, Question, main


class Txtai(Peer):
    def fill(self, given: Given) -> None:
        vectors = given.by_text()

        def look_up(texts: list[str]) -> Any:
            return np.stack([vectors[text] for text in texts])

        self.records: Any = Embeddings(method="external", transform=look_up, content=True, hybrid=True)
        self.records.index(zip(given.ids, given.texts, strict=True))
        self.records.save(str(given.store / "records"))

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("txtai"),
            "mode": "hybrid",
            "why": "its times by vector alone have the keyword leg in them: a weight of 0 does not stop it",
            "vector_index": f"faiss {self.records.config['build']['settings']['components']}",
            "text_index": "its own, BM25",
        }

    def hybrid(self, question: Question) -> list[str]:
        return [row["id"] for row in self.records.search(question.text, LIMIT)]

    def nearest(self, question: Question) -> list[str]:
        return [row["id"] for row in self.records.search(question.text, LIMIT, weights=1)]

    def close(self) -> None:
        self.records.close()


if __name__ == "__main__":
    main(Txtai())
