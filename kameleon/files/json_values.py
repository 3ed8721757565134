"""Reads JSON lines, one JSON array, or objects over several lines, in UTF-8 or, with a byte order mark, UTF-16. Memory
is that of one record. Imports nothing of kameleon's.

What cannot be a record is an item with an error, so that the caller decides whether to stop or go on. The array is
parsed here because items keep the bytes of their element, for --rejects, which ijson does not give.
"""

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from .encodings import in_utf_8
from .items import CHUNK, Item, ReadOptions, too_long
from .sources import Source
from .streams import pass_line, recoded

SPACE = " \t\r\n\ufeff"
"""What may be between values: files that were put together have byte order marks there."""
SPACES = re.compile(f"[{SPACE}]*")
BLANK = 1024
"""Bounds the white space before the first value that is read byte by byte. Chosen, not measured."""
UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    with source.open() as stream:
        reader = Lines(in_utf_8(stream, options.encoding), options.note)
        if reader.peek() == b"[":
            yield from array_items(reader, options.max_bytes)
        else:
            yield from line_items(reader, options.max_bytes, options.keep_rest)


class Lines:
    """A binary stream without its byte order mark, whose first byte that is not white space can be peeked at, after
    `blank_lines` that are not kept."""

    def __init__(self, stream: BinaryIO, note: Callable[[str], None] = lambda _note: None) -> None:
        self._stream: Any = stream
        self.blank_lines = 0
        self._ahead = b""
        self._note = note

    def peek(self) -> bytes:
        self._ahead = self._stream.read(len(codecs.BOM_UTF8))
        if encoding := UTF_16.get(self._ahead[:2]):
            self._note("read as UTF-16")
            self._stream, self._ahead = recoded(self._stream, encoding, self._ahead[2:]), b""
        while True:
            self._ahead = self._ahead.removeprefix(codecs.BOM_UTF8)
            found = self._ahead.lstrip()
            if found:
                return found[:1]
            if is_long := len(self._ahead) >= BLANK:
                self.blank_lines += self._ahead.count(b"\n")
                self._ahead = b""
            chunk = self._stream.read1(CHUNK) if is_long or self.blank_lines else self._stream.read(1)
            if not chunk:
                return b""
            self._ahead += chunk

    def readline(self, limit: int) -> bytes:
        if self._ahead:
            line, newline, rest = self._ahead.partition(b"\n")
            if newline:
                self._ahead = rest
                return line + newline
            self._ahead = b""
            return line + cast(bytes, self._stream.readline(limit))
        return cast(bytes, self._stream.readline(limit))

    def read(self, size: int) -> bytes:
        ahead, self._ahead = self._ahead, b""
        return ahead or cast(bytes, self._stream.read(size))


def line_items(reader: Lines, max_bytes: int, keep_rest: bool) -> Iterator[Item]:
    number = reader.blank_lines
    is_first = True
    while raw := reader.readline(max_bytes + 2):
        number += 1
        if len(raw.rstrip(b"\r\n")) > max_bytes:
            rest = pass_line(reader, raw, keep_rest)
            yield Item(number, raw, error=too_long(max_bytes), rest=rest)
            continue
        raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.strip():
            continue
        if is_first and is_start_of_object(raw):
            yield from object_items(Buffer(reader, max_bytes, raw, number), max_bytes)
            return
        is_first = False
        yield from parse_items(raw.rstrip(b"\r\n"), number)


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


def object_items(text: "Buffer", max_bytes: int) -> Iterator[Item]:
    """Objects one after the other, over several lines each. Broken JSON is fatal: where the next begins is unknown."""
    line = text.line
    try:
        while text.head():
            line = text.line
            data, raw = text.value()
            yield check_item(line, raw, data, max_bytes)
    except (ValueError, RecursionError) as error:
        yield Item(line, text.beginning, error=text.not_json(error), is_fatal=True)


def array_items(reader: Lines, max_bytes: int) -> Iterator[Item]:
    """The elements of one array. Broken JSON inside it is fatal: where the next element begins is unknown."""
    number = 0
    text = Buffer(reader, max_bytes, line=reader.blank_lines + 1)
    try:
        text.take()
        while (head := text.head()) != "]":
            if number:
                if head != ",":
                    raise ValueError(f"a comma or ] is missing at {text.place}")
                text.take()
                if text.head() == "]":
                    raise ValueError(f"the comma before ] is one too many, at {text.place}")
            data, raw = text.value()
            number += 1
            yield check_item(number, raw, data, max_bytes)
        text.take()
        if text.head():
            raise ValueError(f"there is more after the array, at {text.place}")
    except (ValueError, RecursionError) as error:
        yield Item(number + 1, b"", error=text.not_json(error), is_fatal=True)


class Buffer:
    """Text that was read and not yet parsed, from `_at` on; more is read as it is needed. That is at `line` and
    `column`."""

    def __init__(self, reader: Lines, max_bytes: int, begun: bytes = b"", line: int = 1) -> None:
        self._reader = reader
        self._limit = 4 * max_bytes
        self._decoder = json.JSONDecoder(parse_constant=refuse_constant)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._begun = begun
        self._text, self._at = "", 0
        self._is_end = False
        self.line, self.column = line, 1

    def head(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            self._pass(cast(re.Match[str], SPACES.match(self._text, self._at)).end())
            if self._at < len(self._text) or self._is_end:
                return self._text[self._at : self._at + 1]
            self._read()

    def take(self) -> None:
        if self.head():
            self._pass(self._at + 1)

    def value(self) -> tuple[Any, bytes]:
        """The next value and its bytes. Raises ValueError."""
        self.head()
        while True:
            try:
                data, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError:
                if self._is_end or len(self._text) - self._at > self._limit:
                    raise
                self._read()
            else:
                raw = self._text[self._at : end]
                self._pass(end)
                return data, raw.encode("utf-8", "surrogatepass")

    @property
    def beginning(self) -> bytes:
        """What was read of a value that cannot be parsed."""
        return self._text[self._at :].encode("utf-8", "surrogatepass")

    @property
    def place(self) -> str:
        return f"line {self.line}, column {self.column}"

    def not_json(self, error: ValueError | RecursionError) -> str:
        """What is wrong with the value that begins here, and at which line and column."""
        if not isinstance(error, json.JSONDecodeError):
            return not_json(error)
        before = error.doc[self._at : error.pos].rstrip(SPACE)
        self._pass(error.pos)
        comma = ": the comma before it is one too many" if before.endswith(",") else ""
        if not before.endswith(",") and error.pos >= len(error.doc.rstrip(SPACE)):
            comma = ": the input ends there"
        return f"not JSON: {error.msg} at {self.place}{comma}"

    def _pass(self, end: int) -> None:
        if newlines := self._text.count("\n", self._at, end):
            self.line += newlines
            self.column = end - self._text.rindex("\n", self._at, end)
        else:
            self.column += end - self._at
        self._at = end

    def _read(self) -> None:
        self._text, self._at = self._text[self._at :], 0
        chunk, self._begun = self._begun or self._reader.read(max(CHUNK, len(self._text))), b""
        self._text += self._decode(chunk, not chunk)
        self._is_end = not chunk


def parse_items(raw: bytes, number: int) -> Iterator[Item]:
    """The item of a line; several where files were put together without a line break."""
    item = parse_item(raw, number)
    if item.error is None or b"}" not in raw[:-1]:
        yield item
        return

    def several() -> Iterator[Item]:
        return object_items(Buffer(Lines(io.BytesIO()), len(raw), raw, number), len(raw))

    yield from [item] if any(each.error for each in several()) else several()


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
