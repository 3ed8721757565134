"""The tables that are the same on both databases, as SQLAlchemy sees them. What differs stands in the dialect files."""

from datetime import UTC, datetime

from sqlalchemy import JSON, Column, DateTime, Float, Index, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA_VERSION = 1


def utc(moment: datetime) -> datetime:
    """A moment as a database gave it back: SQLite drops the zone, which was UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


metadata = MetaData()
document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
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
