"""Reranks the best hits by their texts. Pure. Imports `errors`."""

import math
from collections.abc import Callable, Sequence

from ..errors import InvalidInput, seen

Reranker = Callable[[str, Sequence[str]], Sequence[float]]

RERANKED = 50
"""Bounds how many of the best are reranked, unless `rerank_top` is given. Chosen, not measured."""


def check_reranker(rerank: object) -> None:
    if rerank is not None and not callable(rerank):
        raise InvalidInput(
            "rerank is a callable (query, texts) -> one score from 0 to 1 a text, such as "
            f"kameleon.embeddings.FastEmbedReranker(...), not {seen(rerank)}"
        )


def rerank_scores(rerank: Reranker, query: str, texts: Sequence[str]) -> list[float]:
    """The reranker's scores, one a text. Raises InvalidInput for anything but as many numbers from 0 to 1; what the
    reranker itself raises is its caller's."""
    if not texts:
        return []
    scores = [float(score) for score in rerank(query, texts)]
    if len(scores) != len(texts):
        raise InvalidInput(f"the reranker gave {len(scores)} scores for {len(texts)} texts. It must give one a text")
    for score in scores:
        if not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise InvalidInput(
                f"the reranker gave the score {seen(score)}. Scores lie from 0 to 1; of a cross-encoder's logit x that "
                "is 1 / (1 + exp(-x))"
            )
    return scores
