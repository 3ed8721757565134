"""What stands in a PostgreSQL: kameleon's tables and their language, pgvector and Citus, the vector index. Making it,
and the names that statements call it by."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, NullPool, QueuePool, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.schema import CreateSchema

from ...errors import InvalidInput, SchemaMissing, StorageError, VectorsUnavailable
from ...values import Generation
from ..ownership import own_driver
from ..protocols import IndexProgress
from ..tables import SCHEMA_VERSION, Tables, check_version, has_room, quoted_text
from ..vocabulary import COMMONEST, Vocabulary
from . import citus, hnsw
from . import statements as sql
from .errors import NO_RIGHT, NOT_AVAILABLE
from .old_tables import PostgreSQLOldTables
from .tsvector import Words

TABLES = (
    "search",
    "records",
    "embedding_cache",
    "meta",
    "generation",
    "entities",
    "queue",
    "reindex",
    "reindex_range",
    "term",
)
SMALL = ("meta", "generation", "entities", "reindex", "reindex_range", "term")
INDEXED_FROM = 10_000
SAMPLED = 500
READERS_WAIT_S, DROP_WAITS_S = 10.0, 5
MAX_VECTOR, MAX_HALFVEC = 2_000, 4_000
NAME_BYTES = 63  # PostgreSQL cuts longer names
PLAIN_DIMENSIONS = 1_500
HALFVEC_SINCE, ITERATIVE_SINCE = (0, 7), (0, 8)

log = logging.getLogger("kameleon.search")


def is_name(name: object) -> bool:
    """Whether statements can name a schema so: quoted, and in a literal between $kdb$ where they make others."""
    if not isinstance(name, str) or not 0 < len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES:
        return False
    return name.isprintable() and not set(name) & set('%:"') and "$kdb$" not in name


class PgVector(NamedTuple):
    """The extension: `schema` is quoted."""

    schema: str
    version: tuple[int, ...]


class Schema:
    """`m` and `ef_construction` are those of an HNSW index that is built from now on."""

    def __init__(self, engine: Engine, schema: str | None, language: str | None, m: int, ef_construction: int) -> None:
        for what, name in (("schema", schema), ("language", language)):
            if name is not None and not is_name(name):
                raise InvalidInput(
                    f'{what} is a name of at most {NAME_BYTES} bytes without %, :, " and $kdb$, not {name!r:.80}'
                )
        self.tables = Tables(schema)
        self.vocabulary = Vocabulary(self.tables, self._commonest)
        self._engine = engine
        self._schema = schema
        self._wanted_language = language
        self._language: str | None = None
        self._words: Words | None = None
        self._m, self._ef_construction = m, ef_construction
        self._pgvector: PgVector | None = None
        self._has_citus = False
        self._prefix = f'"{schema}".' if schema else ""
        self._names = {name: f"{self._prefix}kdb_{name}" for name in TABLES}

    # create

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        if not self._has_table(connection, "meta"):
            if self._has_table(connection, "search"):
                check_version(None)
            return False
        settings = self._read_settings(connection)
        check_version(settings.get("schema_version"))
        if self._wanted_language and self._language != self._known_language(connection, self._wanted_language):
            raise InvalidInput(
                f"this index reads texts as {self._language!r}; language={self._wanted_language!r} would not find "
                "them. Leave language out, or make an index of your own in another schema="
            )
        has_pgvector = self._load_extensions(connection) is not None
        return not with_vectors or has_pgvector or not connection.scalar(sql.CAN_ADD_VECTOR)

    def _has_table(self, connection: Connection, name: str) -> bool:
        return bool(connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": self._names[name]}))

    def create(self, connection: Connection, *, with_vectors: bool) -> None:
        """Under a lock: two processes that start together both find the tables made."""
        connection.exec_driver_sql(sql.NO_SNAPSHOT)
        connection.execute(sql.LOCK, {"what": "tables"})
        if self.check(connection, with_vectors=with_vectors):
            return
        language = self._known_language(connection, self._wanted_language or "english")
        if self._schema and not connection.scalar(sql.HAS_SCHEMA, {"name": self._schema}):
            connection.execute(CreateSchema(self._schema))
        self.tables.metadata.create_all(connection)
        for statement in sql.CREATE:
            connection.execute(self._text(statement))
        self._language = language
        settings = self._read_settings(connection)
        meta = self.tables.meta
        self.vocabulary.forget()
        for key, value in (("schema_version", str(SCHEMA_VERSION)), ("language", language)):
            if settings.get(key) != value:
                connection.execute(meta.delete().where(meta.c.key == key))
                connection.execute(meta.insert(), {"key": key, "value": value})
        if with_vectors and self._load_extensions(connection) is None and connection.scalar(sql.CAN_ADD_VECTOR):
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
        self._load_extensions(connection)

    def _known_language(self, connection: Connection, wanted: str) -> str:
        known = connection.execute(sql.LANGUAGES).all()
        for row in known:
            if wanted in (row.name, row.cfgname, f"{row.nspname}.{row.cfgname}"):
                return str(row.name)
        raise InvalidInput(
            f"PostgreSQL has no text search configuration {wanted!r:.80}. It has: "
            f"{', '.join(sorted(row.name for row in known))}"
        )

    def _read_settings(self, connection: Connection) -> dict[str, str]:
        meta = self.tables.meta
        settings = {row.key: row.value for row in connection.execute(meta.select())}
        self._language = settings.get("language", self._language)
        if self._language:
            self._words = Words(self._language)
        return settings

    def _load_extensions(self, connection: Connection) -> PgVector | None:
        for name, version, schema in connection.execute(sql.EXTENSIONS):
            if name == "vector":
                self._pgvector = PgVector(schema, tuple(int(part) for part in re.findall(r"\d+", version)))
            else:
                self._has_citus = True
        return self._pgvector

    # generations

    def old_tables(self, connection: Connection) -> PostgreSQLOldTables:
        connection.exec_driver_sql(sql.NO_SNAPSHOT)
        connection.execute(sql.LOCK, {"what": "tables"})
        return PostgreSQLOldTables(connection, self._prefix)

    def lock_registry(self, connection: Connection, *, is_first: bool = False) -> None:
        if is_first:
            connection.exec_driver_sql(sql.NO_SNAPSHOT)
        connection.execute(sql.LOCK, {"what": f"generations of {self._schema}"})

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        self._load_extensions(connection)
        connection.execute(self._text(sql.CREATE_GENERATION, generation))
        if generation.dimensions <= PLAIN_DIMENSIONS:
            connection.execute(self._text(sql.STORE_PLAIN, generation))
        grants = connection.execute(self._text(sql.GRANTS, generation), {"search": self._names["search"]})
        for grant in grants.scalars().all():
            connection.exec_driver_sql(grant.replace("%", "%%"))
        if self._has_citus:
            citus.distribute_generation(connection, self._names["search"], self._embedding(generation))

    def wait_for_readers(self) -> bool:
        return self._outlasted(sql.READERS)

    def _outlasted(self, who: TextClause) -> bool:
        """Whether those who are there now are gone in time."""
        registry = {"registry": self._names["generation"]}
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            before = set(connection.execute(who, registry).scalars())
            for pause_s in pauses(READERS_WAIT_S):
                if not before & set(connection.execute(who, registry).scalars()):
                    return True
                time.sleep(pause_s)
        return False

    def drop_generation(self, generation: Generation) -> bool:
        """Whoever read the registry before the generation went from it, or goes on seeing it as it was, may name the
        table in his next statement. One who builds its index waits for us, so we do not wait for him."""
        if not self._outlasted(sql.SNAPSHOTS):
            return False
        with self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            name = self._embedding(generation).replace("'", "''")
            if not connection.exec_driver_sql(sql.TRY_LOCK.format(name=name)).scalar():
                return False
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{DROP_WAITS_S}s'")
            try:
                connection.execute(self._text(sql.DROP_TABLE, generation))
                connection.commit()
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != NOT_AVAILABLE:
                    raise
                return False
        return True

    def index_fields(self, connection: Connection, names: Sequence[str]) -> None:
        """A filter is a jsonpath, for which there is no index: it reads the records of its entities."""

    def refusal(self, connection: Connection, dimensions: int) -> str:
        if dimensions > MAX_HALFVEC:
            raise VectorsUnavailable(
                f"the model makes {dimensions:,} dimensions, pgvector indexes {MAX_HALFVEC:,} at most. Ask the model "
                "for fewer (OpenAIProvider(dimensions=1024)), or use another"
            )
        found = self._pgvector or self._load_extensions(connection)
        if found is None:
            return (
                "PostgreSQL has no pgvector here. An administrator installs its package on the server and runs in this "
                "database: CREATE EXTENSION vector;  then `kameleon embeddings sync` fills what is pending"
            )
        if dimensions > MAX_VECTOR and found.version < HALFVEC_SINCE:
            return (
                f"{dimensions:,} dimensions need pgvector 0.7 or later, this is "
                f"{'.'.join(map(str, found.version))}. An administrator runs: ALTER EXTENSION vector UPDATE;"
            )
        return ""

    def distribute(self, connection: Connection, generations: Sequence[Generation]) -> list[str]:
        self._load_extensions(connection)
        if not self._has_citus:
            raise StorageError(
                "this PostgreSQL has no Citus. On a cluster an administrator runs: CREATE EXTENSION citus;  One server "
                "needs none of it"
            )
        connection.execute(sql.LOCK, {"what": "tables"})
        self.lock_registry(connection)
        return citus.distribute(
            connection,
            self._names["search"],
            small=[self._names[name] for name in SMALL],
            records=self._names["records"],
            cache=self._names["embedding_cache"],
            beside=[self._names["queue"], *(self._embedding(generation) for generation in generations)],
        )

    # the vector index

    def vector_index(self, connection: Connection, generation: Generation) -> str:
        state = connection.execute(sql.HNSW_STATE, {"hnsw": self._hnsw(generation)}).one_or_none()
        if state is None:
            return "exact"
        if state.indisvalid:
            return "hnsw"
        return "hnsw is being built" if state.is_building else "hnsw is broken: `kameleon embeddings sync` rebuilds it"

    def index_vectors(
        self,
        generation: Generation,
        *,
        concurrently: bool = True,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> bool:
        """On a connection outside any transaction, as CONCURRENTLY asks. Another holds the lock meanwhile, in a
        transaction that touches nothing else, for a session's own lock would stay with a pooler; one that kept a
        snapshot would be waited for. Where there is nothing to build one connection will do."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if self._count_embeddings(connection, generation, INDEXED_FROM) < INDEXED_FROM:
                return False
        with self._engine.connect().execution_options(isolation_level="READ COMMITTED") as guard:
            name = self._embedding(generation).replace("'", "''")
            guard.exec_driver_sql(sql.NO_IDLE_LIMIT)
            if not guard.exec_driver_sql(sql.TRY_LOCK.format(name=name)).scalar():
                return False
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return self._build_index(connection, generation, concurrently, progress)

    def _build_index(
        self,
        connection: Connection,
        generation: Generation,
        concurrently: bool,
        progress: Callable[[IndexProgress], None] | None,
    ) -> bool:
        state = connection.execute(sql.HNSW_STATE, {"hnsw": self._hnsw(generation)}).one_or_none()
        if state is not None and (state.indisvalid or state.is_building):
            return False
        self._load_extensions(connection)
        started = time.perf_counter()
        build = partial(self._create_index, connection, generation, concurrently, has_leftover=state is not None)
        self._watched(build, connection, generation, progress)
        for statement in (sql.ANALYZE_EMBEDDING, sql.ANALYZE_SEARCH):
            connection.execute(self._text(statement, generation))
        log.info("vector_index:built generation=%d seconds=%.1f", generation.number, time.perf_counter() - started)
        return self.vector_index(connection, generation) == "hnsw"

    def _watched(
        self,
        build: Callable[[], None],
        connection: Connection,
        generation: Generation,
        progress: Callable[[IndexProgress], None] | None,
    ) -> None:
        watcher = self._spare_connection() if progress is not None else None
        if progress is None or watcher is None:
            build()
            return
        with watcher:
            hnsw.watch(build, connection, partial(hnsw.seen_from, watcher, self._embedding(generation)), progress)

    def _spare_connection(self) -> Connection | None:
        """Outside any transaction: a build waits for snapshots."""
        if not self.has_spare_connection():
            return None
        try:
            return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except (DBAPIError, PoolTimeout) as error:
            log.info("vector_index:unwatched error=%s", error)
            return None

    def _create_index(
        self, connection: Connection, generation: Generation, concurrently: bool, *, has_leftover: bool
    ) -> None:
        session = hnsw.session_of(connection)
        if concurrently and session.is_pooled:
            self._replace_index(connection, generation, concurrently, has_leftover)
            return
        settings = hnsw.wanted(
            session, self._graph_bytes(connection, generation), self._pgvector.version if self._pgvector else ()
        )
        raised = hnsw.in_session if concurrently else hnsw.in_transaction
        try:
            with raised(connection, session, settings):
                self._replace_index(connection, generation, concurrently, has_leftover)
        except DBAPIError as error:
            if not settings[hnsw.WORKERS] or not hnsw.is_short_of_shared_memory(error.orig):
                raise
            log.warning("vector_index:built without parallel workers, for PostgreSQL says: %s", error.orig)
            with raised(connection, session, settings | {hnsw.WORKERS: 0}):
                self._replace_index(connection, generation, concurrently, has_leftover or concurrently)

    def _replace_index(
        self, connection: Connection, generation: Generation, concurrently: bool, has_leftover: bool
    ) -> None:
        how = "CONCURRENTLY" if concurrently else ""
        driver = own_driver(connection)
        driver.add_notice_handler(warn_of_notice)
        try:
            for statement in (sql.DROP_HNSW, sql.CREATE_HNSW) if has_leftover else (sql.CREATE_HNSW,):
                connection.execute(self._text(statement, generation, concurrently=how))
        finally:
            driver.remove_notice_handler(warn_of_notice)

    def _graph_bytes(self, connection: Connection, generation: Generation) -> int:
        a_row = hnsw.bytes_a_row(generation.dimensions, 2 if generation.dimensions > MAX_VECTOR else 4, self._m)
        with own_driver(connection).transaction():
            connection.exec_driver_sql(sql.NO_TIME_LIMIT)
            return a_row * self._count_embeddings(connection, generation, hnsw.most_rows(a_row))

    def _count_embeddings(self, connection: Connection, generation: Generation, many: int) -> int:
        """No further than `many`."""
        return connection.scalar(self._text(sql.COUNT_EMBEDDINGS, generation), {"many": many}) or 0

    def has_spare_connection(self) -> bool:
        pool = self._engine.pool
        return isinstance(pool, NullPool) or (isinstance(pool, QueuePool) and has_room(pool))

    # names

    def _reader(self, connection: Connection) -> Words:
        if self._words is None:
            self._read_settings(connection)
        if self._words is None:
            raise SchemaMissing("kameleon's tables are not in this database. SearchEngine(engine) makes them")
        return self._words

    def _commonest(self, connection: Connection, prefix: str) -> list[str]:
        first = next(iter(self._words.asked(prefix)), "") if self._words else ""
        binds = {"first": first, "begins": f"'{first}':*", "sampled": SAMPLED, "most": COMMONEST}
        return list(connection.execute(self._text(sql.COMMONEST), binds).scalars()) if first else []

    def _embedding(self, generation: Generation) -> str:
        return f"{self._prefix}kdb_embedding_g{generation.number}"

    def _hnsw(self, generation: Generation) -> str:
        return f"{self._embedding(generation)}_hnsw"

    def _text(self, template: str, generation: Generation | None = None, **more: str) -> TextClause:
        return text(self._format(template, generation, **more))

    def _format(self, template: str, generation: Generation | None = None, **more: str) -> str:
        names = {**self._names, "language": f"CAST({quoted_text(self._language or '')} AS regconfig)"}
        if generation is not None:
            names |= {
                "embedding": self._embedding(generation),
                "dimensions": str(generation.dimensions),
                "hnsw": self._hnsw(generation),
                "hnsw_name": f"kdb_embedding_g{generation.number}_hnsw",
                "m": str(self._m),
                "ef_construction": str(self._ef_construction),
            }
            if self._pgvector is not None:
                kind = "halfvec" if generation.dimensions > MAX_VECTOR else "vector"
                names["vector"] = f"{self._pgvector.schema}.{kind}"
                names["ip"] = f"OPERATOR({self._pgvector.schema}.<#>)"
        return template.format(**names, **more)


def pauses(total_s: float) -> Iterator[float]:
    """Growing pauses in seconds, until they are `total_s` together."""
    pause_s = 0.01
    while total_s > 0:
        yield min(pause_s, total_s)
        total_s -= pause_s
        pause_s = min(2 * pause_s, 0.5)


def warn_of_notice(notice: Any) -> None:
    """pgvector says so when a graph outgrows maintenance_work_mem and the build becomes slow."""
    log.warning("vector_index: PostgreSQL says: %s %s", notice.message_primary, notice.message_hint or "")
