"""The fields of a mapped class: its columns, and those over relationships, read from their tables. Imports `values`,
`errors`, `stores` and `search`."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Connection,
    Date,
    DateTime,
    Float,
    Numeric,
    Select,
    TextClause,
    case,
    distinct,
    extract,
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
from ..stores.protocols import Keys
from ..stores.tables import parts
from ..stores.values import Matches, bound
from ..values import FacetCounts, Ref
from .criteria import as_condition, column_of, is_related, related
from .mapping import KEYS_A_STATEMENT, Mapped


class ClassFields:
    """`Fields` of a mapped class; `entities` are those of its rows, `keys` is the store's. A dotted name is a column
    over relationships. Raises InvalidFilter for an unknown one."""

    def __init__(self, mapped: Mapped, cls: type, entities: Collection[str], keys: Keys) -> None:
        self._mapped = mapped
        self._cls = cls
        self._entities = entities
        self._keys = keys
        self._id: Any = keys.id_text(mapped.id_columns(cls))

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> Mapping[Ref, Any]:
        key_columns = [column for column, _ in self._mapped.id_columns(self._cls)]
        column, links = self._target(field, is_single=True)
        wanted = self._selected([*key_columns, exact(column, connection)], links)
        refs = [ref for ref in refs if ref.entity in self._entities]
        found: dict[str, Any] = {}
        for part in parts(refs, KEYS_A_STATEMENT):
            for *key, value in connection.execute(self._mapped.of_ids(wanted, [ref.id for ref in part])):
                found[self._mapped.identity.id_of(key)] = read(value, column)
        return {ref: found[ref.id] for ref in refs if ref.id in found}

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[tuple[str, str, str], Any]:
        matching, binds = bound(*self._own(matches, "m.tenant, m.entity_name, m.record_id"))
        keys = matching.columns(*map(literal_column, ("tenant", "entity_name", "record_id"))).subquery("m")
        column, links = self._target(field, is_single=True)
        names = [keys.c.entity_name, keys.c.record_id, keys.c.tenant]
        wanted = self._selected([*names, exact(column, connection)], links)
        rows = connection.execute(wanted.where(keys.c.record_id == self._id), binds)
        return {(entity, id_, tenant): read(value, column) for entity, id_, tenant, value in rows.all()}

    def facet(self, connection: Connection, matches: Matches, field: str, limit: int) -> list[tuple[Any, int]]:
        column, links = self._target(field)
        has_members = isinstance(column, JSONText) or isinstance(column.type, ARRAY)
        records = func.count(distinct(self._id)) if links else func.count()
        wanted, binds = self._among(self._selected([exact(column, connection), records], links), matches)
        counted = wanted.where(column.is_not(None)).group_by(text("1")).order_by(records.desc(), text("1"))
        rows = connection.execute(counted.limit(None if has_members else limit), binds)
        counts = [(read(value, column), count) for value, count in rows if value == value]
        return most_frequent(counts, limit) if has_members else counts

    def count_each(
        self, connection: Connection, matches: Matches, conditions: Sequence[Mapping[str, Any]]
    ) -> Sequence[int]:
        counts = [func.count(case((as_condition(where, self._cls), 1))) for where in conditions]
        counted: Any = select(*counts).select_from(self._cls)
        wanted = self._mapped.without_concrete(counted, self._cls)
        return tuple(connection.execute(*self._among(wanted, matches)).one())

    def days(self, connection: Connection, matches: Matches, field: str) -> Mapping[date, int]:
        column, links = self._target(field)
        if not isinstance(column.type, Date | DateTime):
            raise InvalidFilter(f"{field} is {column.type!r:.60}, and periods are of dates and times")
        at = self._keys.in_utc(column) if isinstance(column.type, DateTime) and column.type.timezone else column
        day_of = [extract(part, at) for part in ("year", "month", "day")]
        wanted, binds = self._among(self._selected([*day_of, func.count(distinct(self._id))], links), matches)
        *day, _ = wanted.selected_columns
        rows = connection.execute(wanted.where(day[0].between(date.min.year, date.max.year)).group_by(*day), binds)
        return {date(int(year), int(month), int(day)): records for year, month, day, records in rows}

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._cls.__mapper__.column_attrs.keys())  # type: ignore[attr-defined]

    def check(self, names: Sequence[str]) -> None:
        for name in names:
            self._target(name)

    def _target(self, field: str, *, is_single: bool = False) -> tuple[Any, Sequence[Any]]:
        """A column, or a path into one of JSON, and the relationships that lead to it. Where it `is_single`, there is
        one row at most at their end."""
        names, target, links = field.split("."), self._cls, []
        while is_related(target, names):
            link, target = related(target, names.pop(0))
            if is_single and link.property.uselist:
                raise InvalidFilter(f"{self._cls.__name__}.{field} has several values, which have no order")
            links.append(link)
        column = column_of(target, names)
        return JSONText(column, names[1:]) if isinstance(column.type, JSON) else column, links

    def _selected(self, columns: Sequence[Any], links: Sequence[Any]) -> Select[Any]:
        wanted: Select[Any] = select(*columns).select_from(self._cls)
        for link in links:
            wanted = wanted.join(link)
        return self._mapped.without_concrete(wanted, self._cls)

    def _among(self, statement: Select[Any], matches: Matches) -> tuple[Select[Any], dict[str, Any]]:
        """The statement, for rows that match, and its binds."""
        matching, binds = bound(*self._own(matches))
        return statement.where(self._id.in_(matching)), binds

    def _own(self, matches: Matches, columns: str = "m.record_id") -> tuple[TextClause, Mapping[str, Any]]:
        """The matches that are rows of the class."""
        names = {f"own{place}": name for place, name in enumerate(self._entities)}
        entities = ", ".join(f":{name}" for name in names)
        own = f"SELECT {columns} FROM ({matches.sql}) AS m WHERE m.entity_name IN ({entities})"
        return text(own), {**matches.binds, **names}


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
