"""Types of reflected columns that read whatever a column of SQLite holds, which its declared type does not bound.
Imports this package alone."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime, time
from typing import Any

from sqlalchemy import Connection, Integer, Table, case, func, type_coerce, types
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import operators

NUMBERS = ("NUMERIC", "DECIMAL")
"""The names of types that SQLAlchemy reflects as numbers and that are; it reflects every unknown one so."""
COLUMNS = "SELECT name, upper(type) FROM pragma_table_xinfo(:table, :schema)"
KIND = "SELECT typeof({column}) FROM {table} WHERE {column} IS NOT NULL LIMIT 1"
COMPARED = (
    *(operators.eq, operators.ne, operators.lt, operators.le, operators.gt, operators.ge),
    *(operators.in_op, operators.not_in_op, operators.is_distinct_from, operators.is_not_distinct_from),
)


def adapt(connection: Connection, table: Table, keys: Collection[str]) -> dict[str, Any]:
    """Set the types of a reflected table's columns. Returns the expressions that are read in the place of columns, not
    of `keys`, by their names."""
    binds = {"table": table.name, "schema": table.schema or "main"}
    declared: dict[str, str] = dict(map(tuple, connection.exec_driver_sql(COLUMNS, binds)))
    expressions: dict[str, Any] = {}
    for column in table.columns:
        column.type = adapted(column.type, declared.get(column.name, ""))
        if isinstance(column.type, Anything) and column.name in keys and not declared.get(column.name):
            column.type = Integer() if _has_integers(connection, column) else column.type
        if isinstance(column.type, types.JSON) and column.name not in keys:
            expressions[column.key] = type_coerce(case((func.json_valid(column) == 1, column)), types.JSON())
    return expressions


def adapted(type_: Any, declared: str) -> Any:
    if isinstance(type_, types.NullType):
        return Anything()
    if isinstance(type_, types.Numeric) and not isinstance(type_, types.Float):
        return AnyNumber(type_.precision, type_.scale) if declared.partition("(")[0] in NUMBERS else Anything()
    of_kind: dict[Any, type[Any]] = {
        types.DateTime: AnyDateTime,
        types.Date: AnyDate,
        types.Time: AnyTime,
        types.Boolean: AnyBoolean,
        types.LargeBinary: AnyBinary,
    }
    return next((own() for kind, own in of_kind.items() if isinstance(type_, kind)), type_)


def _has_integers(connection: Connection, column: Any) -> bool:
    """Whether the first value of a column is a whole number, of which an untyped one keeps apart from its text."""
    prepared = connection.dialect.identifier_preparer
    names = {"column": prepared.quote(column.name), "table": prepared.format_table(column.table)}
    return connection.exec_driver_sql(KIND.format(**names)).scalar() == "integer"


def as_it_is(*_: object) -> None:
    """In the place of a result processor: values are returned as the driver has them."""


def tolerant(read: Callable[[Any], Any]) -> Callable[..., Callable[[Any], Any]]:
    """Makes a result processor that returns what cannot be read as it is."""

    def process(value: Any) -> Any:
        try:
            return value if value is None else read(value)
        except (ValueError, TypeError, OverflowError):
            return value

    return lambda *_: process


class Anything(types.TypeDecorator[Any]):
    """Of columns without a type, and of types that SQLite has no name for."""

    impl = types.String
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self


class AnyNumber(types.Numeric[Any]):
    cache_ok = True

    def __init__(self, precision: int | None = None, scale: int | None = None) -> None:
        super().__init__(precision, scale, asdecimal=False)

    result_processor = as_it_is


class AnyBinary(types.LargeBinary):
    cache_ok = True
    result_processor = as_it_is  # type: ignore[assignment]


class Kept:
    """Of types that a driver does not replace by its own, which read less."""

    def adapt(self, *_: object, **__: object) -> Any:
        return type(self)()


class AnyBoolean(types.Boolean):
    cache_ok = True
    result_processor = tolerant(lambda value: bool(value) if value in (0, 1) else value)


def _moment(value: Any) -> datetime:
    found = datetime.fromisoformat(value)
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def _bound(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(" ", "milliseconds")


class _Normal(Kept, types.DateTime):
    """Of what `strftime` makes."""

    cache_ok = True

    def bind_processor(self, dialect: Any) -> Any:
        return _bound


class _Day(types.Date):
    """Of what `date` makes."""

    cache_ok = True


class AnyDateTime(Kept, sqlite.DATETIME):
    """Compares in milliseconds, whether the column holds a T, a zone or microseconds."""

    cache_ok = True
    result_processor = tolerant(_moment)  # type: ignore[assignment]

    class Comparator(types.DateTime.Comparator[Any]):
        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            if op not in COMPARED or other[0] is None:
                return super().operate(op, *other, **options)
            return op(func.strftime("%Y-%m-%d %H:%M:%f", self.expr, type_=_Normal()), *other, **options)

    comparator_factory = Comparator


class AnyDate(Kept, sqlite.DATE):
    """Compares and reads the day of a time, too."""

    cache_ok = True
    result_processor = tolerant(lambda value: _moment(value).date())  # type: ignore[assignment]

    class Comparator(types.Date.Comparator[Any]):
        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            if op not in COMPARED or other[0] is None:
                return super().operate(op, *other, **options)
            return op(func.date(self.expr, type_=_Day()), *other, **options)

    comparator_factory = Comparator


class AnyTime(Kept, sqlite.TIME):
    cache_ok = True
    result_processor = tolerant(time.fromisoformat)
