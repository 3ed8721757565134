"""Limits how many hits have the same value of a field. Imports `errors` and `stores`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ..errors import InvalidInput, seen
from ..stores.counting import Members
from ..stores.protocols import Fields
from ..stores.values import Key
from .paging import digest_of

if TYPE_CHECKING:
    from .query import Query
    from .ranking import Ranked

SHAPE = 'limit_by is a field and how many hits of each of its values are wanted, such as {"brand": 1}'
MOST_OF_EACH = 10_000
"""Bounds the hits of a value. Chosen, not measured: as many as the pages of a search have."""


@dataclass(frozen=True, slots=True)
class Cap:
    """At most so many hits, over all pages, of each value of a field."""

    field: str
    most: int


def read_cap(value: object) -> Cap | None:
    """What `limit_by` names; None for None. Raises InvalidInput."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value:
        raise InvalidInput(f"{SHAPE}; got {seen(value)}")
    if len(value) > 1:
        raise InvalidInput(f"limit_by takes one field, not {len(value)}: keep one of {seen(list(value))}")
    ((field, most),) = value.items()
    if not isinstance(field, str) or not field:
        raise InvalidInput(f"{SHAPE}; got {seen(value)}")
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST_OF_EACH:
        raise InvalidInput(f"limit_by takes a whole number of hits from 1 to {MOST_OF_EACH:,}, not {seen(most)}")
    return Cap(field, most)


def capped(connection: Connection, fields: Fields, query: "Query", ranked: "Ranked") -> "Ranked":
    """The ranking without the hits that would be too many of a value. Those that earlier pages have shown count
    first. `fields` are those of what is searched."""
    ranking, cap = ranked.ranking, query.limit_by
    assert cap is not None  # noqa: S101 - the caller checked
    refs = {key: ranking.refs[key] for key in ranking.keys}
    with ranked.found.timed("limit_by"):
        values = fields.members(connection, refs, cap.field) if refs else {}
    shown = set(query.shown)
    before = {key for key, ref in refs.items() if digest_of(ref) in shown} if shown else set[Key]()
    kept = within(cap.most, ranking.keys, values, before)
    left_out = [key for key in ranking.keys if key not in kept]
    keys = [key for key in ranking.keys if key in kept]
    return replace(ranked, ranking=replace(ranking, keys=keys, left_out=left_out))


def within(most: int, keys: Iterable[Key], values: Mapping[Key, Members], before: "set[Key]") -> set[Key]:
    """Those of the keys, in their order, that are the first `most` of each of their values, and all of `before`. A key
    without a value is kept; one of several values is kept where none of them has its hits yet."""
    counts: Counter[Any] = Counter()
    for key in before:
        counts.update(values.get(key, ()))
    kept = set(before)
    for key in keys:
        own = values.get(key, ())
        if key not in before and all(counts[value] < most for value in own):
            kept.add(key)
            counts.update(own)
    return kept
