"""Makes a record's id of its primary key, and the key of the id. Imports `errors` and `content`.

Integers and strings as they are, UUIDs hyphenated in lower case, composite keys as a JSON array. A column type of the
application's own (TypeDecorator) gives what its database stores.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Enum,
    Integer,
    String,
    TypeDecorator,
    Uuid,
    bindparam,
    inspect,
    tuple_,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeEngine

from ..content import check_id
from ..errors import InvalidInput, InvalidRecord

PADDED = ("CHAR", "NCHAR")


class KeyColumn(NamedTuple):
    """`kind` is integer, text, uuid or hex (a UUID's 32 digits): what the database holds. `encode` and `decode` go
    between the attribute's value and its part of the id: a number or a text."""

    column: Column[Any]
    kind: str
    encode: Callable[[Any], int | str]
    decode: Callable[[Any], Any]


def key_names(mapper: Mapper[Any]) -> list[str]:
    """The attributes that are the primary key."""
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]


def key_attributes(mapper: Mapper[Any], target: Any = None) -> list[Any]:
    """The primary key's attributes as SQL expressions, of the mapped class or an alias of it."""
    return [getattr(mapper.class_ if target is None else target, name) for name in key_names(mapper)]


def primary_key(obj: Any) -> Sequence[Any]:
    """An object's current primary key."""
    mapper: Mapper[Any] = inspect(obj).mapper
    return mapper.primary_key_from_instance(obj)


def is_among(attributes: Sequence[Any], keys: Sequence[Sequence[Any]]) -> ColumnElement[bool]:
    """Whether a row's primary key is one of these."""
    if len(attributes) == 1:
        return cast("ColumnElement[bool]", one_of(attributes[0], [key[0] for key in keys]))
    return tuple_(*attributes).in_([tuple(key) for key in keys])


def one_of(column: Any, values: Sequence[Any]) -> Any:
    """Whether a column has one of the values, whatever its name: that of a bind of a list has no white space."""
    return column.in_(bindparam("one_of", values, type_=column.type, expanding=True, unique=True))


def is_after(attributes: Sequence[Any], key: Sequence[Any]) -> ColumnElement[bool]:
    """Whether a row's primary key is greater than this one."""
    if len(attributes) == 1:
        return cast("ColumnElement[bool]", attributes[0] > key[0])
    return tuple_(*attributes) > key


class Identity:
    def __init__(self, columns: Sequence[Any], dialect: Dialect) -> None:
        self.columns = [_key_column(column, dialect) for column in columns]

    def id_of(self, key: Sequence[Any]) -> str:
        """The id of a primary key's values. Raises InvalidRecord for one that is incomplete."""
        if None in key:
            raise InvalidRecord(f"the primary key {tuple(key)!r:.80} of {self.columns[0].column.table} is incomplete")
        try:
            parts = [column.encode(value) for column, value in zip(self.columns, key, strict=True)]
        except ValueError as error:  # SQLite keeps texts in columns of integers
            table = self.columns[0].column.table
            raise InvalidRecord(f"the key {tuple(key)!r:.80} of {table} is not of its columns' types") from error
        return check_id(parts[0] if len(parts) == 1 else json.dumps(parts, ensure_ascii=False, separators=(",", ":")))

    def key_of(self, id_: str) -> tuple[Any, ...] | None:
        """The primary key's values of an id; None for an id that this table cannot have."""
        try:
            parts = [id_] if len(self.columns) == 1 else json.loads(id_)
            return tuple(column.decode(part) for column, part in zip(self.columns, parts, strict=True))
        except (ValueError, TypeError):
            return None


def text_kind(column: Column[Any], dialect: Dialect) -> str | None:
    """The kind of a column whose text in the database is that of its values; None of another."""
    if isinstance(column.type, Enum | TypeDecorator) or not isinstance(column.type, Integer | String | Uuid):
        return None
    return _key_column(column, dialect).kind


def _key_column(column: Column[Any], dialect: Dialect) -> KeyColumn:
    type_ = column.type.dialect_impl(dialect)
    stored: TypeEngine[Any] = type_
    while isinstance(stored, TypeDecorator):
        stored = stored.impl_instance
    if isinstance(stored, Uuid):
        return _uuid_column(column, type_, stored, dialect)
    kind = "integer" if isinstance(stored, Integer) else "text"
    plain: Callable[[Any], int | str] = int if kind == "integer" else str
    if not isinstance(stored, Integer | String):
        raise InvalidInput(
            f"{column} is {column.type!r}: a record's id is made of integers, texts and UUIDs. Use such a key"
        )
    if dialect.name == "postgresql" and column.type.compile(dialect).partition("(")[0] in PADDED:
        plain = _unpadded
    if type_ is stored and not isinstance(stored, Enum):
        return KeyColumn(column, kind, plain, plain)
    to_database = type_.bind_processor(dialect) or plain
    to_python = type_.result_processor(dialect, None) or plain
    return KeyColumn(column, kind, lambda value: plain(to_database(value)), lambda value: to_python(plain(value)))


def _uuid_column(column: Column[Any], type_: TypeEngine[Any], stored: Uuid[Any], dialect: Dialect) -> KeyColumn:
    kind = "uuid" if stored.native_uuid and dialect.supports_native_uuid else "hex"
    if type_ is stored:
        return KeyColumn(column, kind, _hyphenated, _uuid if stored.as_uuid else _hyphenated)
    to_database = type_.bind_processor(dialect) or _uuid
    to_python = type_.result_processor(dialect, None) or _uuid

    def decode(value: Any) -> Any:
        return to_python(_uuid(value) if kind == "uuid" else _uuid(value).hex)

    return KeyColumn(column, kind, lambda value: _hyphenated(to_database(value)), decode)


def _unpadded(value: Any) -> str:
    """PostgreSQL pads CHAR with blanks to its length, which do not count."""
    return str(value).rstrip(" ")


def _hyphenated(value: Any) -> str:
    return str(_uuid(value))


def _uuid(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
