"""Looks up one query in the keyword index: its words, phrases, exclusions and prefixes in the postings of some
partitions, as one statement sees them. Imports `content`, `analysis` and `stores`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import log1p
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection

from ..analysis.analyser import Analyser
from ..analysis.terms import PhrasePart, QueryWord
from ..content import Content
from ..stores.search_protocols import Ways
from . import correcting
from .cache import SegmentCache
from .dialect import Dialect, Partitions
from .expanding import NOTHING, Expansion, SynonymRules, expand, united
from .packing import Array
from .parts import Part
from .reading import Snapshot, read
from .scoring import Clause, Placed, Ranking, has_any, holding, holding_phrase, score, with_phrases
from .vocabulary import Vocabulary

MAX_WORDS = 1_000
"""Bounds the words of a query that are looked up, the first ones. Chosen, not measured."""


def knows_none(_word: str) -> bool:
    """Returns that a word is not known."""
    return False


def knows_all(_word: str) -> bool:
    """Returns that a word is known, so that none is misspelt."""
    return True


class Wanted(NamedTuple):
    """What a query wants: its words; phrases that a record must have and those it must not; prefixes to complete; words
    that are neither corrected nor have synonyms, what `knows` others that are not misspelt, and rules of synonyms."""

    text: str = ""
    phrases: Sequence[str] = ()
    excluded: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    literal: str = ""
    knows: Callable[[str], bool] = knows_none
    synonyms: Sequence[SynonymRules] = ()


@dataclass(frozen=True)
class Found:
    """What a query found. `words` are those of the query that records have, `corrections` and prefixes included;
    `unknown` those that no record has; `synonyms` those that records have, of which `expanded` has all by what the
    query has. `required` is the mask of the records with all phrases, `excluded` of those to leave out, None where
    there are none. `named` are documents whose ids the query has. `score_others` computes the scores of records that
    the ranking lacks, where it has a part of them."""

    analyser: Analyser
    parts: Sequence[Part]
    ranking: Ranking
    words: Sequence[QueryWord]
    phrases: Sequence[Ways] = ()
    unknown: Sequence[str] = ()
    synonyms: Sequence[QueryWord] = ()
    expanded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    required: Array | None = None
    excluded: Array | None = None
    corrections: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = True
    named: frozenset[int] = frozenset()
    score_others: Callable[[Sequence[int]], Mapping[int, float]] | None = None

    @property
    def matching(self) -> Sequence[QueryWord]:
        """The words for which records are found."""
        return [*self.words, *self.synonyms]

    def scores(self, docs: Sequence[int]) -> dict[int, float]:
        """The scores of those documents that have one."""
        at = np.array(docs, "<i8")
        scores = dict(zip(docs, self.ranking.of(at).tolist(), strict=True))
        if self.score_others is not None:
            scores |= self.score_others(at[self.ranking.positions(at) < 0].tolist())
        return {doc: score for doc, score in scores.items() if score > 0}

    @property
    def allowed(self) -> Array | None:
        """The mask of what phrases and exclusions leave; None for all."""
        if self.excluded is None:
            return self.required
        return ~self.excluded if self.required is None else self.required & ~self.excluded

    def which_allowed(self, docs: Sequence[int]) -> set[int]:
        """Those of the documents that have the phrases and none of the exclusions. What the ranking lacks, where it
        has a part of them, has no phrase, and nothing that is excluded."""
        allowed = self.allowed
        if allowed is None:
            return set(docs)
        at = self.ranking.positions(np.array(docs, "<i8")).tolist()
        return {doc for doc, n in zip(docs, at, strict=True) if (allowed[n] if n >= 0 else self.required is None)}

    def matched(self, docs: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Which of the words each document has."""
        at = self.ranking.positions(np.array(docs, "<i8"))
        having = [(word.surface, holding(self.parts, word.terms)) for word in self.matching]
        return {
            doc: tuple(surface for surface, mask in having if place >= 0 and mask[place])
            for doc, place in zip(docs, at.tolist(), strict=True)
        }

    def rarity(self, words: Iterable[QueryWord]) -> list[float]:
        """What each word is worth where texts are compared by their words: the more, the fewer records have it."""
        return [self._rarity(int(np.count_nonzero(holding(self.parts, word.terms)))) for word in words]

    def lacking(self) -> float:
        """The same of the words that no record has, and that no others stand for."""
        return self._rarity(0) * sum(word not in self.corrections for word in self.unknown)

    def _rarity(self, having: int) -> float:
        return log1p((len(self.ranking.scores) - having + 0.5) / (having + 0.5))

    def holds(self, text: str) -> tuple[int, int]:
        """How many of the phrases and of the words a text has."""
        places = self._places(text)
        terms = places.keys()
        words = sum(not terms.isdisjoint(word.terms) or _is_in(word.phrases, places) for word in self.matching)
        return sum(_is_in(ways, places) for ways in self.phrases), words

    def has_phrase(self, content: Content, phrase: str) -> bool:
        """Whether a text has the words of another one after the other."""
        return _is_in(self.analyser.phrases(phrase), self._places(content.text, content.gaps))

    def _places(self, text: str, gaps: Sequence[int] = ()) -> dict[str, set[int]]:
        terms = self.analyser.terms(text, gaps)
        places: dict[str, set[int]] = {}
        for term, position in zip(terms.terms, terms.positions, strict=True):
            places.setdefault(term, set()).add(position)
        return places

    def exactness(self, text: str) -> int:
        """How many of the words a text has as the query has them."""
        return self.analyser.exactness(text, self.words)


class LookUp:
    """One query's."""

    def __init__(
        self,
        analyser: Analyser,
        dialect: Dialect,
        cache: SegmentCache,
        connection: Connection,
        partitions: Partitions,
        wanted: Wanted,
    ) -> None:
        self._analyser, self._dialect, self._cache = analyser, dialect, cache
        self._connection, self._partitions = connection, partitions
        self._wanted = wanted
        self._expansion = NOTHING
        self._vocabulary = Vocabulary(connection, dialect, cache, partitions, analyser.fold)

    def run(self) -> Found:
        """Reads the postings once; once more with completions of prefixes, and with corrections of words that no record
        has, or few."""
        read_words = self._analyser.query_terms(self._wanted.text)
        self._expand(read_words)
        typed = [*read_words[:MAX_WORDS], *self._expansion.words]
        phrases = phrases_of(self._analyser, self._wanted.phrases)
        excluded = phrases_of(self._analyser, self._wanted.excluded)
        snapshot = self._vocabulary.snapshot = self._read(typed, [*phrases, *excluded])
        words = self._with_prefixes(typed)
        candidates = self._candidates(snapshot, typed)
        if candidates or self._wanted.prefixes:
            self._expand(read_words, [each.form for found in candidates.values() for each in found])
            snapshot = self._read(words, [*phrases, *excluded], candidates)
        parts = snapshot.parts
        known, unknown = split(parts, words)
        corrections = self._corrections(candidates, parts)
        self._expand(read_words, corrections.values())
        lacking = [word for word in unknown if word.surface not in corrections]
        corrected = [word for form in corrections.values() for word in self._analyser.query_terms(form)]
        found = all_clauses([*known, *lacking], corrected, self._expansion)
        replaced = {word.surface for word in unknown if word.surface in corrections}
        return Found(
            self._analyser,
            parts,
            score(parts, found, snapshot.frame, unscored=len(replaced)),
            list(dict.fromkeys([*known, *corrected])),
            phrases,
            tuple(dict.fromkeys(word.surface for word in unknown)),
            split(parts, self._expansion.synonyms)[0],
            self._expansion.shown,
            _having(parts, phrases, np.logical_and),
            _having(parts, excluded, np.logical_or),
            corrections,
            is_whole=len(read_words) <= MAX_WORDS and self._expansion.is_whole,
        )

    def _read(
        self,
        words: Iterable[QueryWord],
        phrases: Iterable[Ways],
        candidates: Mapping[QueryWord, Sequence[correcting.Candidate]] | None = None,
    ) -> Snapshot:
        placed = {term for ways in phrases for way in ways for part in way for term in part.terms}
        terms = set(chain.from_iterable(word.terms for word in words)) | placed
        for found in (candidates or {}).values():
            terms.update(term for each in found for term in self._terms_of(each))
        expansion, partitions = self._expansion, self._partitions
        terms = (terms - expansion.phrases.keys()) | expansion.terms
        placed |= expansion.placed
        snapshot = read(self._connection, self._dialect, self._cache, partitions, sorted(terms), sorted(placed))
        if expansion.phrases:
            snapshot = snapshot._replace(parts=with_phrases(snapshot.parts, placed_ways(expansion.phrases)))
        return snapshot

    def _expand(self, words: Sequence[QueryWord], forms: Iterable[str] = ()) -> None:
        """Finds the synonyms of the query, and of words that stand for misspelt ones."""
        rules, literal = self._wanted.synonyms, self._wanted.literal
        if rules:
            texts = [(self._wanted.text, words), *((form, self._analyser.query_terms(form)) for form in forms)]
            self._expansion = united([expand(self._analyser, rules, *each, literal) for each in texts])

    def _terms_of(self, candidate: correcting.Candidate) -> Sequence[str]:
        return [candidate.term, *(term for word in self._analyser.query_terms(candidate.form) for term in word.terms)]

    def _with_prefixes(self, words: Sequence[QueryWord]) -> list[QueryWord]:
        """A prefix is a word that any of its completions stands for."""
        found = list(words)
        for prefix in self._wanted.prefixes:
            own = self._analyser.query_terms(prefix)
            if not (begins := self._analyser.prefixes(prefix)):
                continue
            terms, _ = self._vocabulary.terms(begins)
            whole = tuple(dict.fromkeys([*(own[0].whole if len(own) == 1 else ()), *terms]))
            completed = QueryWord(f"{prefix}*", whole)
            found = [word for word in found if word not in own] + [completed] * bool(whole)
        return found

    def _candidates(
        self, snapshot: Snapshot, words: Sequence[QueryWord]
    ) -> dict[QueryWord, list[correcting.Candidate]]:
        """What may stand for the words that no record has, and what for those that few have."""
        literal, knows = self._wanted.literal, self._wanted.knows
        plain = [word for word in words if not self._expansion.has(word)]
        misspelt = correcting.misspelt(self._analyser, plain, literal, snapshot, knows)
        found = {word: correcting.candidates(self._vocabulary, word.surface, self._analyser) for word in misspelt}
        return {word: each for word, each in found.items() if each}

    @staticmethod
    def _corrections(
        candidates: Mapping[QueryWord, Sequence[correcting.Candidate]], parts: Sequence[Part]
    ) -> dict[str, str]:
        taken = {word: correcting.taken(found, parts, word) for word, found in candidates.items()}
        return {word.surface: best.form for word, best in taken.items() if best is not None}


def split(parts: Sequence[Part], words: Iterable[QueryWord]) -> tuple[list[QueryWord], list[QueryWord]]:
    """The words that records have, and those that none has."""
    known: list[QueryWord] = []
    unknown: list[QueryWord] = []
    for word in words:
        (known if has_any(parts, word.terms) else unknown).append(word)
    return known, unknown


def phrases_of(analyser: Analyser, texts: Iterable[str]) -> list[Ways]:
    """The ways to write each phrase that has words."""
    return [ways for text in texts if (ways := analyser.phrases(text))]


def clauses(words: Iterable[QueryWord], expansion: Expansion = NOTHING) -> list[Clause]:
    """The ways to write a word are one clause, each part of a code is another; synonyms are further ways."""
    counted = Counter(terms for word in words for terms in (word.whole, *((part,) for part in word.parts)) if terms)
    return [Clause(expansion.extended(terms), times) for terms, times in counted.items()]


def all_clauses(typed: Iterable[QueryWord], corrected: Iterable[QueryWord], expansion: Expansion) -> list[Clause]:
    """Those of the words as they were typed, and of words that stand for misspelt ones, where no typed one is equal."""
    found = clauses(typed, expansion)
    own = {clause.terms for clause in found}
    others = [clause for clause in clauses(corrected, expansion) if clause.terms not in own]
    return found + [Clause(each.terms, share=correcting.SHARE) for each in others]


def placed_ways(phrases: Mapping[str, Ways]) -> dict[str, list[list[Placed]]]:
    return {name: [_placed(way) for way in ways] for name, ways in phrases.items()}


def _placed(phrase: Sequence[PhrasePart]) -> list[Placed]:
    return [Placed(part.terms, part.position - phrase[0].position) for part in phrase]


def _is_in(ways: Ways, places: Mapping[str, set[int]]) -> bool:
    """Whether a text whose terms have these positions has the phrase."""
    return any(_is_way_in(way, places) for way in ways)


def _is_way_in(phrase: Sequence[PhrasePart], places: Mapping[str, set[int]]) -> bool:
    starts = [{at - part.position for term in part.terms for at in places.get(term, ())} for part in phrase]
    return bool(set.intersection(*starts))


def _having(parts: Sequence[Part], phrases: Sequence[Ways], join: np.ufunc) -> Array | None:
    """The mask of the records with these phrases."""
    masks = [np.logical_or.reduce([_holding(parts, way) for way in ways]) for ways in phrases]
    return join.reduce(masks) if masks else None


def _holding(parts: Sequence[Part], phrase: Sequence[PhrasePart]) -> Array:
    if len(phrase) == 1:
        return holding(parts, phrase[0].terms)
    return holding_phrase(parts, _placed(phrase))
