"""Orders hits so that each is relevant and unlike those before it: maximal marginal relevance (Carbonell and Goldstein,
"The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries", 1998). Imports `values`,
`errors` and `stores`.

The next hit is the one of the greatest (1 - diversity) * relevance - diversity * likeness. Its relevance is the score
by which it was ranked over the best one's, its likeness the greatest cosine of its vector to the hits before it, at
least 0. A hit without a vector is like no other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from ..errors import InvalidInput
from ..stores.protocols import Store
from ..stores.values import Key
from ..values import Generation, LegScore
from .paging import digest_of
from .query import DIVERSIFIED, Query
from .ranking import Ranked, Ranking

Floats = NDArray[np.float64]


def diversified(
    store: Store, connection: Connection, query: Query, generation: Generation | None, ranked: Ranked
) -> Ranked:
    """The ranking with the best hits in the order of their marginal relevance, those first that earlier pages have
    shown, as far as the page goes. The hits after these stay as they are. Raises InvalidInput where the index has no
    embeddings."""
    if generation is None:
        raise InvalidInput(
            "diversity compares the records' embeddings, and this index has none: give the engine an "
            "embedding_provider= and run `kameleon embeddings sync`, or limit the hits of a value with limit_by="
        )
    ranking, found = ranked.ranking, ranked.found
    best = list(ranking.keys[:DIVERSIFIED])
    if not best:
        return ranked
    with found.timed("diversity"):
        vectors = store.embeddings.vectors_of(connection, generation, best)
        relevance, matrix = relevances(ranking, best), matrix_of(vectors, best, generation.dimensions)
        order, likeness = ordered(relevance, matrix, query.diversity, shown_before(query, ranking), query.end)
    if len(vectors) < len(best):
        found.notes.append(
            f"diversity: {len(best) - len(vectors)} of the {len(best)} best records have no embedding, and count as "
            "unlike all others"
        )
    scores = {
        best[place]: LegScore("diversity", place + 1, alike, float(relevance[place]), query.diversity)
        for place, alike in zip(order, likeness, strict=True)
    }
    rest = [key for key in best if key not in scores]
    keys = [*scores, *rest, *ranking.keys[DIVERSIFIED:]]
    places = {key: place for place, key in enumerate(keys)}
    return replace(ranked, ranking=replace(ranking, keys=keys, places=places, diversified=scores))


def shown_before(query: Query, ranking: Ranking) -> list[int]:
    """The places, among the best, of the hits that earlier pages have shown, in the order of these pages."""
    if not query.shown:
        return []
    places = {digest_of(ranking.refs[key]): place for place, key in enumerate(ranking.keys[:DIVERSIFIED])}
    return [places[digest] for digest in query.shown if digest in places]


def relevances(ranking: Ranking, keys: Sequence[Key]) -> Floats:
    """The scores by which the keys were ranked, boosts included, over the best one's."""
    values = np.array([ranking.fused[key] for key in keys], np.float64)
    scaled: Floats = values / max(values.max(), np.finfo(np.float64).tiny)
    return scaled


def matrix_of(vectors: Mapping[Key, bytes], keys: Sequence[Key], dimensions: int) -> Floats:
    """A row of length 1 for each key, of zeros for one without a vector."""
    none = bytes(4 * dimensions)
    matrix = np.frombuffer(b"".join(vectors.get(key, none) for key in keys), "<f4").reshape(len(keys), dimensions)
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    rows: Floats = np.divide(matrix, lengths, out=np.zeros(matrix.shape), where=lengths > 0)
    return rows


def ordered(
    relevance: Floats, matrix: Floats, diversity: float, first: Sequence[int], end: int
) -> tuple[list[int], list[float]]:
    """The first `end` places in the order of their marginal relevance, after those of `first`, and the likeness of each
    to those before it. Of equals the one of the earlier place comes first."""
    likeness, left = np.zeros(len(relevance)), (1 - diversity) * relevance
    order, alike = list[int](), list[float]()
    for rank in range(min(end, len(relevance))):
        place = first[rank] if rank < len(first) else int((left - diversity * likeness).argmax())
        order.append(place)
        alike.append(float(likeness[place]))
        left[place] = -np.inf
        np.maximum(likeness, np.einsum("ij,j->i", matrix, matrix[place]), out=likeness)
    return order, [min(1.0, value) for value in alike]
