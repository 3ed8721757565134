"""What `data insert` reads: JSON of the command line, files, or stdin. Imports `files`."""

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import click

from kameleon import files
from kameleon.errors import InvalidInput
from kameleon.files.folders import with_files_of_folders
from kameleon.files.formats import format_of
from kameleon.files.sources import Source, sources

from .app import echo

ARGUMENT = "argument"
STDIN = "stdin"


def sources_of(given: Sequence[str], named: Sequence[str]) -> list[Source]:
    """What the arguments and --from-file name. Raises click.UsageError where nothing is given, or two kinds are."""
    records = [value for value in given if value.lstrip().startswith(("{", "["))]
    if records and (len(records) < len(given) or named):
        raise click.UsageError("give records as an argument or name files, not both")
    if records:
        text = "\n".join(records)
        return [Source(ARGUMENT, stream=io.BytesIO(text.encode("utf-8", "surrogateescape")))]
    paths = [*given, *named]
    if not paths and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("no records: pipe them in, name files, or give JSON as an argument")
    try:
        return list(sources(paths)) if paths else [Source(STDIN)]
    except InvalidInput as error:
        raise click.UsageError(f"{error}. Records as an argument begin with {{ or [") from error


def files_of(given: Sequence[Source], options: files.ReadOptions) -> list[Source]:
    """The sources, with those of its files for a folder."""
    return list(with_files_of_folders(given, options))


def check_documents(given: Sequence[Source], options: files.ReadOptions, *, sync: bool, id_field: str) -> bool:
    """Whether there are documents. Raises click.UsageError for options that these, or other files, cannot be read
    with."""
    documents = [source for source in given if source.path and format_of(source, options).is_document]
    if documents and id_field != "id":
        raise click.UsageError("the id of a document is its path: leave --id-field out")
    if documents and (options.from_place > 1 or options.from_file):
        raise click.UsageError("documents that are stored are passed over: leave --from-line out")
    if sync and not any(source.root for source in documents):
        raise click.UsageError("--sync is for folders of documents (Markdown, HTML, text)")
    return bool(documents)


def read_options(given: Mapping[str, Any], *, from_line: str, **options: Any) -> files.ReadOptions:
    """--from-line is N, or FILE:N where there are several."""
    file, _, place = from_line.rpartition(":")
    if not place.isdecimal() or int(place) < 1:
        raise click.UsageError(f"--from-line is a number from 1 on, or FILE:NUMBER, not {from_line:.40}")
    note = lambda text: echo(text, err=True)  # noqa: E731
    return files.ReadOptions(from_file=file or None, from_place=int(place), note=note, **given, **options)


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
