"""How FTS5 reads a text, asked of FTS5 itself: a private index in memory with the tokenizer of the real one.

So a query's stems, a candidate's term counts and the places to highlight are the index's own, not a second tokenizer's.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import finalize

from ...analysis.highlighting import MARKED_CHARACTERS, cjk_pairs, merge, places
from ...forking import per_process
from ..values import Spans, Term

WORDS = "unicode61 remove_diacritics 2 categories ''L* N* Co Mn Mc''"
TOKENIZERS = {"english": f"porter {WORDS}", "simple": WORDS}
BEFORE, AFTER = "\ue000", "\ue001"
APART = bytes(code if code > 127 or chr(code).isalnum() else 32 for code in range(256))
CHUNKS_KEPT, CHUNK_KEPT = 50_000, 40
SENTINELS = str.maketrans({BEFORE: " ", AFTER: " ", "\0": " "})


class TextReader:
    """Safe to share between threads. `dbapi` is the SQLite driver that the application's engine uses."""

    def __init__(self, dbapi: Any, language: str) -> None:
        self._dbapi = dbapi
        self._language = language
        self._known: dict[bytes, Sequence[str]] = {}

    @per_process
    def _lock(self) -> Lock:
        return Lock()

    @per_process
    def _connection(self) -> Any:
        connection = self._dbapi.connect(":memory:", check_same_thread=False, isolation_level=None)
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        finalize(self, close, connection, os.getpid())
        for name, tokenizer in (("stemmed", TOKENIZERS[self._language]), ("plain", WORDS)):
            connection.execute(f"CREATE VIRTUAL TABLE {name} USING fts5(terms, tokenize = '{tokenizer}')")
            connection.execute(f"CREATE VIRTUAL TABLE {name}_terms USING fts5vocab({name}, instance)")
        return connection

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
        wanted = {term.stem for term in terms}
        chunks = [raw(text).translate(APART).split() for text in texts]
        distinct: set[bytes] = set().union(*chunks)
        stems = self._stems(distinct)
        more = {chunk: len(stems[chunk]) - 1 for chunk in distinct if len(stems[chunk]) != 1}
        telling = {chunk: stems[chunk] for chunk in distinct if not wanted.isdisjoint(stems[chunk])}
        found = []
        for parts in chunks:
            counts = Counter(stem for part in parts if part in telling for stem in telling[part] if stem in wanted)
            found.append((len(parts) + sum(more[part] for part in parts if part in more), counts))
        return found

    def _stems(self, chunks: set[bytes]) -> Mapping[bytes, Sequence[str]]:
        """What FTS5 makes of each chunk. It takes texts apart at every ASCII character but letters and digits, so
        a chunk reads alone as it reads in its text; texts are made of few, so they are remembered."""
        known = self._known
        new = chunks.difference(known)
        if not new:
            return known
        read: list[list[str]] = [[] for _ in new]
        with self._filled([chunk.decode("utf-8", "surrogateescape") for chunk in new], "stemmed"):
            for row, stem in self._connection.execute('SELECT doc, term FROM stemmed_terms ORDER BY doc, "offset"'):
                read[row - 1].append(stem)
        made = {chunk: tuple(stems) for chunk, stems in zip(new, read, strict=True)}
        stems = {**made, **{chunk: known[chunk] for chunk in chunks - new}}
        if len(known) + len(made) > CHUNKS_KEPT:
            self._known = known = {}
        known.update((chunk, parts) for chunk, parts in made.items() if len(chunk) <= CHUNK_KEPT)
        return stems

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


def close(connection: Any, pid: int) -> None:
    """In the process that opened it: SQLite's connections are not for a forked one."""
    if pid == os.getpid():
        connection.close()


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
