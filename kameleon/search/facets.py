"""Counts the values of fields over the records that match. Imports `values` and `stores`."""

from collections.abc import Sequence

from sqlalchemy import Connection

from ..stores.protocols import Fields
from ..stores.values import Matches
from ..values import FacetCounts

FACET_VALUES = 100
"""Bounds the values of a facet, those of most records first. Chosen, not measured."""


def count_facets(
    connection: Connection, fields: Fields, matches: Matches, facets: Sequence[str]
) -> dict[str, FacetCounts]:
    return {name: FacetCounts(fields.facet(connection, matches, name, FACET_VALUES)) for name in facets}
