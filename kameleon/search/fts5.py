"""How FTS5 reads a text, asked of FTS5 itself: a private index in memory with the tokenizer of the real one.

So a query's stems, a candidate's term counts and the places to highlight are the index's own, not a second tokenizer's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import finalize

from .highlighting import MARKED_CHARACTERS, cjk_pairs, merge, places
from .store import Spans, Term

WORDS = "unicode61 remove_diacritics 2 categories ''L* N* Co Mn Mc''"
TOKENIZERS = {"english": f"porter {WORDS}", "simple": WORDS}
BEFORE, AFTER = "\ue000", "\ue001"
SENTINELS = str.maketrans({BEFORE: " ", AFTER: " ", "\0": " "})


class TextReader:
    """Safe to share between threads. `dbapi` is the SQLite driver that the application's engine uses."""

    def __init__(self, dbapi: Any, language: str) -> None:
        self._lock = Lock()
        self._connection = dbapi.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        finalize(self, self._connection.close)
        for name, tokenizer in (("stemmed", TOKENIZERS[language]), ("plain", WORDS)):
            self._connection.execute(f"CREATE VIRTUAL TABLE {name} USING fts5(terms, tokenize = '{tokenizer}')")
            self._connection.execute(f"CREATE VIRTUAL TABLE {name}_terms USING fts5vocab({name}, instance)")

    def terms(self, text: str) -> list[Term]:
        """The distinct terms of a text, in order."""
        with self._filled([text], "stemmed", "plain"):
            stems, words = (
                [row[0] for row in self._connection.execute(f'SELECT term FROM {table}_terms ORDER BY "offset"')]
                for table in ("stemmed", "plain")
            )
        times = Counter(stems)
        terms: dict[str, Term] = {}
        for word, stem in zip(words, stems, strict=True):
            if word and stem and is_whole(word):  # a lone accent is an empty word; one over 32 kB is cut mid-character
                terms.setdefault(stem, Term(word, stem, times=times[stem]))
        return list(terms.values())

    def stems(self, words: Sequence[str]) -> list[str]:
        """Of each word, which is one term; empty where it is none that is text."""
        with self._filled(words, "stemmed"):
            rows = self._connection.execute('SELECT doc, term FROM stemmed_terms WHERE "offset" = 0')
            found = {row: term for row, term in rows if is_whole(term)}
        return [found.get(row, "") for row in range(1, len(words) + 1)]

    def count(self, texts: Sequence[str], terms: Iterable[Term]) -> list[tuple[int, Counter[str]]]:
        """For each text its length in terms, and how often it holds each of `terms` (by stem)."""
        counts: list[Counter[str]] = [Counter() for _ in texts]
        with self._filled(texts, "stemmed"):
            sizes = self._connection.execute("SELECT sz FROM stemmed_docsize ORDER BY id").fetchall()
            for term in terms:
                for (row,) in self._connection.execute(
                    "SELECT doc FROM stemmed_terms WHERE term = CAST(? AS TEXT)", (raw(term.stem),)
                ):
                    counts[row - 1][term.stem] += 1
        return [(varints(size)[0], count) for (size,), count in zip(sizes, counts, strict=True)]

    def spans(self, query: str, terms: Sequence[Term], texts: Sequence[str]) -> list[Spans]:
        """For each text the (start, end) places of the terms, in order, none overlapping. FTS5's `highlight` takes time
        by the square of the places, so only the beginning of a long text is looked at."""
        texts = [text[:MARKED_CHARACTERS] for text in texts]
        marked: dict[int, str] = {}
        if terms:
            with self._filled([text.translate(SENTINELS) for text in texts], "stemmed"):
                found = self._connection.execute(
                    "SELECT rowid, highlight(stemmed, 0, ?, ?) FROM stemmed WHERE stemmed MATCH ?",
                    (BEFORE, AFTER, match_any(terms)),
                )
                marked = dict(found.fetchall())
        pairs = cjk_pairs(query)
        return [merge([*marks(marked.get(row, "")), *places(text, pairs)]) for row, text in enumerate(texts, 1)]

    @contextmanager
    def _filled(self, texts: Sequence[str], *tables: str) -> Iterator[None]:
        rows = [(row, text.replace("\0", " ")) for row, text in enumerate(texts, 1)]
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                for table in tables:
                    self._connection.executemany(f"INSERT INTO {table}(rowid, terms) VALUES (?, ?)", rows)
                yield
            finally:
                self._connection.execute("ROLLBACK")


def is_whole(stem: str) -> bool:
    """Whether a stem is text: FTS5's porter cuts bytes, and may leave a part of a character at the end."""
    return stem.isascii() or not any("\udc80" <= character <= "\udcff" for character in stem)


def raw(stem: str) -> bytes:
    return stem.encode("utf-8", "surrogateescape")


def match_any(terms: Iterable[Term]) -> str:
    """An FTS5 query for any of the terms. They are quoted: nothing in them is an operator or names a column."""
    return " OR ".join(quoted(term.surface) for term in terms)


def quoted(words: str) -> str:
    """A phrase, whatever stands in it."""
    return '"' + words.replace('"', '""') + '"'


def marks(marked: str) -> Iterable[tuple[int, int]]:
    start = place = 0
    for character in marked:
        if character == BEFORE:
            start = place
        elif character == AFTER:
            yield start, place
        else:
            place += 1


def varints(block: bytes) -> list[int]:
    """SQLite's variable-length integers: 7 bits a byte, high bit set on all but the last."""
    values, value = [], 0
    for byte in block:
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            values.append(value)
            value = 0
    return values
