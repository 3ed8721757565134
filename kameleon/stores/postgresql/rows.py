"""Refs and vectors of rows as PostgreSQL takes them: in arrays, in the order of their keys. Imports `values`."""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection

from ...values import Generation, Ref
from ..tables import parts
from .copy import Packed, vectors
from .templates import MAX_VECTOR

KEYS_A_STATEMENT = 10_000
"""Keys in the arrays of one statement. Chosen, not measured."""


def keys_of(refs: Iterable[Ref]) -> Iterator[dict[str, list[str]]]:
    """Yields the binds of statements on these keys, in their order: two writers in other orders could deadlock."""
    for part in parts(sorted(refs, key=attrgetter("key")), KEYS_A_STATEMENT):
        yield {
            "tenants": [ref.tenant for ref in part],
            "entities": [ref.entity for ref in part],
            "ids": [ref.id for ref in part],
        }


def by_key(connection: Connection, statement: str, refs: Iterable[Ref], **binds: Any) -> list[Any]:
    """Runs a statement on these keys and returns its rows, if it returns any."""
    results = [connection.exec_driver_sql(statement, {**keys, **binds}) for keys in keys_of(refs)]
    return [row for result in results if result.returns_rows for row in result]


def after_key(after: Sequence[str] | None) -> dict[str, str]:
    """Returns the binds of a page that begins after a key."""
    return dict(zip(("tenant", "entity", "id"), after or ("", "", ""), strict=True))


def upto_key(upto: Sequence[str]) -> dict[str, str]:
    return {f"last_{name}": value for name, value in after_key(upto).items()}


def packed_for(generation: Generation, given: Sequence[bytes | None]) -> list[bytes | None]:
    return vectors(given, generation.dimensions, is_half=generation.dimensions > MAX_VECTOR)


def packed(generation: Generation, vector: Any) -> Packed:
    """Returns a query's vector as a bind."""
    (data,) = packed_for(generation, [vector.tobytes()])
    return Packed(data or b"")
