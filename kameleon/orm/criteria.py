"""Compiles conditions on mapped classes to text that a store's statements can hold: a subquery of record ids with typed
binds. Imports `errors`, `sqlalchemy_internals` and `stores`.

It is compiled without its values, which stay binds of their columns' types, so that a date or a UUID is bound as the
application's own statements bind it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    TextClause,
    and_,
    any_,
    bindparam,
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
from ..stores.filters import LISTS, ORDERED, Comparison, Filter, Group, parse_filter, plain, typed
from ..stores.json_columns import JSONComparison, TextComparison
from ..stores.tables import schema_map
from ..stores.values import Among
from .fitting import fit, fitted, rounded

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


def is_expression(where: object) -> bool:
    """Whether it is a condition of SQLAlchemy."""
    return isinstance(where, ColumnElement | TextClause) or hasattr(where, "__clause_element__")


def as_condition(where: object, cls: type) -> ColumnElement[bool]:
    """`where` on a mapped class: an expression as it is, a mapping as one on its columns. Raises InvalidFilter."""
    if is_expression(where):
        return where.__clause_element__() if hasattr(where, "__clause_element__") else where  # type: ignore[return-value]
    if not isinstance(where, Mapping):
        raise InvalidFilter(
            f"where= is a condition such as {cls.__name__}.status == 'open', or a mapping, not {seen(where)}"
        )
    parsed = parse_filter(where, read=typed)
    return true() if parsed is None else condition_of(parsed, cls)


def condition_of(given: Filter, cls: type) -> ColumnElement[bool]:
    """A filter on the columns of a mapped class. Raises InvalidFilter."""
    if isinstance(given, Comparison):
        given = replace(given, path=own_path(cls, given.path))
        if len(given.path) > 1 and not is_document(cls, given.path[0]):
            return _related(given, cls)
        return func.coalesce(_compared(given, column_of(cls, given.path[0])), false())
    if given.operator == "$and":
        return and_(true(), *_all_of(given.members, cls))
    members = [condition_of(member, cls) for member in given.members]
    return not_(members[0]) if given.operator == "$not" else or_(false(), *members)


def _all_of(members: Iterable[Filter], cls: Any) -> Iterator[ColumnElement[bool]]:
    """Conditions that all have to hold; the ends of a range over relationships are those of one related row."""
    ranges: dict[tuple[str, ...], list[Comparison]] = {}
    for member in members:
        is_range = isinstance(member, Comparison) and len(member.path) > 1 and member.operator in ORDERED
        if isinstance(member, Comparison) and is_range and not is_document(cls, member.path[0]):
            ranges.setdefault(member.path, []).append(replace(member, path=member.path[1:]))
        else:
            yield condition_of(member, cls)
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
    condition = condition_of(inner, target)
    return link.any(condition) if link.property.uselist else link.has(condition)  # type: ignore[no-any-return]


def related(cls: Any, name: str) -> tuple[Any, Any]:
    """A relationship to an alias of the related class, and the alias. Raises InvalidFilter."""
    mapper: Mapper[Any] = inspect(cls).mapper
    if name not in mapper.relationships:
        known = ", ".join(sorted(mapper.relationships.keys())) or "none"
        raise InvalidFilter(f"{mapper.class_.__name__} has no relationship {name!r:.80}. Known: {known}")
    target = aliased(mapper.relationships[name].entity)
    return getattr(cls, name).of_type(target), target


def column_of(cls: Any, name: str) -> Any:
    """A column of a mapped class, or of an alias of one. Raises InvalidFilter."""
    mapper: Mapper[Any] = inspect(cls).mapper
    names = sorted(mapper.column_attrs.keys())
    if name not in names:
        over = "".join(f", {link}.COLUMN" for link in sorted(mapper.relationships.keys()))
        raise InvalidFilter(
            f"{mapper.class_.__name__} has no column {name!r:.80}. Known: {', '.join(names)}{over}. "
            "For anything else, where= takes a SQLAlchemy expression"
        )
    return getattr(cls, name)


def own_path(cls: Any, path: Sequence[str]) -> tuple[str, ...]:
    """The path; of a column whose name has dots that name alone."""
    name = ".".join(path)
    return (name,) if len(path) > 1 and name in inspect(cls).mapper.column_attrs else tuple(path)


def is_document(cls: Any, name: str) -> bool:
    """Whether it is a column of JSON, into which paths lead."""
    return name in inspect(cls).mapper.column_attrs and isinstance(getattr(cls, name).type, types.JSON)


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
    if given.operator in LISTS:
        found = [_of_array(replace(given, operator="$contains", value=one), column) for one in value]
        return and_(column.is_not(None), *found) if given.operator == "$all" else or_(false(), *found)
    if given.operator == "$eq" and isinstance(value, list):
        return column == [fit(one, member) for one in value]
    if given.operator not in ("$eq", "$contains"):
        raise InvalidFilter(f"{column.key} is {column.type!r:.60}, which has no order: {given.operator}")
    return literal(fit(value, member), column.type.item_type) == any_(column)


def _comparison(given: Comparison, column: Any) -> Any:
    value, type_ = given.value, column.type
    value = [rounded(one, type_) for one in value] if isinstance(value, list) else rounded(value, type_)
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
    return TextComparison(column, given)
