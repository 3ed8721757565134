"""Reads CSV and TSV, a record at a time. Imports `errors`.

Lines are split before they are decoded, so that each record keeps its bytes. A record that cannot be read ends with its
first line: reading goes on with the next.
"""

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from ..errors import printable, seen
from .columns import Column, NotOfType, check_types, header_names, typed
from .dialects import SEPARATOR, Dialect, dialect_of, rows_of
from .encodings import Encoding, encoding_of
from .items import Item, ReadOptions, too_long
from .sources import Source
from .streams import Beginning, Changed, pass_line, recoded

SAMPLE = 1 << 20
"""Bounds the bytes by which the dialect, the encoding and the types are found. Chosen, not measured."""
TABS = (".tsv", ".tab")


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    with source.open() as stream:
        sample = stream.start(SAMPLE)
        encoding = encoding_of(sample, options.encoding, is_whole=len(sample) < SAMPLE)
        lines = lines_of(sample, encoding)
        if options.encoding is None and encoding.name != "utf-8":
            options.note(read_as(encoding, lines))
        separator = SEPARATOR.fullmatch(lines[0]) if lines else None
        lines = lines[1:] if separator else lines
        has_tabs = source.suffix in TABS or options.format == "tsv"
        delimiter = options.delimiter or (separator and separator[1])
        dialect = dialect_of(lines, delimiter, options.quote, has_tabs=has_tabs)
        rows = Rows(split(stream, sample, encoding), dialect, encoding, options)
        if separator:
            rows.skip_line()
        yield from Table(rows, lines, options).items()


def lines_of(sample: bytes, encoding: Encoding) -> list[str]:
    """The lines of a sample, without the last that it may have cut."""
    text = sample.removeprefix(encoding.mark).decode(encoding.name, "replace")
    lines = list(io.StringIO(text, newline=None))
    return lines[:-1] if len(sample) >= SAMPLE else lines


def read_as(encoding: Encoding, lines: Sequence[str]) -> str:
    """What a user should know about an encoding, with an example where it may be another."""
    if not encoding.detected:
        return f"read as {encoding.name.upper()}"
    number, line = next(((number, line) for number, line in enumerate(lines, 1) if not line.isascii()), (1, ""))
    word = next((word for word in line.split() if not word.isascii()), line)
    return f"read as {encoding.name}, as it looks: {seen(word, 40)} on line {number}. --encoding names another"


def split(stream: Beginning, sample: bytes, encoding: Encoding) -> BinaryIO:
    """The stream as one whose lines end with a line feed, without its byte order mark."""
    stream.read(len(encoding.mark))
    if not encoding.is_ascii:
        return recoded(stream, encoding.name)
    if b"\n" not in sample and b"\r" in sample:
        changed = Changed(stream, lambda part, _is_end: part.replace(b"\r", b"\n"))
        return cast(BinaryIO, Beginning(changed))
    return stream


class Broken(Exception):
    """A record that cannot be read, with what is wrong; `rest` is what of an over-long line was kept."""

    def __init__(self, error: str, rest: BinaryIO | None = None) -> None:
        super().__init__(error)
        self.error, self.rest = error, rest


class Rows:
    """The rows of a stream, with `line` that the last began on, and `lines`, its bytes."""

    def __init__(self, stream: BinaryIO, dialect: Dialect, encoding: Encoding, options: ReadOptions) -> None:
        self.dialect = dialect
        self.line, self.lines = 1, list[bytes]()
        self._stream, self._options = stream, options
        self._encoding = encoding.name if encoding.is_ascii else "utf-8"
        self._again: deque[bytes] = deque()
        self._size = 0
        csv.field_size_limit(max(csv.field_size_limit(), options.max_bytes))  # one limit for the process
        self._reader = dialect.rows(self)

    def __iter__(self) -> "Rows":
        return self

    def __next__(self) -> str:
        """The next line, for the reader."""
        raw = self._again.popleft() if self._again else self._stream.readline(self._options.max_bytes + 2)
        if not raw:
            raise StopIteration
        self.lines.append(raw)
        self._size += len(raw)
        if self._size > self._options.max_bytes:
            self._refuse_long(raw)
        return raw.decode(self._encoding)

    def next(self) -> list[str] | None:
        """The next row, None at the end. Raises Broken, after which the next row is that of the next line."""
        self.line += len(self.lines)
        self.lines.clear()
        self._size = 0
        try:
            return cast(list[str], next(self._reader))
        except StopIteration:
            return None
        except UnicodeDecodeError as error:
            raise Broken(self._not_encoded(error)) from None
        except csv.Error as error:
            raise Broken(self._not_csv(error)) from None

    def skip_line(self) -> None:
        self._stream.readline()
        self.line += 1

    def again(self) -> None:
        """Lets the lines after the first of the last row be read again."""
        self._again.extendleft(reversed(self.lines[1:]))
        del self.lines[1:]

    def _refuse_long(self, raw: bytes) -> None:
        """Raises Broken for a record over `max_bytes`: a line that long, or a quote that nothing closes."""
        limit = self._options.max_bytes
        if len(raw.rstrip(b"\r\n")) > limit and len(self.lines) == 1:
            raise Broken(too_long(limit), pass_line(self._stream, raw, self._options.keep_rest))
        if len(self.lines) > 1:
            where = self._opened()
            self.again()
            raise Broken(f"{where} is not closed within {limit:,} bytes (--max-record-bytes). {QUOTES}")

    def _not_csv(self, error: csv.Error) -> str:
        """What is wrong with a record; its lines after the first are read again."""
        where, text = self._opened(), str(error)
        self.again()
        if "unexpected end of data" in text:
            return f"{where} is not closed. {QUOTES}"
        if "expected after" in text:
            return f"{where} is followed by one that is not doubled and does not end the value. {QUOTES}"
        return "not CSV: a carriage return outside of quotes" if "new-line" in text else f"not CSV: {text}"

    def _opened(self) -> str:
        """The quote that goes wrong in the record's first line, with its place."""
        line = self.lines[0].decode(self._encoding, "replace").rstrip("\r\n")
        column = self.dialect.open_quote(line)
        return f"the quote at column {column + 1} ({seen(line[column:], 20)})"

    def _not_encoded(self, error: UnicodeDecodeError) -> str:
        byte, column = error.object[error.start], error.start + 1
        line = f"line {self.line + len(self.lines) - 1}, " if len(self.lines) > 1 else ""
        return f"not {self._encoding.upper()}: byte {byte:#04x} at {line}column {column}. --encoding names another"


QUOTES = "Double it, name another with --quote, or --quote none"


@dataclass
class Table:
    rows: Rows
    sample: Sequence[str]
    options: ReadOptions
    columns: list[Column] = field(default_factory=list)
    header: bytes = b""
    unnamed: Sequence[str] = ()

    def items(self) -> Iterator[Item]:
        problem = self._open()
        if problem is not None:
            yield Item(self.rows.line, self.raw, error=problem, is_fatal=True)
            return
        make, width, rows = self._make, len(self.columns), self.rows
        while self.columns:
            try:
                row = rows.next()
                if row is None:
                    return
                if not row:
                    continue
                if len(row) != width:
                    row = self._fitted(row)
                yield Item(rows.line, self.raw, make(row), header=self.header)
            except (Broken, NotOfType) as error:
                rest = getattr(error, "rest", None)
                yield Item(rows.line, self.raw, error=str(error), rest=rest, header=self.header)

    @property
    def raw(self) -> bytes:
        lines = self.rows.lines
        return lines[0] if len(lines) == 1 else b"".join(lines)

    def _open(self) -> str | None:
        """Read the header, and find the columns' types. Returns what is wrong."""
        names = list(self.options.columns)
        problem = header_names(names)[1] if len(set(names)) < len(names) else None
        if self.options.has_header or not names:
            try:
                row = self._first()
            except Broken as error:
                return error.error
            if row is None:
                return None
            self.header = self.raw
            if not names:
                names, problem = header_names(row)
                self.unnamed = [name for name, own in zip(names, row, strict=True) if not own.strip()]
        if problem is None:
            self._type(names)
        return problem

    def _first(self) -> list[str] | None:
        row: list[str] | None = []
        while row == []:
            row = self.rows.next()
        return row

    def _type(self, names: Sequence[str]) -> None:
        options = self.options
        check_types(options.types, names)
        nulls = {"", *options.nulls}
        found = list(rows_of(self.rows.dialect, self.sample, limit=len(self.sample)))
        declared = {**options.default_types, **options.types}
        self.columns = typed(names, declared, options.inferred, found[1 if self.header else 0 :], nulls)
        options.note(described(self.rows.dialect, self.columns))

    @property
    def _make(self) -> Any:
        """What makes a record of a row; columns without a name are left out where they are empty."""
        names = [column.name for column in self.columns]
        typed = [column for column in self.columns if column.convert is not None]
        nulls, unnamed = {"", *self.options.nulls}, self.unnamed

        def make(row: Sequence[str]) -> dict[str, Any]:
            data: dict[str, Any] = {
                name: None if text in nulls else text for name, text in zip(names, row, strict=True)
            }
            for column in typed:
                text = data[column.name]
                if text is not None:
                    data[column.name] = column.value(text)
            for name in unnamed:
                if data[name] is None:
                    del data[name]
            return data

        return make

    def _fitted(self, row: list[str]) -> list[str]:
        """A row without the empty values that it has after the last column. Raises Broken for another width."""
        width = len(self.columns)
        if len(row) > width and not any(row[width:]):
            return row[:width]
        what = f"none for {self.columns[len(row)].name}" if len(row) < width else f"{seen(row[width])} is one too many"
        hint = f"The delimiter is taken to be {self.rows.dialect.name} (--delimiter, --quote)"
        raise Broken(f"{count(len(row), 'value')} where there are {count(width, 'column')}: {what}. {hint}")


def count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def described(dialect: Dialect, columns: Sequence[Column]) -> str:
    shown = [column.name + ("" if column.type == "text" else f" ({column.type})") for column in columns]
    more = f" and {len(shown) - 30} more" if len(shown) > 30 else ""
    return printable(f"{count(len(columns), 'column')}, delimiter {dialect.name}: {', '.join(shown[:30])}{more}")
