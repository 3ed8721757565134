"""Which entities, columns and conditions a query on mapped classes has. Imports `errors`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, cast, false, true

from ..errors import InvalidFilter, InvalidInput, seen
from .criteria import as_condition, is_expression
from .declaration import has_table, mapper_of
from .mapping import Mapped
from .partial import partial_condition
from .registry import Mappings


@dataclass(frozen=True)
class Searched:
    """A mapped class that is searched: its entities, and the condition on its rows, None for all of them."""

    mapped: Mapped
    cls: type
    entities: Sequence[str]
    condition: ColumnElement[bool] | None


def scope(
    mappings: Mappings, searched: Sequence[object], where: object, words: Iterable[tuple[str, str]]
) -> tuple[list[object], list[Searched]]:
    """The entities of names and classes, and the classes, each with its condition: `where`, and the query's
    `field:word`. Raises InvalidInput, InvalidFilter."""
    names: list[object] = []
    found: list[Searched] = []
    for one in searched:
        mapped = mappings.of(one) if isinstance(one, type) else None
        if not isinstance(one, type) or mapped is None:
            names.append(_with_table(one).__name__ if isinstance(one, type) else one)
            continue
        entities = mappings.entities(mapped)
        names += entities
        found.append(Searched(mapped, one, entities, _condition(mapped, one, where, words)))
    if not (where is None or isinstance(where, Mapping)) and (len(searched) != 1 or not found):
        if not is_expression(where):
            raise InvalidFilter(f"where= is a mapping such as {{'status': 'open'}}, not {seen(where)}")
        raise InvalidInput(
            "a class with a condition of its own is searched alone: search(query, entity=Article, "
            "where=Article.status == 'open'). For several, where= is a mapping of columns that all have"
        )
    _check_once(found)
    return names, found


def partial_scope(
    mappings: Mappings, classes: Iterable[type], where: Mapping[str, Any] | None, words: Sequence[tuple[str, str]]
) -> list[Searched]:
    """Table entities that are searched with all others, each with its condition. Raises InvalidFilter for what is no
    filter."""
    found = []
    for cls in classes:
        mapped = mappings.searchable(cls)
        conditions = [] if where is None else [partial_condition(where, cls)]
        conditions += [
            _has_words(cls, name, part) if name in mapped.mapper.column_attrs else false() for name, part in words
        ]
        found.append(Searched(mapped, cls, mappings.entities(mapped), and_(*conditions) if conditions else None))
    return found


def _has_words(cls: Any, name: str, words: str) -> ColumnElement[bool]:
    return cast(getattr(cls, name), Text).icontains(words, autoescape=True)


def _condition(mapped: Mapped, cls: Any, where: object, words: Iterable[tuple[str, str]]) -> ColumnElement[bool] | None:
    conditions = [] if where is None else [as_condition(where, cls)]
    conditions += [_has_words(cls, name, part) for name, part in words]
    if conditions:
        return and_(*conditions)
    return None if mapped.mapper is mapped.owner else true()


def _check_once(found: Sequence[Searched]) -> None:
    """Raises InvalidInput where two conditions are on one entity's records."""
    owners: dict[str, Searched] = {}
    for each in found:
        for name in each.entities:
            other = owners.setdefault(name, each)
            if other.cls is not each.cls and not other.condition is each.condition is None:
                raise InvalidInput(
                    f"{other.cls.__name__} and {each.cls.__name__} share the entity {name!r}: search one of them"
                )


def _with_table(cls: type) -> type:
    """Raises InvalidInput for an abstract concrete base."""
    mapper = mapper_of(cls)
    if mapper is not None and not has_table(mapper):
        own = ", ".join(inner.class_.__name__ for inner in mapper.self_and_descendants if has_table(inner))
        raise InvalidInput(f"{cls.__name__} has no table of its own: search entities=[{own}]")
    return cls
