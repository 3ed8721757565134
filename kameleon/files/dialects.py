"""Finds the delimiter and the quotes of CSV by a sample. Imports `errors`."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, seen

DELIMITERS = (",", ";", "\t", "|")
NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "space"}
NO_QUOTE = ("", "none")
BY_NAME = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
SAMPLE_ROWS = 500
"""Bounds the rows by which a delimiter is found. Chosen, not measured."""
SEPARATOR = re.compile(r"sep=(.)\r?\n?")
"""The line before the header by which Excel takes the delimiter."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """`quote` is None where quotes are characters like others. With `is_spaced` a space follows each delimiter."""

    delimiter: str = ","
    quote: str | None = '"'
    is_spaced: bool = False

    @property
    def name(self) -> str:
        return f"{NAMES.get(self.delimiter, self.delimiter)}{'' if self.quote else ', no quotes'}"

    def rows(self, lines: Iterable[str]) -> Any:
        """A csv.reader of these lines."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            skipinitialspace=self.is_spaced,
            strict=True,
        )

    def open_quote(self, line: str) -> int:
        """Where the quote is that begins a value and does not end it in this line; 0 without one."""
        start, quote = 0, self.quote or ""
        while quote and start < len(line):
            start += len(line[start:]) - len(line[start:].lstrip(" ")) if self.is_spaced else 0
            end = line.find(self.delimiter, start) if line[start : start + 1] != quote else self._end(line, start)
            if end < 0:
                return start if line[start : start + 1] == quote else 0
            start = end + 1
        return 0

    def _end(self, line: str, start: int) -> int:
        """Where the delimiter after a quoted value is, or the line's end; -1 where its quote is not closed."""
        end = line.find(self.quote or "", start + 1)
        while end >= 0 and line[end + 1 : end + 2] == self.quote:
            end = line.find(self.quote or "", end + 2)
        is_closed = end >= 0 and line[end + 1 : end + 2] in ("", self.delimiter)
        return end + 1 if is_closed else -1


def dialect_of(lines: Sequence[str], delimiter: str | None, quote: str | None, *, has_tabs: bool) -> Dialect:
    """The dialect of a sample, with what is given of it; with `has_tabs` tabs are likelier than others. Raises
    InvalidInput for what is no character."""
    given = character(delimiter, "delimiter") if delimiter is not None else None
    quotes = None if quote in NO_QUOTE else character(quote or '"', "quote")
    if given is None:
        order = sorted(DELIMITERS, key=lambda each: each != "\t") if has_tabs else DELIMITERS
        given = max(order, key=lambda each: share_of_width(Dialect(each, quotes), lines))
    found = Dialect(given, quotes, is_spaced=is_spaced(lines, given))
    if quote is None and given == "\t" and is_plain(lines):
        return Dialect(given, None)
    return found


def character(given: str, what: str) -> str:
    found = BY_NAME.get(given, given)
    if len(found) != 1 or found in "\r\n\0":
        raise InvalidInput(f"--{what} is one character, not {seen(given)}")
    return found


def share_of_width(dialect: Dialect, lines: Sequence[str]) -> tuple[float, int]:
    """Which share of the first rows is as wide as the header, and that width; nothing for one column."""
    width = same = count = 0
    for row in rows_of(dialect, lines):
        width = width or len(row)
        same += len(row) == width
        count += 1
    return (same / count, width) if width > 1 else (0.0, 0)


def rows_of(dialect: Dialect, lines: Sequence[str], *, limit: int = SAMPLE_ROWS) -> Iterator[list[str]]:
    """The first rows that can be read, without blank lines."""
    reader = dialect.rows(iter(lines))
    try:
        for count, row in enumerate(reader):
            if count >= limit:
                return
            if row:
                yield row
    except csv.Error:
        return


def is_spaced(lines: Sequence[str], delimiter: str) -> bool:
    """Whether a space follows each delimiter of the first line."""
    first = lines[0] if lines else ""
    return delimiter != " " and 0 < first.count(delimiter) == first.count(f"{delimiter} ")


def is_plain(lines: Sequence[str]) -> bool:
    """Whether quotes of a tab-separated sample are characters like others: each line has as many values as the header
    if they are, and is a row only then."""
    first = [line for line in lines[:SAMPLE_ROWS] if line.strip()]
    share, _ = share_of_width(Dialect("\t", None), first)
    return share == 1 and sum(1 for _ in rows_of(Dialect("\t"), first)) < len(first)
