"""Finds what a query has synonyms for, and what counts beside its own words. Imports `forking`, `analysis` and
`stores`.

A query has a side of a rule where a record with the query's text would have it as a phrase: so letter case, accents,
stems and the ways to write a code are compared as everywhere, and in scripts without spaces a side may be a part of a
run. Where several sides overlap the longest holds. A word of such a place counts for what a record has of it, and for
each synonym that the record has, as if that were the word: one clause, whose records are those of all.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice, takewhile
from operator import attrgetter
from typing import NamedTuple

from ..analysis.analyser import Analyser
from ..analysis.synonyms import read_rule
from ..analysis.terms import PhrasePart, QueryWord, Token, end_of
from ..forking import lazy
from ..stores.search_protocols import Ways

PHRASE = "\n"
"""Begins the term of a synonym of several words, which the index has not: its postings are made of those of its words.
No term of a text has a line feed."""
MAX_SYNONYMS = 100
"""Bounds the synonyms that a query looks up, the first ones. Chosen, not measured."""
MAX_PARTS = 16
"""Bounds the words of a side of a rule, or its characters in scripts without spaces: the places of each are read.
Chosen, not measured."""

MAX_ANALYSED = 20_000
"""Bounds the rules that stay analysed when others change, 2 kB each: to analyse 10,000 takes 1.3 s, to read them again
.09."""


class Side(NamedTuple):
    """A side of a rule: how texts have it, and the word that looks it up."""

    ways: Ways
    word: QueryWord


class Source(NamedTuple):
    """One of the ways of a side, and the sides that are looked up, itself perhaps among them."""

    way: Sequence[PhrasePart]
    side: Side
    targets: Sequence[Side]


class Match(NamedTuple):
    """Where in a query a source is, in characters."""

    start: int
    end: int
    source: Source


@dataclass(frozen=True)
class Expansion:
    """What is looked up beside the words of a query: `ways` are the terms that count for a term of its, `words` are
    sources of stop words alone, which the query would do without. `shown` are the synonyms as the rules have them, by
    what the query has."""

    ways: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: Sequence[QueryWord] = ()
    synonyms: Sequence[QueryWord] = ()
    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_whole: bool = True

    def has(self, word: QueryWord) -> bool:
        return any(term in self.ways for term in word.terms)

    def extended(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        """The terms of a clause, with those of the synonyms."""
        if not self.ways:
            return terms
        return tuple(dict.fromkeys(chain(terms, *(self.ways.get(term, ()) for term in terms))))

    @lazy
    def phrases(self) -> Mapping[str, Ways]:
        """The synonyms of several words, by their terms."""
        return {word.whole[0]: word.phrases for word in chain(self.words, self.synonyms) if word.phrases}

    @lazy
    def terms(self) -> set[str]:
        """Those to read of the index."""
        found = {term for word in chain(self.words, self.synonyms) for term in word.terms}
        return (found - self.phrases.keys()) | self.placed

    @lazy
    def placed(self) -> set[str]:
        """Those to read with their places."""
        return {term for ways in self.phrases.values() for way in ways for part in way for term in part.terms}


NOTHING = Expansion()


def united(expansions: Sequence[Expansion]) -> Expansion:
    """What any of these look up."""
    if len(expansions) == 1:
        return expansions[0]
    ways: dict[str, dict[str, None]] = defaultdict(dict)
    for term, others in chain.from_iterable(each.ways.items() for each in expansions):
        ways[term] |= dict.fromkeys(others)
    return Expansion(
        {term: tuple(others) for term, others in ways.items()},
        list(dict.fromkeys(word for each in expansions for word in each.words)),
        list({word.whole: word for each in expansions for word in each.synonyms}.values()),
        {name: found for each in expansions for name, found in each.shown.items()},
        all(each.is_whole for each in expansions),
    )


class SynonymRules:
    """Rules that hold together, analysed at their first use. Threads may share them."""

    def __init__(self, analyser: Analyser, rules: Sequence[str]) -> None:
        self._analyser = analyser
        self._rules = rules

    @lazy
    def _by_term(self) -> Mapping[str, Sequence[Source]]:
        """The sources by each term that they may begin with."""
        found: dict[str, list[Source]] = defaultdict(list)
        for sources, targets in (_sides_of(self._analyser, rule) for rule in self._rules):
            for side in sources:
                for way in side.ways:
                    source = Source(way, side, targets or sources)
                    for term in way[0].terms:
                        found[term].append(source)
        return found

    def matches(self, tokens: Mapping[tuple[str, int], Token]) -> Iterator[Match]:
        """The sources that a query has, of which these are the tokens by term and position."""
        known = self._by_term
        for (term, position), token in tokens.items():
            for source in known.get(term, ()):
                if end := end_of(tokens, source.way, position):
                    yield Match(token.start, end, source)


@lru_cache(maxsize=MAX_ANALYSED)
def _sides_of(analyser: Analyser, rule: str) -> tuple[Sequence[Side], Sequence[Side]]:
    """The sources and the targets of a rule."""
    sources, targets = (list(filter(None, (side_of(analyser, text) for text in side))) for side in read_rule(rule))
    return sources, targets


def side_of(analyser: Analyser, text: str) -> Side | None:
    """None where the text has no word, or too many."""
    ways = analyser.phrases(text)
    if not ways or len(ways[0]) > MAX_PARTS:
        return None
    as_one = next((way for way in ways if len(way) == 1), None)
    if as_one is not None:
        return Side(ways, QueryWord(text, as_one[0].terms))
    term = PHRASE.join(" ".join("|".join(part.terms) for part in way) for way in ways)
    return Side(ways, QueryWord(text, (PHRASE + term,), phrases=tuple(map(tuple, ways))))


def expand(
    analyser: Analyser, rules: Sequence[SynonymRules], text: str, words: Iterable[QueryWord] = (), literal: str = ""
) -> Expansion:
    """What is looked up beside the `words` of a query's text, or for any of it; nothing for what is `literal`."""
    if not rules:
        return NOTHING
    tokens = {(token.term, token.position): token for token in analyser.tokens(text)}
    matches = [match for each in rules for match in each.matches(tokens)]
    if not matches:
        return NOTHING
    fixed = set(analyser.terms(literal).terms) if literal else set()
    typed = {term for word in words for term in word.terms}
    return _expansion(text, tokens.values(), _longest(matches), typed, fixed)


def _longest(matches: Iterable[Match]) -> list[Match]:
    """Those of which no word is in a longer one, nor in an earlier one that is as long; all that are at one place."""
    found: list[Match] = []
    taken: dict[int, tuple[int, int]] = {}
    for match in sorted(matches, key=lambda match: (match.start - match.end, match.start)):
        place = match.start, match.end
        if all(taken.get(at, place) == place for at in range(*place)):
            taken |= dict.fromkeys(range(*place), place)
            found.append(match)
    return sorted(found, key=lambda match: match.start)


def _expansion(
    text: str, tokens: Iterable[Token], matches: Sequence[Match], typed: set[str], fixed: set[str]
) -> Expansion:
    ways: dict[str, dict[str, None]] = defaultdict(dict)
    shown: dict[str, dict[str, None]] = defaultdict(dict)
    synonyms: dict[str, QueryWord] = {}
    added: dict[QueryWord, None] = {}
    ordered = sorted(tokens, key=attrgetter("start"))
    is_whole = True
    for start, end, source in matches:
        if not is_whole:
            break
        inside = _terms_between(ordered, start, end)
        own = source.side.word
        targets = [side.word for side in source.targets if not set(side.word.whole) & set(own.whole)]
        if not targets or inside & fixed:
            continue
        if inside.isdisjoint(typed):
            added[own] = None
            inside |= set(own.whole)
        for target in targets:
            is_whole = is_whole and (target.whole[0] in synonyms or len(synonyms) < MAX_SYNONYMS)
            if not is_whole:
                break
            same = synonyms.setdefault(target.whole[0], target)
            shown[" ".join(text[start:end].lower().split())][same.surface] = None
            for term in inside:
                ways[term] |= dict.fromkeys(target.whole)
    return Expansion(
        {term: tuple(found) for term, found in ways.items()},
        list(added),
        list(synonyms.values()),
        {name: list(found) for name, found in shown.items()},
        is_whole,
    )


def _terms_between(ordered: Sequence[Token], start: int, end: int) -> set[str]:
    """Those of tokens between two places of their text."""
    first = bisect_left(ordered, start, key=attrgetter("start"))
    begun = takewhile(lambda token: token.start < end, islice(ordered, first, None))
    return {token.term for token in begun if token.end <= end}
