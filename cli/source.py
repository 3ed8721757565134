"""Records from a stream, one at a time: JSON lines, one JSON array, or one object. Memory is that of one record.

What cannot be a record is an item with an error, so that the reader decides whether to stop or go on.
"""

import codecs
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

CHUNK = 1 << 18
SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Item:
    """`line` is the 1-based line, in an array the 1-based element.

    `raw` is how it stood there; of an over-long line the beginning, whose rest is in the file `rest` if it was kept.
    """

    line: int
    raw: bytes
    data: Any = None
    error: str | None = None
    is_fatal: bool = False
    rest: BinaryIO | None = None


def read_items(stream: BinaryIO, *, max_bytes: int, from_line: int = 1, keep_rest: bool = False) -> Iterator[Item]:
    """The items from `from_line` on. `keep_rest` keeps what of a line is over `max_bytes` in a temporary file."""
    reader = Lines(stream)
    first = reader.peek()
    items = array_items(reader, max_bytes) if first == b"[" else line_items(reader, max_bytes, keep_rest)
    return (item for item in items if item.line >= from_line)


class Lines:
    """A binary stream with its byte order mark taken off, and a look at its first byte that is not white space."""

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
    rest = cast(BinaryIO, tempfile.TemporaryFile()) if keep_rest else None  # noqa: SIM115 - whoever gets the item closes it
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
    except RecursionError:
        return False
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
    """The elements of one array. Broken JSON inside it is fatal: nothing tells where the next element begins."""
    decoder = json.JSONDecoder(parse_constant=refuse_constant)
    decode = codecs.getincrementaldecoder("utf-8")().decode
    text, number, is_end = "", 0, False

    def more(text: str) -> tuple[str, bool]:
        chunk = reader.read(max(CHUNK, len(text)))
        return text + decode(chunk, not chunk), not chunk

    try:
        text, is_end = more(text)
        text = text.lstrip(SPACE)[1:]
        while True:
            text = text.lstrip(SPACE + ("," if number else ""))
            if not text and not is_end:
                text, is_end = more(text)
                continue
            if text.startswith("]"):
                return
            try:
                data, end = decoder.raw_decode(text)
            except ValueError as error:
                if not is_end and len(text) <= 4 * max_bytes:
                    text, is_end = more(text)
                    continue
                yield Item(number + 1, text[:max_bytes].encode(), error=not_json(error), is_fatal=True)
                return
            number += 1
            raw, text = text[:end].encode(), text[end:]
            yield check_item(number, raw, data, max_bytes)
    except UnicodeDecodeError as error:
        yield Item(number + 1, b"", error=f"not UTF-8: {error.reason}", is_fatal=True)
    except RecursionError:
        yield Item(number + 1, b"", error="nested too deep", is_fatal=True)


def parse_item(raw: bytes, number: int) -> Item:
    try:
        data = json.loads(raw.decode(), parse_constant=refuse_constant)
    except UnicodeDecodeError as error:
        return Item(number, raw, error=f"not UTF-8: byte {error.object[error.start]:#04x} at column {error.start + 1}")
    except ValueError as error:
        return Item(number, raw, error=not_json(error))
    except RecursionError:
        return Item(number, raw, error="nested too deep")
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


def not_json(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return f"not JSON: {error}"


def too_long(max_bytes: int) -> str:
    return f"over {max_bytes:,} bytes (--max-record-bytes)"
