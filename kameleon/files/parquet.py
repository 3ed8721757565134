"""Reads the rows of Parquet files, row group after row group. Imports `errors`."""

import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import unquote

from ..errors import InvalidInput, MissingExtra, seen
from .items import CHUNK, Item, ReadOptions
from .sources import Source

try:
    import pyarrow
    from pyarrow import parquet
except ImportError as _error:
    raise MissingExtra("pyarrow", "files") from _error

from .arrow_values import Unreadable, column_values, refused

MAGIC = b"PAR1"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
ROWS = 1_000
"""Bounds the rows that are in memory as Python values. Chosen, not measured."""


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """The rows from `options.from_place` on; of row groups before it nothing is read. Raises InvalidInput for a column
    whose values no record can hold, OSError for what is no Parquet."""
    try:
        with opened(source) as file:
            names = chosen_columns(file.schema_arrow, source.name, options.drop)
            partitions = {name: value for name, value in partitions_of(source) if name not in names}
            for item in rows_of(file, names, options.from_place):
                if partitions and item.error is None:
                    item.data.update(partitions)
                yield item
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the file, and not of what is in it
            raise
        raise OSError(f"not Parquet, or damaged: {first_line(error)}") from error


@contextmanager
def opened(source: Source) -> Iterator[Any]:
    """A Parquet file. It is read from its end, so that what comes through a pipe or is compressed is copied to a
    temporary file first."""
    with ExitStack() as stack:
        stream = stack.enter_context(source.open())
        file: Any = source.path
        if source.path is None or stream.start(len(MAGIC)) != MAGIC:
            from tempfile import TemporaryFile  # slow to load: not for `--help`

            file = stack.enter_context(TemporaryFile())
            shutil.copyfileobj(stream, file)
            file.seek(0)
        yield stack.enter_context(parquet.ParquetFile(file, pre_buffer=False, buffer_size=CHUNK))


def chosen_columns(schema: Any, name: str, drop: Sequence[str]) -> list[str]:
    """The columns but those of `drop`. Raises InvalidInput for one that no record can hold."""
    names: list[str] = []
    for field in schema:
        advice = f"Leave it out with --drop {shlex.quote(field.name)}"
        if field.name in drop:
            continue
        if field.name in names:
            raise InvalidInput(f"{name}: two columns are named {seen(field.name)}. {advice}")
        if what := refused(field.type):
            holds = "a record holds text, numbers, booleans, lists and objects"
            raise InvalidInput(f"{name}: column {seen(field.name)} is {what} ({field.type}); {holds}. {advice}")
        names.append(field.name)
    if not names:
        raise InvalidInput(f"{name}: it has no column that --drop leaves")
    return names


def partitions_of(source: Source) -> Iterator[tuple[str, str | None]]:
    """The columns that the names of folders have, such as `year=2026`, below the folder that is read."""
    for part in source.relative.split("/")[:-1]:
        name, equals, value = part.partition("=")
        if name and equals:
            yield unquote(name), None if value == NO_VALUE else unquote(value)


def rows_of(file: Any, names: list[str], from_place: int) -> Iterator[Item]:
    place = 1
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if place + count <= from_place:
            place += count
            continue
        for batch in file.iter_batches(ROWS, [group], names, use_threads=False):
            if place + batch.num_rows > from_place:
                yield from batch_items(batch, place)
            place += batch.num_rows


def batch_items(batch: Any, place: int) -> Iterator[Item]:
    names = batch.schema.names
    columns = [column_values(column) for column in batch.columns]
    broken = any(isinstance(value, Unreadable) for column in columns for value in column)
    for number, values in enumerate(zip(*columns, strict=True), place):
        item = Item(number, b"", dict(zip(names, values, strict=True)))
        yield checked(item) if broken else item


def checked(item: Item) -> Item:
    """An item with an error if a value of its row is unreadable."""
    for name, value in item.data.items():
        if isinstance(value, Unreadable):
            return Item(
                item.place, b"", error=f"column {seen(name)} {value.reason}. --drop {shlex.quote(name)} leaves it out"
            )
    return item


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
