"""Writes records to JSON lines, CSV and Parquet, one after the other. Memory is that of a few thousand. Imports
`errors`."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from ..errors import InvalidInput, MissingExtra, seen

ROWS_A_GROUP = 5_000
"""Bounds the records that are held for a row group of Parquet. Chosen, not measured."""


class Column(NamedTuple):
    """`type` is text, integer, number, boolean, vector, passages, or any, for values of several types."""

    name: str
    type: str = "any"


Row = Mapping[str, Any]
Rows = Callable[[], Iterable[Row]]


def write(stream: BinaryIO, format: str, columns: Sequence[Column], rows: Rows, values: Rows | None = None) -> int:
    """Writes the records that `rows()` gives to a stream in one of FORMATS, and returns how many. For Parquet the types
    of columns of any type are found in `values()`, else in `rows()`. Raises InvalidInput and MissingExtra."""
    if format not in FORMATS:
        raise InvalidInput(f"unknown format {seen(format)}. Known: {', '.join(FORMATS)}")
    typed = list(known_types(columns, values or rows)) if format == "parquet" else columns
    return FORMATS[format](stream, typed, rows)


def vectors_of(columns: Sequence[Column]) -> set[str]:
    return {column.name for column in columns if column.type == "vector"}


def vector_text(vector: Sequence[float]) -> str:
    """A vector as JSON: each number with as many digits as distinguish float32."""
    return f"[{', '.join(['%.9g'] * len(vector)) % tuple(vector)}]"


def json_line(row: Row, vectors: Iterable[str]) -> str:
    """A row as JSON, its vectors last."""
    texts = [f"{json.dumps(name)}: {vector_text(row[name])}" for name in vectors if row.get(name)]
    if not texts:
        return as_json(row)
    rest = {name: value for name, value in row.items() if name not in vectors or not value}
    return f"{as_json(rest)[:-1]}{', ' if rest else ''}{', '.join(texts)}}}"


def _jsonl(stream: BinaryIO, columns: Sequence[Column], rows: Rows) -> int:
    count, vectors = 0, vectors_of(columns)
    for row in rows():
        stream.write(f"{json_line(row, vectors)}\n".encode("utf-8", "surrogatepass"))
        count += 1
    return count


def _csv(stream: BinaryIO, columns: Sequence[Column], rows: Rows) -> int:
    text = io.TextIOWrapper(stream, "utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    count, vectors = 0, vectors_of(columns)
    for row in rows():
        texts = {name: vector_text(row[name]) for name in vectors if row.get(name)}
        writer.writerow([cell({**row, **texts}.get(column.name)) for column in columns])
        count += 1
    text.detach()
    return count


def cell(value: Any) -> Any:
    """A value as a CSV file has it: nothing for null, JSON for lists, objects and booleans."""
    if value is None:
        return ""
    return as_json(value) if isinstance(value, bool | list | dict) else value


def _parquet(stream: BinaryIO, columns: Sequence[Column], rows: Rows) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "files") from error
    schema = pa.schema([pa.field(name, arrow_type(pa, type_)) for name, type_ in columns])
    count = 0
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        given = iter(rows())
        while batch := list(islice(given, ROWS_A_GROUP)):
            writer.write_table(table(pa, schema, batch))
            count += len(batch)
    return count


def table(pa: Any, schema: Any, rows: Sequence[Row]) -> Any:
    made = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_string(field.type):
            values = [value if value is None or isinstance(value, str) else as_json(value) for value in values]
        try:
            made.append(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise InvalidInput(
                f"{field.name} has values that are no {field.type}: {error}. Records may have changed meanwhile: try "
                "again, or write JSON lines"
            ) from error
    return pa.Table.from_arrays(made, schema=schema)


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def known_types(columns: Sequence[Column], rows: Rows) -> Iterator[Column]:
    """The columns with the types that Parquet gives them, those of any type after a look at all values."""
    open_ = {column.name: set[str]() for column in columns if column.type == "any"}
    for row in rows() if open_ else ():
        for name, kinds in open_.items():
            if (value := row.get(name)) is not None:
                kinds.add(kind_of(value))
    for name, type_ in columns:
        yield Column(name, KINDS.get(frozenset(open_[name]), "text") if name in open_ else type_)


KINDS: Mapping[frozenset[str], str] = {
    frozenset({"integer"}): "integer",
    frozenset({"number"}): "number",
    frozenset({"integer", "number"}): "number",
    frozenset({"boolean"}): "boolean",
    frozenset({"texts"}): "texts",
}
"""The types of columns by the kinds of their values; others are text, JSON where they are none."""


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "number"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "texts"
    return "text"


def arrow_type(pa: Any, type_: str) -> Any:
    vector = pa.list_(pa.float32())
    passage = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("embedding", vector)])
    types = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "texts": pa.list_(pa.string())}
    return {**types, "vector": vector, "passages": pa.list_(passage)}.get(type_, pa.string())


FORMATS: Mapping[str, Callable[[BinaryIO, Sequence[Column], Rows], int]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}
