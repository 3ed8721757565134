"""Reads the records of files and streams, one at a time. Imports `errors`."""

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

from ..errors import InvalidInput, InvalidRecord, seen
from .folders import with_files_of_folders
from .formats import ALL_OPTIONS, check_options, format_of
from .items import Item, ReadOptions
from .sources import Source, sources

Given = str | os.PathLike[str] | BinaryIO | Iterable[str | os.PathLike[str]]


def records(given: Given, **options: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the records of a path, of several, or of a binary stream, with the options of ReadOptions. Raises
    InvalidRecord for the first that cannot be read, with its file and line."""
    for item in items(sources(given), ReadOptions(**options)):
        if item.error is not None:
            raise InvalidRecord(f"{item.file}:{item.place}: {item.error}")
        yield item.data


def items(given: Iterable[Source], options: ReadOptions) -> Iterator[Item]:
    """Yields the items of sources, one source after the other; nothing comes after one that is fatal. Raises
    InvalidInput for options that are none of theirs."""
    found = list(with_files_of_folders(given, options))
    if any(getattr(options, name) for name in ALL_OPTIONS) and all(source.is_file for source in found):
        check_options(options, [format_of(source, options) for source in found])
    if options.from_file is not None and options.from_file not in {source.name for source in found}:
        raise InvalidInput(f"{seen(options.from_file)} is none of the files that are read, and --from-line names it")
    is_passed = options.from_file is not None
    for source in found:
        is_passed = is_passed and source.name != options.from_file
        if is_passed:
            pass_over(source, options)
            continue
        for item in of_source(source, replace(options, note=partial(_note, options, source))):
            item.file = source.name
            yield item
            if item.is_fatal:
                return
        options = replace(options, from_place=1, from_file=None)


def pass_over(source: Source, options: ReadOptions) -> None:
    """Reads what the files after it need of a file: the types of its columns."""
    known = format_of(source, options)
    if "types" in known.options:
        next(known.read(source, replace(options, note=lambda _note: None)), None)


def of_source(source: Source, options: ReadOptions) -> Iterator[Item]:
    place = 0
    try:
        with nullcontext() if source.is_file else source.open() as stream:
            again = source if stream is None else replace(source, path=None, stream=stream)
            known = format_of(again, options)
            if stream is not None:
                check_options(options, [known])
            for item in known.read(again, options):
                place = item.place
                if place >= options.from_place:
                    yield without(item, options.drop) if options.drop else item
    except (OSError, EOFError, zlib.error) as error:
        yield Item(place + 1, b"", error=f"cannot be read: {error}", is_fatal=True)


def without(item: Item, names: Iterable[str]) -> Item:
    """The item without some of its fields."""
    for name in names if item.error is None else ():
        item.data.pop(name, None)
    return item


def _note(options: ReadOptions, source: Source, text: str) -> None:
    options.note(f"{source.name}: {text}")
