"""PostgreSQL's side of the seam: a tsvector with BM25 for keywords, pgvector for embeddings.

Keys are the records' own (`Ref`): no surrogate, so that Citus can distribute every table by `record_id`. Nothing here
needs a trigger, a lock that search would wait for, or state that outlives a transaction.

BM25 needs how often a term stands in a record. `ts_rank` of one term is, in C, the sum of 1/i² for i from 1 to that
number, over π²/6: a number of its own for each count up to the 255 positions that a tsvector keeps, so the count is
read back from it. Unnesting the tsvector for the same takes three times as long.
"""

import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple, cast

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Connection, Engine, NullPool, QueuePool, TextClause, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from ..content import analyze
from ..errors import InvalidInput, SchemaMissing, StorageError, VectorsUnavailable
from ..values import Failure, Generation, IndexStatus, Ref
from . import citus, pgcopy
from .bm25 import K1, QUERY_TERMS, QUERY_WORDS, B, best_first, cheapest, weight
from .filters import Filter
from .highlighting import MARKED_CHARACTERS, cjk_pairs, merge, places
from .postgresql_errors import NO_RIGHT, storage_error
from .postgresql_where import condition
from .store import Cached, Candidates, Embedding, Entry, Hit, Key, Scope, Spans, State, Term
from .tables import SCHEMA_VERSION, Tables, parts, too_new, utc
from .tsvector import Words

TABLES = ("search", "records", "embedding_cache", "meta", "generation", "entities")
ROWS_A_STATEMENT = 1_000
ROWS_A_COPY = 4_000
IDS_A_STATEMENT = 10_000
POSTINGS = 5_000
NARROW = 10_000
INDEXED_FROM = 10_000
MAX_VECTOR, MAX_HALFVEC = 2_000, 4_000
PLAIN_DIMENSIONS = 1_500
MAX_EF_SEARCH = 1_000
ROWS_A_SECOND_OF_LAG = 40_000
ALWAYS_COUNTED = 10_000
HALFVEC_SINCE, ITERATIVE_SINCE = (0, 7), (0, 8)

log = logging.getLogger("kameleon.search")

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS {search} (
      entity_name text COLLATE "C" NOT NULL,
      record_id text COLLATE "C" NOT NULL,
      content text NOT NULL,
      terms tsvector NOT NULL,
      n_terms integer NOT NULL,
      content_hash text NOT NULL,
      created_at timestamptz NOT NULL,
      updated_at timestamptz NOT NULL,
      PRIMARY KEY (entity_name, record_id)
    )
    """,
    "CREATE INDEX IF NOT EXISTS kdb_search_terms ON {search} USING gin (terms)",
)

CREATE_GENERATION = """
    CREATE TABLE {embedding} (
      entity_name text COLLATE "C" NOT NULL,
      record_id text COLLATE "C" NOT NULL,
      passage integer NOT NULL DEFAULT 0,
      content_hash text NOT NULL,
      embedding {vector}({dimensions}),
      reason text,
      message text,
      attempts integer NOT NULL DEFAULT 1,
      updated_at timestamptz NOT NULL,
      PRIMARY KEY (entity_name, record_id, passage)
    )
"""
STORE_PLAIN = "ALTER TABLE {embedding} ALTER COLUMN embedding SET STORAGE PLAIN"
CREATE_HNSW = """
    CREATE INDEX CONCURRENTLY IF NOT EXISTS {hnsw_name} ON {embedding}
    USING hnsw (embedding {vector}_ip_ops) WITH (m = {m}, ef_construction = {ef_construction})
"""
HNSW_STATE = text("""
    SELECT i.indisvalid, p.pid IS NOT NULL AS is_building
    FROM pg_index AS i LEFT JOIN pg_stat_progress_create_index AS p ON p.index_relid = i.indexrelid
    WHERE i.indexrelid = to_regclass(:hnsw)
""")

LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('kameleon ' || :what, 0))")
EXTENSIONS = text("""
    SELECT e.extname, e.extversion, quote_ident(n.nspname) AS schema
    FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname IN ('vector', 'citus')
""")
CAN_ADD_VECTOR = text("""
    SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector')
      AND NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'
""")
LANGUAGES = text(
    "SELECT CAST(CAST(c.oid AS regconfig) AS text) AS name, nspname, cfgname FROM pg_ts_config AS c "
    "JOIN pg_namespace AS n ON n.oid = c.cfgnamespace ORDER BY 1"
)

STATES = """
    SELECT s.record_id, s.content_hash, {embedded} AS embedded_hash
    FROM {search} AS s {join}
    WHERE s.entity_name = :entity AND s.record_id = ANY(:ids)
"""

COLUMNS = ("entity_name", "record_id", "content", "terms", "n_terms", "content_hash", "created_at", "updated_at")
UPSERT = """
    INSERT INTO {search} (entity_name, record_id, content, terms, n_terms, content_hash, created_at, updated_at)
    {rows}
    ON CONFLICT (entity_name, record_id) DO UPDATE SET content = excluded.content, terms = excluded.terms,
      n_terms = excluded.n_terms, content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""
ROW = "(%s, %s, %s, to_tsvector({language}, %s), %s, %s, %s, %s)"
LOADED = (
    "SELECT entity_name, record_id, content, to_tsvector({language}, words), n_terms, content_hash, updated_at, "
    "updated_at FROM kdb_loading ORDER BY entity_name, record_id"
)
LOADING = """
    CREATE TEMPORARY TABLE kdb_loading (
      entity_name text COLLATE "C", record_id text COLLATE "C", content text, words text, n_terms integer,
      content_hash text, updated_at timestamptz
    ) ON COMMIT DROP
"""
LOADING_COLUMNS = ("entity_name", "record_id", "content", "words", "content_hash", "n_terms", "updated_at")

UPSERT_EMBEDDING = """
    INSERT INTO {embedding} AS e
      (entity_name, record_id, passage, content_hash, embedding, reason, message, attempts, updated_at)
    {rows}
    ON CONFLICT (entity_name, record_id, passage) DO UPDATE
    SET embedding = excluded.embedding, reason = excluded.reason, message = excluded.message,
        attempts = CASE WHEN e.content_hash = excluded.content_hash THEN e.attempts + 1 ELSE 1 END,
        content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""
EMBEDDING_ROW = "(%s, %s, 0, %s, CAST(%s AS {vector}), %s, %s, 1, %s)"
EMBEDDING_COLUMNS = ("entity_name", "record_id", "content_hash", "updated_at", "embedding", "reason", "message")
EMBEDDINGS_LOADED = "SELECT * FROM kdb_loading_embedding ORDER BY entity_name, record_id"
LOADING_EMBEDDING = "CREATE TEMPORARY TABLE kdb_loading_embedding (LIKE {embedding} INCLUDING DEFAULTS) ON COMMIT DROP"
ANY_EMBEDDING = "SELECT 1 FROM {embedding} WHERE entity_name = :entity AND record_id = ANY(:ids) LIMIT 1"

DELETE_STALE = """
    DELETE FROM {embedding} AS e USING {search} AS s
    WHERE s.entity_name = :entity AND s.record_id = ANY(:ids)
      AND e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.content_hash <> s.content_hash
"""
DELETE = "DELETE FROM {table} WHERE entity_name = :entity AND record_id = ANY(:ids)"

# A lexeme is quoted before it becomes a tsquery: a dictionary may make one of anything.
QUOTED = "('''' || replace(replace(a.lexeme, '\\', '\\\\'), '''', '''''') || '''')"
TERMS = """
    WITH asked AS MATERIALIZED (
      SELECT l.lexeme, min(w.place) AS place, sum(w.times) AS times
      FROM unnest(CAST(:words AS text[]), CAST(:times AS integer[])) WITH ORDINALITY AS w(word, times, place),
        unnest(to_tsvector({language}, w.word)) AS l
      GROUP BY l.lexeme
    )
    SELECT a.lexeme, a.place, a.times, count(*) AS rows{totals}
    FROM asked AS a JOIN {search} AS s ON s.terms @@ CAST({quoted} AS tsquery)
    GROUP BY a.lexeme, a.place, a.times
    ORDER BY rows, a.lexeme
"""
TOTALS = ", (SELECT count(*) FROM {search}) AS all_rows, (SELECT sum(n_terms) FROM {search}) AS all_terms"

BM25 = """(
      SELECT sum(t.weight * t.times / (t.times + :floor + :slope * s.n_terms)) FROM (
        SELECT a.weight,
          round(1 / (1.64493406685 * (1 - CAST(ts_rank('{{1, 1, 1, 1}}', s.terms, a.term) AS float8))) - 0.55) AS times
        FROM unnest(CAST(:{terms} AS tsquery[]), CAST(:{weights} AS float8[])) AS a(term, weight)
      ) AS t
    )"""
BY_KEYWORD = """
    WITH few AS MATERIALIZED (
      SELECT s.entity_name, s.record_id, {score} AS score FROM {search} AS s
      WHERE s.terms @@ CAST(:chosen AS tsquery) AND {scope}
      ORDER BY score DESC, s.entity_name, s.record_id LIMIT :limit
    )
"""
ALL_CHOSEN = "SELECT entity_name, record_id, score, false AS is_wide FROM few"
WIDER = """
    SELECT few.entity_name, few.record_id, {full_score} AS score, false AS is_wide
    FROM few JOIN {search} AS s ON s.entity_name = few.entity_name AND s.record_id = few.record_id
    WHERE (SELECT count(*) FROM few) >= :enough
    UNION ALL (
      SELECT s.entity_name, s.record_id, {full_score} AS score, true FROM {search} AS s
      WHERE s.terms @@ CAST(:any AS tsquery) AND {scope} AND (SELECT count(*) FROM few) < :enough
      ORDER BY score DESC, s.entity_name, s.record_id LIMIT :limit
    )
"""

# `near` is what the planner makes of it: the HNSW index, or an exact scan where that is cheaper or there is no index.
# HNSW may run dry before a filter's matches are found, and a narrow filter is not left to it: then `whole` sees all.
BY_VECTOR = """
    WITH index AS MATERIALIZED (
      SELECT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:hnsw) AND indisvalid) AS is_there
    ), {narrow} near AS MATERIALIZED (
      SELECT e.entity_name, e.record_id, e.content_hash, e.embedding {ip} CAST(:vector AS {vector}) AS distance
      FROM {embedding} AS e
      WHERE e.embedding IS NOT NULL AND {scope} {if_wide}
      ORDER BY e.embedding {ip} CAST(:vector AS {vector}) LIMIT :limit
    ), whole AS MATERIALIZED (
      SELECT e.entity_name, e.record_id, e.content_hash, e.embedding {ip} CAST(:vector AS {vector}) AS distance
      FROM {embedding} AS e
      WHERE e.embedding IS NOT NULL AND {scope}
        AND (SELECT is_there FROM index) AND (SELECT count(*) FROM near) < :limit
      ORDER BY (e.embedding {ip} CAST(:vector AS {vector})) + 0 LIMIT :limit
    ), nearest AS MATERIALIZED (
      SELECT * FROM near WHERE NOT EXISTS (SELECT 1 FROM whole) UNION ALL SELECT * FROM whole
    )
    SELECT s.entity_name, s.record_id, -n.distance AS cosine, {score} AS score, true AS is_nearest,
      (SELECT is_there FROM index) AND NOT EXISTS (SELECT 1 FROM whole) AS is_hnsw
    FROM nearest AS n
      JOIN {search} AS s ON s.entity_name = n.entity_name AND s.record_id = n.record_id
        AND s.content_hash = n.content_hash
"""
OTHERS = """
    UNION ALL
    SELECT s.entity_name, s.record_id, -(e.embedding {ip} CAST(:vector AS {vector})), NULL, false, false
    FROM unnest(CAST(:entities AS text[]), CAST(:ids AS text[])) AS k(entity_name, record_id)
      JOIN {embedding} AS e ON e.entity_name = k.entity_name AND e.record_id = k.record_id AND e.embedding IS NOT NULL
      JOIN {search} AS s ON s.entity_name = e.entity_name AND s.record_id = e.record_id
        AND s.content_hash = e.content_hash
"""
ALLOWED = """allowed AS MATERIALIZED (
      SELECT 1 FROM {records} WHERE {condition} LIMIT :narrow
    ),"""
IF_WIDE = "AND (NOT (SELECT is_there FROM index) OR (SELECT count(*) FROM allowed) = :narrow)"

HITS = """
    SELECT s.entity_name, s.record_id, s.content, r.data
    FROM unnest(CAST(:entities AS text[]), CAST(:ids AS text[])) AS k(entity_name, record_id)
      JOIN {search} AS s ON s.entity_name = k.entity_name AND s.record_id = k.record_id
      LEFT JOIN {records} AS r ON r.entity_name = s.entity_name AND r.id = s.record_id
"""
SAME_STEM = """
    SELECT w.word FROM unnest(CAST(:words AS text[])) AS w(word)
    WHERE tsvector_to_array(to_tsvector({language}, w.word)) && (
      SELECT array_agg(l.lexeme) FROM unnest(CAST(:asked AS text[])) AS q, unnest(to_tsvector({language}, q)) AS l
    )
"""

CACHED = """
    SELECT text_hash, embedding, used_at FROM {embedding_cache}
    WHERE text_hash = ANY(:keys) AND fingerprint = :fingerprint
"""

STATUS = """
    SELECT s.entity_name, count(*) AS indexed, max(s.updated_at) AS last_updated,
      count(*) FILTER (WHERE {pending}) AS pending, count(*) FILTER (WHERE {failed}) AS failed
    FROM {search} AS s {join}
    GROUP BY s.entity_name ORDER BY s.entity_name
"""
JOIN_EMBEDDING = """
    LEFT JOIN {embedding} AS e ON e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.passage = 0
"""
IS_PENDING = "s.content_hash <> '' AND (e.record_id IS NULL OR e.content_hash <> s.content_hash)"
IS_FAILED = "e.record_id IS NOT NULL AND e.content_hash = s.content_hash AND e.embedding IS NULL"
PENDING = """
    SELECT s.entity_name, s.record_id, s.content, s.content_hash
    FROM {search} AS s {join}
    WHERE (s.entity_name, s.record_id) > (:entity, :id) AND {condition}
    ORDER BY s.entity_name, s.record_id LIMIT :limit
"""
FAILURES = """
    SELECT s.entity_name, s.record_id, e.reason, e.message, e.attempts
    FROM {search} AS s {join}
    WHERE {condition} ORDER BY s.entity_name, s.record_id
"""


class PgVector(NamedTuple):
    """`schema` is quoted."""

    schema: str
    version: tuple[int, ...]


class Packed:
    """A vector in pgvector's wire format, for a parameter whose type the statement says."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed) -> bytes:
        return obj.data


class PostgreSQLStore:
    def __init__(
        self,
        engine: Engine,
        *,
        schema: str | None = None,
        language: str | None = None,
        m: int = 16,
        ef_construction: int = 64,
        ef_search: int = 600,
    ) -> None:
        for name, value, least, most in (
            ("m", m, 2, 100),
            ("ef_construction", ef_construction, 2 * m, 1_000),
            ("ef_search", ef_search, 1, MAX_EF_SEARCH),
        ):
            if not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(f"{name} is a whole number from {least} to {most}, not {value!r:.40}")
        self.tables = Tables(schema)
        self._engine = engine
        self._schema = schema
        self._wanted_language = language
        self._language: str | None = None
        self._m, self._ef_construction, self._ef_search = m, ef_construction, ef_search
        self._words: Words | None = None
        self._pgvector: PgVector | None = None
        self._has_citus = False
        self._has_temp: bool | None = None
        self._totals: tuple[int, int] | None = None
        self._totals_until = 0.0
        quote = engine.dialect.identifier_preparer.quote
        self._prefix = f"{quote(schema)}." if schema else ""
        self._names = {name: f"{self._prefix}kdb_{name}" for name in TABLES}

    # create

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        if not connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": self._names["meta"]}):
            return False
        settings = self._read_settings(connection)
        too_new(settings.get("schema_version"))
        self._load_extensions(connection)
        if self._wanted_language and self._language != self._known_language(connection, self._wanted_language):
            raise InvalidInput(
                f"this index reads texts as {self._language!r}; language={self._wanted_language!r} would not find "
                "them. Leave language out, or make an index of your own in another schema="
            )
        return not with_vectors or self._pgvector is not None or not connection.scalar(CAN_ADD_VECTOR)

    def create(self, connection: Connection, *, with_vectors: bool) -> None:
        """Under a lock: two processes that start together both find the tables made."""
        connection.execute(LOCK, {"what": "tables"})
        if self.check(connection, with_vectors=with_vectors):
            return
        language = self._known_language(connection, self._wanted_language or "english")
        if self._schema and not connection.scalar(
            text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": self._schema}
        ):
            connection.execute(CreateSchema(self._schema))
        self.tables.metadata.create_all(connection)
        for statement in CREATE:
            connection.execute(text(statement.format(**self._names)))
        settings = self._read_settings(connection)
        for key, value in (("schema_version", str(SCHEMA_VERSION)), ("language", language)):
            if key not in settings:
                connection.execute(self.tables.meta.insert(), {"key": key, "value": value})
        self._read_settings(connection)
        self._load_extensions(connection)
        if with_vectors and self._pgvector is None and connection.scalar(CAN_ADD_VECTOR):
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
        known = connection.execute(LANGUAGES).all()
        for name, schema, short in known:
            if wanted in (name, short, f"{schema}.{short}"):
                return str(name)
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

    def _load_extensions(self, connection: Connection) -> None:
        for name, version, schema in connection.execute(EXTENSIONS):
            if name == "vector":
                self._pgvector = PgVector(schema, tuple(int(part) for part in re.findall(r"\d+", version)))
            else:
                self._has_citus = True

    def lock_registry(self, connection: Connection) -> None:
        connection.execute(LOCK, {"what": f"generations of {self._schema}"})

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        connection.execute(self._text(CREATE_GENERATION, generation))
        if generation.dimensions <= PLAIN_DIMENSIONS:
            connection.execute(self._text(STORE_PLAIN, generation))
        if self._has_citus:
            citus.distribute_generation(connection, self._names["search"], self._embedding(generation))

    def distribute(self, connection: Connection, generations: Sequence[Generation]) -> list[str]:
        self._load_extensions(connection)
        if not self._has_citus:
            raise StorageError(
                "this PostgreSQL has no Citus. On a cluster an administrator runs: CREATE EXTENSION citus;  One server "
                "needs none of it"
            )
        connection.execute(LOCK, {"what": "tables"})
        return citus.distribute(
            connection,
            self._names["search"],
            small=[self._names[name] for name in ("meta", "generation", "entities")],
            records=self._names["records"],
            cache=self._names["embedding_cache"],
            embeddings=[self._embedding(generation) for generation in generations],
        )

    def refusal(self, connection: Connection, dimensions: int) -> str:
        if dimensions > MAX_HALFVEC:
            raise VectorsUnavailable(
                f"the model makes {dimensions:,} dimensions, pgvector indexes {MAX_HALFVEC:,} at most. Ask the model "
                "for fewer (OpenAIProvider(dimensions=1024)), or use another"
            )
        if self._pgvector is None:
            self._load_extensions(connection)
        if self._pgvector is None:
            return (
                "PostgreSQL has no pgvector here. An administrator installs its package on the server and runs in this "
                "database: CREATE EXTENSION vector;  then `kameleon embeddings sync` fills what is pending"
            )
        if dimensions > MAX_VECTOR and self._pgvector.version < HALFVEC_SINCE:
            return (
                f"{dimensions:,} dimensions need pgvector 0.7 or later, this is "
                f"{'.'.join(map(str, self._pgvector.version))}. An administrator runs: ALTER EXTENSION vector UPDATE;"
            )
        return ""

    # the vector index

    def vector_index(self, connection: Connection, generation: Generation) -> str:
        state = connection.execute(HNSW_STATE, {"hnsw": self._hnsw(generation)}).one_or_none()
        if state is None:
            return "exact"
        if state.indisvalid:
            return "hnsw"
        return "hnsw is being built" if state.is_building else "hnsw is broken: `kameleon embeddings sync` rebuilds it"

    def index_vectors(self, generation: Generation) -> bool:
        """Concurrently, so that writers go on; that needs a connection outside any transaction."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            state = connection.execute(HNSW_STATE, {"hnsw": self._hnsw(generation)}).one_or_none()
            if state is not None and (state.indisvalid or state.is_building):
                return False
            many = self._text("SELECT count(*) FROM (SELECT 1 FROM {embedding} LIMIT :many) AS e", generation)
            if (connection.scalar(many, {"many": INDEXED_FROM}) or 0) < INDEXED_FROM:
                return False
            if state is not None:
                connection.execute(self._text("DROP INDEX CONCURRENTLY IF EXISTS {hnsw}", generation))
            started = time.perf_counter()
            driver = cast(Any, connection.connection.driver_connection)
            driver.add_notice_handler(warn_of_notice)
            try:
                connection.execute(self._text(CREATE_HNSW, generation))
            finally:
                driver.remove_notice_handler(warn_of_notice)
            for table in ("{embedding}", "{search}"):
                connection.execute(self._text(f"ANALYZE {table}", generation))
            log.info("vector_index:built generation=%d seconds=%.1f", generation.number, time.perf_counter() - started)
            return True

    # transactions

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._connect(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._connect() as connection:
            yield connection
            connection.commit()

    @contextmanager
    def _connect(self, **options: Any) -> Iterator[Connection]:
        """Nothing is prepared on the server: our statements differ from each other, and a pooler between may hand the
        next transaction to another server process."""
        with self._engine.connect() as connection:
            driver = cast(Any, connection.connection.driver_connection)
            if driver.autocommit and not options:
                options = {"isolation_level": "READ COMMITTED"}
            prepared_after, driver.prepare_threshold = driver.prepare_threshold, None
            try:
                if options:
                    connection.execution_options(**options)
                yield connection
            finally:
                driver.prepare_threshold = prepared_after

    @contextmanager
    def joining(self, connection: Connection) -> Iterator[None]:
        driver = cast(Any, connection.connection.driver_connection)
        with driver.transaction() if driver.autocommit else nullcontext():
            yield

    @contextmanager
    def visiting(self, connection: Connection) -> Iterator[None]:
        with self.joining(connection):
            savepoint = connection.begin_nested()
            try:
                yield
            finally:
                savepoint.rollback()

    @contextmanager
    def savepoint(self, connection: Connection) -> Iterator[None]:
        with connection.begin_nested():
            yield

    def take_turn(self, connection: Connection) -> None:
        """Writers wait for each other's rows, not for turns."""

    def has_spare_connection(self) -> bool:
        pool = self._engine.pool
        if isinstance(pool, QueuePool):
            overflow = pool._max_overflow
            return overflow < 0 or pool.checkedout() < pool.size() + overflow
        return isinstance(pool, NullPool)

    @contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise storage_error(error.orig or error) from error
        except psycopg.Error as error:
            raise storage_error(error) from error

    # upsert

    def states(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> dict[tuple[str, str], State]:
        join = self._format(JOIN_EMBEDDING, generation) if generation else ""
        statement = self._text(STATES, join=join, embedded="e.content_hash" if generation else "NULL")
        return {
            (entity, id_): State(content_hash, embedded_hash)
            for entity, ids in by_entity(refs)
            for id_, content_hash, embedded_hash in connection.execute(statement, {"entity": entity, "ids": ids}).all()
        }

    def upsert(
        self, connection: Connection, entries: Sequence[Entry], generations: Sequence[Generation], now: datetime
    ) -> dict[tuple[str, str], Key]:
        """In the order of the keys, for two writers that meet in another order would wait for each other for ever."""
        entries = sorted(entries, key=lambda entry: entry.ref)
        self._totals = None
        if len(entries) > ROWS_A_STATEMENT and self._may_copy(connection):
            self._copy_entries(connection, entries, now)
        else:
            self._insert_entries(connection, entries, now)
        for generation in generations:
            statement = self._text(DELETE_STALE, generation)
            for entity, ids in by_entity([entry.ref for entry in entries]):
                connection.execute(statement, {"entity": entity, "ids": ids})
        return {entry.ref: entry.ref for entry in entries}

    def _insert_entries(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> None:
        words = self._reader(connection)
        row = self._format(ROW)
        for part in parts(entries, ROWS_A_STATEMENT):
            statement = self._format(UPSERT, rows="VALUES " + ", ".join([row] * len(part)))
            values: list[Any] = []
            for ref, content, hash_ in part:
                values += (*ref, content, *words.indexed(content), hash_, now, now)
            connection.exec_driver_sql(statement, tuple(values))

    def _copy_entries(self, connection: Connection, entries: Sequence[Entry], now: datetime) -> None:
        """While PostgreSQL makes the tsvectors of one piece, the next is encoded."""
        words = self._reader(connection)
        stamp = pgcopy.timestamp(now)

        def encode(part: Sequence[Entry]) -> bytes:
            rows = []
            for (entity, id_), content, hash_ in part:
                read, length = words.indexed(content)
                texts = (entity, id_, content, read, hash_)
                rows.append((*map(str.encode, texts), pgcopy.integer(length), stamp))
            return pgcopy.encoded(rows)

        connection.execute(text(LOADING))
        with ThreadPoolExecutor(1) as ahead:
            pieces = ahead.map(encode, parts(entries, ROWS_A_COPY))
            for piece in pieces:
                self._copy(connection, "kdb_loading", LOADING_COLUMNS, piece)
                connection.execute(self._text(UPSERT, rows=self._format(LOADED)))
                connection.execute(text("TRUNCATE kdb_loading"))
        connection.execute(text("DROP TABLE kdb_loading"))

    def _copy(self, connection: Connection, table: str, names: Sequence[str], data: bytes) -> None:
        with cast(Any, connection.connection.driver_connection).cursor() as cursor:
            pgcopy.copy_into(cursor, table, names, data)

    def _may_copy(self, connection: Connection) -> bool:
        """A temporary table needs a right that most roles have."""
        if self._has_temp is None:
            right = text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
            self._has_temp = bool(connection.scalar(right))
        return self._has_temp

    def write_embeddings(
        self,
        connection: Connection,
        generation: Generation,
        embeddings: Sequence[Embedding],
        now: datetime,
        keys: Mapping[tuple[str, str], Key],
    ) -> None:
        others = [embedding for embedding in embeddings if embedding.ref not in keys]
        states = self.states(connection, [embedding.ref for embedding in others], None) if others else {}
        current = sorted(
            embedding
            for embedding in embeddings
            if embedding.ref in keys
            or (embedding.ref in states and states[embedding.ref].content_hash == embedding.content_hash)
        )
        if not current:
            return
        is_half = generation.dimensions > MAX_VECTOR
        packed = pgcopy.vectors([e.vector for e in current], generation.dimensions, is_half=is_half)
        rows = [
            (*ref, hash_, vector, reason, message)
            for (ref, hash_, _, reason, message), vector in zip(current, packed, strict=True)
        ]
        if len(rows) > ROWS_A_STATEMENT and self._may_copy(connection):
            self._copy_embeddings(connection, generation, rows, now)
        else:
            self._insert_embeddings(connection, generation, rows, now)

    def _insert_embeddings(
        self, connection: Connection, generation: Generation, rows: Sequence[tuple[Any, ...]], now: datetime
    ) -> None:
        adapt(connection)
        row = self._format(EMBEDDING_ROW, generation)
        for part in parts(rows, ROWS_A_STATEMENT):
            statement = self._format(UPSERT_EMBEDDING, generation, rows="VALUES " + ", ".join([row] * len(part)))
            values: list[Any] = []
            for entity, id_, hash_, vector, reason, message in part:
                values += (entity, id_, hash_, Packed(vector) if vector else None, reason, message, now)
            connection.exec_driver_sql(statement, tuple(values))

    def _copy_embeddings(
        self, connection: Connection, generation: Generation, rows: Sequence[tuple[Any, ...]], now: datetime
    ) -> None:
        """Straight in, where none of the records has an embedding yet."""
        names = EMBEDDING_COLUMNS if any(vector is None for *_, vector, _, _ in rows) else EMBEDDING_COLUMNS[:-2]
        stamp = pgcopy.timestamp(now)
        data = pgcopy.encoded(
            (
                entity.encode(),
                id_.encode(),
                hash_.encode(),
                stamp,
                vector,
                reason and reason.encode(),
                message and message.encode(),
            )[: len(names)]
            for entity, id_, hash_, vector, reason, message in rows
        )
        is_there = self._text(ANY_EMBEDDING, generation)
        known = by_entity(Ref(*row[:2]) for row in rows)
        if not any(connection.scalar(is_there, {"entity": entity, "ids": ids}) for entity, ids in known):
            self._copy(connection, self._embedding(generation), names, data)
            return
        connection.execute(self._text(LOADING_EMBEDDING, generation))
        self._copy(connection, "kdb_loading_embedding", names, data)
        connection.execute(self._text(UPSERT_EMBEDDING, generation, rows=EMBEDDINGS_LOADED))
        connection.execute(text("DROP TABLE kdb_loading_embedding"))

    # delete

    def delete(self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]) -> int:
        self._totals = None
        deleted = 0
        for entity, ids in by_entity(sorted(refs)):
            binds = {"entity": entity, "ids": ids}
            deleted += connection.execute(text(DELETE.format(table=self._names["search"])), binds).rowcount
            for generation in generations:
                connection.execute(text(DELETE.format(table=self._embedding(generation))), binds)
        return deleted

    # by_keyword

    def prepare_search(self, connection: Connection, depth: int) -> None:
        """For this transaction alone. Plans are made for the terms at hand; compiling one costs more than it saves."""
        settings = ["jit = off", "plan_cache_mode = force_custom_plan"]
        if self._pgvector is not None:
            settings.append(f"hnsw.ef_search = {min(MAX_EF_SEARCH, max(self._ef_search, depth))}")
            if self._pgvector.version >= ITERATIVE_SINCE:
                settings.append("hnsw.iterative_scan = relaxed_order")
        if self._has_citus:
            settings.insert(0, "citus.propagate_set_commands = 'local'")
        connection.exec_driver_sql("; ".join(f"SET LOCAL {setting}" for setting in settings))

    def by_keyword(self, connection: Connection, query: str, scope: Scope, *, limit: int, enough: int) -> Candidates:
        terms, is_whole = self._known_terms(connection, query)
        if not terms:
            return Candidates({}, is_exact=is_whole)
        chosen = cheapest(terms, POSTINGS)
        where, binds = self._scope_sql(scope, "s")
        binds |= {"limit": limit, "chosen": any_of(chosen), **self._bm25_binds(chosen, "chosen")}
        score = BM25.format(terms="chosen_terms", weights="chosen_weights")
        if len(chosen) == len(terms):
            statement = BY_KEYWORD + ALL_CHOSEN
        else:
            statement = BY_KEYWORD + WIDER
            binds |= {"enough": enough, "any": any_of(terms), **self._bm25_binds(terms, "all")}
        full = BM25.format(terms="all_terms", weights="all_weights")
        rows = connection.execute(self._text(statement, score=score, full_score=full, scope=where), binds).all()
        if rows and rows[0].is_wide:
            chosen = terms
        return Candidates(
            best_first({Ref(row.entity_name, row.record_id): row.score for row in rows}),
            is_exact=is_whole and len(chosen) == len(terms),
            terms=tuple(terms),
            chosen_by=tuple(chosen),
            how="tsvector",
        )

    def _known_terms(self, connection: Connection, query: str) -> tuple[list[Term], bool]:
        """The query's terms that the index has, rarest first, and whether these are all of them."""
        times = Counter(word.lower() for word in self._reader(connection).asked(analyze(query)))
        words = list(times)[:QUERY_WORDS]
        if not words:
            return [], True
        is_due = self._totals is None or time.monotonic() > self._totals_until
        statement = self._text(TERMS, quoted=QUOTED, totals=self._format(TOTALS) if is_due else "")
        found = connection.execute(statement, {"words": words, "times": [times[word] for word in words]}).all()
        if found and is_due:
            self._keep_totals(found[0].all_rows, int(found[0].all_terms or 0))
        terms = [Term(words[row.place - 1], row.lexeme, row.rows, int(row.times)) for row in found]
        return terms, len(times) <= QUERY_WORDS

    def _keep_totals(self, rows: int, terms: int) -> None:
        """Counting a large table takes longer than the query: it is done again after a second for every 40,000 records,
        and after each write of this engine's."""
        self._totals = (rows, terms)
        self._totals_until = time.monotonic() + (rows / ROWS_A_SECOND_OF_LAG if rows > ALWAYS_COUNTED else -1)

    def _bm25_binds(self, terms: Sequence[Term], name: str) -> dict[str, Any]:
        rows, length = self._totals or (1, 1)
        rows = max(rows, *(term.rows for term in terms), 1)
        return {
            f"{name}_terms": [quoted(term.stem) for term in terms],
            f"{name}_weights": [(K1 + 1) * weight(rows, term) for term in terms],
            "floor": K1 * (1 - B),
            "slope": K1 * B * rows / max(length, 1),
        }

    def spans(self, connection: Connection, query: str, texts: Sequence[str]) -> list[Spans]:
        words = self._reader(connection)
        found = [words.places(text_[:MARKED_CHARACTERS]) for text_ in texts]
        distinct = list({word for places_ in found for _, _, word in places_})
        asked = list(dict.fromkeys(words.asked(query)))[:QUERY_TERMS]
        same: set[str] = set()
        if asked and distinct:
            same.update(connection.execute(self._text(SAME_STEM), {"words": distinct, "asked": asked}).scalars())
        pairs = cjk_pairs(query)
        return [
            merge([*((start, end) for start, end, word in places_ if word in same), *places(text_, pairs)])
            for places_, text_ in zip(found, texts, strict=True)
        ]

    # by_vector

    def by_vector(
        self,
        connection: Connection,
        generation: Generation,
        vector: Any,
        scope: Scope,
        limit: int,
        keyword: Candidates,
    ) -> tuple[Candidates, Candidates]:
        adapt(connection)
        where, binds = self._scope_sql(scope, "e")
        (packed,) = pgcopy.vectors(
            [vector.tobytes()], generation.dimensions, is_half=generation.dimensions > MAX_VECTOR
        )
        binds |= {"vector": Packed(packed or b""), "limit": limit, "hnsw": self._hnsw(generation)}
        statement, score, narrow, if_wide = BY_VECTOR, "NULL", "", ""
        if scope.filter is not None:
            allowed = self._scope_condition(scope, binds)
            narrow, if_wide = self._format(ALLOWED, condition=allowed), IF_WIDE
            binds["narrow"] = NARROW
        if keyword.terms:
            score = BM25.format(terms="all_terms", weights="all_weights")
            binds |= self._bm25_binds(keyword.terms, "all")
        if keyword.scores:
            statement += OTHERS
            binds |= pairs_of(cast(Iterable[Ref], keyword.scores))
        sql = self._text(statement, generation, scope=where, score=score, narrow=narrow, if_wide=if_wide)
        rows = connection.execute(sql, binds).all()
        nearest = {Ref(row.entity_name, row.record_id): row for row in rows if row.is_nearest}
        others = {Ref(row.entity_name, row.record_id): row.cosine for row in rows if not row.is_nearest}
        is_hnsw = any(row.is_hnsw for row in nearest.values())
        own = Candidates(
            best_first({ref: row.cosine for ref, row in nearest.items()}),
            {ref: cosine for ref, cosine in others.items() if ref not in nearest},
            is_exact=not is_hnsw,
            how="hnsw" if is_hnsw else "exact",
        )
        scores: dict[Key, float] = {
            ref: row.score for ref, row in nearest.items() if row.score and ref not in keyword.scores
        }
        return replace(keyword, others=scores), own

    # hits

    def refs(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Ref]:
        return {key: cast(Ref, key) for key in keys}

    def hits(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Hit]:
        rows = connection.execute(self._text(HITS), pairs_of(cast(Iterable[Ref], keys)))
        return {Ref(row.entity_name, row.record_id): Hit(row.content, row.data) for row in rows}

    # status

    def status(self, connection: Connection, generation: Generation | None, *, has_provider: bool) -> list[IndexStatus]:
        join = self._format(JOIN_EMBEDDING, generation) if generation else ""
        pending = IS_PENDING if generation else "s.content_hash <> ''" if has_provider else "false"
        statement = self._text(STATUS, join=join, pending=pending, failed=IS_FAILED if generation else "false")
        return [
            IndexStatus(row.entity_name, row.indexed, row.pending, utc(row.last_updated), row.failed)
            for row in connection.execute(statement)
        ]

    def pending(
        self, connection: Connection, generation: Generation | None, *, after: Any, limit: int, is_failed: bool = False
    ) -> tuple[list[Entry], Any]:
        if generation is None:
            join, found = "", "false" if is_failed else "s.content_hash <> ''"
        else:
            join, found = self._format(JOIN_EMBEDDING, generation), IS_FAILED if is_failed else IS_PENDING
        statement = self._text(PENDING, join=join, condition=found)
        entity, id_ = after or ("", "")
        rows = connection.execute(statement, {"entity": entity, "id": id_, "limit": limit}).all()
        entries = [Entry(Ref(r.entity_name, r.record_id), r.content, r.content_hash) for r in rows]
        return entries, entries and entries[-1].ref

    def failures(self, connection: Connection, generation: Generation) -> list[Failure]:
        statement = self._text(FAILURES, join=self._format(JOIN_EMBEDDING, generation), condition=IS_FAILED)
        return [
            Failure(row.entity_name, row.record_id, row.reason, row.message, row.attempts)
            for row in connection.execute(statement)
        ]

    # cache

    def cached(self, connection: Connection, fingerprint: str, keys: Sequence[str]) -> list[Cached]:
        rows = connection.execute(self._text(CACHED), {"keys": list(keys), "fingerprint": fingerprint})
        return [Cached(row.text_hash, row.embedding, utc(row.used_at)) for row in rows]

    def cache(self, connection: Connection, fingerprint: str, rows: Mapping[str, bytes], now: datetime) -> None:
        values = [
            {"text_hash": key, "fingerprint": fingerprint, "embedding": vector, "used_at": now}
            for key, vector in sorted(rows.items())
        ]
        if values:
            connection.execute(insert(self.tables.embedding_cache).on_conflict_do_nothing(), values)

    # filters

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        binds: dict[str, Any] = {}
        return condition(filter_, binds), binds

    def _scope_sql(self, scope: Scope, alias: str) -> tuple[str, dict[str, Any]]:
        """A condition on `alias`."""
        binds: dict[str, Any] = {}
        asked = []
        if scope.entities:
            asked.append(f"{alias}.entity_name = ANY(:scope)")
            binds["scope"] = list(scope.entities)
        if scope.filter is not None:
            asked.append(
                f"EXISTS (SELECT 1 FROM {self._names['records']} WHERE kdb_records.entity_name = {alias}.entity_name "
                f"AND kdb_records.id = {alias}.record_id AND {condition(scope.filter, binds)})"
            )
        return " AND ".join(asked) or "true", binds

    def _scope_condition(self, scope: Scope, binds: dict[str, Any]) -> str:
        """The same, on `kdb_records`."""
        asked = condition(cast(Filter, scope.filter), binds)
        return f"kdb_records.entity_name = ANY(:scope) AND {asked}" if scope.entities else asked

    # names

    def _reader(self, connection: Connection) -> Words:
        if self._words is None:
            self._read_settings(connection)
        if self._words is None:
            raise SchemaMissing("kameleon's tables are not in this database. SearchEngine(engine) makes them")
        return self._words

    def _embedding(self, generation: Generation) -> str:
        return f"{self._prefix}kdb_embedding_g{generation.number}"

    def _hnsw(self, generation: Generation) -> str:
        return f"{self._embedding(generation)}_hnsw"

    def _text(self, template: str, generation: Generation | None = None, **more: str) -> TextClause:
        return text(self._format(template, generation, **more))

    def _format(self, template: str, generation: Generation | None = None, **more: str) -> str:
        names = {**self._names, **more}
        if self._language:
            language = self._language.replace("'", "''")
            names["language"] = f"CAST('{language}' AS regconfig)"
        if generation is not None:
            schema = self._pgvector.schema if self._pgvector else "public"
            kind = "halfvec" if generation.dimensions > MAX_VECTOR else "vector"
            names |= {
                "embedding": self._embedding(generation),
                "vector": f"{schema}.{kind}",
                "ip": f"OPERATOR({schema}.<#>)",
                "dimensions": str(generation.dimensions),
                "hnsw": self._hnsw(generation),
                "hnsw_name": f"kdb_embedding_g{generation.number}_hnsw",
                "m": str(self._m),
                "ef_construction": str(self._ef_construction),
            }
        return template.format(**names)


def adapt(connection: Connection) -> None:
    """Teaches this driver connection to send `Packed`, once."""
    if "kameleon_packed" not in connection.info:
        cast(Any, connection.connection.driver_connection).adapters.register_dumper(Packed, PackedDumper)
        connection.info["kameleon_packed"] = True


def warn_of_notice(notice: Any) -> None:
    """pgvector says so when a graph outgrows maintenance_work_mem and the build becomes slow."""
    log.warning("vector_index: PostgreSQL says: %s %s", notice.message_primary, notice.message_hint or "")


def by_entity(refs: Iterable[Ref]) -> Iterator[tuple[str, list[str]]]:
    """Ids by entity, in pieces, in the order of the keys."""
    for entity, group in groupby(sorted(refs), key=lambda ref: ref.entity):
        for part in parts([ref.id for ref in group], IDS_A_STATEMENT):
            yield entity, list(part)


def pairs_of(refs: Iterable[Ref]) -> dict[str, list[str]]:
    listed = list(refs)
    return {"entities": [ref.entity for ref in listed], "ids": [ref.id for ref in listed]}


def quoted(lexeme: str) -> str:
    """A lexeme as a tsquery of itself: nothing in it is an operator."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def any_of(terms: Iterable[Term]) -> str:
    return " | ".join(quoted(term.stem) for term in terms)
