"""Drops what the index has of an entity. Imports `stores` and `keywords`."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, delete, select, table

from ..stores.tables import key
from . import judgements, rules

if TYPE_CHECKING:
    from .index import Index


def drop_entity(index: "Index", connection: Connection, name: str) -> None:
    """Delete the contents, keywords and embeddings of an entity, its places in rules and judgements, and what waits to
    be indexed of it. `index.forget()` follows once that is committed."""
    from ..keywords import renaming  # NumPy loads with it

    tables = index.tables
    contents = table(
        tables.names("kdb_search"), column("tenant", key), column("entity_name", key), schema=tables.metadata.schema
    )
    tenants = connection.scalars(select(contents.c.tenant).where(contents.c.entity_name == name).distinct())
    renaming.drop(connection, index.store.postings, tables.keywords, sorted(tenants), name)
    index.store.schema.drop_entity(connection, name, index.catalog.with_tables(connection))
    for kept in (rules, judgements):
        kept.rename_entity(index, connection, name, None)
    for own in (tables.tenanted, tables.queue, tables.dirty, tables.classes):
        connection.execute(delete(own).where(own.c.entity_name == name))
