"""The tables that are the same in both databases, in SQLAlchemy's terms, and their columns' values. Imports
`errors`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Double,
    Engine,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    func,
    literal,
    null,
    select,
    type_coerce,
)
from sqlalchemy import cast as cast_to
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from ..errors import SchemaMismatch
from .keyword_tables import KeywordTables
from .keyword_tables import key as key
from .names import NAMES, Names, named
from .paths import DATETIME, Path, field_path

SCHEMA_VERSION = 11
COMPARED = ("text", "integer", "number", "boolean", DATETIME)
IDS_A_STATEMENT = 1_000

T = TypeVar("T")


def parts(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def utc(moment: datetime) -> datetime:
    """Converts a moment that was read: SQLite drops the zone, which was UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def dump(value: Any) -> str:
    """Renders JSON without escapes: older SQLites compare names in JSON byte by byte."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def indexed_fields(definitions: Iterable[Mapping[str, Any]]) -> list[tuple[Path, str]]:
    """Returns the declared fields that filters compare with one value, typed and not searchable, and their types."""
    found = (
        (field_path(field["name"], definition.get("filters", "")), field["type"])
        for definition in definitions
        for field in definition["fields"]
        if field["type"] in COMPARED and not field["searchable"]
    )
    return list(dict.fromkeys(found))


def check_version(version: str | None) -> None:
    """Raises SchemaMismatch for an index whose tables another version of kameleon made."""
    if version == str(SCHEMA_VERSION):
        return
    is_newer = version is not None and version.isdecimal() and int(version) > SCHEMA_VERSION
    raise SchemaMismatch(
        f"this index has schema version {version or 'unknown'}, this kameleon reads {SCHEMA_VERSION}. "
        f"`kameleon rebuild`, or kameleon.rebuild(engine), rebuilds the index from its contents"
        f"{'; pip install -U kameleon reads it as it is' if is_newer else ''}"
    )


def digits(value: Any) -> Any:
    """Converts floats of 1e16 and more to whole numbers: JSONB stores the digits that are written, and JSON writes only
    so many of such a float as distinguish it from others."""
    if isinstance(value, float):
        return int(value) if abs(value) >= 1e16 else value
    if isinstance(value, Mapping):
        return {name: digits(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [digits(item) for item in value]
    return value


def quoted_text(value: str) -> str:
    """Quotes a text for SQL, for the few statements that take no binds."""
    return "'" + value.replace("'", "''") + "'"


def hyphenated(column: Any) -> ColumnElement[str]:
    """A UUID that is stored as 32 hexadecimal digits, as its usual text."""
    digits_ = func.lower(type_coerce(column, Text))
    text: Any = func.substr(digits_, 1, 8)
    for start, length in ((9, 4), (13, 4), (17, 4), (21, 12)):
        text = text.op("||")("-").op("||")(func.substr(digits_, start, length))
    return cast("ColumnElement[str]", text)


def as_text(column: Any, kind: str) -> ColumnElement[str]:
    """A part of a primary key as text; `kind` as `identity` has it."""
    return hyphenated(column) if kind == "hex" else cast_to(column, Text)


def id_text(key: Sequence[tuple[Any, str]], quoted: Callable[[Any], Any]) -> ColumnElement[str]:
    """A record's id from the (column, kind) parts of a primary key; `quoted` makes a JSON string of a text."""
    if len(key) == 1:
        return as_text(*key[0])
    first, *others = (
        as_text(column, kind) if kind == "integer" else quoted(as_text(column, kind)) for column, kind in key
    )
    joined: Any = literal("[", Text).op("||")(first)
    for part in others:
        joined = joined.op("||")(",").op("||")(part)
    return cast("ColumnElement[str]", joined.op("||")("]"))


class Document(TypeDecorator[Any]):
    """JSON text on SQLite, JSONB on PostgreSQL, whatever serializer the application's engine has."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(JSONB() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return digits(value) if dialect.name == "postgresql" else dump(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return read_document(value)


def read_document(value: Any) -> Any:
    """Returns what a driver has of a document: text on SQLite, objects on PostgreSQL."""
    return json.loads(value) if isinstance(value, str) else value


document = Document()
instant = DateTime(timezone=True)


SCHEMAS_KEPT = 32
"""Schemas and namespaces whose tables a process keeps. Chosen, not measured; to make those of one takes 4 ms."""


class Tables:
    """The tables of a namespace in one schema; None are the default one and the connection's own."""

    def __init__(self, schema: str | None = None, namespace: str | None = None) -> None:
        self.names = Names(namespace)
        self.metadata = metadata = MetaData(schema=schema, info={NAMES: self.names})
        self.meta = Table(
            named(metadata, "kdb_meta"), metadata, Column("key", Text, primary_key=True), *required(value=Text)
        )
        self.generations = Table(
            named(metadata, "kdb_generation"),
            metadata,
            numbered("number"),
            *required(provider=Text, options=document, model_name=Text, dimensions=Integer, fingerprint=Text),
            *required(weight=Double, state=Text),
            *(Column(name, Double) for name in ("noise_mean", "noise_deviation")),
            Column("weighting", document),
            *required(created_at=instant, updated_at=instant),
            Index(named(metadata, "kdb_generation_fingerprint"), "fingerprint"),
        )
        self.embedding_cache = Table(
            named(metadata, "kdb_embedding_cache"),
            metadata,
            *keyed("tenant", "text_hash", "fingerprint"),
            *required(embedding=LargeBinary, used_at=instant),
            Index(named(metadata, "kdb_embedding_cache_used_at"), "used_at"),
        )
        self.entities = definitions_of("kdb_entities", metadata, "name")
        self.records = Table(
            named(metadata, "kdb_records"),
            metadata,
            *keyed("tenant", "entity_name", "id"),
            *required(data=document, created_at=instant, updated_at=instant),
        )
        self.tenanted = Table(named(metadata, "kdb_tenanted"), metadata, *keyed("entity_name"))
        self.classes = classes_of(metadata)
        self.existing_tables = definitions_of("kdb_table", metadata, "entity_name")
        self.synonyms = Table(
            named(metadata, "kdb_synonym"), metadata, *keyed("tenant", "rule"), *required(created_at=instant)
        )
        self.query_rules, self.judgements = query_rules_of(metadata), judgements_of(metadata)
        self.keywords = KeywordTables(metadata)
        self.queue, self.dirty = queue_of(metadata), dirty_of(metadata)
        self.reindex, self.reindex_range = reindex_of(metadata), reindex_range_of(metadata)


@lru_cache(SCHEMAS_KEPT)
def tables_in(schema: str | None = None, namespace: str | None = None) -> Tables:
    """Returns the tables of a namespace in one schema, which the engines of a process share."""
    return Tables(schema, namespace)


def known_entities(tables: Tables, connection: Connection) -> tuple[set[str], dict[str, datetime]]:
    """Returns the entities of which records with a tenant were ever written, and the table entities with the times of
    their definitions, with one statement."""
    defined = select(tables.existing_tables.c.entity_name, tables.existing_tables.c.updated_at)
    rows = connection.execute(defined.union_all(select(tables.tenanted.c.entity_name, null()))).all()
    return {name for name, at in rows if at is None}, {name: at for name, at in rows if at is not None}


def classes_of(metadata: MetaData) -> Table:
    return Table(
        named(metadata, "kdb_class"),
        metadata,
        *keyed("entity_name"),
        *required(definition=document, state=Text, created_at=instant, updated_at=instant),
    )


def definitions_of(table: str, metadata: MetaData, key: str) -> Table:
    return Table(
        named(metadata, table),
        metadata,
        *keyed(key),
        *required(definition=document, created_at=instant, updated_at=instant),
    )


def query_rules_of(metadata: MetaData) -> Table:
    return Table(
        named(metadata, "kdb_query_rule"),
        metadata,
        *keyed("tenant", "query"),
        *required(pinned=document, hidden=document, created_at=instant, updated_at=instant),
    )


def judgements_of(metadata: MetaData) -> Table:
    return Table(
        named(metadata, "kdb_judgement"),
        metadata,
        *keyed("tenant", "query", "entity_name", "record_id"),
        *required(gain=Double, created_at=instant, updated_at=instant),
    )


def queue_of(metadata: MetaData) -> Table:
    return Table(
        named(metadata, "kdb_queue"),
        metadata,
        *keyed("tenant", "entity_name", "record_id"),
        *required(version=Text, due_at=instant),
        Column("claimed_by", Text),
        *required(attempts=Integer),
        Index(named(metadata, "kdb_queue_due_at"), "due_at"),
    )


def dirty_of(metadata: MetaData) -> Table:
    return Table(
        named(metadata, "kdb_dirty"),
        metadata,
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True),
        Column("tenant", key, nullable=False, server_default=""),
        *required(entity_name=key, record_id=key),
        Column("due_at", instant),
        Column("claimed_by", Text),
        Index(named(metadata, "kdb_dirty_record"), "entity_name", "record_id", "seq"),
    )


def reindex_of(metadata: MetaData) -> Table:
    return Table(
        named(metadata, "kdb_reindex"),
        metadata,
        numbered("number"),
        Column("owner", Text),
        Column("lease_until", instant),
        *required(is_cancelled=Boolean, phase=Text, batch_size=Integer, total=Integer),
        *required(embedded=Integer, reused=Integer, failed=Integer),
        *required(embedding_s=Double, writing_s=Double, indexing_s=Double),
        *required(began_at=instant, created_at=instant, updated_at=instant),
    )


def reindex_range_of(metadata: MetaData) -> Table:
    return Table(
        named(metadata, "kdb_reindex_range"),
        metadata,
        numbered("number"),
        numbered("place"),
        Column("after", document),
        Column("upto", document),
        *required(due_at=instant),
    )


def required(**types: Any) -> list[Column[Any]]:
    return [Column(name, type_, nullable=False) for name, type_ in types.items()]


def keyed(*names: str) -> list[Column[str]]:
    return [Column(name, key, primary_key=True) for name in names]


def numbered(name: str) -> Column[int]:
    return Column(name, Integer, primary_key=True, autoincrement=False)


def schema_map(of: Engine | Connection) -> dict[str | None, str | None]:
    """The `schema_translate_map` of its options, without the key that SQLAlchemy adds while it renders."""
    chosen = of.get_execution_options().get("schema_translate_map") or {}
    return {schema: other for schema, other in chosen.items() if schema != "_none"}


def schema_of(table: Table, connection: Connection) -> str | None:
    """Returns the table's schema for this connection, None where its search path finds it."""
    return schema_map(connection).get(table.schema, table.schema)
