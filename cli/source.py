"""Reads records from a stream, one at a time: JSON lines, one JSON array, or one object. Memory is that of one record.
Imports nothing of kameleon's.

What cannot be a record is an item with an error, so that the caller decides whether to stop or go on. The array is
parsed here because items keep the bytes of their element, for --rejects, which ijson does not give.
"""

import codecs
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

CHUNK = 1 << 18
"""Bounds the bytes of a read. Chosen, not measured."""
SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Item:
    """`line` is the 1-based line, in an array the 1-based element.

    `raw` are its bytes; of an over-long line the beginning, whose rest is in the file `rest` if it was kept.
    """

    line: int
    raw: bytes
    data: Any = None
    error: str | None = None
    is_fatal: bool = False
    rest: BinaryIO | None = None


def read_items(stream: BinaryIO, *, max_bytes: int, from_line: int = 1, keep_rest: bool = False) -> Iterator[Item]:
    """The items from `from_line` on. `keep_rest` keeps what of a line is over `max_bytes` in a temporary file."""
    line = 0
    try:
        for item in _items(Lines(stream), max_bytes, keep_rest):
            line = item.line
            if line >= from_line:
                yield item
    except (OSError, EOFError, zlib.error) as error:
        yield Item(line + 1, b"", error=f"cannot be read: {error}", is_fatal=True)


def _items(reader: "Lines", max_bytes: int, keep_rest: bool) -> Iterator[Item]:
    is_array = reader.peek() == b"["
    yield from array_items(reader, max_bytes) if is_array else line_items(reader, max_bytes, keep_rest)


class Lines:
    """A binary stream without its byte order mark, whose first byte that is not white space can be peeked at."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = b""

    def peek(self) -> bytes:
        while True:
            chunk = self._stream.read(1 if self._ahead else len(codecs.BOM_UTF8))
            self._ahead += chunk
            self._ahead = self._ahead.removeprefix(codecs.BOM_UTF8)
            found = self._ahead.lstrip()
            if found or not chunk:
                return found[:1]

    def readline(self, limit: int) -> bytes:
        if self._ahead:
            line, newline, rest = self._ahead.partition(b"\n")
            if newline:
                self._ahead = rest
                return line + newline
            self._ahead = b""
            return line + self._stream.readline(limit)
        return self._stream.readline(limit)

    def read(self, size: int) -> bytes:
        ahead, self._ahead = self._ahead, b""
        return ahead or self._stream.read(size)


def line_items(reader: Lines, max_bytes: int, keep_rest: bool) -> Iterator[Item]:
    number = 0
    is_first = True
    while raw := reader.readline(max_bytes + 2):
        number += 1
        if len(raw.rstrip(b"\r\n")) > max_bytes:
            rest = pass_line(reader, raw, keep_rest)
            yield Item(number, raw, error=too_long(max_bytes), rest=rest)
            continue
        if not raw.strip():
            continue
        if is_first and is_start_of_object(raw):
            yield whole_object(reader, raw, number, max_bytes)
            return
        is_first = False
        yield parse_item(raw.rstrip(b"\r\n"), number)


def pass_line(reader: Lines, raw: bytes, keep_rest: bool) -> BinaryIO | None:
    """Read on to the line's end."""
    from tempfile import TemporaryFile  # slow to load: not for `--help`

    rest = cast(BinaryIO, TemporaryFile()) if keep_rest else None  # noqa: SIM115 - the consumer of the item closes it
    while raw and not raw.endswith(b"\n"):
        raw = reader.readline(CHUNK)
        if rest is not None:
            rest.write(raw)
    if rest is not None:
        rest.seek(0)
    return rest


def is_start_of_object(raw: bytes) -> bool:
    """Whether a line is the beginning of an object that goes on below it, as in pretty-printed JSON."""
    text = raw.decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text) or text == "{"
    except (ValueError, RecursionError):
        pass
    return False


def whole_object(reader: Lines, raw: bytes, number: int, max_bytes: int) -> Item:
    parts = [raw]
    size = len(raw)
    while size <= max_bytes and (line := reader.readline(CHUNK)):
        parts.append(line)
        size += len(line)
    whole = b"".join(parts)
    if size > max_bytes:
        return Item(number, whole, error=too_long(max_bytes), is_fatal=True)
    item = parse_item(whole, number)
    return Item(item.line, item.raw, item.data, item.error, is_fatal=item.error is not None)


def array_items(reader: Lines, max_bytes: int) -> Iterator[Item]:
    """The elements of one array. Broken JSON inside it is fatal: where the next element begins is unknown."""
    number = 0
    try:
        text = Buffer(reader, max_bytes)
        text.take()
        while (head := text.head()) != "]":
            if number:
                if head != ",":
                    raise ValueError("a comma or ] is missing")
                text.take()
            data, raw = text.value()
            number += 1
            yield check_item(number, raw, data, max_bytes)
        text.take()
        if text.head():
            raise ValueError("there is more after the array")
    except (ValueError, RecursionError) as error:
        yield Item(number + 1, b"", error=not_json(error), is_fatal=True)


class Buffer:
    """Text that was read and not yet parsed; more is read as it is needed."""

    def __init__(self, reader: Lines, max_bytes: int) -> None:
        self._reader = reader
        self._limit = 4 * max_bytes
        self._decoder = json.JSONDecoder(parse_constant=refuse_constant)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        self._is_end = False

    def head(self) -> str:
        """The next character that is not white space, "" at the end."""
        self._text = self._text.lstrip(SPACE)
        while not self._text and not self._is_end:
            self._read()
            self._text = self._text.lstrip(SPACE)
        return self._text[:1]

    def take(self) -> None:
        self.head()
        self._text = self._text[1:]

    def value(self) -> tuple[Any, bytes]:
        """The next value and its bytes. Raises ValueError."""
        self.head()
        while True:
            try:
                data, end = self._decoder.raw_decode(self._text)
            except ValueError:
                if self._is_end or len(self._text) > self._limit:
                    raise
                self._read()
            else:
                raw, self._text = self._text[:end], self._text[end:]
                return data, raw.encode("utf-8", "surrogatepass")

    def _read(self) -> None:
        chunk = self._reader.read(max(CHUNK, len(self._text)))
        self._text += self._decode(chunk, not chunk)
        self._is_end = not chunk


def parse_item(raw: bytes, number: int) -> Item:
    try:
        data = json.loads(raw.decode(), parse_constant=refuse_constant)
    except UnicodeDecodeError as error:
        return Item(number, raw, error=f"not UTF-8: byte {error.object[error.start]:#04x} at column {error.start + 1}")
    except (ValueError, RecursionError) as error:
        return Item(number, raw, error=not_json(error))
    return check_item(number, raw, data, len(raw))


def check_item(number: int, raw: bytes, data: Any, max_bytes: int) -> Item:
    if len(raw) > max_bytes:
        return Item(number, raw, error=too_long(max_bytes))
    if not isinstance(data, dict):
        return Item(number, raw, error=f"not an object but {describe(data)}")
    return Item(number, raw, data)


def describe(data: Any) -> str:
    names = {list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(data), type(data).__name__)


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def not_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason}"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return f"not JSON: {error}"


def too_long(max_bytes: int) -> str:
    return f"over {max_bytes:,} bytes (--max-record-bytes)"
