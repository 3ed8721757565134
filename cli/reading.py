"""What `data insert` reads: JSON of the command line, files, or stdin. Imports `files`."""

import csv
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import click

from kameleon import files
from kameleon.errors import InvalidInput
from kameleon.files.formats import is_document
from kameleon.files.sources import Source, sources

from .app import echo
from .entity import types_of

F = TypeVar("F", bound=Callable[..., Any])

ARGUMENT = "argument"
STDIN = "stdin"
READING: Mapping[str, tuple[str, dict[str, Any]]] = {
    "format": ("--format", {"metavar": "NAME", "help": "The files' format, where their names do not give it."}),
    "encoding": ("--encoding", {"metavar": "NAME", "help": "The text's encoding, where it is not found."}),
    "delimiter": ("--delimiter", {"metavar": "CHARACTER", "help": "Of CSV: what is between values, such as tab."}),
    "quote": ("--quote", {"metavar": "CHARACTER", "help": "Of CSV: what is around values; `none` for none."}),
    "columns": ("--columns", {"metavar": "A,B,…", "help": "Of CSV: the columns' names, where it has no header."}),
    "has_header": ("--header", {"is_flag": True, "help": "With --columns: leave out the header that it has."}),
    "types": ("--type", {"multiple": True, "metavar": "NAME:TYPE", "help": "Of CSV: a column's type. Repeatable."}),
    "nulls": ("--null", {"multiple": True, "metavar": "TEXT", "help": "Of CSV: null, as no value is. Repeatable."}),
    "exclude": ("--exclude", {"multiple": True, "metavar": "PATTERN", "help": "Of a folder: leave out. Repeatable."}),
    "by_section": ("--section", {"is_flag": True, "help": "Of a document: make a record of each section."}),
    "drop": ("--drop", {"multiple": True, "metavar": "NAME", "help": "Leave this field or column out. Repeatable."}),
    "from_line": (
        "--from-line",
        {"metavar": "[FILE:]N", "default": "1", "help": "Start at this line (in a JSON array: element)."},
    ),
    "max_bytes": (
        "--max-record-bytes",
        {
            "type": click.IntRange(2),
            "default": 10_000_000,
            "show_default": True,
            "help": "Refuse a record that is longer.",
        },
    ),
}
"""The options of files by their names in ReadOptions, but for --from-file."""


def reading(command: F) -> F:
    """Add the options of files, which `read_options` takes."""
    options = [click.option("--from-file", "files", multiple=True, metavar="FILE", help="Read this file. Repeatable.")]
    options += [click.option(flag, name, **of) for name, (flag, of) in READING.items()]
    for option in reversed(options):
        command = option(command)
    return command


def sources_of(given: Sequence[str], named: Sequence[str]) -> list[Source]:
    """What the arguments and --from-file name. Raises click.UsageError where nothing is given, or two kinds are."""
    records = [value for value in given if value.lstrip().startswith(("{", "["))]
    if records and (len(records) < len(given) or named):
        raise click.UsageError("give records as an argument or name files, not both")
    if records:
        text = "\n".join(records)
        return [Source(ARGUMENT, stream=io.BytesIO(text.encode("utf-8", "surrogateescape")))]
    paths = [*given, *named]
    paths = [] if paths == ["-"] else paths
    if not paths and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("no records: pipe them in, name files, or give JSON as an argument")
    try:
        return list(sources(paths)) if paths else [Source(STDIN)]
    except InvalidInput as error:
        raise click.UsageError(f"{error}. Records as an argument begin with {{ or [") from error


def check_documents(given: Sequence[Source], options: files.ReadOptions, *, sync: bool, id_field: str) -> bool:
    """Whether there are documents. Raises click.UsageError for options that these, or other files, cannot be read
    with."""
    documents = [source for source in given if source.path and is_document(source, options)]
    if documents and len(documents) < len(given):
        raise click.UsageError("documents and files of records are read in two commands")
    if documents and id_field != "id":
        raise click.UsageError("the id of a document is its path: leave --id-field out")
    if documents and (options.from_place > 1 or options.from_file):
        raise click.UsageError("documents that are stored are passed over: leave --from-line out")
    if sync and not any(source.root for source in documents):
        raise click.UsageError("--sync is for folders of documents (Markdown, HTML, text)")
    return bool(documents)


def read_options(options: dict[str, Any], **more: Any) -> files.ReadOptions:
    """Those of `reading`, which leave `options`. --from-line is N, or FILE:N where there are several. A note that an
    earlier file had is not repeated."""
    own = {name: options.pop(name) for name in READING}
    from_line, columns = own.pop("from_line"), own.pop("columns")
    file, _, place = from_line.rpartition(":")
    if not place.isdecimal() or int(place) < 1:
        raise click.UsageError(f"--from-line is a number from 1 on, or FILE:NUMBER, not {from_line:.40}")
    noted: set[str] = set()

    def note(text: str) -> None:
        what = text.partition(": ")[2]
        if what not in noted:
            echo(text, err=True)
        noted.add(what)

    return files.ReadOptions(
        **{**own, "types": types_of(own["types"], "--type"), **more},
        from_file=file or None,
        from_place=int(place),
        columns=tuple(next(csv.reader([columns]))) if columns else (),
        note=note,
    )


def items(given: Sequence[Source], options: files.ReadOptions) -> Iterator[files.Item]:
    """Opens and closes stdin on the thread that reads: to close a pipe elsewhere waits for the thread that reads."""
    if [source.name for source in given] != [STDIN] or given[0].path is not None:
        yield from files.items(given, options)
        return
    with own_stdin() as stream:
        yield from files.items([Source(STDIN, stream=stream)], options)


def own_stdin() -> BinaryIO:
    """A copy of stdin: Python's own at exit waits for a thread that is reading it."""
    try:
        return open(os.dup(sys.stdin.fileno()), "rb")
    except io.UnsupportedOperation:
        return sys.stdin.buffer
