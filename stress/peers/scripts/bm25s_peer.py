"""bm25s in memory, the floor of a keyword leg: BM25 over a fixed collection. Its vector answers are an exact scan by
NumPy."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import bm25s
import numpy as np
import Stemmer

from .given import LIMIT, Given, Peer, Question, main


class Bm25s(Peer):
    def fill(self, given: Given) -> None:
        self.given = given
        self.stemmer: Any = Stemmer.Stemmer("english")
        self.records: Any = bm25s.BM25()
        self.records.index(self._terms(list(given.texts)), show_progress=False)
        self.records.save(str(given.store / "records"))
        np.save(given.store / "vectors.npy", given.vectors)

    def about(self) -> Mapping[str, str]:
        return {
            "version": version("bm25s"),
            "mode": "keyword",
            "why": "its times are of the keyword leg alone, as it has no vectors (an exact scan by NumPy gives the "
            "nearest), and for a record more its index is made again",
            "vector_index": "exact",
            "text_index": "its own, BM25",
        }

    def hybrid(self, question: Question) -> list[str]:
        (places,), _ = self.records.retrieve(self._terms([question.text]), k=LIMIT, show_progress=False)
        return [self.given.ids[int(place)] for place in places]

    def nearest(self, question: Question) -> list[str]:
        scores = self.given.vectors @ question.vector
        count = min(LIMIT, len(scores))
        best = np.argpartition(-scores, count - 1)[:count]
        return [self.given.ids[int(place)] for place in best[np.argsort(-scores[best])]]

    def _terms(self, texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False)


if __name__ == "__main__":
    main(Bm25s())
