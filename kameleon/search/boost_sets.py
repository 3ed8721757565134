"""Chooses the boosts of a search for the records of each entity, and what they are computed of. Pure. Imports `boosts`,
`forking` and `stores`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..boosts import Boost, ConditionBoost, FieldBoost, factor_bounds
from ..forking import lazy
from ..stores.catalog import Entity
from ..stores.filters import Group, parse_filter
from ..stores.paths import FieldNames, path_of
from ..stores.values import Probe, ValueAt

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

    @lazy
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest factor that any record can have."""
        every = [self.given or ()]
        if self.given is None:
            every = [*(entity.boosts for entity in self.stored.values()), *(each.boosts for each in self.classes)]
        ends = [factor_bounds(boosts) for boosts in every]
        return min([1.0, *(least for least, _ in ends)]), max([1.0, *(most for _, most in ends)])

    def by_class(
        self, searched: Sequence[str], columns: "NamedFields | None"
    ) -> Iterator[tuple[Collection[str], Sequence[Boost], "NamedFields"]]:
        """The boosts of mapped classes, with the entities of their rows and what reads them: a query's own for the
        classes that are `searched` by their columns."""
        if self.given is None:
            yield from (((each.entity,), each.boosts, each.fields) for each in self.classes)
        elif columns is not None:
            yield searched, self.given, columns


class StoredProbes:
    """What is read of a stored record, in one statement for the boosts of all entities; `fields` are those that a
    query's own may name. Raises InvalidFilter."""

    def __init__(self, sets: BoostSets, fields: FieldNames, *, has_stored: bool) -> None:
        self.every: list[Probe] = []
        self._given: Sequence[tuple[Boost, int]] | None = None
        self._of: dict[str, Sequence[tuple[Boost, int]]] = {}
        if sets.given is None:
            self._of = {name: self._placed(each.boosts, each.names) for name, each in sets.stored.items()}
        elif has_stored:
            self._given = self._placed(sets.given, fields)

    def of(self, entity: str) -> Sequence[tuple[Boost, int]]:
        """The boosts of an entity's records, each with the place of its probe."""
        return self._of.get(entity, ()) if self._given is None else self._given

    def _placed(self, boosts: Sequence[Boost], fields: FieldNames) -> list[tuple[Boost, int]]:
        probes = [probe_of(boost, fields) for boost in boosts]
        self.every += [probe for place, probe in enumerate(probes) if probe not in (*self.every, *probes[:place])]
        return [(boost, self.every.index(probe)) for boost, probe in zip(boosts, probes, strict=True)]


def probe_of(boost: Boost, fields: FieldNames) -> Probe:
    """What is read of a stored record for its boost, whose field is among those that are declared. Raises
    InvalidFilter."""
    if isinstance(boost, FieldBoost):
        return ValueAt(path_of(boost.field, fields))
    assert isinstance(boost, ConditionBoost)  # noqa: S101 - there is no other
    return parse_filter(boost.where, fields) or Group("$and", ())
