"""Counts the values of fields, of which the database returns those of a record together. Imports this package alone."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from .filters import number

Members = Collection[tuple[bool, Any]]
"""The values of a field of one record, each with whether it is true or false, which equal 1 and 0."""
KINDS = {bool: 0, int: 1, float: 1, str: 2}
"""The order of values that as many records have."""


def most_frequent(wholes: Iterable[Sequence[Any]], fields: int, limit: int) -> list[list[tuple[Any, int]]]:
    """The values of each of so many fields with the number of their records. `wholes` are the fields' values as a list
    in JSON, and how many records have these; a list counts for each of its members, true beside 1."""
    counts: list[defaultdict[tuple[bool, Any], int]] = [defaultdict(int) for _ in range(fields)]
    for whole, records in wholes:
        for count, value in zip(counts, json.loads(whole), strict=True):
            if type(value) is str:
                count[False, value] += records
            elif value is not None:
                for key in keys_of(value):
                    count[key] += records
    return [_best(count, limit) for count in counts]


def keys_of(value: Any) -> Members:
    """The values that one counts for."""
    if isinstance(value, list):
        return {key for one in value if not isinstance(one, list) for key in keys_of(one)}
    return set(_single(value))


def _single(value: Any) -> Iterator[tuple[bool, Any]]:
    if isinstance(value, bool | str):
        yield isinstance(value, bool), value
    elif isinstance(value, int | float):
        yield False, number(value)


def _best(count: "defaultdict[tuple[bool, Any], int]", limit: int) -> list[tuple[Any, int]]:
    ordered = sorted(count.items(), key=lambda pair: (-pair[1], KINDS[type(pair[0][1])], pair[0][1]))
    return [(value, records) for (_, value), records in ordered[:limit]]
