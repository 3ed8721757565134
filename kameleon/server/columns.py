"""Refuses to filter, count or order by columns that hold secrets. Imports `errors`.

Answers have the texts and the filterable columns of a row, none that is named as a secret; a facet has a column's
values, and filters and orders find them out.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from ..errors import InvalidFilter, is_secret_column, seen

BY_NAME = ("facets", "sort", "limit_by", "boost")
"""Options that hold names of fields, beside `where`, whose keys are names."""


def check_columns(options: Mapping[str, Any], *entities: object) -> None:
    """Raises InvalidFilter where mapped classes may be among the entities, those of `options` or these, and the options
    have a column that is named as a secret."""
    named = options.get("entities", entities)
    if named and not any(isinstance(entity, type) for entity in named):
        return
    names = chain(names_in(options.get("where"), texts=False), *(names_in(options.get(name)) for name in BY_NAME))
    for name in names:
        if is_secret_column(name.replace("\\", "")):
            raise InvalidFilter(f"{seen(name)} is named as a secret: no filter, facet or order of this server takes it")


def names_in(value: Any, *, texts: bool = True) -> Iterator[str]:
    """The keys of a JSON value, and its texts."""
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from names_in(one, texts=texts)
    elif texts and isinstance(value, str):
        yield value
