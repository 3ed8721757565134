"""BM25 as FTS5's `bm25()` computes it, for both databases, and which of a query's terms choose its candidates. Imports
this package alone."""

import math
from collections.abc import Iterable, Mapping, Sequence

from .values import Key, Term

K1, B, K3 = 1.2, 0.75, 1.0
# English, as PostgreSQL's `english` has them: its tsvectors hold none, so on SQLite they are left out of queries.
ENGLISH = """
    a about above after again against all am an and any are as at be because been before being below between both
    but by can did do does doing don down during each few for from further had has have having he her here hers
    herself him himself his how i if in into is it its itself just me more most my myself no nor not now of off on
    once only or other our ours ourselves out over own s same she should so some such t than that the their theirs
    them themselves then there these they this those through to too under until up very was we were what when where
    which while who whom why will with you your yours yourself yourselves
"""
STOP_WORDS = frozenset(ENGLISH.split())
QUERY_TERMS = 64
QUERY_WORDS = 1_000


def telling(terms: Sequence[Term]) -> Sequence[Term]:
    """The terms without stop words; all of them where there is nothing else."""
    return [term for term in terms if term.surface not in STOP_WORDS] or terms


def idf(rows: int, having: int) -> float:
    """FTS5's: ln((N - n + 0.5) / (n + 0.5)), never below 1e-6."""
    return max(1e-6, math.log((rows - having + 0.5) / (having + 0.5))) if having < rows else 1e-6


def weight(rows: int, term: Term) -> float:
    """What a term that is in `term.rows` of `rows` records counts for."""
    return times_weight(term.times) * idf(rows, term.rows)


def times_weight(times: int) -> float:
    """What being asked so often counts for, (k3 + 1) q / (k3 + q) with k3 1 (Robertson and Walker, "Some simple
    effective approximations to the 2-Poisson model", 1994): long questions repeat what they are about."""
    return (K3 + 1) * times / (K3 + times)


def term_score(weight: float, times: int, length: int, average: float) -> float:
    """A term's part of a record's score, the record `length` terms long and holding it `times`."""
    return weight * times * (K1 + 1) / (times + K1 * (1 - B + B * length / average))


def upper_bound(rows: int, terms: Iterable[Term]) -> float:
    """What a record would score that held every term without end: the sum of the terms' upper bounds (Turtle and Flood,
    "Query evaluation: strategies and optimizations", 1995)."""
    return (K1 + 1) * sum(weight(rows, term) for term in terms)


def cheapest(terms: Sequence[Term], postings: int) -> Sequence[Term]:
    """The rarest of terms in order of rarity, as many as stay within `postings` rows in all, one at the least and
    QUERY_TERMS at most."""
    total = 0
    for count, term in enumerate(terms[:QUERY_TERMS]):
        total += term.rows
        if count and total > postings:
            return terms[:count]
    return terms[:QUERY_TERMS]


def best_first(scores: Mapping[Key, float]) -> dict[Key, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
