"""The tables that are the same on both databases, as SQLAlchemy sees them. What differs stands in the dialect files."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Column, DateTime, Float, Index, Integer, LargeBinary, MetaData, Table, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

SCHEMA_VERSION = 1
IDS_A_STATEMENT = 1_000

T = TypeVar("T")


def parts(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def utc(moment: datetime) -> datetime:
    """A moment as a database gave it back: SQLite drops the zone, which was UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def dump(value: Any) -> str:
    """JSON with every character as itself: older SQLites compare names in JSON byte by byte, escapes unresolved."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Document(TypeDecorator[Any]):
    """JSON text on SQLite, JSONB on PostgreSQL, whatever serializer the application's engine has."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(JSONB() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if dialect.name == "postgresql" else dump(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return json.loads(value) if isinstance(value, str) else value


metadata = MetaData()
document = Document()
instant = DateTime(timezone=True)

meta = Table(
    "kdb_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

generations = Table(
    "kdb_generation",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("provider", Text, nullable=False),
    Column("options", document, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("weight", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", instant, nullable=False),
    Column("updated_at", instant, nullable=False),
    Index("kdb_generation_fingerprint", "fingerprint"),
)

embedding_cache = Table(
    "kdb_embedding_cache",
    metadata,
    Column("text_hash", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("embedding", LargeBinary, nullable=False),
    Column("used_at", instant, nullable=False, index=True),
)

entities = Table(
    "kdb_entities",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition", document, nullable=False),
    Column("created_at", instant, nullable=False),
    Column("updated_at", instant, nullable=False),
)

records = Table(
    "kdb_records",
    metadata,
    Column("entity_name", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("data", document, nullable=False),
    Column("created_at", instant, nullable=False),
    Column("updated_at", instant, nullable=False),
)
