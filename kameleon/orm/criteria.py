"""Compiles conditions on mapped classes to text that a store's statements can hold: a subquery of record ids with typed
binds. Imports `errors`, `sqlalchemy_internals` and `stores`.

It is compiled without its values, which stay binds of their columns' types, so that a date or a UUID is bound as the
application's own statements bind it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    TextClause,
    and_,
    any_,
    bindparam,
    cast,
    false,
    func,
    inspect,
    literal,
    not_,
    or_,
    true,
    type_coerce,
    types,
)
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.orm import Mapper, aliased

from ..errors import InvalidFilter, seen
from ..sqlalchemy_internals import has_other_binds, with_expanding_binds
from ..stores.filters import ORDERED, Comparison, Filter, Group, parse_filter, plain, typed
from ..stores.json_columns import JSONComparison
from ..stores.tables import schema_map
from ..stores.values import Among

MAX_CONTAINED = 10_000
"""Bounds the characters of a text that $contains looks for. Chosen, not measured."""

PLAIN_DIALECTS: Mapping[str, Any] = {"sqlite": SQLiteDialect, "postgresql": PGDialect}


def compiled(statement: Select[Any], engine: Engine, prefix: str = "among") -> Among:
    """Compile a statement to text for `text()`: each `:` that begins no bind is escaped. `prefix` begins the names of
    its binds."""
    plain = PLAIN_DIALECTS[engine.dialect.name](paramstyle="named")
    schemas: Any = schema_map(engine)
    made = statement.compile(dialect=plain, schema_translate_map=schemas or None, render_schema_translate=bool(schemas))
    binds = {name: bind for bind, name in made.bind_names.items()}
    names = {name: f"{prefix}{place}" for place, name in enumerate(binds)}
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)"
    plain_sql = with_expanding_binds(str(made), pattern)
    sql = re.sub(rf":((?:{pattern})(?!\w)|\w+)", lambda found: _named(found, names), plain_sql)
    if has_other_binds(sql):
        raise InvalidFilter("where= cannot hold a list whose type decides how it is bound: compare one by one, or_(…)")
    params = made.params
    return Among(
        sql,
        {
            names[name]: bindparam(names[name], params.get(name), type_=bind.type, expanding=bind.expanding)
            for name, bind in binds.items()
        },
    )


def _named(found: re.Match[str], names: Mapping[str, str]) -> str:
    name = found.group(1)
    return f":{names[name]} " if name in names else f"\\:{name}"


def as_condition(where: object, cls: type) -> ColumnElement[bool]:
    """`where` on a mapped class: an expression as it is, a mapping as one on its columns. Raises InvalidFilter."""
    if hasattr(where, "__clause_element__"):
        where = where.__clause_element__()
    if isinstance(where, ColumnElement | TextClause):
        return where  # type: ignore[return-value]
    if not isinstance(where, Mapping):
        raise InvalidFilter(
            f"where= is a condition such as {cls.__name__}.status == 'open', or a mapping, not {seen(where)}"
        )
    parsed = parse_filter(where, read=typed)
    return true() if parsed is None else _condition(parsed, cls)


def _condition(given: Filter, cls: type) -> ColumnElement[bool]:
    if isinstance(given, Comparison) and is_related(cls, given.path):
        return _related(given, cls)
    if isinstance(given, Comparison):
        return func.coalesce(_compared(given, column_of(cls, given.path)), false())
    if given.operator == "$and":
        return and_(true(), *_all_of(given.members, cls))
    members = [_condition(member, cls) for member in given.members]
    return not_(members[0]) if given.operator == "$not" else or_(*members)


def _all_of(members: Iterable[Filter], cls: Any) -> Iterator[ColumnElement[bool]]:
    """Conditions that all have to hold; the ends of a range over relationships are those of one related row."""
    ranges: dict[tuple[str, ...], list[Comparison]] = {}
    for member in members:
        if isinstance(member, Comparison) and is_related(cls, member.path) and member.operator in ORDERED:
            ranges.setdefault(member.path, []).append(replace(member, path=member.path[1:]))
        else:
            yield _condition(member, cls)
    for (name, *_), inner in ranges.items():
        yield _over(name, Group("$and", tuple(inner)), cls)


def _related(given: Comparison, cls: Any) -> ColumnElement[bool]:
    """A comparison over relationships, which holds where it does for one of the related rows; where there is none,
    their columns are missing, as null is."""
    if given.operator in ("$ne", "$nin"):
        return not_(_related(replace(given, operator="$eq" if given.operator == "$ne" else "$in"), cls))
    if (given.operator, given.value) in (("$eq", None), ("$exists", False)):
        return not_(_related(replace(given, operator="$exists", value=True), cls))
    if given.operator == "$in" and None in given.value:
        present = [value for value in given.value if value is not None]
        missing = replace(given, operator="$eq", value=None)
        return or_(_related(replace(given, value=present), cls), _related(missing, cls))
    return _over(given.path[0], replace(given, path=given.path[1:]), cls)


def _over(name: str, inner: Filter, cls: Any) -> ColumnElement[bool]:
    """Whether a row has a related one that the filter holds for."""
    link, target = related(cls, name)
    condition = _condition(inner, target)
    return link.any(condition) if link.property.uselist else link.has(condition)  # type: ignore[no-any-return]


def is_related(cls: Any, path: Sequence[str]) -> bool:
    """Whether a path begins with a relationship."""
    return len(path) > 1 and path[0] in inspect(cls).mapper.relationships


def related(cls: Any, name: str) -> tuple[Any, Any]:
    """A relationship to an alias of the related class, and the alias."""
    target = aliased(inspect(cls).mapper.relationships[name].entity)
    return getattr(cls, name).of_type(target), target


def column_of(cls: Any, path: Sequence[str]) -> Any:
    """The column of a mapped class, or of an alias of one, that a path begins with; into one of JSON it goes on. Raises
    InvalidFilter."""
    mapper: Mapper[Any] = inspect(cls).mapper
    column = getattr(cls, path[0]) if path[0] in mapper.column_attrs else None
    if column is None or (len(path) > 1 and not isinstance(column.type, types.JSON)):
        links = [f"{link.key}.…" for link in mapper.relationships]
        raise InvalidFilter(
            f"{mapper.class_.__name__} has no column {'.'.join(path)!r:.80}. "
            f"Known: {', '.join(sorted([*mapper.column_attrs.keys(), *links]))}. "
            "For anything else, where= takes a SQLAlchemy expression"
        )
    return column


def _compared(given: Comparison, column: Any) -> Any:
    if isinstance(column.type, types.JSON):
        return JSONComparison(column, replace(given, path=given.path[1:], value=plain(given.value)))
    if isinstance(column.type, types.ARRAY):
        return _of_array(given, column)
    return _comparison(fitted(given, column), column)


def _of_array(given: Comparison, column: Any) -> Any:
    """A value equals an array that has it as a member, a list the whole array."""
    value, member = given.value, type_coerce(column, column.type.item_type)
    if given.operator in ("$ne", "$nin"):
        same = replace(given, operator="$eq" if given.operator == "$ne" else "$in")
        return not_(func.coalesce(_of_array(same, column), false()))
    if given.operator == "$in":
        return or_(false(), *(_of_array(replace(given, operator="$eq", value=one), column) for one in value))
    if given.operator == "$exists" or value is None:
        return column.is_not(None) if value else column.is_(None)
    member.key = column.key
    if given.operator == "$eq" and isinstance(value, list):
        return column == [_fit(one, member) for one in value]
    if given.operator not in ("$eq", "$contains"):
        raise InvalidFilter(f"{column.key} is {column.type!r:.60}, which has no order: {given.operator}")
    return literal(_fit(value, member), column.type.item_type) == any_(column)


def fitted(given: Comparison, column: Any) -> Comparison:
    """Read dates, times and UUIDs, which JSON has no values for, from its texts. Raises InvalidFilter for a value that
    the column's type does not compare with: each database would refuse, or convert, it in its own way."""
    value, type_ = given.value, column.type
    if given.operator == "$exists" or (value is None and given.operator != "$contains"):
        return given
    if given.operator == "$contains":
        is_text = isinstance(type_, types.String | types.TypeDecorator) and not isinstance(
            type_, types.Enum | types.Interval
        )
        if not is_text or not isinstance(value, str) or len(value) > MAX_CONTAINED:
            raise InvalidFilter(
                f"$contains on a column takes a text of {MAX_CONTAINED:,} characters at most, and a column of texts: "
                f"{column.key} is {type_!r:.60}, this {seen(value)}"
            )
        return given
    if given.operator in ("$in", "$nin"):
        listed = [_fit(item, column) for item in value if item is not None]
        if isinstance(type_, types.Integer):
            listed = [item for item in listed if isinstance(item, int)]
        return replace(given, value=[*listed, *(item for item in value if item is None)])
    return replace(given, value=_fit(value, column))


def _fit(value: Any, column: Any) -> Any:
    value = value.value if isinstance(value, Enum) and not isinstance(column.type, NAMED) else value
    readers = ((read, what) for kinds, read, what in READERS if isinstance(column.type, kinds))
    read, what = next(readers, (_as_it_is, "one value"))
    try:
        return read(value, column.type)
    except (ValueError, OverflowError) as error:
        raise InvalidFilter(
            f"{column.key} is {column.type!r:.60}, which compares with {what}, not {seen(value)}"
        ) from error


def _as_it_is(value: Any, _type: Any) -> Any:
    return _of(value, str, int, float, bool, Decimal, date, time, UUID)


def _of(value: Any, *types: type) -> Any:
    """Raises ValueError for a value of another type; true is no number."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError
    return value


def _integer(value: Any, _type: Any) -> Any:
    """Exact beyond the column's range, too: PostgreSQL would compare a whole number with a float as floats."""
    number = _of(value, int, float, Decimal)
    return int(number) if number == int(number) and -(1 << 63) <= number < 1 << 63 else Decimal(number)


def _number(value: Any, type_: Any) -> Any:
    """Exact, but for a column of floats: PostgreSQL would compare NUMERIC as floats."""
    number, is_float = _of(value, int, float, Decimal), isinstance(type_, types.Float)
    if isinstance(number, Decimal):
        return float(number) if is_float else number
    return Decimal(repr(number)) if isinstance(number, int) or not is_float else number


def _name(value: Any, type_: Any) -> Any:
    if type_.enum_class is not None and isinstance(value, type_.enum_class):
        return value
    value = value.value if isinstance(value, Enum) else value
    if value not in type_.enums:
        raise ValueError
    return value


def _moment(value: Any, type_: Any) -> datetime:
    """A time without a zone is UTC where the column has zones; a date is its midnight."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else _of(value, date)
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if not type_.timezone and moment.tzinfo:
        raise ValueError
    zoned = moment if moment.tzinfo or not type_.timezone else moment.replace(tzinfo=UTC)
    return zoned.astimezone(UTC) if type_.timezone else moment


def _uuid(value: Any, type_: Any) -> Any:
    found = value if isinstance(value, UUID) else UUID(_of(value, str))
    return found if type_.as_uuid else str(found)


def _day(value: Any, _type: Any) -> date:
    if isinstance(value, datetime):
        raise ValueError
    return date.fromisoformat(value) if isinstance(value, str) else _of(value, date)


def _time(value: Any, _type: Any) -> time:
    return time.fromisoformat(value) if isinstance(value, str) else _of(value, time)


def _text(value: Any, _type: Any) -> str:
    return str(value) if isinstance(value, UUID) else _of(value, str)


READERS: Sequence[tuple[Any, Callable[[Any, Any], Any], str]] = (
    (types.Interval, lambda value, _type: _of(value, timedelta), "timedeltas"),
    (types.LargeBinary, lambda value, _type: _of(value, bytes), "bytes"),
    (types.TypeDecorator, lambda value, _type: value, "what it accepts"),
    (types.Enum, _name, "its members and their names"),
    (types.Boolean, lambda value, _type: _of(value, bool), "true and false"),
    (types.DateTime, _moment, "datetimes and texts such as 2026-01-31T12:30, with a zone (+00:00) where it has one"),
    (types.Date, _day, "dates and texts such as 2026-01-31"),
    (types.Time, _time, "times and texts such as 12:30"),
    (types.Uuid, _uuid, "UUIDs and their texts"),
    (types.Integer, _integer, "numbers"),
    (types.Numeric | types.Float, _number, "numbers"),
    (types.String, _text, "texts"),
)
SINGLE_BITS, LEAST_SINGLE, MOST_SINGLE = 24, 1.2e-38, 3.4e38
"""Bound the floats of 32 bits: PostgreSQL refuses to round another one to these."""
NAMED = (types.Enum, types.TypeDecorator)
"""The types of columns that take members of an Enum as they are."""


def is_single(type_: Any) -> bool:
    """Whether a type's floats have 32 bits on PostgreSQL."""
    has_few_bits = isinstance(type_, types.Float) and type_.precision is not None and type_.precision <= SINGLE_BITS
    return has_few_bits or isinstance(type_, types.REAL)


def _rounded(value: Any, type_: Any) -> Any:
    """A number as a column of floats has it."""
    if not isinstance(value, float) or not is_single(type_) or not LEAST_SINGLE <= abs(value) <= MOST_SINGLE:
        return value
    return cast(literal(value, types.Double), type_)


def _comparison(given: Comparison, column: Any) -> Any:
    value, type_ = given.value, column.type
    value = [_rounded(one, type_) for one in value] if isinstance(value, list) else _rounded(value, type_)
    if isinstance(column.type, types.Integer):
        column = type_coerce(column, types.BigInteger)
    match given.operator:
        case "$eq":
            return column.is_(None) if value is None else column == value
        case "$ne":
            return column.is_distinct_from(value)
        case "$gt":
            return column > value
        case "$gte":
            return column >= value
        case "$lt":
            return column < value
        case "$lte":
            return column <= value
        case "$in" | "$nin":
            has_null = any(item is None for item in value)
            listed = [item for item in value if item is not None]
            found = column.in_(listed) if listed else false()
            among = or_(found, column.is_(None) if has_null else false())
            return among if given.operator == "$in" else not_(func.coalesce(among, false()))
        case "$exists":
            return column.is_not(None) if value else column.is_(None)
    return column.contains(value, autoescape=True)
