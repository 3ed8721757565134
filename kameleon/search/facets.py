"""Counts the values of fields over the records that match. Imports `stores`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from ..stores.protocols import Fields
from ..stores.values import Matches

FACET_VALUES = 100
"""Bounds the values of a facet, those of most records first. Chosen, not measured."""


def count_facets(
    connection: Connection, fields: Fields, matches: Matches, facets: Sequence[str]
) -> dict[str, dict[Any, int]]:
    counted: dict[str, dict[Any, int]] = {name: {} for name in facets}
    for name, counts in counted.items():
        for value, count in fields.facet(connection, matches, name, FACET_VALUES):
            counts[value] = counts.get(value, 0) + count
    return counted
