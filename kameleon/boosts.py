"""Boosts of a search: a record is raised by a number, by how recent it is, or where a condition holds. Imports
`values`, `errors` and `moments`.

Each boost multiplies what the fused score of a record is above that of an unrelated one by a factor, 1 where the record
has no value. What `number`, `recency` and `when` return is equal to the same as JSON, by which entities keep theirs.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy.engine.default import StrCompileDialect
from sqlalchemy.sql.elements import ClauseElement

from .errors import InvalidInput, seen
from .moments import DAY_MS, TEXT
from .values import Bucket

MAX_BOOSTS = 20
"""Bounds the boosts of a search and of an entity, whose values are read for each candidate. Chosen, not measured."""
MAX_WEIGHT, MOST_HALF, MOST_VALUE = 10.0, 1e300, 1e300
LEAST_FACTOR, MOST_FACTOR = 0.1, 10.0
"""Bound a factor, so that no boost alone decides what comes first. Chosen, not measured."""
WEIGHT, FACTOR = 0.2, 1.2
"""The weight of a number or of recency, and the factor of a condition, where none is given. Chosen, not measured."""
UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "min": 60, "s": 1}
HALF_LIFE = re.compile(r"(\d+(?:\.\d+)?)(w|d|h|min|s)")
SHOWN = 60
"""Bounds the characters of a condition in the name of its boost. Chosen, not measured."""
MAX_FIELD = 1_000
"""Bounds the characters of a field's name, with its path. Chosen, not measured."""
MOST_HALF_LIFE = timedelta(days=36_525)
"""Bounds a half-life: a century. Chosen, not measured."""
SHAPES = (
    'a boost is number("orders", half=100), recency("created", half_life="30d") or when({"in_stock": True}) of '
    'kameleon.boosts, or the same as JSON: {"field": "orders", "half": 100, "weight": 0.2}, '
    '{"field": "created", "half_life": "30d"}, {"where": {"in_stock": true}, "factor": 1.2}'
)


class Boost(ABC):
    """What `number`, `recency` and `when` return."""

    __slots__ = ()

    weight: float

    @property
    @abstractmethod
    def name(self) -> str:
        """Names the boost in an explanation."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest factor."""
        return 1.0, 1.0 + self.weight

    @abstractmethod
    def measured(self, value: Any, now_ms: float) -> float | None:
        """Returns a field's value as a number, its age in days, or 1 or 0 for whether a condition holds; None where it
        is missing or of another type."""

    @abstractmethod
    def share(self, measured: float) -> float:
        """Returns how much of the weight counts, 0..1."""

    @abstractmethod
    def factors(self, values: Iterable[Any], now_ms: float) -> list[float]:
        """Returns the factor of each value, 1 where it is missing."""

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """Renders the boost as JSON. Raises InvalidInput for a condition that JSON cannot hold."""

    def multiplier(self, share: float) -> float:
        """Returns the factor by which a record's score is multiplied."""
        return 1.0 + self.weight * share


@dataclass(frozen=True, slots=True)
class FieldBoost(Boost):
    """A boost by the value of a field."""

    field: str

    @property
    def name(self) -> str:
        return f"boost:{self.field}"


@dataclass(frozen=True, slots=True)
class NumberBoost(FieldBoost):
    """Raises by 1 + weight * value / (value + half)."""

    half: float
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        _check_field(self.field)
        _check_number("half", self.half, math.ulp(0.0), MOST_HALF)
        _check_weight(self.weight)

    def measured(self, value: Any, now_ms: float) -> float | None:
        if value.__class__ is not int and value.__class__ is not float and not isinstance(value, Decimal):
            return None
        return float(min(max(value, -MOST_VALUE), MOST_VALUE)) if value == value else None

    def share(self, measured: float) -> float:
        return measured / (measured + self.half) if measured > 0 else 0.0

    def factors(self, values: Iterable[Any], now_ms: float) -> list[float]:
        """Without a call for each: a search has hundreds of values."""
        half, weight, other = self.half, self.weight, self._factor
        return [
            1.0 + weight * (value / (value + half))
            if (value.__class__ is int or value.__class__ is float) and 0 < value <= MOST_VALUE
            else other(value)
            for value in values
        ]

    def _factor(self, value: Any) -> float:
        measured = self.measured(value, 0.0)
        return 1.0 if measured is None else self.multiplier(self.share(measured))

    def as_json(self) -> dict[str, Any]:
        return {"field": self.field, "half": self.half, "weight": self.weight}


@dataclass(frozen=True, slots=True)
class RecencyBoost(FieldBoost):
    """Raises by 1 + weight * 2 ** (-age / half_life); the age is that at `now`, the time of the search where it is
    None."""

    half_life: timedelta
    weight: float = WEIGHT
    now: datetime | None = None

    def __post_init__(self) -> None:
        _check_field(self.field)
        least, most = timedelta(seconds=1), MOST_HALF_LIFE
        if not isinstance(self.half_life, timedelta) or not least <= self.half_life <= most:
            raise InvalidInput(
                f'half_life is a time such as "12h", "30d" or "2w", or a timedelta, from a second to {most.days} days, '
                f"not {seen(self.half_life)}"
            )
        _check_weight(self.weight)
        if self.now is not None and not isinstance(self.now, datetime):
            raise InvalidInput(f"now is a datetime, or None for the time of the search, not {seen(self.now)}")

    def measured(self, value: Any, now_ms: float) -> float | None:
        at = moment_ms(value)
        now_ms = now_ms if self.now is None else milliseconds(self.now)
        return None if at is None else max(0.0, now_ms - at) / DAY_MS

    def share(self, measured: float) -> float:
        return float(2.0 ** -(measured / self.half_days))

    @property
    def half_days(self) -> float:
        return self.half_life / timedelta(days=1)

    def factors(self, values: Iterable[Any], now_ms: float) -> list[float]:
        """As those of a number."""
        weight, half_ms = self.weight, self.half_days * DAY_MS
        now_ms = now_ms if self.now is None else milliseconds(self.now)
        return [
            1.0 if at is None else 1.0 + weight * 2.0 ** ((at - now_ms) / half_ms) if at < now_ms else 1.0 + weight
            for at in map(moment_ms, values)
        ]

    def as_json(self) -> dict[str, Any]:
        made = {"field": self.field, "half_life": _duration_text(self.half_life), "weight": self.weight}
        return made if self.now is None else {**made, "now": self.now.isoformat()}


@dataclass(frozen=True, slots=True)
class ConditionBoost(Boost):
    """Multiplies by `factor` where the condition holds: a mapping as `where=` takes, a SQLAlchemy condition on a mapped
    class, or a function that returns one for the class."""

    where: Any
    factor: float = FACTOR

    def __post_init__(self) -> None:
        if hasattr(self.where, "__clause_element__"):
            object.__setattr__(self, "where", self.where.__clause_element__())
        if not (isinstance(self.where, Mapping | ClauseElement) or callable(self.where)):
            raise InvalidInput(
                f'when takes a condition such as {{"in_stock": True}}, or Article.stock > 0, not {seen(self.where)}'
            )
        _check_number("factor", self.factor, LEAST_FACTOR, MOST_FACTOR)

    @property
    def weight(self) -> float:  # type: ignore[override]
        return self.factor - 1.0

    @property
    def name(self) -> str:
        if isinstance(self.where, Mapping):
            text = json.dumps(_plain(self.where, is_kept=False), ensure_ascii=False)
        else:
            function = getattr(self.where, "__name__", "<lambda>")
            text = (
                str(self.where) if isinstance(self.where, ClauseElement) else function.replace("<lambda>", "condition")
            )
        return f"boost:{text[:SHOWN]}"

    @property
    def bounds(self) -> tuple[float, float]:
        return min(1.0, self.factor), max(1.0, self.factor)

    def measured(self, value: Any, now_ms: float) -> float | None:
        return None if value is None else 1.0 if value else 0.0

    def share(self, measured: float) -> float:
        return measured

    def factors(self, values: Iterable[Any], now_ms: float) -> list[float]:
        factor = self.factor
        return [factor if value else 1.0 for value in values]

    def multiplier(self, share: float) -> float:
        return self.factor if share else 1.0

    def as_json(self) -> dict[str, Any]:
        if not isinstance(self.where, Mapping):
            raise InvalidInput('a condition that is kept is a mapping such as {"in_stock": true}')
        return {"where": _plain(self.where), "factor": self.factor}


Boosts = Boost | Mapping[str, Any] | Iterable[Boost | Mapping[str, Any]]
"""What `boost=` takes."""


def number(field: str, *, half: float, weight: float = WEIGHT) -> NumberBoost:
    """Raise by a numeric field, such as popularity: a record whose value is `half` is raised by half of `weight`, one
    with ever more by nearly all of it. A value below 0 counts for nothing, as one that is no number."""
    return NumberBoost(field, half, weight)


def recency(
    field: str, *, half_life: str | timedelta, weight: float = WEIGHT, now: datetime | None = None
) -> RecencyBoost:
    """Raise by how recent a date or time is: what is of `now` by all of `weight`, what is one `half_life` old ("12h",
    "30d", "2w", or a timedelta) by half of it, two by a quarter. What lies in the future is of now; without a zone a
    time is in UTC."""
    return RecencyBoost(field, _duration(half_life), weight, now)


def when(condition: Any, factor: float = FACTOR) -> ConditionBoost:
    """Raise where a condition holds; a factor below 1 lowers. The condition is a mapping as `where=` takes, or on a
    mapped class a SQLAlchemy condition; in `@searchable` a function of the class that returns one."""
    return ConditionBoost(condition, factor)


def read_boosts(given: Any) -> tuple[Boost, ...]:
    """Reads one boost or several. Raises InvalidInput."""
    several = [given] if isinstance(given, Boost | Mapping) else given
    if isinstance(several, str) or not isinstance(several, Iterable):
        raise InvalidInput(f"{SHAPES}; got {seen(given)}")
    made = tuple(_read_one(each) for each in several)
    if len(made) > MAX_BOOSTS:
        raise InvalidInput(f"boosts are {MAX_BOOSTS} at most, not {len(made)}")
    return made


def factor_bounds(boosts: Iterable[Boost]) -> tuple[float, float]:
    """The least and the greatest factor that a record can have."""
    bounds = [boost.bounds for boost in boosts]
    return math.prod(least for least, _ in bounds), math.prod(most for _, most in bounds)


def identity(boost: Boost) -> Any:
    """What a boost is, without the time from which ages are counted: for the digest of a query."""
    if isinstance(boost, ConditionBoost) and isinstance(boost.where, ClauseElement):
        made = boost.where.compile(dialect=StrCompileDialect())
        return [str(made), made.params, boost.factor]
    if isinstance(boost, ConditionBoost) and isinstance(boost.where, Mapping):
        return [_plain(boost.where, is_kept=False), boost.factor]
    return {name: value for name, value in boost.as_json().items() if name != "now"}


def milliseconds(at: datetime) -> float:
    """Since 1970; without a zone it is in UTC."""
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000


def moment_ms(value: Any) -> float | None:
    """The milliseconds of a date or a time, or of a text that filters take for one; None of anything else."""
    try:
        if value.__class__ is str:
            if TEXT.fullmatch(value) is None:
                return None
            value = datetime.fromisoformat(value)
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        return milliseconds(value) if isinstance(value, datetime) else None
    except ValueError:
        return None


def _read_one(given: object) -> Boost:
    if isinstance(given, Boost):
        return given
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{SHAPES}; got {seen(given)}")
    options = dict(given)
    makers: tuple[tuple[str, str, Callable[..., Boost]], ...] = (
        ("field half", "weight", number),
        ("field half_life", "weight now", recency),
        ("where", "factor", lambda where, **factor: when(where, **factor)),
    )
    for needed, optional, make in makers:
        if set(needed.split()) <= set(options) <= {*needed.split(), *optional.split()}:
            if isinstance(options.get("now"), str):
                options["now"] = _moment(options["now"])
            return make(**options)
    raise InvalidInput(f"{SHAPES}; got {seen(given)}")


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"now is a time such as 2026-01-31T12:30Z, not {seen(text)}") from error


def _duration(given: object) -> Any:
    """A timedelta of a text that is one; anything else as it is, to be refused."""
    found = HALF_LIFE.fullmatch(given) if isinstance(given, str) else None
    try:
        return timedelta(seconds=float(found[1]) * UNITS[found[2]]) if found else given
    except OverflowError:
        return given


def _duration_text(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    unit = next((unit for unit in ("d", "h", "min") if not seconds % UNITS[unit]), "s")
    return f"{seconds / UNITS[unit]:f}".rstrip("0").rstrip(".") + unit


def _plain(value: Any, *, is_kept: bool = True) -> Any:
    """A condition as JSON holds it, in which a date is {"$date": …}. What JSON has not is text, where the condition is
    not kept. Raises InvalidInput."""
    if isinstance(value, Bucket):
        value = value.filter
    if isinstance(value, Enum):
        value = value.value if isinstance(value.value, str | int | float | UUID) else value.name
    if isinstance(value, Mapping):
        return {str(name): _plain(item, is_kept=is_kept) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, is_kept=is_kept) for item in value]
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, UUID):
        return str(value)
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if not is_kept:
        return str(value)
    raise InvalidInput(f"a condition that is kept has values of JSON, not {seen(value)}")


def _check_field(field: object) -> None:
    if not isinstance(field, str) or not 0 < len(field) <= MAX_FIELD or "\0" in field:
        raise InvalidInput(
            f"a boost names a field, of {MAX_FIELD:,} characters at most and without a NUL, not {seen(field)}"
        )


def _check_weight(weight: object) -> None:
    _check_number("weight", weight, 0.0, MAX_WEIGHT)


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        between = "above 0" if name == "half" else f"from {least:g} to {most:g}"
        raise InvalidInput(f"the {name} of a boost is a number {between}, not {seen(value)}")
