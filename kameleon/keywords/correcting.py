"""Corrects words of a query that no record has: by distance, then by what begins alike, then by how many records have
the other word. Imports `analysis`."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from ..analysis.spelling import ends, most_errors, near
from .parts import Part
from .vocabulary import Vocabulary, frequency

CORRECTED, COMPARED = 8, 20
"""Bound the words of a query that are corrected, and the nearest words for each whose records are counted. Chosen, not
measured."""


class Candidate(NamedTuple):
    """A word that may stand for another: how many letters differ, and whether the first one does."""

    distance: int
    is_other: bool
    form: str
    term: str


def candidates(vocabulary: Vocabulary, word: str, fold: Callable[[str], str]) -> list[Candidate]:
    """The nearest words, nearest first, whether records have them or not. Accents are not compared."""
    folded = fold(word)
    first, last = ends(folded)
    most = most_errors(folded)
    found: dict[str, list[tuple[str, str]]] = {}
    for form, term in vocabulary.alike(first, last, range(len(folded) - most - 1, len(folded) + most + 2)).items():
        found.setdefault(fold(form), []).append((form, term))
    return [
        Candidate(distance, is_other, form, term)
        for distance, is_other, other in near(folded, found)
        for form, term in found[other]
    ][:COMPARED]


def best(found: Sequence[Candidate], parts: Sequence[Part]) -> Candidate | None:
    """The one to take of those that records have."""
    for _, group in groupby(found, lambda each: (each.distance, each.is_other)):
        counted = [(-frequency(parts, (each.term,)), each.form, each) for each in group]
        having = [each for each in counted if each[0]]
        if having:
            return min(having)[-1]
    return None
