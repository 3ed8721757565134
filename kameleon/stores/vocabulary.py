"""The words that records are written in, as `kdb_term` has them: rows are added, never changed and never taken out, so
that no two writers meet in one. A word may stand there twice, and after its last record is gone.

What is read there completes a prefix, and stands in for a word that no record has.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from heapq import nsmallest
from itertools import islice, takewhile
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, func, select

from ..analysis.spelling import LAST, ends, is_plain, near, reach, words_of
from .tables import Tables, parts

Counts = Callable[[Sequence[str]], Mapping[str, int]]
Commonest = Callable[[Connection, str], Iterable[str]]
TOKENS_KEPT = 500_000
INLINE, TEXTS_A_PIECE = 500, 200
BACKWARD = "<"
SCANNED, OFFERED, COUNTED = 10_000, 200, 20
SHORTEST, COMMONEST, FORMS_A_STEM, FORMS_LOOKED_AT = 100, 64, 2, 100


class Vocabulary:
    """`commonest` tells the stems in most records that begin with a prefix. `seen` are tokens whose words another
    transaction found in the table: what this one writes may be rolled back."""

    def __init__(self, tables: Tables, commonest: Commonest) -> None:
        self._table = tables.term
        self._commonest = commonest
        self._seen: set[str] = set()
        self._written: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()

    @contextmanager
    def reading(self, contents: Sequence[str], into: set[str]) -> Iterator[None]:
        """Cuts contents into tokens, on a thread of its own while the database is at work on many."""
        if len(contents) < INLINE:
            into |= self._tokens(contents)
            yield
            return
        with ThreadPoolExecutor(1) as aside:
            found = aside.submit(self._tokens, contents)
            yield
            into |= found.result()

    def _tokens(self, contents: Sequence[str]) -> set[str]:
        """In pieces small enough to stay in a processor's cache."""
        found: set[str] = set()
        for part in parts(contents, TEXTS_A_PIECE):
            found.update(" ".join(part).lower().split())
        return found.difference(self._seen)

    def learn(
        self,
        connection: Connection,
        tokens: set[str],
        known: Callable[[list[str]], Iterable[str]],
        add: Callable[[list[str]], Any],
    ) -> None:
        """Adds the words of `tokens` that are not `known`, forwards and backwards."""
        if not tokens:
            return
        plain = {token for token in tokens if is_plain(token)}
        others = {token: set(words_of(token)) for token in tokens - plain}
        words = sorted(plain.union(*others.values()))
        there = set(known(words)) if words else set()
        mine = self._written.setdefault(connection.get_transaction(), set())
        if added := [word for word in words if word not in there]:
            add(added)
            add(sorted(map(backward, added)))
            mine.update(added)
        if len(self._seen) > TOKENS_KEPT:
            self._seen.clear()
        there -= mine
        self._seen |= plain & there
        self._seen.update(token for token, words in others.items() if words <= there)

    def forget(self) -> None:
        """For a table that was made anew."""
        self._seen.clear()

    def completions(self, connection: Connection, prefix: str, counts: Counts, limit: int) -> list[str]:
        """Words that begin so, those in most records first: of many, the shortest and those of the commonest stems."""
        column = self._table.c.form
        scanned = select(column).where(column >= prefix, column < prefix + LAST).order_by(column).limit(SCANNED)
        joined = connection.scalar(select(func.aggregate_strings(scanned.subquery().c.form, " ")))
        offered = forms = sorted(set((joined or "").split()))
        if len(forms) > OFFERED:
            offered = nsmallest(SHORTEST, forms, key=lambda form: (len(form), form))
            for stem in self._commonest(connection, prefix):
                offered += forms_of(stem, forms) or forms_of(stem[:-1], forms)
        rows = counts(sorted(set(offered)))
        return sorted((word for word in rows if rows[word]), key=lambda word: (-rows[word], len(word), word))[:limit]

    def corrections(self, connection: Connection, words: Sequence[str], counts: Counts) -> dict[str, str]:
        """For each word the nearest that records have; of several the one that begins alike, then that of most."""
        found = {word: near(word, self._alike(connection, word))[:COUNTED] for word in words}
        rows = counts(list({other for others in found.values() for *_, other in others}))
        best = {
            word: min((away, is_other, -rows[other], other) for away, is_other, other in others if rows.get(other))
            for word, others in found.items()
            if any(rows.get(other) for *_, other in others)
        }
        return {word: other for word, (*_, other) in best.items()}

    def _alike(self, connection: Connection, word: str) -> set[str]:
        """Words of about its length that begin or end as it does."""
        first, last = ends(word)
        column = self._table.c.form
        found: set[str] = set()
        for start, marks in ((first, 0), (backward(last), len(BACKWARD))):
            scanned = select(column).where(column >= start, column < start + LAST).order_by(column).limit(SCANNED)
            inner = scanned.subquery().c.form
            length = func.length(inner) - marks
            about = select(inner).where(length.between(len(word) - reach(word), len(word) + reach(word)))
            found.update(forward(form) if marks else form for form in connection.execute(about).scalars())
        return found


def forms_of(stem: str, forms: Sequence[str]) -> list[str]:
    """The shortest of some sorted forms that begin with a stem."""
    after = islice(forms, bisect_left(forms, stem), None)
    begun = takewhile(lambda form: form.startswith(stem), islice(after, FORMS_LOOKED_AT))
    return nsmallest(FORMS_A_STEM, begun, key=len)


def backward(word: str) -> str:
    """As it is found by how it ends."""
    return BACKWARD + word[::-1]


def forward(form: str) -> str:
    return form.removeprefix(BACKWARD)[::-1]
