"""Terms, counts and places as bytes that NumPy reads without a loop over records. Pure; imports NumPy alone. Imports
nothing of kameleon's.

All integers are unsigned and little-endian.
- counts: one byte a posting, how often the record has the term; empty where every count is 1. A byte of 255 stands for
  255 and more: the true counts follow as uint32, in order.
- places: for each posting as many places as its count, 1 for the first word of the text. 0 is the place of an
  occurrence that counts and is in no phrase (emphasis). uint8, uint16 or uint32, whichever holds the largest.
- ordinals: uint16 in segments of up to 65,536 records, else uint32.
- hashes: 8 bytes a term, BLAKE2b of its UTF-8.
- words of a tail row: UTF-8 lines joined by a line feed, in the order of the hashes. A line is a term and, where a word
  is written otherwise, a tab and its form, which is empty for what is no completion.
- words of a segment's terms from `first` to `last`: zlib of uint32 n, n uint32 (how often each line occurs), and n such
  lines in their order, each with a line feed.
"""

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from operator import gt
from typing import Any, NamedTuple, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

HASHES_KEPT = 200_000
"""Bounds the hashes that a process remembers, 20 MB. Chosen, not measured."""
ESCAPE = 255
WIDTHS: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}


class Analysed(Protocol):
    """What the analyser makes of a text: for each occurrence a tuple that begins with a term of at most 255 bytes and
    the word as written (empty for what is no completion), and a 0-based position; `length` is the number of words that
    BM25 counts."""

    @property
    def pairs(self) -> Sequence[tuple[Any, ...]]: ...
    @property
    def positions(self) -> Sequence[int]: ...
    @property
    def length(self) -> int: ...


class Document(NamedTuple):
    """A record's terms under its document number; those of `emphasis` count again and are in no phrase."""

    doc: int
    text: Analysed
    emphasis: Analysed | None = None

    @property
    def length(self) -> int:
        return self.text.length + (self.emphasis.length if self.emphasis else 0)


class TailRow(NamedTuple):
    doc: int
    length: int
    hashes: bytes
    counts: bytes
    places: bytes
    words: bytes


@lru_cache(HASHES_KEPT)
def hash_of(term: str) -> bytes:
    return blake2b(term.encode(), digest_size=8).digest()


def line_of(term: str, form: str) -> str:
    """A form with a tab or a line feed is stored with a space."""
    if "\t" in form or "\n" in form:
        form = form.replace("\t", " ").replace("\n", " ")
    return term if form == term else f"{term}\t{form}"


def term_and_form(line: str) -> tuple[str, str]:
    term, tab, form = line.partition("\t")
    return term, form if tab else term


def pack(document: Document) -> TailRow:
    """A row of the tail: an entry for each (term, form) of the record, in the order of their first occurrences."""
    places: dict[tuple[str, str], list[int]] = {}
    for (term, form, *_), position in zip(document.text.pairs, document.text.positions, strict=True):
        places.setdefault((term, form), []).append(position + 1)
    for term, form, *_ in document.emphasis.pairs if document.emphasis else ():
        places.setdefault((term, form), []).append(0)
    return TailRow(
        document.doc,
        document.length,
        b"".join([hash_of(term) for term, _ in places]),
        pack_counts([*map(len, places.values())]),
        narrowest([*chain.from_iterable(places.values())]),
        "\n".join([line_of(*pair) for pair in places]).encode(),
    )


def width_of(largest: int) -> int:
    """Bytes of an integer that holds it."""
    return 1 if largest < 2**8 else 2 if largest < 2**16 else 4


def narrowest(values: Sequence[int]) -> bytes:
    """An array of so few is slower than these lists."""
    width = width_of(max(values, default=0))
    return bytes(values) if width == 1 else np.array(values, WIDTHS[width]).tobytes()


def pack_counts(counts: Sequence[int]) -> bytes:
    most = max(counts, default=1)
    if most == 1:
        return b""
    if most < ESCAPE:
        return bytes(counts)
    short = bytes([min(count, ESCAPE) for count in counts])
    return short + np.array([count for count in counts if count >= ESCAPE], "<u4").tobytes()


def unpack_counts(blob: bytes, postings: int) -> Array | None:
    """None where every count is 1."""
    if not blob:
        return None
    short = np.frombuffer(blob, "u1", postings)
    if len(blob) == postings:
        return short
    counts = short.astype("<u4")
    counts[short == ESCAPE] = np.frombuffer(blob, "<u4", offset=postings)
    return counts


def join_counts(blobs: Sequence[bytes], postings: Sequence[int]) -> Array:
    """The counts of many blobs, one after another."""
    if not any(map(gt, map(len, blobs), postings)):
        plain = b"".join([blob or b"\1" * n for blob, n in zip(blobs, postings, strict=True)])
        return np.frombuffer(plain, "u1").astype("<u4")
    each = (unpack_counts(blob, n) for blob, n in zip(blobs, postings, strict=True))
    return np.concatenate(
        [np.ones(n, "<u4") if counts is None else counts for counts, n in zip(each, postings, strict=True)]
    )


def unpack_places(blob: bytes, occurrences: int) -> Array:
    return np.frombuffer(blob, WIDTHS[len(blob) // occurrences] if occurrences else "u1")


class Words:
    """A segment's words, or those of some of its terms: sorted lines framed by line feeds, and how often each occurs.
    They are searched as one string."""

    def __init__(self, text: bytes, counts: Array) -> None:
        self.text, self.counts = text, counts
        self._starts: Array | None = None

    @classmethod
    def of(cls, counted: Iterable[tuple[str, int]]) -> "Words":
        given = list(counted)
        lines = [line for line, _ in given]
        order = sorted(range(len(lines)), key=lines.__getitem__)  # of characters as of their UTF-8
        text = "\n".join(["", *[lines[n] for n in order], ""]) if lines else "\n"
        return cls(text.encode(), np.array([n for _, n in given], "<u4")[order])

    @classmethod
    def unpack(cls, blobs: Iterable[bytes]) -> "Words":
        """One of several, in their order."""
        texts, counts = [b"\n"], [np.empty(0, "<u4")]
        for raw in map(zlib.decompress, blobs):
            n = int.from_bytes(raw[:4], "little")
            counts.append(np.frombuffer(raw, "<u4", n, 4))
            texts.append(raw[4 + 4 * n :])
        return cls(b"".join(texts), np.concatenate(counts))

    def pack(self) -> bytes:
        head = len(self.counts).to_bytes(4, "little") + self.counts.astype("<u4").tobytes()
        return zlib.compress(head + self.text[1:], 1)

    @property
    def nbytes(self) -> int:
        return len(self.text) + 3 * self.counts.nbytes

    def lines(self, first: int = 0, last: int | None = None) -> list[tuple[str, int]]:
        """Each with its count, from the first-th until before the last-th."""
        starts, last = self._line_starts(), len(self.counts) if last is None else last
        if first >= last:
            return []
        text = self.text[starts[first] + 1 : starts[last]].decode()
        return list(zip(text.split("\n"), self.counts[first:last].tolist(), strict=True))

    def between(self, after: str, until: str | None) -> list[tuple[str, int]]:
        """The lines of terms after one, up to another or to the end."""
        return self.lines(self._lines_until(after), None if until is None else self._lines_until(until))

    def beginning(self, prefix: str) -> list[tuple[str, int]]:
        """The lines of words that begin so; all for an empty one."""
        if not prefix:
            return [(line, n) for line, n in self.lines() if not line.endswith("\t")]
        found = [(line, n) for line, n in self.of_terms(prefix) if "\t" not in line]
        return found + self._counted(self._found(f"\t{prefix}"))

    def of_terms(self, prefix: str) -> list[tuple[str, int]]:
        """The lines of terms that begin so."""
        first = prefix.encode()
        return self.lines(self._lines_before(first), self._lines_before(first + b"\xff"))

    def ending(self, suffix: str) -> list[tuple[str, int]]:
        """The lines of words that end so."""
        return self._counted(self._found(f"{suffix}\n"))

    def _counted(self, positions: Sequence[int]) -> list[tuple[str, int]]:
        numbers = np.searchsorted(self._line_starts(), positions, "right") - 1
        lines = [self._line(at).decode() for at in (self._line_starts()[numbers] + 1).tolist()]
        return list(zip(lines, self.counts[numbers].tolist(), strict=True))

    def _found(self, text: str) -> list[int]:
        wanted, found = text.encode(), []
        at = self.text.find(wanted)
        while at >= 0:
            found.append(at)
            at = self.text.find(wanted, at + 1)
        return found

    def _line(self, start: int) -> bytes:
        return self.text[start : self.text.index(b"\n", start)]

    def _lines_until(self, term: str) -> int:
        """How many lines are of terms up to this."""
        return self._lines_before(term.encode() + b"\t\xff")

    def _lines_before(self, end: bytes) -> int:
        starts, low, high = self._line_starts(), 0, len(self.counts)
        while low < high:
            middle = (low + high) // 2
            if self._line(int(starts[middle]) + 1) < end:
                low = middle + 1
            else:
                high = middle
        return low

    def _line_starts(self) -> Array:
        if self._starts is None:
            self._starts = np.flatnonzero(np.frombuffer(self.text, "u1") == ord("\n"))
        return self._starts
