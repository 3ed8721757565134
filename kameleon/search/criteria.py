"""Conditions on mapped classes, as text that a store's statements can hold: a subquery of record ids with typed binds.

It is compiled without its values, which stay binds of their columns' types, so that a date or a UUID is bound as the
application's own statements bind it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Text,
    TextClause,
    and_,
    bindparam,
    cast,
    false,
    func,
    not_,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from ..errors import InvalidFilter
from .filters import Comparison, Filter, parse_filter
from .store import Among

PLAIN_DIALECTS: Mapping[str, Any] = {"sqlite": SQLiteDialect, "postgresql": PGDialect}


def schema_map(of: Engine | Connection) -> dict[str | None, str | None]:
    """The `schema_translate_map` of its options, without the key that SQLAlchemy adds while it renders."""
    chosen = of.get_execution_options().get("schema_translate_map") or {}
    return {schema: other for schema, other in chosen.items() if schema != "_none"}


def compiled(statement: Select[Any], engine: Engine) -> Among:
    """`statement` as text for `text()`, each `:` in it that is no bind escaped."""
    plain = PLAIN_DIALECTS[engine.dialect.name](paramstyle="named")
    schemas: Any = schema_map(engine)
    made = statement.compile(dialect=plain, schema_translate_map=schemas or None, render_schema_translate=bool(schemas))
    binds = {name: bind for bind, name in made.bind_names.items()}
    names = {name: f"among{place}" for place, name in enumerate(binds)}
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)"
    plain_sql = re.sub(rf"\(__\[POSTCOMPILE_({known})\]\)", r":\1", str(made))
    sql = re.sub(rf":((?:{known})(?!\w)|\w+)", lambda found: _named(found, names), plain_sql)
    if "__[POSTCOMPILE_" in sql:
        raise InvalidFilter("where= cannot hold a list whose type says how it is bound: compare one by one, or_(…)")
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
            f"where= is a condition such as {cls.__name__}.status == 'open', or a mapping, not {where!r:.60}"
        )
    parsed = parse_filter(where)
    return true() if parsed is None else _condition(parsed, cls)


def with_words(where: object, cls: Any, said: Iterable[tuple[str, str]]) -> ColumnElement[bool]:
    """`where`, and each (column, words) said by that column."""
    conditions = [cast(getattr(cls, name), Text).icontains(words, autoescape=True) for name, words in said]
    return and_(true() if where is None else as_condition(where, cls), *conditions)


def _condition(asked: Filter, cls: type) -> ColumnElement[bool]:
    if isinstance(asked, Comparison):
        return func.coalesce(_comparison(asked, _column(asked, cls)), false())
    members = [_condition(member, cls) for member in asked.members]
    if asked.operator == "$not":
        return not_(members[0])
    return and_(true(), *members) if asked.operator == "$and" else or_(*members)


def _column(asked: Comparison, cls: Any) -> Any:
    columns = cls.__mapper__.column_attrs.keys()
    if len(asked.path) != 1 or asked.path[0] not in columns:
        raise InvalidFilter(
            f"{cls.__name__} has no column {'.'.join(asked.path)!r:.80}. Known: {', '.join(sorted(columns))}. "
            "For anything else, where= takes a SQLAlchemy expression"
        )
    return getattr(cls, asked.path[0])


def _comparison(asked: Comparison, column: Any) -> Any:
    value = asked.value
    match asked.operator:
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
            among = or_(column.in_([item for item in value if item is not None]), column.is_(None) & (None in value))
            return among if asked.operator == "$in" else not_(func.coalesce(among, false()))
        case "$exists":
            return column.is_not(None) if value else column.is_(None)
    if not isinstance(value, str):
        raise InvalidFilter(f"$contains on a column takes a text, not {value!r:.60}")
    return column.contains(value, autoescape=True)
