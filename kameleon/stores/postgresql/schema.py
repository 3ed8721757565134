"""The tables in PostgreSQL, pgvector and Citus: made, checked, dropped. Imports `values` and `errors`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, TextClause, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from ...errors import StorageError, VectorsUnavailable
from ...values import Generation
from ..old_tables import OldTables
from ..paths import Path
from ..settings import Settings
from ..tables import Tables, check_version, known_entities
from . import citus, dropping, field_indexes, terms
from . import statements as sql
from .connections import PostgreSQLConnections
from .errors import NO_RIGHT, NOT_AVAILABLE
from .old_tables import PostgreSQLOldTables
from .policies import PostgreSQLPolicies
from .postings import PostgreSQLPostings
from .templates import Templates

READERS_WAIT_S, DROP_WAITS_S = 10.0, 5
"""How long a drop waits for transactions that may read the table, and for its lock. Chosen, not measured."""
LOCK_WAITS_S = 10
"""How long a change of an entity waits for transactions that have read it. Chosen, not measured."""
TENANT_WAITS_S = 10
"""How long the deletion of a tenant waits for a lock, while writers that come later wait for it. Chosen, not
measured."""
LOCK_ENTITIES = "LOCK TABLE {entities} IN ACCESS EXCLUSIVE MODE"
RENAME_ENTITY = "UPDATE {table} SET entity_name = %s WHERE entity_name = %s"
DELETE_ENTITY = "DELETE FROM {table} WHERE entity_name = %s"
DISTRIBUTED_BY = "distributed_by"
"""The key in kdb_meta."""
PLAIN_DIMENSIONS = 1_500
"""Vectors of so many dimensions fit on a page of 8 kB."""


@dataclass(eq=False)
class PostgreSQLSchema:
    _engine: Engine
    _connections: PostgreSQLConnections
    _templates: Templates
    _tables: Tables
    _postings: PostgreSQLPostings
    _settings: Settings
    _policies: PostgreSQLPolicies

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        if not self._has_table(connection, "meta"):
            if self._has_table(connection, "search"):
                check_version(None)
            return False
        self._settings.check(connection, "schema=")
        has_pgvector = self._templates.load_extensions(connection) is not None
        return not with_vectors or has_pgvector or not connection.scalar(sql.CAN_ADD_VECTOR)

    def _has_table(self, connection: Connection, name: str) -> bool:
        return bool(connection.scalar(sql.HAS_TABLE, {"name": self._templates.names[name]}))

    def create(self, connection: Connection, *, with_vectors: bool) -> None:
        """Under a lock: two processes that start together both find the tables made."""
        connection.exec_driver_sql(sql.NO_SNAPSHOT)
        connection.execute(sql.LOCK, {"what": "tables"})
        if self.check(connection, with_vectors=with_vectors):
            return
        schema = self._templates.schema
        if schema and not connection.scalar(sql.HAS_SCHEMA, {"name": schema}):
            connection.execute(CreateSchema(schema))
        self._tables.metadata.create_all(connection)
        for statement in sql.CREATE:
            connection.execute(self._templates.text(statement))
        self._postings.set_up(connection)
        if self._settings.keyword_search == "server":
            for statement in terms.CREATE:
                connection.execute(self._templates.text(statement))
        self._settings.write(connection)
        load = self._templates.load_extensions
        if with_vectors and load(connection) is None and connection.scalar(sql.CAN_ADD_VECTOR):
            self._add_pgvector(connection)

    def _add_pgvector(self, connection: Connection) -> None:
        try:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != NO_RIGHT:
                raise
            role, database = self._engine.url.username or "this role", self._engine.url.database
            raise VectorsUnavailable(
                f"{role} may not add pgvector to database {database}. An administrator runs there: "
                "CREATE EXTENSION vector;  Until then embedding_provider=None gives search by keywords"
            ) from error
        self._templates.load_extensions(connection)

    def old_tables(self, connection: Connection) -> OldTables:
        connection.exec_driver_sql(sql.NO_SNAPSHOT)
        connection.execute(sql.LOCK, {"what": "tables"})
        return PostgreSQLOldTables(connection, self._templates)

    # generations

    def lock_registry(self, connection: Connection, *, is_first: bool = False) -> None:
        if is_first:
            connection.exec_driver_sql(sql.NO_SNAPSHOT)
        namespace = f" {self._templates.own.namespace}" if self._templates.own.namespace else ""
        connection.execute(sql.LOCK, {"what": f"generations of {self._templates.schema}{namespace}"})

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        names = self._templates
        names.load_extensions(connection)
        for statement in (sql.CREATE_GENERATION, sql.CREATE_DOCS):
            connection.execute(names.text(statement, generation))
        if generation.dimensions <= PLAIN_DIMENSIONS:
            connection.execute(names.text(sql.STORE_PLAIN, generation))
        grants = connection.execute(names.text(sql.GRANTS, generation), {"search": names.names["search"]})
        for grant in grants.scalars().all():
            connection.exec_driver_sql(grant.replace("%", "%%"))
        self._policies.apply_to(connection, names.embedding(generation))
        if names.has_citus:
            by = self._distributed_by(connection) or citus.RECORD
            citus.distribute_generation(connection, names.names["search"], names.embedding(generation), by)

    def restore_generation(self, connection: Connection, generation: Generation) -> None:
        """Where pgvector was dropped, a table without its vectors is left."""
        connection.execute(self._templates.text(sql.DROP_GENERATION, generation))
        self.add_generation(connection, generation)

    def wait_for_readers(self) -> bool:
        return self._wait_for(sql.READERS)

    def _wait_for(self, transactions: TextClause) -> bool:
        """Waits until the present transactions are over; False if that takes too long."""
        registry = {"registry": self._templates.names["generation"]}
        with self._connections.outside_transactions() as connection:
            before = set(connection.execute(transactions, registry).scalars())
            for pause_s in pauses(READERS_WAIT_S):
                if not before & set(connection.execute(transactions, registry).scalars()):
                    return True
                time.sleep(pause_s)
        return False

    def drop_generation(self, generation: Generation) -> bool:
        """A transaction that read the registry before the generation went from it, or still sees it as it was, may name
        the table in its next statement. A build of its index waits for this one, so this one does not wait for it."""
        if not self._wait_for(sql.SNAPSHOTS):
            return False
        with self._connections.at_read_committed() as connection:
            if not connection.exec_driver_sql(self._templates.try_lock(generation)).scalar():
                return False
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{DROP_WAITS_S}s'")
            try:
                connection.execute(self._templates.text(sql.DROP_GENERATION, generation))
                connection.commit()
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != NOT_AVAILABLE:
                    raise
                return False
        return True

    def embedding_tables(self, connection: Connection) -> set[int]:
        binds = {"search": self._templates.names["search"]}
        return set(connection.execute(self._templates.own(sql.EMBEDDING_TABLES), binds).scalars())

    # fields, servers

    def index_fields(self, connection: Connection, fields: Sequence[tuple[Path, str]]) -> None:
        field_indexes.change(connection, self._templates, fields)

    def build_field_indexes(self, fields: Sequence[tuple[Path, str]]) -> bool:
        return field_indexes.build(self._connections, self._templates, fields)

    def distribute(self, connection: Connection, generations: Sequence[Generation], by: str = "record_id") -> list[str]:
        self._templates.load_extensions(connection)
        if not self._templates.has_citus:
            raise StorageError(
                "this PostgreSQL has no Citus. On a cluster an administrator runs: CREATE EXTENSION citus;  One server "
                "needs none of it"
            )
        connection.execute(sql.LOCK, {"what": "tables"})
        self.lock_registry(connection)
        names, before = self._templates.names, self._distributed_by(connection)
        if before not in (None, by):
            raise StorageError(f"the tables are distributed by {before} already: Citus distributes a table once")
        if before is None:
            connection.execute(insert(self._tables.meta), {"key": DISTRIBUTED_BY, "value": by})
        beside = [names["queue"], *self._terms, *map(self._templates.embedding, generations)]
        return citus.distribute(connection, names["search"], citus.places(by, names, beside))

    def _distributed_by(self, connection: Connection) -> str | None:
        meta = self._tables.meta.c
        return connection.scalar(select(meta.value).where(meta.key == DISTRIBUTED_BY))

    def stop_writers(self, connection: Connection) -> None:
        """In the order in which the record store writes. Who only reads goes on."""
        connection.exec_driver_sql(sql.NO_SNAPSHOT)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{TENANT_WAITS_S}s'")
        for table in ("records", "search"):
            connection.exec_driver_sql(f"LOCK TABLE {self._templates.names[table]} IN EXCLUSIVE MODE")

    def drop_tenant(self, connection: Connection, tenant: str, generations: Sequence[Generation]) -> None:
        dropping.drop_tenant(connection, self._templates, self._postings, tenant, generations)

    def lock_entities(self, connection: Connection) -> None:
        before = connection.exec_driver_sql("SELECT current_setting('lock_timeout')").scalar_one()
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_WAITS_S}s'")
        connection.execute(self._templates.text(LOCK_ENTITIES))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{before}'")

    def rename_entity(self, connection: Connection, old: str, new: str, generations: Sequence[Generation]) -> None:
        for table in self._of_records(generations):
            connection.exec_driver_sql(RENAME_ENTITY.format(table=table), (new, old))

    def drop_entity(self, connection: Connection, entity: str, generations: Sequence[Generation]) -> None:
        for table in self._of_records(generations):
            connection.exec_driver_sql(DELETE_ENTITY.format(table=table), (entity,))

    def _of_records(self, generations: Sequence[Generation]) -> list[str]:
        """The tables that have a row for each record, or several."""
        return [self._templates.names["search"], *self._terms, *map(self._templates.embedding, generations)]

    def known_entities(self, connection: Connection) -> tuple[set[str], dict[str, datetime]]:
        return known_entities(self._tables, connection)

    def add_tenanted(self, connection: Connection, entities: Sequence[str]) -> None:
        added = insert(self._tables.tenanted).on_conflict_do_nothing()
        connection.execute(added, [{"entity_name": name} for name in sorted(entities)])

    def add_class(self, connection: Connection, row: Mapping[str, Any]) -> None:
        connection.execute(insert(self._tables.classes).on_conflict_do_nothing(), row)

    @property
    def _terms(self) -> list[str]:
        """The table of `keyword_search="server"`, where the index has it."""
        return [self._templates.names["terms"]] if self._settings.keyword_search == "server" else []


def pauses(total_s: float) -> Iterator[float]:
    """Yields growing pauses in seconds, until they are `total_s` together."""
    pause_s = 0.01
    while total_s > 0:
        yield min(pause_s, total_s)
        total_s -= pause_s
        pause_s = min(2 * pause_s, 0.5)
