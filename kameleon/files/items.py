"""What a reader of files yields, and how it is to read. Imports nothing of kameleon's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from .loaded import LoadedFiles

CHUNK = 1 << 18
"""Bounds the bytes of a read. Chosen, not measured."""


@dataclass(slots=True)
class Item:
    """`place` is the 1-based line that it begins on, in an array the element, in a Parquet file the row; `file` is what
    its file is called.

    `raw` are its bytes; of an over-long line the beginning, whose rest is in the file `rest` if it was kept. An item
    with an `error` has no data; after one that `is_fatal` its file cannot be read on.
    """

    place: int
    raw: bytes
    data: Any = None
    error: str | None = None
    is_fatal: bool = False
    rest: BinaryIO | None = None
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """`format` is a name of `FORMATS`, by default the one that the file's name or its beginning has. Items before
    `from_place` are not given, nor those of the files before `from_file`. `keep_rest` keeps what of a line is over
    `max_bytes` in a temporary file. `note` takes what a user should know about a file.

    Of a folder, what matches a pattern of `exclude` is left out. `by_section` makes a record of each section of a
    document; files that `loaded` knows as they are give none. Fields of `drop` are left out."""

    format: str | None = None
    from_place: int = 1
    from_file: str | None = None
    max_bytes: int = 10_000_000
    keep_rest: bool = False
    note: Callable[[str], None] = lambda _note: None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    columns: tuple[str, ...] = ()
    types: Mapping[str, str] | None = None
    exclude: tuple[str, ...] = ()
    by_section: bool = False
    loaded: LoadedFiles | None = None
    drop: tuple[str, ...] = ()


def too_long(max_bytes: int) -> str:
    return f"over {max_bytes:,} bytes (--max-record-bytes)"
