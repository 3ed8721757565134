"""How far scores separate queries that an index answers from queries about something else: the best score of a query of
the collection itself, and of one of another collection."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from kameleon import SearchEngine

OWN, FOREIGN = 300, 60
"""Bound the queries of a collection that are put to its own index, and to each other one."""


@dataclass(frozen=True)
class BestScores:
    """Of one index; 0 where nothing was found."""

    own: Sequence[float]
    foreign: Sequence[float]


def best_scores(search: SearchEngine, name: str, queries: Mapping[str, Sequence[str]]) -> BestScores:
    """`queries` are those of each collection, `name` is the one in the index."""
    foreign = (text for other, texts in queries.items() if other != name for text in sample(texts, FOREIGN))
    return BestScores(_scores(search, sample(queries[name], OWN)), _scores(search, foreign))


def sample(texts: Sequence[str], most: int) -> list[str]:
    ordered = sorted(texts)
    return random.Random(1).sample(ordered, min(most, len(ordered)))


def _scores(search: SearchEngine, queries: Iterable[str]) -> list[float]:
    return [max((hit.score for hit in search.search(text, limit=1)), default=0.0) for text in queries]


def separation(found: Sequence[BestScores]) -> dict[str, float]:
    """F1 of the one `min_score` that separates all collections best, each with as much weight as another."""
    steps = [step / 200 for step in range(201)]
    best, at = max((f1(found, step), -step) for step in steps)
    return {
        "f1": round(best, 3),
        "min_score": -at,
        "own_median": round(fmean(median(one.own) for one in found), 3),
        "foreign_median": round(fmean(median(one.foreign) for one in found), 3),
    }


def f1(found: Sequence[BestScores], min_score: float) -> float:
    own = fmean(fmean(score >= min_score for score in one.own) for one in found)
    foreign = fmean(fmean(score >= min_score for score in one.foreign) for one in found)
    return 2 * own / (1 + own + foreign)
