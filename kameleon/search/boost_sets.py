"""Chooses the boosts of a search for the records of each entity, and what they are computed of. Pure.
Imports `boosts` and `stores`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..boosts import Boost, ConditionBoost, FieldBoost, NumberBoost, factor_bounds
from ..stores.catalog import Entity
from ..stores.filters import Group, parse_filter, path_of
from ..stores.values import MomentAt, NumberAt, Probe

if TYPE_CHECKING:
    from ..stores.protocols import NamedFields


@dataclass(frozen=True)
class ClassBoosts:
    """The boosts that the mapped class of an entity is declared with; `fields` reads its rows."""

    entity: str
    boosts: Sequence[Boost]
    fields: "NamedFields"


@dataclass(frozen=True)
class BoostSets:
    """`given` are a query's own, for all that it searches; without them, None, each record has those of its entity: of
    the record store, or of a mapped class."""

    given: Sequence[Boost] | None = None
    stored: Mapping[str, Entity] = field(default_factory=dict)
    classes: Sequence[ClassBoosts] = ()

    def __bool__(self) -> bool:
        return bool(self.stored or self.classes) if self.given is None else bool(self.given)

    def of(self, entity: str) -> Sequence[Boost]:
        """The boosts of an entity's records."""
        if self.given is not None:
            return self.given
        if entity in self.stored:
            return self.stored[entity].boosts
        return next((each.boosts for each in self.classes if each.entity == entity), ())

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest factor that any record can have."""
        every: Iterable[Sequence[Boost]] = [self.given or ()]
        if self.given is None:
            every = [*(entity.boosts for entity in self.stored.values()), *(each.boosts for each in self.classes)]
        ends = [factor_bounds(boosts) for boosts in every]
        return min([1.0, *(least for least, _ in ends)]), max([1.0, *(most for _, most in ends)])


def probes_of(boosts: Sequence[Boost], fields: Collection[str]) -> list[Probe]:
    """What is read of a stored record for its boosts, whose fields are among those that are declared. Raises
    InvalidFilter."""
    return [_probe(boost, fields) for boost in boosts]


def _probe(boost: Boost, fields: Collection[str]) -> Probe:
    if isinstance(boost, FieldBoost):
        path = path_of(boost.field, fields)
        return NumberAt(path) if isinstance(boost, NumberBoost) else MomentAt(path)
    assert isinstance(boost, ConditionBoost)  # noqa: S101 - there is no other
    return parse_filter(boost.where, fields) or Group("$and", ())
