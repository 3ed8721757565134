"""Refs and vectors of rows as PostgreSQL takes them: in arrays, in the order of their keys. Imports `values`."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from ...values import Generation, Ref
from ..tables import parts
from .copy import Packed, vectors
from .templates import MAX_VECTOR

KEYS_A_STATEMENT = 10_000
"""Ids in an array of one statement. Chosen, not measured."""


def by_entity(refs: Iterable[Ref]) -> Iterator[tuple[str, list[str]]]:
    """Yields ids by entity, in pieces, in the order of the keys: two writers in other orders could deadlock."""
    for entity, group in groupby(sorted(refs), key=lambda ref: ref.entity):
        for part in parts([ref.id for ref in group], KEYS_A_STATEMENT):
            yield entity, list(part)


def pairs_of(refs: Iterable[Any]) -> dict[str, list[str]]:
    """Returns the binds of a statement that unnests these keys."""
    listed: list[Ref] = list(refs)
    return {"entities": [ref.entity for ref in listed], "ids": [ref.id for ref in listed]}


def refs_after(connection: Connection, statement: Any, after: Ref | None, limit: int) -> tuple[list[Ref], Ref | None]:
    """Returns the next refs that a statement selects, and the key to continue at."""
    entity, id_ = after[:2] if after else ("", "")
    found = [Ref(*row) for row in connection.execute(statement, {"entity": entity, "id": id_, "limit": limit})]
    return found, found[-1] if found else None


def packed_for(generation: Generation, given: Sequence[bytes | None]) -> list[bytes | None]:
    return vectors(given, generation.dimensions, is_half=generation.dimensions > MAX_VECTOR)


def packed(generation: Generation, vector: Any) -> Packed:
    """Returns a query's vector as a bind."""
    (data,) = packed_for(generation, [vector.tobytes()])
    return Packed(data or b"")
