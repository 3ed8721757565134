"""The tables in SQLite: made, checked, dropped. Imports `values` and `errors`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects.sqlite import insert

from ...errors import StorageError
from ...values import Generation
from ..names import Names
from ..old_tables import OldTables
from ..paths import DATETIME, Path, is_plain
from ..settings import Settings
from ..tables import Tables, check_version, indexed_fields, known_entities
from . import statements as sql
from .connections import SQLiteConnections
from .embedding_log import log_change
from .old_tables import SQLiteOldTables
from .vectors import SQLiteVectors
from .where import indexed_path, moment


@dataclass(eq=False)
class SQLiteSchema:
    _connections: SQLiteConnections
    _tables: Tables
    _settings: Settings
    _vectors: SQLiteVectors

    @property
    def _names(self) -> Names:
        return self._tables.names

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        if not connection.scalar(sql.HAS_TABLE, {"name": self._names("kdb_meta")}):
            if connection.scalar(sql.HAS_TABLE, {"name": self._names("kdb_search")}):
                check_version(None)
            return False
        self._settings.check(connection, "file")
        return True

    def create(self, connection: Connection, *, with_vectors: bool) -> None:
        if self.check(connection, with_vectors=with_vectors):
            return
        self._tables.metadata.create_all(connection)
        for statement in sql.CREATE:
            connection.execute(text(self._names(statement)))
        definitions = connection.execute(select(self._tables.entities.c.definition)).scalars()
        self.index_fields(connection, indexed_fields(definitions))
        self._settings.write(connection)

    def old_tables(self, connection: Connection) -> OldTables:
        return SQLiteOldTables(connection, self._names)

    # generations

    def lock_registry(self, connection: Connection, *, is_first: bool = False) -> None:
        """There is no other writer."""

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        connection.execute(text(self._names(sql.CREATE_GENERATION).format(number=generation.number)))

    def restore_generation(self, connection: Connection, generation: Generation) -> None:
        self.add_generation(connection, generation)

    def wait_for_readers(self) -> bool:
        """A transaction that began before and has yet to write fails, and is begun again."""
        return True

    def drop_generation(self, generation: Generation) -> bool:
        """Who reads an older state of the file continues to read it."""
        with self._connections.writing() as connection:
            connection.execute(text(self._names(sql.DROP_GENERATION).format(number=generation.number)))
        return True

    def embedding_tables(self, connection: Connection) -> set[int]:
        found = connection.execute(self._names(sql.EMBEDDING_TABLES)).scalars()
        numbers = (name.removeprefix(self._names("kdb_embedding_g")) for name in found)
        return {int(number) for number in numbers if number.isdecimal()}

    # fields, servers

    def index_fields(self, connection: Connection, fields: Sequence[tuple[Path, str]]) -> None:
        """Entities share the index of a field of one name."""
        wanted = {}
        for path, type_ in fields:
            if all(map(is_plain, path)):
                name, value = ".".join(path), indexed_path(path)
                wanted[f"kdb_records_by_{name}"] = f"json_extract(data, {value})"
                if type_ == DATETIME:
                    key = moment(f"json_extract(data, {value})", f"json_type(data, {value})")
                    wanted[f"kdb_records_at_{name}"] = key
        wanted = {self._names(name): key for name, key in wanted.items()}
        there = set(connection.exec_driver_sql(self._names(sql.FIELD_INDEXES)).scalars())
        for name in there - wanted.keys():
            connection.exec_driver_sql(f'DROP INDEX "{name}"')
        for name in wanted.keys() - there:
            connection.exec_driver_sql(self._names(sql.FIELD_INDEX).format(name=name, key=wanted[name]))

    def build_field_indexes(self, fields: Sequence[tuple[Path, str]]) -> bool:
        """They are made with the fields: nobody else writes."""
        return False

    def distribute(self, connection: Connection, generations: Sequence[Generation], by: str = "record_id") -> list[str]:
        raise StorageError("SQLite is one file on one machine. PostgreSQL with Citus can be distributed")

    def stop_writers(self, connection: Connection) -> None:
        self._connections.acquire_write_lock(connection)

    def drop_tenant(self, connection: Connection, tenant: str, generations: Sequence[Generation]) -> None:
        """The log keeps the numbers of its records, without its name."""
        binds = {"tenant": tenant}
        docs = connection.scalars(self._names(sql.DOCS_OF_TENANT), binds).all()
        for generation in generations:
            connection.execute(
                text(self._names(sql.DELETE_EMBEDDINGS_OF_TENANT).format(number=generation.number)), binds
            )
        for table in tables_of_tenants(self._tables):
            connection.execute(text(sql.DELETE_TENANT.format(table=table)), binds)
        connection.execute(self._names(sql.FORGET_TENANT), binds)
        log_change(self._names, connection, docs)
        self._vectors.forget(tenant)

    def lock_entities(self, connection: Connection) -> None:
        """Nobody else writes, and who has read before writes nothing."""
        self._connections.acquire_write_lock(connection)

    def rename_entity(self, connection: Connection, old: str, new: str, generations: Sequence[Generation]) -> None:
        """Embeddings are found by the number of a content, which stays."""
        docs = connection.scalars(self._names(sql.DOCS_OF_ENTITY), {"entity": old}).all()
        connection.execute(self._names(sql.RENAME_ENTITY), {"entity": old, "new": new})
        log_change(self._names, connection, docs)

    def drop_entity(self, connection: Connection, entity: str, generations: Sequence[Generation]) -> None:
        binds = {"entity": entity}
        docs = connection.scalars(self._names(sql.DOCS_OF_ENTITY), binds).all()
        for generation in generations:
            connection.execute(
                text(self._names(sql.DELETE_EMBEDDINGS_OF_ENTITY).format(number=generation.number)), binds
            )
        connection.execute(self._names(sql.DELETE_ENTITY), binds)
        log_change(self._names, connection, docs)

    def known_entities(self, connection: Connection) -> tuple[set[str], dict[str, datetime]]:
        return known_entities(self._tables, connection)

    def add_tenanted(self, connection: Connection, entities: Sequence[str]) -> None:
        added = insert(self._tables.tenanted).on_conflict_do_nothing()
        connection.execute(added, [{"entity_name": name} for name in sorted(entities)])

    def add_class(self, connection: Connection, row: Mapping[str, Any]) -> None:
        connection.execute(insert(self._tables.classes).on_conflict_do_nothing(), row)


def tables_of_tenants(tables: Tables) -> list[str]:
    """Returns the names of the tables whose rows have a tenant, but for those of embeddings and their log."""
    return [*(table.name for table in tables.metadata.sorted_tables if "tenant" in table.c), tables.names("kdb_search")]
