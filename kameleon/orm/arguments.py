"""Reads what a search is given: the entities that it names, and its boosts. Imports `boosts` and `errors`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..boosts import Boost, ConditionBoost, read_boosts
from ..errors import InvalidInput, seen


def listed(entity: object, entities: Iterable[object] | None) -> list[object]:
    """The entities that a call names. Raises InvalidInput."""
    if isinstance(entities, str):
        raise InvalidInput(f"entities is a list of names; for one, use entity={seen(entities)}")
    several = entity if isinstance(entity, list | tuple) else [] if entity is None else [entity]
    return [*several, *(entities or ())]


def checked_boosts(given: Any, searched: Sequence[object]) -> tuple[Boost, ...]:
    """Raises InvalidInput where a condition is no mapping, and more is searched than one class."""
    boosts = read_boosts(given)
    conditions = [boost.where for boost in boosts if isinstance(boost, ConditionBoost)]
    own = [where for where in conditions if not isinstance(where, Mapping)]
    if own and not (len(searched) == 1 and isinstance(searched[0], type)):
        raise InvalidInput(
            "boost= has a SQLAlchemy condition for one class, which is searched alone: search(query, entity=Article, "
            "boost=when(Article.stock > 0)). For several, it is a mapping of columns that all have"
        )
    if any(map(callable, own)):
        raise InvalidInput("a function is the condition of @searchable(boost=…); search takes the condition itself")
    return boosts
