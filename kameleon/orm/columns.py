"""The fields of a mapped class: its columns, read from its own table. Imports `values`, `errors`, `stores` and
`search`."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Connection,
    Float,
    Numeric,
    TextClause,
    func,
    literal_column,
    select,
    text,
    type_coerce,
)

from ..errors import InvalidFilter
from ..search.ordering import kind_of
from ..stores.filters import number
from ..stores.json_columns import JSONText
from ..stores.tables import parts
from ..stores.values import IdText, Matches, bound
from ..values import FacetCounts, Ref
from .mapping import KEYS_A_STATEMENT, Mapped


class ClassFields:
    """`Fields` of a mapped class; `entities` are those of its rows, `id_text` is the store's. Raises
    InvalidFilter for an unknown column."""

    def __init__(self, mapped: Mapped, cls: type, entities: Collection[str], id_text: IdText) -> None:
        self._mapped = mapped
        self._cls = cls
        self._id_text = id_text
        self._entities = entities

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        column = self._column(field)
        key_columns = [column for column, _ in self._mapped.id_columns(self._cls)]
        wanted = self._mapped.without_concrete(
            select(*key_columns, exact(column, connection)).select_from(self._cls), self._cls
        )
        refs = [ref for ref in refs if ref.entity in self._entities]
        found: dict[str, Any] = {}
        for part in parts(refs, KEYS_A_STATEMENT):
            for *key, value in connection.execute(self._mapped.of_ids(wanted, [ref.id for ref in part])):
                found[self._mapped.identity.id_of(key)] = read(value, column)
        return {ref: found[ref.id] for ref in refs if ref.id in found}

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[Ref, Any]:
        matching, binds = bound(*self._own(matches, "m.tenant, m.entity_name, m.record_id"))
        keys = matching.columns(*map(literal_column, ("tenant", "entity_name", "record_id"))).subquery("m")
        ids = self._id_text(self._mapped.id_columns(self._cls))
        column = self._column(field)
        wanted = select(keys.c.entity_name, keys.c.record_id, keys.c.tenant, exact(column, connection))
        joined = wanted.select_from(self._cls).join(keys, keys.c.record_id == ids)
        rows = connection.execute(self._mapped.without_concrete(joined, self._cls), binds)
        return {Ref(*ref): read(value, column) for *ref, value in rows}

    def facet(self, connection: Connection, matches: Matches, field: str, limit: int) -> list[tuple[Any, int]]:
        column = self._column(field)
        has_members = isinstance(column, JSONText) or isinstance(column.type, ARRAY)
        matching, binds = bound(*self._own(matches))
        counted = (
            select(exact(column, connection), func.count())
            .select_from(self._cls)
            .where(self._id_text(self._mapped.id_columns(self._cls)).in_(matching), column.is_not(None))
            .group_by(text("1"))
            .order_by(func.count().desc(), text("1"))
            .limit(None if has_members else limit)
        )
        rows = connection.execute(self._mapped.without_concrete(counted, self._cls), binds)
        counts = [(read(value, column), count) for value, count in rows if value == value]
        return most_frequent(counts, limit) if has_members else counts

    def _own(self, matches: Matches, columns: str = "m.record_id") -> tuple[TextClause, Mapping[str, Any]]:
        """The matches that are rows of the class."""
        names = {f"own{place}": name for place, name in enumerate(self._entities)}
        entities = ", ".join(f":{name}" for name in names)
        own = f"SELECT {columns} FROM ({matches.sql}) AS m WHERE m.entity_name IN ({entities})"
        return text(own), {**matches.binds, **names}

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._cls.__mapper__.column_attrs.keys())  # type: ignore[attr-defined]

    def check(self, names: Sequence[str]) -> None:
        for name in names:
            self._column(name)

    def _column(self, name: str) -> Any:
        """A column, or a path into one of JSON."""
        first, *path = name.split(".")
        if first not in self.names or (path and not isinstance(getattr(self._cls, first).type, JSON)):
            raise InvalidFilter(
                f"{self._cls.__name__} has no column {name!r:.80}. Known: {', '.join(sorted(self.names))}"
            )
        column = getattr(self._cls, first)
        return JSONText(column, path) if isinstance(column.type, JSON) else column


def exact(column: Any, connection: Connection) -> Any:
    """A column of decimals as the floats that a database without decimals has, which SQLAlchemy would round."""
    is_rounded = is_decimal(column) and not connection.dialect.supports_native_decimal
    return type_coerce(column, Float) if is_rounded else column


def is_decimal(column: Any) -> bool:
    return isinstance(column.type, Numeric) and bool(column.type.asdecimal)


def read(value: Any, column: Any) -> Any:
    """The value of a column that was read with `exact`, or of a document."""
    if value is None:
        return None
    if isinstance(column, JSONText):
        return json.loads(value)
    if isinstance(column.type, ARRAY):
        return list(flat(value))
    return Decimal(repr(value)) if is_decimal(column) and not isinstance(value, Decimal) else value


def flat(array: Any) -> Iterator[Any]:
    """The members of an array, of whatever dimensions."""
    for one in array:
        yield from flat(one) if isinstance(one, list | tuple) else [one]


def most_frequent(wholes: Iterable[tuple[Any, int]], limit: int) -> list[tuple[Any, int]]:
    """The members of lists, each counted once for a list, and the values that are no lists."""
    counts = FacetCounts((member, count) for whole, count in wholes for member in members(whole))
    kinds = {value: kind_of(value) for value in counts}
    order = sorted(counts.items(), key=lambda pair: (-pair[1], kinds[pair[0]], pair[0] if kinds[pair[0]] else ""))
    return order[:limit]


def members(whole: Any) -> FacetCounts:
    singles = whole if isinstance(whole, list) else [whole]
    kept = (one for one in singles if one is not None and one == one and not isinstance(one, Mapping | list))
    return FacetCounts((number(one) if type(one) in (int, float) else one, 1) for one in kept)
