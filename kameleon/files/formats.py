"""The formats of files: which one a file has, and the module that reads it. Imports `errors`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from ..errors import InvalidInput, seen
from .items import Item, ReadOptions
from .sources import Beginning, Source

Reader = Callable[[Source, ReadOptions], Iterator[Item]]


@dataclass(frozen=True, slots=True)
class Format:
    """`module` of this package has `read(source, options)`, and is imported when it is used."""

    name: str
    suffixes: tuple[str, ...]
    module: str

    @property
    def is_document(self) -> bool:
        """Whether a file is one text, and not a list of records."""
        return self.module == "documents"

    @property
    def read(self) -> Reader:
        return cast(Reader, import_module(f".{self.module}", __package__).read)


FORMATS = {
    known.name: known
    for known in (
        Format("jsonl", (".jsonl", ".ndjson", ".jsonlines"), "json_values"),
        Format("json", (".json",), "json_values"),
        Format("parquet", (".parquet", ".pq"), "parquet"),
        Format("markdown", (".md", ".markdown", ".mdown", ".mdx"), "documents"),
        Format("html", (".html", ".htm", ".xhtml"), "documents"),
        Format("text", (".txt", ".text", ".rst", ".adoc"), "documents"),
    )
}
BY_SUFFIX = {suffix: known for known in FORMATS.values() for suffix in known.suffixes}


def format_of(source: Source, options: ReadOptions, stream: Beginning | None = None) -> Format:
    """The format that the options name, else the one of the file's name, else the one that it begins as. Raises
    InvalidInput."""
    if options.format is not None:
        if options.format not in FORMATS:
            raise InvalidInput(f"unknown format {seen(options.format)}. Known: {', '.join(FORMATS)}")
        return FORMATS[options.format]
    return BY_SUFFIX.get(source.suffix) or FORMATS["jsonl"]
