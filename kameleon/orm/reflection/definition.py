"""How a table is searched that no mapped class describes, as `kdb_table` keeps it. Imports `content` and `indexing`."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from ...content import Field, field_options
from ...indexing.index import Index


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """`text` are the searched fields: columns of the table, or dotted paths over foreign keys ("author.name") whose
    last part is a column. `key` are the columns that make a record's id, those of the primary key where it is empty.
    `where` is SQL on the table's columns that a record meets; `tenant` the column that is its tenant."""

    entity: str
    table: str
    schema: str | None = None
    text: Mapping[str, Field] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    where: str | None = None
    tenant: str | None = None

    def as_document(self) -> dict[str, Any]:
        text = [{"name": name, **asdict(options)} for name, options in self.text.items()]
        own = {"table": self.table, "schema": self.schema, "key": list(self.key)}
        return {**own, "text": text, "where": self.where, "tenant": self.tenant}


def definition_of(entity: str, document: Mapping[str, Any]) -> TableDefinition:
    """The definition that a document holds."""
    options = [{key: value for key, value in one.items() if key != "name"} for one in document["text"]]
    text = field_options({one["name"]: Field(**made) for one, made in zip(document["text"], options, strict=True)})
    own = {name: document[name] for name in ("table", "schema", "where", "tenant")}
    return TableDefinition(entity, text=text, key=tuple(document["key"]), **own)


def held(index: Index, connection: Connection, entities: Collection[str]) -> set[str]:
    """Those of the entities whose definitions are there, which nothing removes until the transaction ends. Before
    anything else is locked."""
    if not entities:
        return set()
    table, connections = index.tables.existing_tables, index.store.connections
    connections.acquire_write_lock(connection)
    query = select(table.c.entity_name).where(table.c.entity_name.in_(sorted(entities))).order_by(table.c.entity_name)
    return set(connection.scalars(query.with_for_update(read=True) if connections.can_lock_rows() else query))
