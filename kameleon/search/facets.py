"""Reads which facets are wanted, and counts them over the records that match: the values of a field, those between
bounds, or days, weeks, months and years. Imports `facet_counts`, `values`, `errors`, `moments` and
`stores`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from ..errors import InvalidInput, seen
from ..facet_counts import FacetCounts
from ..moments import moment_of
from ..stores.protocols import Fields
from ..stores.values import Matches
from ..values import Bucket

FACET_VALUES = 100
"""Bounds the values of a facet, those of most records first. Chosen, not measured."""
MAX_FACETS = 20
"""Bounds how many fields are counted in one search. Chosen, not measured."""
MAX_BOUNDS = 100
"""Bounds the bounds of a facet, which are counted by one statement. Chosen, not measured."""
MAX_PERIODS = 1_000
"""Bounds the days, weeks, months or years of a facet, the latest ones. Chosen, not measured."""
INTERVALS = ("day", "week", "month", "year")
SHAPE = 'a facet is a field, or {field: [0, 10, 100]}, or {field: "month"} (day, week, month, year)'


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of a field are counted one by one, between the `bounds` if there are any, or by `interval`."""

    field: str
    bounds: tuple[Any, ...] = ()
    interval: str = ""


def read_facets(facets: Iterable[str | Mapping[str, Any]] | Mapping[str, Any]) -> tuple[Facet, ...]:
    """Raises InvalidInput."""
    if isinstance(facets, str):
        raise InvalidInput(f"facets is a list of fields; for one, use facets=[{seen(facets)}]")
    if not isinstance(facets, Iterable):
        raise InvalidInput(f"facets is a list of fields, not {seen(facets)}")
    found: dict[Facet, None] = {}
    for each in [facets] if isinstance(facets, Mapping) else facets:
        pairs = each.items() if isinstance(each, Mapping) else [(each, None)]
        found |= {_read_one(name, wanted): None for name, wanted in pairs}
    counted = Counter(facet.field for facet in found)
    if len(counted) > MAX_FACETS:
        raise InvalidInput(f"facets are {MAX_FACETS} fields at most, not {len(counted)}")
    if twice := [name for name, times in counted.items() if times > 1]:
        raise InvalidInput(f"the facet {seen(twice[0], 80)} is counted in one way: give one of them")
    return tuple(found)


def _read_one(name: object, wanted: object) -> Facet:
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"facets are names of fields, not {seen(name)}")
    if wanted is None:
        return Facet(name)
    if wanted in INTERVALS:
        return Facet(name, interval=str(wanted))
    if not isinstance(wanted, list | tuple):
        raise InvalidInput(f"{SHAPE}; got {seen({name: wanted})}")
    if not 1 <= len(wanted) <= MAX_BOUNDS:
        raise InvalidInput(f"a facet has 1 to {MAX_BOUNDS} bounds, not {len(wanted)}")
    try:
        ordered = [moment_of(bound) if isinstance(bound, date) else bound for bound in wanted]
        are_ordered = all(below < above for below, above in pairwise(ordered)) and hash(tuple(wanted)) is not None
    except TypeError:
        are_ordered = False
    if not are_ordered or any(bound is None or isinstance(bound, bool) or bound != bound for bound in wanted):
        raise InvalidInput(f"the bounds of a facet ascend, and are of one type: {seen(wanted)}")
    return Facet(name, tuple(wanted))


def count_facets(
    connection: Connection, fields: Fields, matches: Matches, facets: Sequence[Facet]
) -> dict[str, FacetCounts]:
    counted = {}
    single = [facet.field for facet in facets if not (facet.bounds or facet.interval)]
    values = fields.facets(connection, matches, single, FACET_VALUES) if single else {}
    for facet in facets:
        if facet.bounds:
            counts: Iterable[tuple[Any, int]] = _between(connection, fields, matches, facet)
        elif facet.interval:
            counts = _by_interval(fields.days(connection, matches, facet.field), facet.interval)
        else:
            counts = values[facet.field]
        counted[facet.field] = FacetCounts(counts)
    return counted


def _between(connection: Connection, fields: Fields, matches: Matches, facet: Facet) -> list[tuple[Bucket, int]]:
    """The buckets that have records, counted by the filters that they are."""
    buckets = [Bucket(*ends) for ends in pairwise([None, *facet.bounds, None])]
    counts = fields.count_each(connection, matches, [{facet.field: bucket} for bucket in buckets])
    return [(bucket, count) for bucket, count in zip(buckets, counts, strict=True) if count]


def _by_interval(days: Mapping[date, int], interval: str) -> list[tuple[Bucket, int]]:
    counts: Counter[date] = Counter()
    for day, count in days.items():
        counts[_first_day(day, interval)] += count
    latest = sorted(counts)[-MAX_PERIODS:]
    return [(Bucket(start, _next_period(start, interval)), counts[start]) for start in latest]


def _first_day(day: date, interval: str) -> date:
    """Weeks begin on Mondays."""
    if interval == "week":
        return day - timedelta(days=min(day.weekday(), (day - date.min).days))
    return day.replace(day=day.day if interval == "day" else 1, month=1 if interval == "year" else day.month)


def _next_period(start: date, interval: str) -> date | None:
    """None after the last year that there is."""
    try:
        if interval in ("day", "week"):
            return start + timedelta(days=1 if interval == "day" else 7 - start.weekday())
        is_last = interval == "year" or start.month == 12
        return start.replace(year=start.year + 1, month=1) if is_last else start.replace(month=start.month + 1)
    except (ValueError, OverflowError):
        return None
