"""The formats of files: which one a file has, and the module that reads it. Imports `errors`."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from ..errors import InvalidInput, seen
from .dialects import DELIMITERS
from .items import Item, ReadOptions
from .sources import Source

Reader = Callable[[Source, ReadOptions], Iterator[Item]]


@dataclass(frozen=True, slots=True)
class Format:
    """`module` of this package has `read(source, options)`, and is imported when it is used. `options` are those of
    ReadOptions that not all formats have."""

    name: str
    suffixes: tuple[str, ...]
    module: str
    options: tuple[str, ...] = ()

    @property
    def is_document(self) -> bool:
        """Whether a file is one text, and not a list of records."""
        return self.module == "documents"

    @property
    def read(self) -> Reader:
        return cast(Reader, import_module(f".{self.module}", __package__).read)


OF_CSV = ("encoding", "delimiter", "quote", "columns", "has_header", "types", "nulls")
OF_DOCUMENTS = ("encoding", "by_section")
FLAGS = {"by_section": "--section", "has_header": "--header", "types": "--type", "nulls": "--null"}
FORMATS = {
    known.name: known
    for known in (
        Format("jsonl", (".jsonl", ".ndjson", ".jsonlines"), "json_values", ("encoding",)),
        Format("json", (".json",), "json_values", ("encoding",)),
        Format("csv", (".csv",), "delimited", OF_CSV),
        Format("tsv", (".tsv", ".tab"), "delimited", OF_CSV),
        Format("parquet", (".parquet", ".pq"), "parquet"),
        Format("markdown", (".md", ".markdown", ".mdown", ".mdx"), "documents", OF_DOCUMENTS),
        Format("html", (".html", ".htm", ".xhtml"), "documents", OF_DOCUMENTS),
        Format("text", (".txt", ".text", ".rst", ".adoc"), "documents", OF_DOCUMENTS),
    )
}
ALL_OPTIONS = sorted({name for known in FORMATS.values() for name in known.options})
BY_SUFFIX = {suffix: known for known in FORMATS.values() for suffix in known.suffixes}
LOOKED_AT = 1 << 14
"""Bounds the bytes by which a format is found. Chosen, not measured."""


def format_of(source: Source, options: ReadOptions) -> Format:
    """The format that the options name, else the one of the file's name, else the one that it begins as, else
    JSON lines. Raises InvalidInput."""
    if options.format is not None and options.format not in FORMATS:
        raise InvalidInput(f"unknown format {seen(options.format)}. Known: {', '.join(FORMATS)}")
    named = FORMATS[options.format] if options.format else BY_SUFFIX.get(source.suffix)
    if named is not None:
        return named
    found = begun(source)
    if found is None:
        options.note(f"read as JSON lines: --format names another, {', '.join(FORMATS)}")
    return FORMATS[found or "jsonl"]


def check_options(options: ReadOptions, found: Collection[Format]) -> None:
    """Raises InvalidInput for an option that none of these formats has."""
    having = {name: [known.name for known in FORMATS.values() if name in known.options] for name in ALL_OPTIONS}
    for name, formats in having.items():
        if getattr(options, name) and not any(known.name in formats for known in found):
            read_as = ", ".join(sorted({known.name for known in found}))
            flag = FLAGS.get(name, f"--{name}")
            raise InvalidInput(f"{flag} is of {', '.join(formats)}, and what is read is {read_as}. --format names one")


def is_document(source: Source, options: ReadOptions) -> bool:
    """Whether a file is one text by the format that is named or its name."""
    known = FORMATS.get(options.format) if options.format else BY_SUFFIX.get(source.suffix)
    return known is not None and known.is_document


def begun(source: Source) -> str | None:
    """The name of the format that a source begins as, None of one that is not known."""
    with source.open() as stream:
        start = stream.start(LOOKED_AT, lambda part: b"\n" in part.lstrip() or part.lstrip()[:1] in (b"{", b"["))
    if start.startswith(b"PAR1"):
        return "parquet"
    first = next((line for line in start.splitlines() if line.strip()), b"")
    text = first.replace(b"\0", b"").decode("utf-8", "replace").lstrip("\ufeff\ufffd \t")
    if not text or text[0] in "{[":
        return "jsonl"
    return "csv" if any(delimiter in text for delimiter in DELIMITERS) else None
