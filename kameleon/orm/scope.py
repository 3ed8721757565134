"""Which entities, columns and condition a query on mapped classes has. Imports `errors` and `search`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, cast, true

from ..errors import InvalidInput
from ..search.syntax import parse
from .criteria import as_condition
from .declaration import has_table, mapper_of, of_same_keys
from .mapping import Mapped
from .registry import Mappings

Narrowed = tuple[Mapped, type, ColumnElement[bool]]


def scope(mappings: Mappings, searched: Sequence[object], where: object) -> tuple[list[object], Narrowed | None]:
    """The entities of names and classes, and, where a class or a condition narrows them, which class and how."""
    names: list[object] = []
    narrow: list[tuple[Mapped, type]] = []
    for one in searched:
        if not isinstance(one, type):
            names.append(one)
            continue
        mapped = mappings.of(one)
        if mapped is None:
            names.append(_with_table(one).__name__)
            continue
        inner = (mappings.of(mapper.class_) for mapper in of_same_keys(mapped.mapper))
        names += dict.fromkeys(each.entity for each in inner if each is not None)
        if where is not None or mapped.mapper is not mapped.owner:
            narrow.append((mapped, one))
    if not narrow and (where is None or isinstance(where, Mapping)):
        return names, None
    if len(searched) != 1 or not narrow:
        raise InvalidInput(
            "a condition on a mapped class, or a class that shares another's entity, is searched alone: "
            "search(query, entity=Article, where=Article.status == 'open')"
        )
    ((mapped, cls),) = narrow
    return names, (mapped, cls, true() if where is None else as_condition(where, cls))


def with_field_words(query: str, searched: Sequence[Any], where: Any, fields: Collection[str]) -> Any:
    """`where`, and the conditions on columns of the searched class that the query has (`field:word`)."""
    if not fields or not (found := parse(query, fields).fields):
        return where
    (cls,) = searched
    words = [cast(getattr(cls, name), Text).icontains(part, autoescape=True) for name, part in found]
    return and_(true() if where is None else as_condition(where, cls), *words)


def _with_table(cls: type) -> type:
    """Raises InvalidInput for an abstract concrete base."""
    mapper = mapper_of(cls)
    if mapper is not None and not has_table(mapper):
        own = ", ".join(inner.class_.__name__ for inner in mapper.self_and_descendants if has_table(inner))
        raise InvalidInput(f"{cls.__name__} has no table of its own: search entities=[{own}]")
    return cls
