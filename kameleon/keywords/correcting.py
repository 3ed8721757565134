"""Corrects words of a query that no record has, or few: by distance, then by what begins alike, then by how many
records have the other word. Imports `analysis`."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, islice
from typing import NamedTuple

from ..analysis.analyser import Analyser
from ..analysis.spelling import Near, ends, is_correctable, most_errors, near
from ..analysis.terms import QueryWord
from .parts import Part
from .reading import Snapshot
from .vocabulary import Vocabulary, frequency

CORRECTED, COMPARED = 8, 20
"""Bound the words of a query that are corrected, and the nearest words for each whose records are counted. Chosen, not
measured."""


FEW = 1_000
"""A word is taken for a possible misspelling although records have it where at most one in so many has, or one."""
MANY = 2
"""... and so many times as many have the other word. Chosen, not measured."""
SHARE = 0.8
"""How much of a typed word's weight a corrected one has. Hybrid nDCG@10 of medline, npl, liveqa_med and xquad_en with a
typo in each query is .673, .670, .666 and .664 with a share of 1, .8, .65 and .5; of queries of two words and a name
that is corrected wrongly, of medline and npl, .305, .311, .312 and .312."""


class Candidate(NamedTuple):
    """A word that may stand for another, as records have it, and its term."""

    near: Near
    form: str
    term: str


def misspelt(
    analyser: Analyser, words: Iterable[QueryWord], literal: str, snapshot: Snapshot, knows: Callable[[str], bool]
) -> list[QueryWord]:
    """Those of a query's words that no record has, or few, and that are no code, no stop word, not literal and not
    known."""
    kept = {word.surface for word in analyser.query_terms(literal)} if literal else ()
    found = (
        word
        for word in dict.fromkeys(words)
        if is_correctable(word.surface)
        and not word.parts
        and word.surface not in kept
        and is_rare(snapshot, word)
        and not analyser.is_stop_word(word.surface)
        and not knows(word.surface)
    )
    return list(islice(found, CORRECTED))


def is_rare(snapshot: Snapshot, word: QueryWord) -> bool:
    """Whether no record has a word, or so few that they may have it misspelt."""
    most, having = max(1, snapshot.frame.records // FEW), 0
    for part in snapshot.parts:
        having += frequency([part], word.terms)
        if having > most:
            return False
    return True


def candidates(vocabulary: Vocabulary, word: str, analyser: Analyser) -> list[Candidate]:
    """The nearest words, nearest first, whether records have them or not; no stop words, which decide nothing. Accents
    are not compared."""
    folded = analyser.fold(word)
    first, last = ends(folded)
    most = most_errors(folded)
    found: dict[str, list[tuple[str, str]]] = {}
    for form, term in vocabulary.alike(first, last, range(len(folded) - most - 1, len(folded) + most + 2)).items():
        found.setdefault(analyser.fold(form), []).append((form, term))
    return [
        Candidate(each, form, term)
        for each in near(folded, found)
        if not analyser.is_stop_word(each.form)
        for form, term in found[each.form]
    ][:COMPARED]


def taken(found: Sequence[Candidate], parts: Sequence[Part], word: QueryWord) -> Candidate | None:
    """The one to take of those that records have, of equally likely ones that in most; for a word that some records
    have, too, one that many times as many have, at a distance of one and with the same first letter."""
    having = frequency(parts, word.terms)
    if having:
        found = [each for each in found if is_sure(each.near) and each.term not in word.terms]
    for _, group in groupby(found, lambda each: each.near[:-1]):
        counted = [(-frequency(parts, (each.term,)), each.form, each) for each in group]
        enough = [each for each in counted if -each[0] >= max(1, MANY * having)]
        if enough:
            return min(enough)[-1]
    return None


def is_sure(near: Near) -> bool:
    return near.distance == 1 and not near.is_other
