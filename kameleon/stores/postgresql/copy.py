"""PostgreSQL's binary formats: rows of COPY, and pgvector's vectors. Imports this package alone.

https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". Integers and floats are big-endian.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Connection, text

from ..own_connections import is_own, own_driver
from ..settings import Settings
from ..tables import digits, dump
from . import statements as sql
from .templates import Templates

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
IS_SECURED = text("SELECT row_security_active(CAST(:table AS text))")
ARRAY_MEMBER = np.dtype([("length", ">i4"), ("number", ">f4")])
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

length = struct.Struct(">i").pack
columns = struct.Struct(">h").pack


def encoded(rows: Iterable[Sequence[bytes | None]]) -> bytes:
    """Rows of encoded fields as COPY takes them."""
    parts = [HEADER]
    for row in rows:
        parts.append(columns(len(row)))
        for value in row:
            parts += (NULL,) if value is None else (length(len(value)), value)
    return b"".join([*parts, TRAILER])


class Copy:
    """COPY is the driver's, so it is for synchronous connections of our own; what is copied is UTF-8."""

    def __init__(self, templates: Templates, settings: Settings) -> None:
        self._templates = templates
        self._settings = settings
        self._has_temporary: bool | None = None

    def is_possible(self, connection: Connection) -> bool:
        """Whether it can fill a table of the index."""
        return self._is_binary(connection) and not self.is_refused(connection)

    def is_refused(self, connection: Connection) -> bool:
        """Whether policies hold for this role: PostgreSQL has no COPY FROM into tables with active policies."""
        if not self._settings.protected_by:
            return False
        return bool(connection.scalar(IS_SECURED, {"table": self._templates.names["search"]}))

    def _is_binary(self, connection: Connection) -> bool:
        is_ours = is_own(connection) and not connection.dialect.is_async
        return is_ours and bool(own_driver(connection).info.encoding == "utf-8")

    def can_load(self, connection: Connection) -> bool:
        """Whether it can fill a temporary table, for which most roles have the privilege."""
        if not self._is_binary(connection):
            return False
        if self._has_temporary is None:
            self._has_temporary = bool(connection.scalar(sql.MAY_MAKE_TEMPORARY))
        return self._has_temporary

    def into(self, connection: Connection, table: str, names: Sequence[str], data: bytes) -> None:
        statement = f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT binary)"
        with own_driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(data)


def integer(value: int) -> bytes:
    return length(value)


def bigint(value: int) -> bytes:
    return struct.pack(">q", value)


def jsonb(value: Any) -> bytes:
    """A document in the first version of the format."""
    return b"\1" + dump(digits(value)).encode()


def timestamp(moment: datetime) -> bytes:
    """A timestamptz: microseconds since 2000."""
    return struct.pack(">q", (moment - EPOCH) // timedelta(microseconds=1))


def vectors(given: Sequence[bytes | None], dimensions: int, *, is_half: bool) -> list[bytes | None]:
    """float32 little-endian as `vector`, or `halfvec`: two int16, the dimensions and 0, and the numbers."""
    there = [raw for raw in given if raw is not None]
    matrix = np.frombuffer(b"".join(there), "<f4").reshape(len(there), dimensions)
    packed = matrix.astype(">f2" if is_half else ">f4").tobytes()
    size = len(packed) // max(1, len(there))
    head = struct.pack(">HH", dimensions, 0)
    made = (head + packed[start : start + size] for start in range(0, len(packed), size or 1))
    return [None if raw is None else next(made) for raw in given]


def vector_of_array(sent: bytes) -> bytes:
    """float32 little-endian of a `real[]` as the server sends it: 20 bytes of dimensions, then each number after its
    length."""
    return np.frombuffer(sent, ARRAY_MEMBER, offset=20)["number"].astype("<f4").tobytes()


class Packed:
    """A vector in pgvector's format, for a parameter whose type the statement declares."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        return obj.data


class PackedTextDumper(Dumper):
    """For cursors that write values into the statement."""

    def dump(self, obj: Packed) -> bytes:
        (dimensions,) = struct.unpack_from(">H", obj.data)
        is_half = len(obj.data) == 4 + 2 * dimensions
        return json.dumps(np.frombuffer(obj.data, ">f2" if is_half else ">f4", offset=4).tolist()).encode()


def adapt(connection: Connection) -> None:
    """Registers `Packed` with this DBAPI connection; its other types are untouched."""
    if "kameleon_packed" not in connection.info:
        dbapi: Any = connection.connection.dbapi_connection
        for dumper in (PackedTextDumper, PackedDumper):
            dbapi.adapters.register_dumper(Packed, dumper)
        connection.info["kameleon_packed"] = True
