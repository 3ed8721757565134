"""The tables in PostgreSQL, pgvector and Citus: made, checked, dropped. Imports `values` and `errors`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from ...errors import InvalidInput, StorageError, VectorsUnavailable
from ...values import Generation
from ..old_tables import OldTables
from ..tables import SCHEMA_VERSION, Tables, check_version
from . import citus
from . import statements as sql
from .connections import PostgreSQLConnections
from .errors import NO_RIGHT, NOT_AVAILABLE
from .keywords import PostgreSQLKeywords
from .old_tables import PostgreSQLOldTables
from .templates import Templates

SMALL = ("meta", "generation", "entities", "reindex", "reindex_range", "term")
"""The tables that a cluster keeps on each server."""
READERS_WAIT_S, DROP_WAITS_S = 10.0, 5
"""How long a drop waits for transactions that may read the table, and for its lock. Chosen, not measured."""
PLAIN_DIMENSIONS = 1_500
"""Vectors of so many dimensions fit on a page of 8 kB."""


@dataclass(eq=False)
class PostgreSQLSchema:
    """`language` is the one requested, None for that of the index."""

    _engine: Engine
    _connections: PostgreSQLConnections
    _templates: Templates
    _tables: Tables
    _keywords: PostgreSQLKeywords
    _language: str | None

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        if not self._has_table(connection, "meta"):
            if self._has_table(connection, "search"):
                check_version(None)
            return False
        settings = self._keywords.read_settings(connection)
        check_version(settings.get("schema_version"))
        language = self._templates.language
        if self._language and language != known_language(connection, self._language):
            raise InvalidInput(
                f"this index reads texts as {language!r}; language={self._language!r} would not find them. Leave "
                "language out, or make an index of your own in another schema="
            )
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
        language = known_language(connection, self._language or "english")
        schema = self._templates.schema
        if schema and not connection.scalar(sql.HAS_SCHEMA, {"name": schema}):
            connection.execute(CreateSchema(schema))
        self._tables.metadata.create_all(connection)
        for statement in sql.CREATE:
            connection.execute(self._templates.text(statement))
        self._keywords.vocabulary.forget()
        self._write_settings(connection, {"schema_version": str(SCHEMA_VERSION), "language": language})
        load = self._templates.load_extensions
        if with_vectors and load(connection) is None and connection.scalar(sql.CAN_ADD_VECTOR):
            self._add_pgvector(connection)

    def _write_settings(self, connection: Connection, settings: dict[str, str]) -> None:
        meta = self._tables.meta
        self._templates.language = settings["language"]
        present = self._keywords.read_settings(connection)
        for key, value in settings.items():
            if present.get(key) != value:
                connection.execute(meta.delete().where(meta.c.key == key))
                connection.execute(meta.insert(), {"key": key, "value": value})

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
        return PostgreSQLOldTables(connection, self._templates.prefix)

    # generations

    def lock_registry(self, connection: Connection, *, is_first: bool = False) -> None:
        if is_first:
            connection.exec_driver_sql(sql.NO_SNAPSHOT)
        connection.execute(sql.LOCK, {"what": f"generations of {self._templates.schema}"})

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        names = self._templates
        names.load_extensions(connection)
        connection.execute(names.text(sql.CREATE_GENERATION, generation))
        if generation.dimensions <= PLAIN_DIMENSIONS:
            connection.execute(names.text(sql.STORE_PLAIN, generation))
        grants = connection.execute(names.text(sql.GRANTS, generation), {"search": names.names["search"]})
        for grant in grants.scalars().all():
            connection.exec_driver_sql(grant.replace("%", "%%"))
        if names.has_citus:
            citus.distribute_generation(connection, names.names["search"], names.embedding(generation))

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
        return set(connection.execute(sql.EMBEDDING_TABLES, binds).scalars())

    # fields, servers

    def index_fields(self, connection: Connection, names: Sequence[str]) -> None:
        """A filter is a jsonpath, for which there is no index: it reads the records of its entities."""

    def distribute(self, connection: Connection, generations: Sequence[Generation]) -> list[str]:
        self._templates.load_extensions(connection)
        if not self._templates.has_citus:
            raise StorageError(
                "this PostgreSQL has no Citus. On a cluster an administrator runs: CREATE EXTENSION citus;  One server "
                "needs none of it"
            )
        connection.execute(sql.LOCK, {"what": "tables"})
        self.lock_registry(connection)
        names = self._templates.names
        return citus.distribute(
            connection,
            names["search"],
            small=[names[name] for name in SMALL],
            records=names["records"],
            cache=names["embedding_cache"],
            beside=[names["queue"], *map(self._templates.embedding, generations)],
        )


def known_language(connection: Connection, wanted: str) -> str:
    """Returns the text search configuration of a name. Raises InvalidInput."""
    known = connection.execute(sql.LANGUAGES).all()
    for row in known:
        if wanted in (row.name, row.cfgname, f"{row.nspname}.{row.cfgname}"):
            return str(row.name)
    raise InvalidInput(
        f"PostgreSQL has no text search configuration {wanted!r:.80}. It has: "
        f"{', '.join(sorted(row.name for row in known))}"
    )


def pauses(total_s: float) -> Iterator[float]:
    """Yields growing pauses in seconds, until they are `total_s` together."""
    pause_s = 0.01
    while total_s > 0:
        yield min(pause_s, total_s)
        total_s -= pause_s
        pause_s = min(2 * pause_s, 0.5)
