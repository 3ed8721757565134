"""What a reader of files yields, and how it is to read. Imports nothing of kameleon's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from .loaded import LoadedFiles

CHUNK = 1 << 18
"""Bounds the bytes of a read. Chosen, not measured."""


@dataclass(slots=True)
class Item:
    """`place` is the 1-based line that it begins on, in an array the element, in a Parquet file the row; `file` is what
    its file is called.

    `raw` are its bytes; of an over-long line the beginning, whose rest is in the file `rest` if it was kept. An item
    with an `error` has no data; after one that `is_fatal` its file cannot be read on. `header` is the line with the
    names of the columns of `raw`.
    """

    place: int
    raw: bytes
    data: Any = None
    error: str | None = None
    is_fatal: bool = False
    rest: BinaryIO | None = None
    file: str = ""
    header: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """`format` is a name of `FORMATS`, by default the one that the file's name or its beginning has. Items before
    `from_place` are not given, nor those of the files before `from_file`. `keep_rest` keeps what of a line is over
    `max_bytes` in a temporary file. `note` takes what a user should know about a file.

    Of CSV: `columns` are the names of one without a header, or with `has_header` instead of it. `types` are those of
    columns (any, text, datetime, integer, number, boolean, list, object), and `default_types` those of columns that it
    leaves out. What the values of a file show for others is in `inferred`, which holds for the files after it. `nulls`
    are texts that are null beside the empty one. A `quote` of "none" is none.

    Of a folder, what matches a pattern of `exclude` is left out. `by_section` makes a record of each section of a
    document; files that `loaded` knows as they are give none. Fields of `drop` are left out.
    """

    format: str | None = None
    from_place: int = 1
    from_file: str | None = None
    max_bytes: int = 10_000_000
    keep_rest: bool = False
    note: Callable[[str], None] = lambda _note: None
    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    columns: Sequence[str] = ()
    has_header: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    default_types: Mapping[str, str] = field(default_factory=dict)
    inferred: dict[str, str] = field(default_factory=dict)
    nulls: Sequence[str] = ()
    exclude: Sequence[str] = ()
    by_section: bool = False
    loaded: LoadedFiles | None = None
    drop: Sequence[str] = ()


def too_long(max_bytes: int) -> str:
    return f"over {max_bytes:,} bytes (--max-record-bytes)"
