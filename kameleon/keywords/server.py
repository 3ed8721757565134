"""Looks up a query of an index with `keyword_search="server"`: the server counts and finds records, and BM25 ranks
those that were found. Imports `analysis` and `stores`.

Where few records have the query's words, all of these are found. Where many have, some with the rarest words and some
with all words are: others are not ranked, and the search is not exact.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, takewhile
from typing import Any

import numpy as np
from sqlalchemy import Connection

from ..analysis.analyser import Analyser
from ..analysis.reading import MAX_TERM_BYTES
from ..analysis.terms import QueryWord
from ..stores.search_protocols import EXCLUDING, PREFIX, ServerTerms, TermQuery
from ..stores.values import Scope
from .dialect import Partitions
from .expanding import Expansion, expand
from .looking_up import Found, Wanted, clauses, phrases_of, placed_ways, split
from .parts import Head, Part, Posting
from .scoring import Clause, Statistics, has_any, score, with_phrases
from .vocabulary import SHORTEST, SUFFIX, Word, commonest_first

MAX_CLAUSES = 64
"""Bounds the words of a query that are looked up, the first ones: each is counted by a subquery. Chosen, not
measured."""
MOST_FOUND = 2_000
"""Bounds the records that the rarest words have together: of 60,000 records of 35 words, questions of 8 words find .995
of the ten best so, with 5,000 all in 1.7 times the time, with 1,000 .955 in .7 of it."""
SAMPLED = 200
"""Bounds the records whose contents are read for completions. Chosen, not measured."""


class ServerLookUp:
    """One query's."""

    def __init__(
        self, analyser: Analyser, server: ServerTerms, connection: Connection, scope: Scope, wanted: Wanted
    ) -> None:
        self._analyser, self._server, self._connection = analyser, server, connection
        self._scope, self._wanted = scope, wanted

    def run(self) -> Found:
        """Counts the words in one statement, and finds records in another."""
        words, expansion = self._words()
        asked = clauses(words, expansion)
        counted = [clause.terms for clause in asked[:MAX_CLAUSES]]
        tenants, entities = self._scope.tenants, self._scope.entities
        counts = self._server.counts(self._connection, tenants, entities, counted, expansion.phrases)
        df = {terms: n for terms, n in zip(counted, counts.df, strict=True) if n}
        known = list(dict.fromkeys(word for word in words if any(terms in df for terms in ways(word, expansion))))
        wanted = {term for word in known for term in word.terms} - expansion.phrases.keys() | set(expansion.terms)
        scored = [clause for clause in asked if clause.terms in df]
        rarest = rarest_of(scored, df)
        query = TermQuery(
            tuple(sorted(wanted)),
            [term for clause in rarest for term in clause.terms],
            [clause.terms for clause in scored] if len(rarest) < len(scored) else (),
            phrases_of(self._analyser, self._wanted.phrases),
            phrases_of(self._analyser, self._wanted.excluded),
            phrased=expansion.phrases,
            placed=tuple(expansion.placed),
        )
        statistics = Statistics(counts.records, counts.length or 1.0, [df[clause.terms] for clause in scored])
        has_words = len(rarest) == len(scored) and len(counted) == len(asked)
        unknown = dict.fromkeys(word.surface for word in words if word not in known)
        found = self._find(query, scored, len(unknown), statistics, has_words=has_words)
        having = [word for word in known if not expansion.has(word) or has_any(found.parts, word.terms)]
        return replace(
            found,
            words=having,
            unknown=tuple(unknown),
            synonyms=split(found.parts, expansion.synonyms)[0],
            expanded=expansion.shown,
            is_whole=found.is_whole and counts.is_exact and expansion.is_whole,
        )

    def _find(
        self,
        query: TermQuery,
        scored: Sequence[Clause],
        unknown: int,
        statistics: Statistics,
        *,
        has_words: bool,
    ) -> Found:
        """Ranks the records that are found, which have all words if the query `has_words` of all."""
        rows, is_whole = self._server.find(self._connection, self._scope, query)
        parts = parts_of(rows, query)
        ranking = score(parts, scored, statistics=statistics, unscored=unknown)
        gone = ranking.mask(np.array(sorted({row[1] for row in rows if row[0] == EXCLUDING}), "<i8"))
        is_whole = is_whole and has_words

        def score_others(docs: Sequence[int]) -> Mapping[int, float]:
            others, _ = self._server.find(self._connection, self._scope, query.of_docs(docs))
            scores = score(parts_of(others, query), scored, statistics=statistics).of(np.array(docs, "<i8"))
            return dict(zip(docs, scores.tolist(), strict=True))

        return Found(
            self._analyser,
            parts,
            ranking,
            (),
            query.phrases,
            required=~gone if query.phrases else None,
            excluded=gone if query.excluded else None,
            is_whole=is_whole,
            score_others=None if is_whole else score_others,
        )

    def _words(self) -> tuple[list[QueryWord], Expansion]:
        """A prefix is a word that any term which begins so stands for."""
        wanted = self._wanted
        found = self._analyser.query_terms(wanted.text)
        expansion = expand(self._analyser, wanted.synonyms, wanted.text, found, wanted.literal)
        found = [*found, *expansion.words]
        for prefix in self._wanted.prefixes:
            own = self._analyser.query_terms(prefix)
            if terms := beginning(self._analyser.prefixes(prefix)):
                whole = (*(own[0].whole if len(own) == 1 else ()), *terms)
                found = [*(word for word in found if word not in own), QueryWord(f"{prefix}*", whole)]
        return found, expansion


def beginning(prefixes: Iterable[str]) -> list[str]:
    """What selects the terms that begin with any of these; none does with a longer one than terms are."""
    return [prefix + PREFIX for prefix in prefixes if len(prefix.encode()) <= MAX_TERM_BYTES]


def ways(word: QueryWord, expansion: Expansion) -> list[tuple[str, ...]]:
    """The terms of each of a word's clauses."""
    return [clause.terms for clause in clauses([word], expansion)]


def rarest_of(scored: Sequence[Clause], df: Mapping[tuple[str, ...], int]) -> Sequence[Clause]:
    """The rarest clauses, as many as `MOST_FOUND` records have, and one at least."""
    ordered = sorted(scored, key=lambda clause: df[clause.terms])
    sums = accumulate(df[clause.terms] for clause in ordered)
    return ordered[: max(1, sum(1 for _ in takewhile(lambda total: total <= MOST_FOUND, sums)))]


def parts_of(rows: Iterable[Sequence[Any]], query: TermQuery) -> list[Part]:
    """The records that were found, as parts of an index."""
    lengths: dict[str, dict[int, int]] = defaultdict(dict)
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    places: dict[str, dict[int, Sequence[int]]] = {term: {} for term in query.placed}
    for _, doc, entity, length, term, count, placed in rows:
        lengths[entity][doc] = length
        if term is not None:
            counts[term][doc] = count
        if placed is not None:
            places[term][doc] = placed or [0] * count
    for prefix in query.terms:
        if prefix.endswith(PREFIX):
            letters = prefix.removesuffix(PREFIX)
            begun = [own for term, own in counts.items() if term.startswith(letters) and not term.endswith(PREFIX)]
            counts[prefix] = sum(map(Counter, begun), Counter())
    wanted = {term: counts[term] for term in query.terms}
    parts = [_part(entity, lengths[entity], wanted, places) for entity in sorted(lengths)]
    return with_phrases(parts, placed_ways(query.phrased)) if query.phrased else parts


def _part(
    entity: str,
    lengths: Mapping[int, int],
    counts: Mapping[str, Mapping[int, int]],
    places: Mapping[str, Mapping[int, Sequence[int]]],
) -> Part:
    docs = sorted(lengths)
    head = Head.of(entity, np.array(docs, "<i8"), np.array([lengths[doc] for doc in docs], "<u4"))
    postings = {}
    for term, having in counts.items():
        ordinals = [ordinal for ordinal, doc in enumerate(docs) if doc in having]
        times = np.array([having[docs[ordinal]] for ordinal in ordinals], "<u4")
        own = [place for ordinal in ordinals for place in places[term][docs[ordinal]]] if term in places else None
        postings[term] = Posting(np.array(ordinals, "<i8"), times, None if own is None else np.array(own, "<i8"))
    return Part(head, None, postings)


def completions(
    analyser: Analyser, server: ServerTerms, connection: Connection, partitions: Partitions, prefix: str, limit: int
) -> list[Word]:
    """Words of some records that begin so, those in most of them first, of these the shortest."""
    stem = prefix[: max(SHORTEST, len(prefix) - SUFFIX)]
    texts: dict[int, str] = {}
    for begin in beginning([prefix, stem]):
        texts |= server.texts(connection, partitions.tenants, partitions.entities, [begin], SAMPLED)
    forms: set[tuple[str, str]] = set()
    df: Counter[str] = Counter()
    for text in texts.values():
        terms = analyser.terms(text)
        df.update(set(terms.terms))
        forms.update(
            (f, t) for f, t in zip(terms.forms, terms.terms, strict=True) if analyser.fold(f).startswith(prefix)
        )
    words = [Word(form, term, df[term]) for form, term in forms]
    return sorted(words, key=commonest_first)[:limit]
