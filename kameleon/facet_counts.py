"""The values of facets and their counts. Imports nothing of kameleon's."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class Bucket(NamedTuple):
    """A part of a facet's values, from `start` on and before `end`; None where it is open. As a value in `where` it is
    the records that it counted: where={"price": bucket}."""

    start: Any
    end: Any

    @property
    def filter(self) -> dict[str, Any]:
        bounds = {"$gte": self.start, "$lt": self.end}
        return {operator: bound for operator, bound in bounds.items() if bound is not None}


class FacetCounts(dict[Any, int]):
    """How many records have each value of a field, the most frequent first. 1 and true are two values, as they are in
    filters; a plain dict, which `dict(counts)` makes, takes them for one."""

    def __init__(self, counts: Iterable[tuple[Any, int]] = ()) -> None:
        self._counts: dict[tuple[bool, Any], int] = {}
        for value, count in counts:
            key = (type(value) is bool, value)
            self._counts[key] = self._counts.get(key, 0) + count
        super().__init__((value, count) for (_, value), count in self._counts.items())  # for readers in C

    def __getitem__(self, value: Any) -> int:
        try:
            return self._counts[type(value) is bool, value]
        except KeyError:
            raise KeyError(value) from None

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    __contains__ = Mapping.__contains__
    get = Mapping.get  # type: ignore[assignment]
    keys = Mapping.keys  # type: ignore[assignment]
    items = Mapping.items  # type: ignore[assignment]
    values = Mapping.values  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and all(self.get(value) == count for value, count in other.items())

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{value!r}: {count}' for value, count in self.items())}}}"
