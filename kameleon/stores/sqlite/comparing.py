"""Embeddings in memory compared with a vector, and the best chosen. Imports `embeddings`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...embeddings.provider import Vector

Ids = NDArray[np.int64]
Codes = NDArray[np.int32]
Floats = NDArray[np.float32]
Accept = Callable[[list[int]], Collection[int]]

DENSE = 64
"""The largest id a row, above which ids are sorted instead. Chosen, not measured."""
TIE = np.float32(1e-6)
"""Scores that differ by less are equal but for rounding."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What one query reads. Rows are only ever appended, so it is read without the lock."""

    ids: Ids
    partitions: Codes
    vectors: Floats
    directions: Floats | None
    dead: Ids


def scored(rows: Rows, vector: Vector, places: Ids | None) -> Floats:
    query = vector if rows.directions is None else np.einsum("i,ij->j", vector, rows.directions)
    if places is not None and len(places) < len(rows.ids) // 4:
        return products(rows.vectors[places], query)
    scores = products(rows.vectors, query)
    if places is not None:
        return scores[places]
    scores[rows.dead] = -np.inf
    return scores


def products(vectors: Floats, vector: Any) -> Floats:
    """The dot product of each row with a vector, on the caller's thread. That of a matrix runs on the threads of BLAS,
    which wait for work by spinning: with eight threads of searches among 30,000 embeddings it took 30 ms of CPU a
    query, this takes 7."""
    found: Floats = np.matmul(vectors[:, None, :], vector[:, None])[:, 0, 0]
    return found


def cosines(vectors: Floats, vector: Vector) -> Floats:
    """Cosines of rows with a vector: equal for equal rows at any place, which those of a matrix product are not."""
    found: Floats = np.einsum("ij,j->i", vectors, vector)
    return found


def choose(ids: Ids, scores: Floats, limit: int, accept: Accept | None) -> Ids:
    """The places of the best rows: of `limit` accepted records, and of all that tie with the last of them."""
    living = int(np.count_nonzero(scores > -np.inf))
    most = limit if accept is None else 5 * limit // 2
    answers: dict[int, bool] = {}
    while True:
        most = min(most, living)
        edge = np.partition(scores, len(scores) - most)[len(scores) - most] if most else np.inf
        chosen = np.flatnonzero(scores >= edge - TIE)
        if accept is not None:
            new = [id_ for id_ in ids[chosen].tolist() if id_ not in answers]
            good = set(accept(new))
            answers.update((id_, id_ in good) for id_ in new)
            chosen = chosen[[answers[id_] for id_ in ids[chosen].tolist()]]
        there = len(set(ids[chosen].tolist()))
        if most == living or there >= limit:
            return chosen
        most = max(2 * most, 5 * limit * most // (4 * max(1, there)))


def first(found: tuple[Ids, Floats], limit: int) -> dict[int, float]:
    """The best row of each record, of the `limit` best records."""
    ids, scores = found
    order = np.lexsort((ids, -scores))
    each, values = ids[order].tolist(), scores[order].tolist()
    if len(set(each)) == len(each):
        return dict(zip(each[:limit], values[:limit], strict=True))
    best: dict[int, float] = {}
    for id_, score in zip(each, values, strict=True):
        if len(best) == limit:
            break
        best.setdefault(id_, score)
    return best


def member(ids: Ids, wanted: Ids) -> NDArray[np.bool_]:
    """Whether each id is a wanted one, by a table of all ids where these are dense numbers."""
    last = int(ids.max(initial=0))
    if last > DENSE * (len(ids) + len(wanted)):
        return np.isin(ids, wanted)
    is_wanted = np.zeros(last + 1, np.bool_)
    is_wanted[wanted[(wanted >= 0) & (wanted <= last)]] = True
    return is_wanted[ids]
