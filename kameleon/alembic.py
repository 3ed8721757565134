"""Keeps Alembic from kameleon's tables, and makes them in a migration. Imports `errors` and `stores`.

Alembic calls `include_name` before it reflects a table, `include_object` after, when SQLAlchemy has warned of a virtual
table or an unknown type already. Where the filter leaves nothing of a PostgreSQL schema, all of it is reflected
nevertheless: pgvector's types are registered, lest each of their columns is warned of.
"""

from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Literal, Unpack

from sqlalchemy import Connection

from .errors import InvalidInput
from .stores.factory import StoreOptions, make_store
from .stores.names import PREFIX

with suppress(ImportError):
    import pgvector.sqlalchemy  # noqa: F401

Kind = Literal["schema", "table", "column", "index", "unique_constraint", "foreign_key_constraint"]
ParentNames = MutableMapping[
    Literal["schema_name", "table_name", "schema_qualified_table_name"],
    str | None,
]
IncludeName = Callable[[str | None, Kind, ParentNames], bool]


def include_name(name: str | None, type_: Kind, _parent_names: ParentNames) -> bool:
    """For `context.configure(include_name=...)`: False for kameleon's tables, in whichever schema."""
    return not (type_ == "table" and name is not None and name.startswith(PREFIX))


def include_name_and(own: IncludeName) -> IncludeName:
    """A filter that includes what both `include_name` and the application's own include."""
    return lambda name, type_, parents: include_name(name, type_, parents) and own(name, type_, parents)


def create_tables(connection: Connection, *, with_vectors: bool = True, **options: Unpack[StoreOptions]) -> None:
    """Make in a migration, `create_tables(op.get_bind())`, the tables that are missing, in its own transaction.

    It is for engines with `create_tables=False`; `options` are theirs. `with_vectors` adds pgvector on PostgreSQL. A
    generation's table comes with its first embedding.
    """
    if not isinstance(connection, Connection):
        raise InvalidInput("create_tables reads which tables exist: run this migration online, without --sql")
    store = make_store(connection.engine, options)
    with store.connections.translating(), store.connections.joining(connection):
        store.schema.create(connection, with_vectors=with_vectors)
