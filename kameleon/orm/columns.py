"""The fields of a mapped class: its columns, and those over relationships, read from their tables. Imports `values`,
`boosts`, `facet_counts`, `errors`, `stores` and `search`."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Connection,
    Date,
    DateTime,
    Dialect,
    Enum,
    Float,
    Integer,
    Interval,
    Numeric,
    Select,
    String,
    TextClause,
    TypeDecorator,
    case,
    distinct,
    extract,
    func,
    literal_column,
    select,
    text,
    type_coerce,
)
from sqlalchemy.types import NullType, TypeEngine, UserDefinedType

from ..boosts import Boost, ConditionBoost, FieldBoost, NumberBoost
from ..errors import InvalidFilter
from ..facet_counts import FacetCounts
from ..search.ordering import kind_of
from ..stores.filters import number
from ..stores.json_columns import JSONDocument, JSONText
from ..stores.paths import path_of
from ..stores.protocols import Keys
from ..stores.tables import parts
from ..stores.values import Matches, bound
from ..values import Ref
from .criteria import as_condition, column_of, is_document, own_path, related
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
        wanted = self._selected(field, lambda column: [*key_columns, column], is_single=True)
        refs = [ref for ref in refs if ref.entity in self._entities]
        found: dict[str, Any] = {}
        for part in parts(refs, KEYS_A_STATEMENT):
            for *key, value in connection.execute(self._mapped.of_ids(wanted, [ref.id for ref in part])):
                found[self._mapped.identity.id_of(key)] = value
        return {ref: found[ref.id] for ref in refs if ref.id in found}

    def values_among(self, connection: Connection, matches: Matches, field: str) -> Mapping[tuple[str, str, str], Any]:
        matching, binds = bound(*self._own(matches, "m.tenant, m.entity_name, m.record_id"))
        keys = matching.columns(*map(literal_column, ("tenant", "entity_name", "record_id"))).subquery("m")
        names = [keys.c.entity_name, keys.c.record_id, keys.c.tenant]
        wanted = self._selected(field, lambda column: [*names, column], is_single=True)
        rows = connection.execute(wanted.where(keys.c.record_id == self._id), binds)
        return {(entity, id_, tenant): value for entity, id_, tenant, value in rows.all()}

    def boosting(
        self, connection: Connection, refs: Sequence[Ref], boosts: Sequence[Boost]
    ) -> tuple[Sequence[Ref], Sequence[Sequence[Any]]]:
        own = {ref.id: ref for ref in refs if ref.entity in self._entities}
        wanted, keys, rows = self._boosting(boosts), len(self._mapped.key_names), dict[str, Sequence[Any]]()
        for part in parts(list(own), KEYS_A_STATEMENT):
            for row in connection.execute(self._mapped.of_ids(wanted, part)):
                rows[self._mapped.identity.id_of(row[:keys])] = row[keys:]
        found = {id_: row for id_, row in rows.items() if id_ in own}
        return [own[id_] for id_ in found], list(zip(*found.values(), strict=True))

    def check_boosts(self, boosts: Sequence[Boost]) -> None:
        self._boosting(boosts)

    def _boosting(self, boosts: Sequence[Boost]) -> Select[Any]:
        """A query of the keys and of what each boost is computed of; a row without a related one is among them."""
        columns, joins = [column for column, _ in self._mapped.id_columns(self._cls)], list[Any]()
        for boost in boosts:
            if isinstance(boost, ConditionBoost):
                holds = as_condition(boost.where(self._cls) if callable(boost.where) else boost.where, self._cls)
                columns.append(case((holds, 1), else_=0))
            elif isinstance(boost, FieldBoost):
                column, links = self._joined(boost.field, is_single=True)
                check_type(boost, column)
                columns.append(column)
                joins += links
        wanted: Select[Any] = select(*columns).select_from(self._cls)
        for link in joins:
            wanted = wanted.outerjoin(link)
        is_given = any(isinstance(boost, ConditionBoost) and not isinstance(boost.where, Mapping) for boost in boosts)
        if is_given and len(wanted.get_final_froms()) > 1:
            raise InvalidFilter(
                f"a boost of {self._cls.__name__} has a condition on the columns of another table alone: relate its "
                "rows, as Article.author.has(…) or Article.id.in_(select(…)) do"
            )
        return self._mapped.without_concrete(wanted, self._cls)

    def members(
        self, connection: Connection, records: Mapping[int, Ref], field: str
    ) -> dict[int, set[tuple[bool, Any]]]:
        key_columns = [column for column, _ in self._mapped.id_columns(self._cls)]
        wanted = self._selected(field, lambda column: [*key_columns, column])
        *_, column = wanted.selected_columns
        own = {key: ref.id for key, ref in records.items() if ref.entity in self._entities}
        found: dict[str, set[tuple[bool, Any]]] = {}
        for part in parts(list(own.values()), KEYS_A_STATEMENT):
            for *key, value in connection.execute(self._mapped.of_ids(wanted, part)):
                values = members(value, isinstance(column.type, ARRAY))
                found.setdefault(self._mapped.identity.id_of(key), set()).update((type(v) is bool, v) for v in values)
        return {key: found[id_] for key, id_ in own.items() if found.get(id_)}

    def facets(
        self, connection: Connection, matches: Matches, fields: Sequence[str], limit: int
    ) -> dict[str, list[tuple[Any, int]]]:
        return {field: self._facet(connection, matches, field, limit) for field in fields}

    def _facet(self, connection: Connection, matches: Matches, field: str, limit: int) -> list[tuple[Any, int]]:
        records = func.count(distinct(self._id)) if "." in field else func.count()
        wanted, binds = self._among(self._selected(field, lambda column: [column, records]), matches)
        value, _ = wanted.selected_columns
        is_array = isinstance(value.type, ARRAY)
        has_members = is_array or isinstance(value.type, JSONDocument)
        first = text("1")
        counted = wanted.where(value.is_not(None)).group_by(first).order_by(records.desc(), first)
        rows = connection.execute(counted.limit(None if has_members else limit), binds)
        counts = [(value, count) for value, count in rows if value == value]
        return most_frequent(counts, limit, is_array) if has_members else counts

    def count_each(
        self, connection: Connection, matches: Matches, conditions: Sequence[Mapping[str, Any]]
    ) -> Sequence[int]:
        counts = [func.count(case((as_condition(where, self._cls), 1))) for where in conditions]
        counted: Any = select(*counts).select_from(self._cls)
        wanted = self._mapped.without_concrete(counted, self._cls)
        return tuple(connection.execute(*self._among(wanted, matches)).one())

    def days(self, connection: Connection, matches: Matches, field: str) -> Mapping[date, int]:
        def parts_of(column: Any) -> list[Any]:
            if not isinstance(column.type, Date | DateTime):
                raise InvalidFilter(f"{field} is {column.type!r:.60}, and periods are of dates and times")
            has_zone = isinstance(column.type, DateTime) and column.type.timezone
            at = self._keys.in_utc(column) if has_zone else column
            return [*(extract(part, at) for part in ("year", "month", "day")), func.count(distinct(self._id))]

        wanted, binds = self._among(self._selected(field, parts_of), matches)
        *day, _ = wanted.selected_columns
        rows = connection.execute(wanted.where(day[0].between(date.min.year, date.max.year)).group_by(*day), binds)
        return {date(int(year), int(month), int(day)): records for year, month, day, records in rows}

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._cls.__mapper__.column_attrs.keys())  # type: ignore[attr-defined]

    def check(self, names: Sequence[str]) -> None:
        for name in names:
            self._selected(name, lambda column: [column])

    def _selected(
        self, field: str, selected: Callable[[Any], Sequence[Any]], *, is_single: bool = False
    ) -> Select[Any]:
        """A query of what is selected of the field's column, joined over its relationships. Where it `is_single` these
        lead to one row at most."""
        column, joins = self._joined(field, is_single=is_single)
        wanted: Select[Any] = select(*selected(column)).select_from(self._cls)
        for link in joins:
            wanted = wanted.join(link)
        return self._mapped.without_concrete(wanted, self._cls)

    def _joined(self, field: str, *, is_single: bool) -> tuple[Any, list[Any]]:
        """The field's column, in which dates that Python does not have are missing, and the relationships that lead to
        it."""
        names = list(own_path(self._cls, path_of(field)))
        target, joins = self._cls, list[Any]()
        while len(names) > 1 and not is_document(target, names[0]):
            link, target = related(target, names.pop(0))
            if is_single and link.property.uselist:
                raise InvalidFilter(f"{self._cls.__name__}.{field} has several values, which have no order")
            joins.append(link)
        column = readable(column_of(target, names[0]), names[1:])
        return self._keys.representable(column) if isinstance(column.type, Date | DateTime) else column, joins

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


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal as the database has it, also where that is a float, which SQLAlchemy would round."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Numeric() if dialect.supports_native_decimal else Float())

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return value if value is None or isinstance(value, Decimal) else Decimal(repr(value))


def readable(column: Any, path: Sequence[str]) -> Any:
    """A column, or what a path into one of JSON leads to, whose values can be compared and counted."""
    if isinstance(column.type, JSON):
        return JSONText(column, path)
    is_decimal = isinstance(column.type, Numeric) and column.type.asdecimal
    return type_coerce(column, ExactDecimal()) if is_decimal else column


def check_type(boost: FieldBoost, column: Any) -> None:
    """Raises InvalidFilter for a column whose values the boost cannot count."""
    is_number, type_ = isinstance(boost, NumberBoost), column.type
    counted = (Numeric, Float, Integer) if is_number else (Date, DateTime, String)
    own = type_.impl_instance if isinstance(type_, ExactDecimal) else type_
    if isinstance(own, Enum | Interval) or not isinstance(own, (*counted, NullType, TypeDecorator, UserDefinedType)):
        values = "numbers" if is_number else "dates and times"
        raise InvalidFilter(f"{boost.field} is {type_!r:.60}, and a boost by it counts {values} alone")


def most_frequent(wholes: Iterable[Sequence[Any]], limit: int, has_dimensions: bool) -> list[tuple[Any, int]]:
    """The members of lists, each counted once for a list, and the values that are no lists."""
    counts = FacetCounts((member, count) for whole, count in wholes for member in members(whole, has_dimensions))
    kinds = {value: kind_of(value) for value in counts}
    order = sorted(counts.items(), key=lambda pair: (-pair[1], kinds[pair[0]], pair[0] if kinds[pair[0]] else ""))
    return order[:limit]


def members(whole: Any, has_dimensions: bool) -> FacetCounts:
    singles = flat(whole) if has_dimensions else whole if isinstance(whole, list) else [whole]
    kept = (one for one in singles if one is not None and one == one and not isinstance(one, Mapping | list))
    return FacetCounts((number(one) if type(one) in (int, float) else one, 1) for one in kept)


def flat(array: Any) -> Iterator[Any]:
    """The members of an array of whatever dimensions."""
    for one in array:
        yield from flat(one) if isinstance(one, list) else [one]
