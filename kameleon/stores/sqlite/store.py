"""SQLite's side of the seam: FTS5 for keywords, embeddings as plain blobs that NumPy or sqlite-vec compares.

An integer id in `kdb_search` carries the FTS5 row and the embeddings, so an upsert keeps it (`INSERT OR REPLACE` on
`kdb_search` would change it). Embeddings never stand in a `vec0` table: an interpreter without the extension could not
even open it. Keys are these ids.
"""

import json
import os
import secrets
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import isqrt
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from sqlalchemy import ColumnElement, Connection, Dialect, Engine, Table, Transaction, func, select, text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from ...analysis.spelling import LAST
from ...content import CJK_RUN, analyze, lost_terms
from ...errors import InvalidInput, KameleonError, StorageError
from ...forking import lazy, watch
from ...values import Failure, Generation, IndexStatus, Ref
from .. import claims
from ..bm25 import (
    QUERY_TERMS,
    QUERY_WORDS,
    best_first,
    cheapest,
    telling,
    term_score,
    times_weight,
    upper_bound,
    weight,
)
from ..filters import Filter, bind, condition
from ..ownership import is_own, own_connection, own_driver
from ..protocols import (
    ATTEMPTS,
    Cached,
    Candidates,
    Embedding,
    Entry,
    Fault,
    Hit,
    IndexProgress,
    Key,
    KeyRows,
    Matches,
    Scope,
    Spans,
    State,
    Term,
    bound,
    row_id,
)
from ..tables import (
    SCHEMA_VERSION,
    Tables,
    check_version,
    document,
    dump,
    has_room,
    id_text,
    indexed_fields,
    instant,
    parts,
    schema_of,
    utc,
)
from ..vocabulary import COMMONEST, SCANNED, Vocabulary
from . import fts5
from . import health as sqlite_health
from . import triggers as sqlite_triggers
from .errors import BUSY, BUSY_SNAPSHOT, storage_error
from .old_tables import SQLiteOldTables
from .where import comparison, holding, indexed_path, is_plain, json_path

if TYPE_CHECKING:
    from .mirror import Mirror

ROWS_A_STATEMENT = 10_000
POSTINGS = 5_000
LOOKED_AT, SAMPLED = 500, 200
LEAST_IDS, IDS_OVER = 100, 4
FEW_TERMS = 5_000
DEFAULT_LANGUAGE = "english"
PASSAGES_AT_ONCE = 4_096
LOG_IDS_KEPT = 50_000
LOG_IDS_A_ENTRY = 10_000
LOG_PRUNED_EVERY = 64
MIRRORS_KEPT = 2
JOINED = "kameleon_joined"
VECTOR_SEARCHES = ("auto", "numpy", "sqlite-vec")
SHORT_WAIT_MS, SHORTEST_WAIT_MS, READERS_WAIT_MS = 50, 3, 1_000
PATIENT_S = 0.5
LOG_BYTES = 32 * 2**20
LEGACY_CONTROL = -1
LAST_ID = 2**63 - 1

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS kdb_search (
      id INTEGER PRIMARY KEY,
      entity_name TEXT NOT NULL,
      record_id TEXT NOT NULL,
      content TEXT NOT NULL,
      terms TEXT NOT NULL,
      content_hash TEXT NOT NULL,
      created_at TEXT NOT NULL,
      updated_at TEXT NOT NULL,
      UNIQUE (entity_name, record_id)
    )
    """,
    """
    CREATE VIRTUAL TABLE IF NOT EXISTS kdb_search_fts
    USING fts5(content, terms, content = 'kdb_search', content_rowid = 'id', tokenize = '{tokenizer}')
    """,
    "CREATE VIRTUAL TABLE IF NOT EXISTS kdb_search_vocab USING fts5vocab(kdb_search_fts, row)",
    """
    CREATE TABLE IF NOT EXISTS kdb_embedding_log (
      seq INTEGER PRIMARY KEY,
      mark TEXT NOT NULL,
      changed BLOB,
      ids INTEGER NOT NULL
    )
    """,
)

CREATE_GENERATION = """
    CREATE TABLE kdb_embedding_g{number} (
      search_id INTEGER NOT NULL,
      passage INTEGER NOT NULL,
      content_hash TEXT NOT NULL,
      embedding BLOB,
      reason TEXT,
      message TEXT,
      attempts INTEGER NOT NULL,
      updated_at TEXT NOT NULL,
      start_at INTEGER,
      end_at INTEGER,
      UNIQUE (search_id, passage)
    )
"""

FIELD_INDEX = """
    CREATE INDEX IF NOT EXISTS kdb_records_by_{name} ON kdb_records (json_extract(data, {path}), entity_name)
"""

FILE = text("SELECT file FROM pragma_database_list WHERE name = 'main'")
TAKE_TURN = "UPDATE kdb_meta SET value = value WHERE key = ''"
HAS_TABLE = text("SELECT 1 FROM sqlite_master WHERE name = :name")

STATES = """
    SELECT s.record_id, s.content_hash, {embedded} AS embedded_hash
    FROM json_each(:ids) AS k CROSS JOIN kdb_search AS s ON s.entity_name = :entity AND s.record_id = k.value
    {join}
"""

ENTRIES = text("""
    SELECT s.entity_name, s.record_id, s.content, s.content_hash
    FROM json_each(:ids) AS k CROSS JOIN kdb_search AS s ON s.entity_name = :entity AND s.record_id = k.value
""")

KEYS = text("""
    SELECT s.id
    FROM json_each(:ids) AS k LEFT JOIN kdb_search AS s ON s.entity_name = :entity AND s.record_id = k.value
    ORDER BY k.key
""")

HASHES = text("""
    SELECT s.id, s.content_hash
    FROM json_each(:ids) AS k LEFT JOIN kdb_search AS s ON s.entity_name = :entity AND s.record_id = k.value
    ORDER BY k.key
""")

# Bulk statements go to the driver as they are, positional: named binds cost as much as the write itself.
UPSERT = """
    INSERT INTO kdb_search (entity_name, record_id, content, terms, content_hash, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (entity_name, record_id) DO UPDATE SET content = excluded.content, terms = excluded.terms,
        content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""

CACHE = """
    INSERT INTO kdb_embedding_cache (text_hash, fingerprint, embedding, used_at) VALUES (?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""

STORED_IDS = text(
    "SELECT id FROM kdb_records WHERE entity_name = :entity AND id IN (SELECT value FROM json_each(:ids))"
)
ADD_RECORD = "INSERT INTO kdb_records (entity_name, id, data, created_at, updated_at) VALUES (?, ?, ?, ?, ?)"

# FTS5 keeps no text of its own: a row is taken out by saying again what was put in, so before its text changes.
INDEX = text("""
    INSERT INTO kdb_search_fts (rowid, content, terms)
    SELECT s.id, s.content, s.terms FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
""")
UNINDEX = text("""
    INSERT INTO kdb_search_fts (kdb_search_fts, rowid, content, terms)
    SELECT 'delete', s.id, s.content, s.terms
    FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
""")

KNOWN_WORDS = text(
    "SELECT w.value FROM json_each(:words) AS w WHERE EXISTS (SELECT 1 FROM kdb_term AS t WHERE t.form = w.value)"
)
ADD_FORMS = text("INSERT INTO kdb_term (form) SELECT value FROM json_each(:forms)")

UPSERT_EMBEDDING = """
    INSERT INTO kdb_embedding_g{number}
      (search_id, content_hash, embedding, reason, message, passage, start_at, end_at, attempts, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)
    ON CONFLICT (search_id, passage) DO UPDATE
    SET embedding = excluded.embedding, reason = excluded.reason, message = excluded.message,
        start_at = excluded.start_at, end_at = excluded.end_at,
        attempts = CASE WHEN ltrim(content_hash, '~') = ltrim(excluded.content_hash, '~') THEN attempts + 1 ELSE 1 END,
        content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""

GIVE_UP = """
    UPDATE kdb_embedding_g{number} SET content_hash = ltrim(content_hash, '~')
    WHERE search_id IN (SELECT value FROM json_each(:keys)) AND passage = 0 AND content_hash LIKE '~%'
      AND reason = 'server_error' AND attempts >= :attempts
    RETURNING search_id
"""
DELETE_PASSAGES = "DELETE FROM kdb_embedding_g{number} WHERE search_id = ? AND passage > 0"
DELETE_STALE = "DELETE FROM kdb_embedding_g{number} WHERE search_id = ? AND content_hash <> ?"

LOG_CHANGE = text("INSERT INTO kdb_embedding_log (mark, changed, ids) VALUES (:mark, :changed, :ids)")
PRUNE_LOG = text("""
    DELETE FROM kdb_embedding_log WHERE seq <= (
      SELECT max(seq) FROM (SELECT seq, sum(ids) OVER (ORDER BY seq DESC) AS newer FROM kdb_embedding_log)
      WHERE newer > :kept AND seq < :seq
    )
""")

TERM_ROWS = text(
    "SELECT v.term, v.doc FROM json_each(:terms) AS t CROSS JOIN kdb_search_vocab AS v ON v.term = t.value"
)
BROKEN_TERM_ROWS = text("SELECT doc FROM kdb_search_vocab WHERE term = CAST(:term AS TEXT)")
COMMONEST_TERMS = text("""
    SELECT term FROM (SELECT term, doc FROM kdb_search_vocab WHERE term >= :first AND term < :last LIMIT :scanned)
    ORDER BY doc DESC, term LIMIT :most
""")
FTS_TOTALS = text("SELECT block FROM kdb_search_fts_data WHERE id = 1")

BY_KEYWORD = text("""
    SELECT f.rowid, -bm25(kdb_search_fts) AS score
    FROM kdb_search_fts AS f
    WHERE kdb_search_fts MATCH :match
    ORDER BY rank, f.rowid
    LIMIT :limit
""")

BY_KEYWORD_AMONG = text("""
    SELECT f.rowid, -bm25(kdb_search_fts) AS score
    FROM kdb_search_fts AS f
    WHERE kdb_search_fts MATCH :match AND +f.rowid IN (SELECT value FROM json_each(:ids))
    ORDER BY rank, f.rowid
    LIMIT :limit
""")

# A subquery without a LIMIT may lose its order.
RANKED = """
    SELECT rowid, -bm25(kdb_search_fts) AS score FROM kdb_search_fts
    WHERE kdb_search_fts MATCH :match ORDER BY rank, rowid LIMIT -1
"""
RANKED_BY_TIMES = """
    SELECT rowid, sum(score) AS score FROM ({each}) GROUP BY rowid ORDER BY score DESC, rowid LIMIT -1
"""
ASKED_AS_OFTEN = """
    SELECT rowid, score FROM (
      SELECT rowid, :weight{n} * -bm25(kdb_search_fts) AS score FROM kdb_search_fts
      WHERE kdb_search_fts MATCH :match{n} LIMIT -1
    )
"""
BY_RANK = "SELECT f.rowid, f.score FROM ({ranked}) AS f {within} LIMIT :limit"
AMONG = "WHERE f.rowid IN (SELECT value FROM json_each(:ids))"
WITHIN = "CROSS JOIN kdb_search AS s ON s.id = f.rowid WHERE {scope}"

BY_VECTOR = """
    SELECT e.search_id, max(1.0 - vec_distance_cosine(e.embedding, :vector)) AS score
    FROM kdb_embedding_g{number} AS e {join}
    WHERE e.embedding IS NOT NULL AND {scope}
    GROUP BY e.search_id
    ORDER BY score DESC, e.search_id
    LIMIT :limit
"""

VECTOR_SCORES = """
    SELECT e.search_id, max(1.0 - vec_distance_cosine(e.embedding, :vector))
    FROM json_each(:keys) AS k CROSS JOIN kdb_embedding_g{number} AS e ON e.search_id = k.value
    WHERE e.embedding IS NOT NULL
    GROUP BY e.search_id
"""

PASSAGES = """
    SELECT e.search_id, e.start_at, e.end_at, e.embedding
    FROM json_each(:keys) AS k CROSS JOIN kdb_embedding_g{number} AS e ON e.search_id = k.value
      CROSS JOIN kdb_search AS s ON s.id = e.search_id AND s.content_hash = e.content_hash
    WHERE e.start_at IS NOT NULL AND e.embedding IS NOT NULL
    ORDER BY e.search_id, e.passage
"""

IN_SCOPE = "SELECT s.id FROM kdb_search AS s WHERE {scope}"
FILTERED = """
    SELECT s.id FROM kdb_records CROSS JOIN kdb_search AS s
      ON s.entity_name = kdb_records.entity_name AND s.record_id = kdb_records.id
    WHERE {scope}
"""
LAST_KEY = text("SELECT max(id) FROM kdb_search")
UP_TO = "SELECT json_group_array(id) FROM ({select} LIMIT :most)"
WHICH_IN_SCOPE = "SELECT s.id FROM json_each(:ids) AS k CROSS JOIN kdb_search AS s ON s.id = k.value WHERE {scope}"
REFS = text(
    "SELECT s.id, s.entity_name, s.record_id FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value"
)
ANALYZED = text("""
    SELECT s.id, s.content || ' ' || s.terms AS analyzed
    FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
""")
HITS = text("""
    SELECT s.id, s.content, r.data
    FROM json_each(:keys) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
      LEFT JOIN kdb_records AS r ON r.entity_name = s.entity_name AND r.id = s.record_id
""").columns(data=document)

MATCHES = """
    SELECT s.entity_name, s.record_id
    FROM ({holding}SELECT value AS id FROM json_each(:keys)) AS m CROSS JOIN kdb_search AS s ON s.id = m.id
    WHERE {scope}
"""
HOLDING = "SELECT rowid AS id FROM kdb_search_fts WHERE kdb_search_fts MATCH :match UNION "
COUNT = "SELECT count(*) FROM ({matches})"
FACET = """
    SELECT v.value, v.type, count(DISTINCT r.rowid) AS records
    FROM ({matches}) AS m CROSS JOIN kdb_records AS r ON r.entity_name = m.entity_name AND r.id = m.record_id,
      json_each(r.data, :path) AS v
    WHERE v.type NOT IN ('object', 'array', 'null') AND json_type(r.data, :path) <> 'object'
    GROUP BY v.value, v.type ORDER BY records DESC, v.type, v.value LIMIT :limit
"""
VALUES = text("""
    SELECT r.entity_name, r.id, json_extract(r.data, :path) AS value, json_type(r.data, :path) AS kind
    FROM json_each(:refs) AS k CROSS JOIN kdb_records AS r
      ON r.entity_name = json_extract(k.value, '$[0]') AND r.id = json_extract(k.value, '$[1]')
""")
ENTITIES = text("""
    WITH RECURSIVE names(name) AS (
      SELECT min(entity_name) FROM kdb_search
      UNION ALL SELECT (SELECT min(entity_name) FROM kdb_search WHERE entity_name > name) FROM names
      WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL
""")
EMBEDDING_OF = """
    SELECT e.embedding FROM kdb_search AS s
      JOIN kdb_embedding_g{number} AS e ON e.search_id = s.id AND e.content_hash = s.content_hash
    WHERE s.entity_name = :entity AND s.record_id = :id AND e.passage = 0
"""

CACHED = text("""
    SELECT c.text_hash, c.embedding, c.used_at
    FROM json_each(:keys) AS k CROSS JOIN kdb_embedding_cache AS c
      ON c.text_hash = k.value AND c.fingerprint = :fingerprint
""").columns(used_at=instant)

STATUS = """
    SELECT s.entity_name, count(*) AS indexed, max(s.updated_at) AS last_updated,
      sum({pending}) AS pending, sum({failed}) AS failed
    FROM kdb_search AS s {join}
    GROUP BY s.entity_name ORDER BY s.entity_name
"""
JOIN_EMBEDDING = "LEFT JOIN kdb_embedding_g{number} AS e ON e.search_id = s.id AND e.passage = 0"
IS_PENDING = "s.content_hash <> '' AND (e.search_id IS NULL OR e.content_hash <> s.content_hash)"
IS_TRIED = "e.content_hash = '~' || s.content_hash"
IS_NEW = "s.content_hash <> '' AND (e.search_id IS NULL OR ltrim(e.content_hash, '~') <> s.content_hash)"
IS_FAILED = "e.search_id IS NOT NULL AND e.content_hash = s.content_hash AND e.reason IS NOT NULL"

PENDING = """
    SELECT s.id, s.entity_name, s.record_id, CAST(s.content AS BLOB) AS content, s.content_hash
    FROM kdb_search AS s {join}
    WHERE s.id > :after AND s.id <= :upto AND {condition}
    ORDER BY s.id LIMIT :limit
"""
BOUNDS = text("""
    SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM kdb_search) WHERE place % :size = 0
    ORDER BY id
""")
COPY_EMBEDDINGS = """
    INSERT OR IGNORE INTO kdb_embedding_g{target}
    SELECT e.* FROM kdb_embedding_g{source} AS e
    WHERE e.search_id > :after AND e.search_id <= :upto
      AND e.search_id NOT IN (SELECT id FROM kdb_search WHERE entity_name IN (SELECT value FROM json_each(:without)))
"""

FAILURES = """
    SELECT s.entity_name, s.record_id, e.reason, e.message, e.attempts
    FROM kdb_search AS s {join}
    WHERE {condition} ORDER BY s.entity_name, s.record_id
"""


@dataclass(frozen=True, slots=True)
class Reach:
    """A scope, read once a query: the `ids` in it where they are few, in `where` (a condition on `s`, "1" for every
    record) otherwise."""

    where: str
    binds: Mapping[str, Any]
    ids: Sequence[int] | None = None

    @property
    def is_all(self) -> bool:
        return self.where == "1"


class SQLiteStore:
    """`language` is how a new index reads texts: english (stems, stop words) or simple (words as they are).

    `vector_search`: numpy keeps the embeddings in memory, sqlite-vec reads them on each query; auto takes sqlite-vec
    for a store's first query, where the extension loads, and NumPy from the second on."""

    def __init__(self, engine: Engine, *, vector_search: str = "auto", language: str | None = None) -> None:
        if vector_search not in VECTOR_SEARCHES:
            raise InvalidInput(f"unknown vector_search {vector_search!r}. Known: {', '.join(VECTOR_SEARCHES)}")
        if language is not None and language not in fts5.TOKENIZERS:
            raise InvalidInput(
                f"SQLite has no language {language!r:.60}. It has: {', '.join(fts5.TOKENIZERS)}; PostgreSQL has others"
            )
        self.tables = Tables()
        self._wanted_language = language
        self._language = language or DEFAULT_LANGUAGE
        self.vocabulary = Vocabulary(self.tables, self._commonest)
        self._engine = engine
        watch(engine)
        self._vector_search = vector_search
        self._mirrors: dict[tuple[int, str], Mirror] = {}
        self._has_answered = False
        self._log_left = 0
        self._turns: WeakSet[Transaction] = WeakSet()

    # create

    def check(self, connection: Connection, *, with_vectors: bool) -> bool:
        if not connection.scalar(HAS_TABLE, {"name": "kdb_meta"}):
            if connection.scalar(HAS_TABLE, {"name": "kdb_search"}):
                check_version(None)
            return False
        settings = {row.key: row.value for row in connection.execute(select(self.tables.meta))}
        check_version(settings.get("schema_version"))
        self._language = settings.get("language", DEFAULT_LANGUAGE)
        if self._wanted_language not in (None, self._language):
            raise InvalidInput(
                f"this index reads texts as {self._language!r}; language={self._wanted_language!r} would not find "
                "them. Leave language out, or make an index of your own in another file"
            )
        return True

    def create(self, connection: Connection, *, with_vectors: bool) -> None:
        if self.check(connection, with_vectors=with_vectors):
            return
        self.tables.metadata.create_all(connection)
        tokenizer = fts5.TOKENIZERS[self._language]
        for statement in CREATE:
            connection.execute(text(statement.format(tokenizer=tokenizer)))
        for definition in connection.execute(select(self.tables.entities.c.definition)).scalars():
            self.index_fields(connection, indexed_fields(definition))
        meta = self.tables.meta
        self.vocabulary.forget()
        connection.execute(meta.delete().where(meta.c.key.in_(["schema_version", "language"])))
        settings = {"schema_version": str(SCHEMA_VERSION), "language": self._language}
        connection.execute(meta.insert(), [{"key": key, "value": value} for key, value in settings.items()])

    def old_tables(self, connection: Connection) -> SQLiteOldTables:
        return SQLiteOldTables(connection)

    def lock_registry(self, connection: Connection, *, is_first: bool = False) -> None:
        """Whoever writes is alone already."""

    def add_generation(self, connection: Connection, generation: Generation) -> None:
        connection.execute(text(CREATE_GENERATION.format(number=generation.number)))

    def refusal(self, connection: Connection, dimensions: int) -> str:
        return ""

    def index_fields(self, connection: Connection, names: Sequence[str]) -> None:
        """Entities share the index of a field of one name."""
        for name in names:
            if is_plain(name):
                connection.exec_driver_sql(FIELD_INDEX.format(name=name, path=indexed_path(name)))

    def index_vectors(
        self,
        generation: Generation,
        *,
        concurrently: bool = True,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> bool:
        return False

    def distribute(self, connection: Connection, generations: Sequence[Generation]) -> list[str]:
        raise StorageError("SQLite is one file on one machine. PostgreSQL with Citus can be distributed")

    def vector_index(self, connection: Connection, generation: Generation) -> str:
        return "exact"

    # transactions

    def is_in_memory(self) -> bool:
        with self._engine.connect() as connection:
            return not connection.execute(FILE).scalar()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Plain pysqlite begins no transaction for a SELECT."""
        with self._connect() as connection:
            connection.begin()
            if not own_driver(connection).in_transaction:
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """BEGIN IMMEDIATE: a deferred transaction that reads before it writes is refused at once when another wrote."""
        with self._connect() as connection:
            connection.begin()
            if own_driver(connection).in_transaction:
                connection.exec_driver_sql("ROLLBACK")
            wait_to_write(connection, "BEGIN IMMEDIATE")
            self._note_turn(connection)
            yield connection
            connection.commit()
            self._shorten_log(connection.connection.dbapi_connection)

    def _shorten_log(self, driver: Any) -> None:
        """SQLite begins its write-ahead log anew in a moment without readers. Where these follow one another without a
        gap it would grow for ever, so what is long is written back while writers wait for the readers there are. Where
        one of them stays, it is tried again when the log is twice as long."""
        path = f"{self._engine.url.database}-wal"
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        if size <= max(LOG_BYTES, self._log_left):
            return
        with waiting(driver, READERS_WAIT_MS) as (cursor, _):
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                is_busy = bool(cursor.fetchone()[0])
            except self._engine.dialect.loaded_dbapi.OperationalError:
                is_busy = True
        self._log_left = 2 * size if is_busy else 0

    def identity(self, connection: Connection) -> tuple[Any, ...] | None:
        """Its file, whatever it is called."""
        path = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar()
        if not path:
            return None
        found = os.stat(path)
        return found.st_dev, found.st_ino

    @contextmanager
    def joining(self, connection: Connection) -> Iterator[None]:
        """A savepoint outside any transaction begins one; inside, the transaction goes on after it."""
        if not connection._is_autocommit_isolation() or connection.info.get(JOINED):
            yield
            return
        connection.info[JOINED] = True
        self._turns.discard(connection.get_transaction())  # type: ignore[arg-type]
        connection.exec_driver_sql("SAVEPOINT kdb_joined")
        try:
            yield
        except BaseException:
            with suppress(DBAPIError):  # SQLite has rolled all back itself
                connection.exec_driver_sql("ROLLBACK TO kdb_joined")
                connection.exec_driver_sql("RELEASE kdb_joined")
            raise
        else:
            connection.exec_driver_sql("RELEASE kdb_joined")
        finally:
            connection.info[JOINED] = False
            self._turns.discard(connection.get_transaction())  # type: ignore[arg-type]

    def visiting(self, connection: Connection) -> AbstractContextManager[None]:
        return nullcontext()

    def savepoint(self, connection: Connection) -> AbstractContextManager[None]:
        return nullcontext()

    def has_spare_connection(self) -> bool:
        return False

    def hold(self, connection: Connection, refs: Sequence[Ref]) -> None:
        """Whoever writes is alone."""

    def has_reader(self) -> bool:
        pool = self._engine.pool
        return isinstance(pool, NullPool) or (isinstance(pool, QueuePool) and has_room(pool))

    def _connect(self) -> Connection:
        """In-memory databases have one connection a thread: one that the caller is using is never touched."""
        if isinstance(self._engine.pool, StaticPool):
            refuse_shared(self._engine.pool.connection.dbapi_connection)
        connection = own_connection(self._engine)
        driver = own_driver(connection)
        try:
            refuse_shared(driver)
            if getattr(driver, "autocommit", None) is True:
                raise InvalidInput(
                    "the driver's autocommit=True commits every statement alone. Leave it at its default"
                )
        except KameleonError:
            connection.close()
            raise
        return connection

    def caveat(self, connection: Connection) -> str:
        driver: Any = connection.connection.dbapi_connection
        if driver.isolation_level is None or getattr(driver, "autocommit", LEGACY_CONTROL) != LEGACY_CONTROL:
            return ""
        return (
            "this engine's driver begins a transaction with the first write, so a savepoint before that commits when "
            "it is released, and a rollback does not take it back. Use kameleon.create_engine or create_async_engine; "
            "kameleon.set_up_engine(engine) does the same for an engine that a framework made"
        )

    def take_turn(self, connection: Connection) -> None:
        """A write that changes nothing: waits for the write lock while the transaction has read nothing yet. Once it
        has, SQLite refuses at once if another wrote since."""
        if not self.has_turn(connection):
            wait_to_write(connection, TAKE_TURN)
            self._note_turn(connection)

    def has_turn(self, connection: Connection) -> bool:
        return connection.get_transaction() in self._turns

    def _note_turn(self, connection: Connection) -> None:
        """Where a savepoint may commit, the lock goes with it."""
        if not self.caveat(connection) and (transaction := connection.get_transaction()) is not None:
            self._turns.add(transaction)

    @contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise storage_error(error.orig or error, self._engine.url.database) from error

    # upsert

    def states(
        self, connection: Connection, refs: Sequence[Ref], generation: Generation | None
    ) -> dict[tuple[str, str], State]:
        join = JOIN_EMBEDDING.format(number=generation.number) if generation else ""
        statement = text(STATES.format(join=join, embedded="e.content_hash" if generation else "NULL"))
        return {
            (entity, id_): State(content_hash, embedded_hash)
            for entity, group in by_entity(refs).items()
            for id_, content_hash, embedded_hash in connection.execute(
                statement, {"entity": entity, "ids": json.dumps([ref.id for ref in group])}
            ).all()
        }

    def upsert(
        self, connection: Connection, entries: Sequence[Entry], generations: Sequence[Generation], now: datetime
    ) -> dict[tuple[str, str], Key]:
        stamp = timestamp(now)
        written: dict[tuple[str, str], Key] = {}
        tokens: set[str] = set()
        for part in parts(entries, ROWS_A_STATEMENT):
            refs = [entry.ref for entry in part]
            if there := self._keys(connection, refs):
                connection.execute(UNINDEX, {"keys": as_json(there.values())})
            rows = [
                (*ref, content, keyword_terms(content, emphasis), hash_, stamp, stamp)
                for ref, content, hash_, emphasis in part
            ]
            connection.exec_driver_sql(UPSERT, rows)
            keys = self._keys(connection, refs)
            with self.vocabulary.reading([entry.content for entry in part], tokens):
                connection.execute(INDEX, {"keys": as_json(keys.values())})
            stale = [(keys[e.ref], e.content_hash) for e in part]
            deleted = [
                connection.exec_driver_sql(DELETE_STALE.format(number=generation.number), stale).rowcount
                for generation in generations
            ]
            if any(deleted):
                self._log_change(connection, list(keys.values()))
            written.update(keys)
        self.learn(connection, tokens)
        return written

    def learn(self, connection: Connection, tokens: set[str]) -> None:
        self.vocabulary.learn(
            connection,
            tokens,
            lambda words: connection.execute(KNOWN_WORDS, {"words": json.dumps(words)}).scalars(),
            lambda forms: connection.execute(ADD_FORMS, {"forms": json.dumps(forms)}),
        )

    def count_words(self, connection: Connection, words: Sequence[str]) -> dict[str, int]:
        stems = self._reader.stems(words)
        counts = {row.term: row.doc for row in connection.execute(TERM_ROWS, {"terms": json.dumps(list(set(stems)))})}
        return {word: counts.get(stem, 0) for word, stem in zip(words, stems, strict=True)}

    def _commonest(self, connection: Connection, prefix: str) -> list[str]:
        first = next((term.surface for term in self._reader.terms(prefix)), prefix)
        binds = {"first": first, "last": first + LAST, "scanned": SCANNED, "most": COMMONEST}
        return list(connection.execute(COMMONEST_TERMS, binds).scalars())

    def write_embeddings(
        self,
        connection: Connection,
        generation: Generation,
        embeddings: Sequence[Embedding],
        now: datetime,
        keys: Mapping[tuple[str, str], Key],
    ) -> None:
        statement = UPSERT_EMBEDDING.format(number=generation.number)
        stamp = timestamp(now)
        for part in parts(embeddings, ROWS_A_STATEMENT):
            others = self._current(connection, [e for e in part if e.ref not in keys])
            known = {**keys, **others} if others else keys
            rows = [(known[e.ref], e.stored_hash, *e[2:], stamp) for e in part if e.ref in known]
            again = [(others[e.ref],) for e in part if e.passage == 0 and e.ref in others]
            if again:
                connection.exec_driver_sql(DELETE_PASSAGES.format(number=generation.number), again)
            if rows:
                connection.exec_driver_sql(statement, rows)
                self._log_change(connection, [row[0] for row in rows])

    def give_up(self, connection: Connection, generation: Generation, refs: Sequence[Ref]) -> list[Ref]:
        keys = self._keys(connection, refs)
        binds = {"keys": json.dumps(list(keys.values())), "attempts": ATTEMPTS}
        given_up = set(connection.execute(text(GIVE_UP.format(number=generation.number)), binds).scalars())
        return [ref for ref in refs if keys.get(ref) in given_up]

    def _keys(self, connection: Connection, refs: Sequence[Ref]) -> dict[tuple[str, str], int]:
        """The key of each ref that is there. The ref objects of the caller are the dictionary's: a batch is large."""
        found: dict[tuple[str, str], int] = {}
        for group in by_entity(refs).values():
            ids = json.dumps([ref.id for ref in group])
            keys = connection.execute(KEYS, {"entity": group[0].entity, "ids": ids}).scalars().all()
            found.update((ref, key) for ref, key in zip(group, keys, strict=True) if key is not None)
        return found

    def _current(self, connection: Connection, embeddings: Sequence[Embedding]) -> dict[tuple[str, str], int]:
        """The keys of those whose record says what they were made from, still."""
        if not embeddings:
            return {}
        made_from = {embedding.ref: embedding.content_hash for embedding in embeddings}
        found: dict[tuple[str, str], int] = {}
        for entity, group in by_entity(list(made_from)).items():
            rows = connection.execute(HASHES, {"entity": entity, "ids": json.dumps([ref.id for ref in group])}).all()
            found.update(
                (ref, key)
                for ref, (key, hash_) in zip(group, rows, strict=True)
                if key is not None and hash_ == made_from[ref]
            )
        return found

    def _log_change(self, connection: Connection, keys: Sequence[Any]) -> None:
        changed = array("q", keys).tobytes() if len(keys) <= LOG_IDS_A_ENTRY else None
        result = connection.execute(LOG_CHANGE, {"mark": secrets.token_hex(8), "changed": changed, "ids": len(keys)})
        if result.lastrowid % LOG_PRUNED_EVERY == 0:
            connection.execute(PRUNE_LOG, {"kept": LOG_IDS_KEPT, "seq": result.lastrowid})

    # delete

    def delete(self, connection: Connection, refs: Sequence[Ref], generations: Sequence[Generation]) -> int:
        deleted = 0
        for part in parts(refs, ROWS_A_STATEMENT):
            keys = list(self._keys(connection, part).values())
            if not keys:
                continue
            deleted += len(keys)
            connection.execute(UNINDEX, {"keys": as_json(keys)})
            rows = [(key,) for key in keys]
            for table, column in (
                ("kdb_search", "id"),
                *((f"kdb_embedding_g{generation.number}", "search_id") for generation in generations),
            ):
                connection.exec_driver_sql(f"DELETE FROM {table} WHERE {column} = ?", rows)
            if generations:
                self._log_change(connection, keys)
        return deleted

    # by_keyword

    def by_keyword(self, connection: Connection, query: str, scope: Scope, *, limit: int, enough: int) -> Candidates:
        terms, unknown, is_whole = self._known_terms(connection, query)
        reach = self._reach(connection, scope)
        if reach.ids is not None and self._are_short(connection, len(reach.ids)):
            scores = best_first(self._keyword_scores(connection, terms, reach.ids))
            scores = dict(list(scores.items())[:limit])
            return Candidates(
                scores,
                is_exact=is_whole,
                terms=tuple(terms),
                most=upper_bound(self._totals(connection)[0], terms),
                totals=reach,
                unknown=unknown,
                scanned=len(reach.ids),
            )
        chosen = cheapest(terms, POSTINGS)
        scores = {}
        while chosen:
            scores = self._best_within(connection, chosen, reach, limit)
            if len(scores) >= enough or len(chosen) == len(terms):
                break
            chosen = terms[: 2 * len(chosen)]
        if len(chosen) < len(terms):
            scores = self._keyword_scores(connection, terms, list(scores))
        return Candidates(
            best_first(scores),
            is_exact=is_whole and len(chosen) == len(terms),
            terms=tuple(terms),
            chosen_by=tuple(chosen),
            most=upper_bound(self._totals(connection)[0], terms),
            totals=reach,
            scanned=sum(term.rows for term in chosen),
            unknown=unknown,
        )

    def _best_within(self, connection: Connection, terms: Sequence[Term], reach: Reach, limit: int) -> dict[Key, float]:
        """The `limit` best within reach. Where that is wide, records are looked at in the order of their scores, until
        there are enough, which costs less than looking at every one that FTS5 finds."""
        is_once = all(term.times == 1 for term in terms)
        ranked, binds = ranked_once(terms) if is_once else ranked_by_times(terms)
        binds["limit"], within = limit, ""
        if reach.ids is not None:
            within, binds["ids"] = AMONG, json.dumps(reach.ids)
        elif not reach.is_all:
            within = WITHIN.format(scope=reach.where)
            binds |= reach.binds
        if is_once and (reach.is_all or reach.ids is not None):
            statement = BY_KEYWORD if reach.is_all else BY_KEYWORD_AMONG
        else:
            statement, binds = bound(text(BY_RANK.format(ranked=ranked, within=within)), binds)
        return {row.rowid: row.score for row in connection.execute(statement, binds)}

    def _are_short(self, connection: Connection, records: int) -> bool:
        """Whether so many records of average length are read sooner than the postings of a query's terms."""
        rows, length = self._totals(connection)
        return records * length <= FEW_TERMS * rows

    def prepare_search(self, connection: Connection) -> None:
        """SQLite has nothing to set."""

    def _keyword_scores(self, connection: Connection, terms: Sequence[Term], keys: Sequence[Key]) -> dict[Key, float]:
        """BM25 from the index's own totals and the rows' texts; a row without any of the terms is absent."""
        if not terms or not keys:
            return {}
        rows, length = self._totals(connection)
        texts = {row.id: row.analyzed for row in connection.execute(ANALYZED, {"keys": json.dumps(keys)})}
        counted = self._reader.count(list(texts.values()), terms)
        weights = {term.stem: weight(rows, term) for term in terms}
        scores = {
            key: sum(term_score(weights[stem], n, size, length / rows) for stem, n in counts.items())
            for key, (size, counts) in zip(texts, counted, strict=True)
        }
        return {key: score for key, score in scores.items() if score > 0}

    def _known_terms(self, connection: Connection, query: str) -> tuple[list[Term], tuple[str, ...], bool]:
        """The query's terms that the index has, rarest first, the words that it has not, and whether these are all."""
        read = self._telling(self._reader.terms(analyze(query)))
        asked = {term.stem: term for term in read[:QUERY_WORDS]}
        whole = json.dumps([stem for stem in asked if fts5.is_whole(stem)])
        counts = {row.term: row.doc for row in connection.execute(TERM_ROWS, {"terms": whole})}
        for stem in asked:
            if not fts5.is_whole(stem) and (rows := connection.scalar(BROKEN_TERM_ROWS, {"term": fts5.raw(stem)})):
                counts[stem] = rows
        known = [replace(asked[stem], rows=rows) for stem, rows in counts.items()]
        unknown = tuple(term.surface for stem, term in asked.items() if stem not in counts)
        return sorted(known, key=lambda term: (term.rows, term.stem)), unknown, len(read) <= QUERY_WORDS

    def _totals(self, connection: Connection) -> tuple[int, int]:
        """Rows and terms in the whole index, from FTS5's averages record."""
        block = connection.scalar(FTS_TOTALS)
        rows, *lengths = fts5.varints(block) if block else [0]
        return max(rows, 1), max(sum(lengths), 1)

    def _telling(self, terms: Sequence[Term]) -> Sequence[Term]:
        return telling(terms) if self._language == DEFAULT_LANGUAGE else terms

    @lazy
    def _reader(self) -> fts5.TextReader:
        dialect: Any = self._engine.dialect
        return fts5.TextReader(dialect.dbapi.sqlite if dialect.is_async else dialect.dbapi, self._language)

    def spans(self, connection: Connection, query: str, texts: Sequence[str]) -> list[Spans]:
        return self._reader.spans(query, self._telling(self._reader.terms(query))[:QUERY_TERMS], texts)

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
        reach = keyword.totals or self._reach(connection, scope)
        own = self._nearest(connection, generation, vector, reach, limit)
        cosines = self._vector_scores(
            connection, generation, vector, [key for key in keyword.scores if key not in own.scores], own.how
        )
        scores = self._keyword_scores(
            connection, keyword.terms, [key for key in own.scores if key not in keyword.scores]
        )
        return replace(keyword, others=scores), replace(own, others=cosines)

    def _nearest(
        self, connection: Connection, generation: Generation, vector: Any, reach: Reach, limit: int
    ) -> Candidates:
        if self._uses_extension(connection):
            where, binds = reach.where, reach.binds
            if reach.ids is not None:
                where, binds = "s.id IN (SELECT value FROM json_each(:ids))", {"ids": json.dumps(reach.ids)}
            join = "" if reach.is_all else "JOIN kdb_search AS s ON s.id = e.search_id"
            statement = text(BY_VECTOR.format(number=generation.number, join=join, scope=where))
            statement, binds = bound(statement, binds)
            rows = connection.execute(statement, {"vector": vector.tobytes(), "limit": limit, **binds})
            return Candidates({row.search_id: row.score for row in rows}, how="sqlite-vec")
        accept = None if reach.is_all or reach.ids is not None else partial(self._inside, connection, reach)
        found = self._mirror(generation).best(connection, vector, limit, allowed=reach.ids, accept=accept)
        nearest = cast(Mapping[Key, float], found.scores)
        return Candidates(nearest, is_exact=found.is_exact, how="numpy", scanned=found.scanned)

    def _vector_scores(
        self, connection: Connection, generation: Generation, vector: Any, keys: Sequence[Key], how: str
    ) -> dict[Key, float]:
        if not keys:
            return {}
        if how == "numpy":
            return cast(dict[Key, float], self._mirror(generation).scores(connection, vector, cast(Any, keys)))
        statement = text(VECTOR_SCORES.format(number=generation.number))
        rows = connection.execute(statement, {"vector": vector.tobytes(), "keys": json.dumps(keys)})
        return {row[0]: row[1] for row in rows}

    def _passages(
        self, connection: Connection, generation: Generation, vector: Any, keys: Sequence[Key]
    ) -> dict[Key, tuple[int, int]]:
        rows = connection.execute(text(PASSAGES.format(number=generation.number)), {"keys": json.dumps(keys)})
        best: dict[Key, tuple[float, int, int]] = {}
        for part in rows.partitions(PASSAGES_AT_ONCE):
            for row, cosine in zip(part, cosines([row.embedding for row in part], vector), strict=True):
                if row.search_id not in best or cosine > best[row.search_id][0]:
                    best[row.search_id] = (cosine, row.start_at, row.end_at)
        return {key: (start, end) for key, (_, start, end) in best.items()}

    def _uses_extension(self, connection: Connection) -> bool:
        first, self._has_answered = not self._has_answered, True
        if self._vector_search == "numpy" or (self._vector_search == "auto" and not first):
            return False
        if load_extension(connection):
            return True
        if self._vector_search == "sqlite-vec":
            raise StorageError(
                "this Python's sqlite3 cannot load sqlite-vec. Use vector_search='numpy' (the same results), a Python "
                "built with loadable extensions, or pip install 'kameleon[sqlite]' and pass "
                "create_engine(..., module=pysqlite3)"
            )
        return False

    def _mirror(self, generation: Generation) -> "Mirror":
        from .mirror import Mirror  # NumPy loads with the first vector, a keyword search does without

        key = (generation.number, generation.fingerprint)
        mirror = self._mirrors.get(key) or Mirror(f"kdb_embedding_g{generation.number}", generation.dimensions)
        mirror = self._mirrors.setdefault(key, mirror)
        for oldest in [known for known in list(self._mirrors) if known != key][: 1 - MIRRORS_KEPT]:
            self._mirrors.pop(oldest, None)
        return mirror

    # hits

    def refs(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Ref]:
        rows = connection.execute(REFS, {"keys": json.dumps(keys)})
        return {row.id: Ref(row.entity_name, row.record_id) for row in rows}

    def hits(
        self, connection: Connection, keys: Sequence[Key], generation: Generation | None = None, vector: Any = None
    ) -> dict[Key, Hit]:
        places = self._passages(connection, generation, vector, keys) if generation else {}
        rows = connection.execute(HITS, {"keys": json.dumps(keys)})
        return {row.id: Hit(row.content, row.data, places.get(row.id)) for row in rows}

    def matched_terms(
        self, connection: Connection, keys: Sequence[Key], terms: Sequence[Term]
    ) -> dict[Key, tuple[str, ...]]:
        texts = {row.id: row.analyzed for row in connection.execute(ANALYZED, {"keys": json.dumps(keys)})}
        counted = self._reader.count(list(texts.values()), terms)
        return {
            key: tuple(term.surface for term in terms if term.stem in counts)
            for key, (_, counts) in zip(texts, counted, strict=True)
        }

    def embedding(self, connection: Connection, generation: Generation, ref: Ref) -> bytes | None:
        statement = text(EMBEDDING_OF.format(number=generation.number))
        found: bytes | None = connection.scalar(statement, {"entity": ref.entity, "id": ref.id})
        return found

    # fields

    def entities(self, connection: Connection) -> list[str]:
        return list(connection.execute(ENTITIES).scalars())

    def matches(self, terms: Sequence[Term], scope: Scope, keys: Sequence[Key]) -> Matches:
        where, binds = self._scope_sql(scope)
        binds["keys"] = json.dumps(keys)
        if terms:
            binds["match"] = fts5.match_any(terms)
        return Matches(MATCHES.format(holding=HOLDING if terms else "", scope=where), binds)

    def count(self, connection: Connection, matches: Matches) -> int:
        statement, binds = bound(text(COUNT.format(matches=matches.sql)), matches.binds)
        return connection.scalar(statement, binds) or 0

    def values(self, connection: Connection, refs: Sequence[Ref], field: str) -> dict[Ref, Any]:
        rows = connection.execute(VALUES, {"refs": json.dumps(refs), "path": json_path(field.split("."))})
        return {
            Ref(row.entity_name, row.id): as_json_has_it(row.value, row.kind)
            for row in rows
            if row.kind not in (None, "null", "array", "object")
        }

    def facet(self, connection: Connection, matches: Matches, field: str, limit: int) -> list[tuple[Any, int]]:
        statement, binds = bound(text(FACET.format(matches=matches.sql)), matches.binds)
        rows = connection.execute(statement, {**binds, "path": json_path(field.split(".")), "limit": limit})
        return [(as_json_has_it(row.value, row.type), row.records) for row in rows]

    # status

    def status(self, connection: Connection, generation: Generation | None, *, has_provider: bool) -> list[IndexStatus]:
        join = JOIN_EMBEDDING.format(number=generation.number) if generation else ""
        pending = IS_PENDING if generation else "s.content_hash <> ''" if has_provider else "0"
        statement = STATUS.format(join=join, pending=pending, failed=IS_FAILED if generation else "0")
        return [
            IndexStatus(row.entity_name, row.indexed, row.pending, moment(row.last_updated), row.failed)
            for row in connection.execute(text(statement))
        ]

    def pending(
        self,
        connection: Connection,
        generation: Generation | None,
        *,
        after: Any,
        limit: int,
        is_failed: bool = False,
        is_tried: bool | None = None,
        upto: Any = None,
        entities: Sequence[str] = (),
    ) -> tuple[list[Entry], Any]:
        if generation is None:
            join, found = "", "0" if is_failed or is_tried else "s.content_hash <> ''"
        else:
            join = JOIN_EMBEDDING.format(number=generation.number)
            found = IS_FAILED if is_failed else {None: IS_PENDING, True: IS_TRIED, False: IS_NEW}[is_tried]
        binds = {"after": after or 0, "upto": LAST_ID if upto is None else upto, "limit": limit}
        if entities:
            found += " AND s.entity_name IN (SELECT value FROM json_each(:entities))"
            binds["entities"] = json.dumps(list(entities))
        rows = connection.execute(text(PENDING.format(join=join, condition=found)), binds).all()
        entries = [Entry(Ref(r.entity_name, r.record_id), readable(r.content), r.content_hash) for r in rows]
        return entries, rows and rows[-1].id

    def bounds(self, connection: Connection, size: int) -> list[Any]:
        return list(connection.execute(BOUNDS, {"size": size}).scalars())

    def copy_embeddings(
        self,
        connection: Connection,
        source: Generation,
        target: Generation,
        *,
        without: Sequence[str],
        after: Any,
        upto: Any,
    ) -> None:
        statement = text(COPY_EMBEDDINGS.format(source=source.number, target=target.number))
        binds = {"after": after or 0, "upto": LAST_ID if upto is None else upto}
        connection.execute(statement, {"without": json.dumps(list(without)), **binds})

    def wait_for_readers(self) -> bool:
        """Who began before and has yet to write is refused, and begins anew."""
        return True

    def drop_generation(self, generation: Generation) -> bool:
        """Who reads an older state of the file goes on reading it."""
        with self.writing() as connection:
            connection.execute(text(f"DROP TABLE IF EXISTS kdb_embedding_g{generation.number}"))
        return True

    def failures(self, connection: Connection, generation: Generation) -> list[Failure]:
        statement = FAILURES.format(join=JOIN_EMBEDDING.format(number=generation.number), condition=IS_FAILED)
        return [
            Failure(row.entity_name, row.record_id, row.reason, row.message, row.attempts)
            for row in connection.execute(text(statement))
        ]

    # cache

    def cached(self, connection: Connection, fingerprint: str, keys: Sequence[str]) -> list[Cached]:
        rows = connection.execute(CACHED, {"keys": json.dumps(keys), "fingerprint": fingerprint})
        return [Cached(row.text_hash, row.embedding, utc(row.used_at)) for row in rows]

    def cache(self, connection: Connection, fingerprint: str, rows: Sequence[tuple[str, bytes]], now: datetime) -> None:
        stamp = timestamp(now)
        connection.exec_driver_sql(CACHE, [(key, fingerprint, vector, stamp) for key, vector in rows])

    # records

    def stored_ids(self, connection: Connection, entity: str, ids: Sequence[str]) -> set[str]:
        return set(connection.execute(STORED_IDS, {"entity": entity, "ids": json.dumps(ids)}).scalars())

    def add_records(
        self, connection: Connection, entity: str, rows: Sequence[tuple[str, Mapping[str, Any]]], now: datetime
    ) -> None:
        stamp = timestamp(now)
        connection.exec_driver_sql(ADD_RECORD, [(entity, id_, dump(data), stamp, stamp) for id_, data in rows])

    # queue

    def entries(self, connection: Connection, refs: Sequence[Ref]) -> list[Entry]:
        return [
            Entry(Ref(row.entity_name, row.record_id), row.content, row.content_hash)
            for entity, group in by_entity(refs).items()
            for row in connection.execute(ENTRIES, {"entity": entity, "ids": json.dumps([ref.id for ref in group])})
        ]

    def can_hold_rows(self) -> bool:
        return False

    def enqueue(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        connection.execute(*claims.replacing(insert(self.tables.queue), rows))

    # marks

    def set_triggers(
        self, connection: Connection, table: Table, key: Sequence[tuple[Any, str]], entities: Sequence[str]
    ) -> None:
        schema = schema_of(table, connection)
        if entities:
            id_of = partial(row_id, self.id_text, connection.dialect, key)
            sqlite_triggers.create(connection, table, schema, entities, id_of)
        else:
            sqlite_triggers.drop(connection, table, schema)

    def may_replace(self, table: Table, prefixes: str = "") -> bool:
        return "REPLACE" in prefixes.upper() or sqlite_triggers.replaces(table)

    def replaced(
        self, connection: Connection, table: Table, key: Sequence[str]
    ) -> AbstractContextManager[Callable[[], list[tuple[Any, ...]]]]:
        return sqlite_triggers.replaced(connection, table, schema_of(table, connection), key)

    # health

    def faults(self, connection: Connection, *, has_provider: bool) -> list[Fault]:
        is_missing = has_provider and self._vector_search != "numpy" and not load_extension(connection)
        return sqlite_health.faults(connection, is_extension_missing=is_missing)

    def index_faults(self, connection: Connection) -> list[Fault]:
        return sqlite_health.index_faults(connection)

    def mend(self, fault: Fault) -> None:
        if fault.check == "no-wal":
            sqlite_health.set_wal(self._engine)
        elif fault.check == "invalid-index":
            with self.writing() as connection:
                connection.execute(sqlite_health.REBUILD_FTS)

    def embedding_tables(self, connection: Connection) -> set[int]:
        return sqlite_health.embedding_tables(connection)

    def restore_generation(self, connection: Connection, generation: Generation) -> None:
        self.add_generation(connection, generation)

    def ids_after(self, connection: Connection, entity: str, after: str, limit: int) -> list[str]:
        return sqlite_health.ids_after(connection, entity, after, limit)

    def duplicates(self, connection: Connection, after: Any, limit: int) -> tuple[Sequence[Ref], Any]:
        return sqlite_health.duplicates(connection, after, limit)

    def leftovers(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        return sqlite_health.leftovers(connection, generation, after, limit)

    def bad_vectors(
        self, connection: Connection, generation: Generation, after: Any, limit: int
    ) -> tuple[Sequence[Key], Any]:
        return sqlite_health.bad_vectors(connection, generation, after, limit)

    def drop_embeddings(self, connection: Connection, generation: Generation, keys: Sequence[Key]) -> None:
        statement = sqlite_health.DROP_EMBEDDINGS.format(number=generation.number)
        connection.exec_driver_sql(statement, [(key,) for key in keys])
        self._log_change(connection, keys)

    def unused_index(self, connection: Connection, generation: Generation) -> str:
        return ""

    # filters

    def id_text(self, columns: Sequence[tuple[Any, str]]) -> ColumnElement[str]:
        return id_text(columns, func.json_quote)

    def key_rows(self, columns: Sequence[tuple[Any, str]], keys: Sequence[Sequence[Any]]) -> KeyRows:
        """A row of `json_each` for each key: what the database holds of it, or a list of that."""
        stored: list[Any] = [stored_values(columns, key, self._engine.dialect) for key in keys]
        is_single = len(columns) == 1
        if is_single:
            stored = [value for (value,) in stored]
        rows = func.json_each(json.dumps(stored)).table_valued("key", "value", name="kameleon_hits")
        paths = [f"$[{place}]" for place in range(len(columns))]
        parts_ = [rows.c.value] if is_single else [func.json_extract(rows.c.value, path) for path in paths]
        return KeyRows(rows, parts_, rows.c.key)

    def filter_sql(self, filter_: Filter) -> tuple[str, dict[str, Any]]:
        binds: dict[str, Any] = {}
        return condition(filter_, binds, comparison), binds

    def _reach(self, connection: Connection, scope: Scope) -> Reach:
        """To look `few` ids up costs as much as to look at as many of the best as have enough of them within."""
        where, binds = self._scope_sql(scope)
        reach = Reach(where, binds)
        if reach.is_all:
            return reach
        rows, _ = self._totals(connection)
        few = isqrt(LOOKED_AT * rows)
        if rows > few and self._estimate(connection, reach) > few:
            return reach
        select_, inner = IN_SCOPE.format(scope=where), binds
        if scope.filter is not None and scope == Scope(scope.entities, scope.filter):
            inner = {f"entity{n}": name for n, name in enumerate(scope.entities)}
            entities = f"kdb_records.entity_name IN ({', '.join(f':{name}' for name in inner)}) AND " if inner else ""
            select_ = FILTERED.format(scope=entities + holding(scope.filter, inner))
        statement, values = bound(text(UP_TO.format(select=select_)), inner)
        most = max(few, LEAST_IDS) * IDS_OVER
        ids = json.loads(connection.scalar(statement, {**values, "most": most + 1}))
        return replace(reach, ids=ids) if len(ids) <= most else reach

    def _estimate(self, connection: Connection, reach: Reach) -> int:
        """How many records are within reach, by those of a sample that are."""
        last = connection.scalar(LAST_KEY) or 0
        sample = range(1, last + 1, max(1, last // SAMPLED))
        return len(self._inside(connection, reach, sample)) * last // max(1, len(sample))

    def _inside(self, connection: Connection, reach: Reach, keys: Sequence[Key]) -> Sequence[int]:
        """Those of `keys` that are within reach."""
        statement, binds = bound(text(WHICH_IN_SCOPE.format(scope=reach.where)), reach.binds)
        return connection.execute(statement, {**binds, "ids": as_json(keys)}).scalars().all()

    def _scope_sql(self, scope: Scope) -> tuple[str, dict[str, Any]]:
        """A condition on `s`, "1" for every record."""
        binds: dict[str, Any] = {f"entity{n}": name for n, name in enumerate(scope.entities)}
        parts_ = []
        if scope.entities:
            parts_.append(f"s.entity_name IN ({', '.join(f':{name}' for name in binds)})")
        if scope.filter is not None:
            parts_.append(
                "EXISTS (SELECT 1 FROM kdb_records WHERE kdb_records.entity_name = s.entity_name "
                f"AND kdb_records.id = s.record_id AND {condition(scope.filter, binds, comparison)})"
            )
        if scope.among is not None:
            parts_.append(f"s.record_id IN ({scope.among.sql})")
            binds |= scope.among.binds
        if scope.without is not None:
            parts_.append("NOT (s.entity_name = :without_entity AND s.record_id = :without_id)")
            binds |= {"without_entity": scope.without.entity, "without_id": scope.without.id}
        for wanted, texts in (("", scope.phrases), ("NOT ", scope.excluded)):
            parts_ += [f"{wanted}({said})" for said in (self._says(texts_, binds) for texts_ in texts) if said]
        return " AND ".join(parts_) or "1", binds

    def _says(self, phrase: str, binds: dict[str, Any]) -> str:
        """Whether a record's content has the phrase; empty where it has no words. Chinese, Japanese and Korean are
        looked for by their characters, which stand one after another among the terms."""
        runs = CJK_RUN.findall(phrase)
        if not runs and not self._reader.terms(phrase):
            return ""
        asked = [("terms", " ".join(run)) for run in runs] or [
            ("content", phrase),
            *(("terms", code) for code in lost_terms(phrase).split()),
        ]
        match = bind(binds, " AND ".join(f"{{{column}}} : {fts5.quoted(words)}" for column, words in asked))
        said = f"s.id IN (SELECT rowid FROM kdb_search_fts WHERE kdb_search_fts MATCH {match})"
        if runs and runs != [phrase]:
            said += f" AND instr(lower(s.content), lower({bind(binds, phrase)})) > 0"
        return said


def stored_values(columns: Sequence[tuple[Any, str]], key: Sequence[Any], dialect: Dialect) -> list[Any]:
    """A primary key's values as the database holds them: whole numbers and texts."""
    found = []
    for (column, _), value in zip(columns, key, strict=True):
        to_database = column.type.dialect_impl(dialect).bind_processor(dialect)
        found.append(to_database(value) if to_database else value)
    return found


def cosines(embeddings: Sequence[bytes], vector: Any) -> list[float]:
    import numpy as np  # loads with the first vector, a keyword search does without

    found: list[float] = (np.frombuffer(b"".join(embeddings), "<f4").reshape(len(embeddings), -1) @ vector).tolist()
    return found


def ranked_once(terms: Sequence[Term]) -> tuple[str, dict[str, Any]]:
    return RANKED, {"match": fts5.match_any(terms)}


def ranked_by_times(terms: Sequence[Term]) -> tuple[str, dict[str, Any]]:
    """All that have any of the terms, best first. FTS5 weighs no term: those that were asked as often go together."""
    by_times: dict[int, list[Term]] = {}
    for term in terms:
        by_times.setdefault(term.times, []).append(term)
    binds: dict[str, Any] = {}
    for n, (times, group) in enumerate(by_times.items()):
        binds |= {f"weight{n}": times_weight(times), f"match{n}": fts5.match_any(group)}
    each = " UNION ALL ".join(ASKED_AS_OFTEN.format(n=n) for n in range(len(by_times)))
    return RANKED_BY_TIMES.format(each=each), binds


def keyword_terms(content: str, emphasis: str) -> str:
    """What is indexed beside the content."""
    lost = lost_terms(content)
    return f"{lost} {analyze(emphasis)}" if emphasis else lost


def as_json_has_it(value: Any, kind: str) -> Any:
    """SQLite has 1 and 0 for true and false."""
    return kind == "true" if kind in ("true", "false") else value


def readable(content: bytes) -> str:
    """Empty where it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return ""


def as_json(keys: Iterable[Any]) -> str:
    return json.dumps(list(keys))


def by_entity(refs: Sequence[Ref]) -> dict[str, list[Ref]]:
    groups: dict[str, list[Ref]] = {}
    for ref in refs:
        groups.setdefault(ref.entity, []).append(ref)
    return groups


def load_extension(connection: Connection) -> bool:
    """Loads sqlite-vec into this connection, once; False where the driver cannot load extensions."""
    if "kameleon_sqlite_vec" not in connection.info:
        connection.info["kameleon_sqlite_vec"] = _load(connection)
    return bool(connection.info["kameleon_sqlite_vec"])


def _load(connection: Connection) -> bool:
    driver: Any = own_driver(connection) if is_own(connection) else connection.connection.dbapi_connection
    try:
        driver.enable_load_extension(True)
    except AttributeError:  # neither has a Python built without it, nor an asynchronous connection of the application's
        return False
    import sqlite_vec

    try:
        sqlite_vec.load(driver)
    finally:
        driver.enable_load_extension(False)
    return True


def refuse_shared(driver: Any) -> None:
    if driver.in_transaction and getattr(driver, "autocommit", None) is not False:
        raise StorageError(
            "this engine has a single connection and a transaction is open on it: pass connection=, or end it first"
        )


def wait_to_write(connection: Connection, statement: str) -> None:
    """Runs what takes the write lock, and waits for that as long as the connection's time-out says.

    SQLite's own waiting looks every 100 ms before long, so where many write the lock goes to who has just let go of it,
    and others get none of it for seconds: many short waits look every few. What SQLite refuses without waiting, because
    the transaction has read already, is refused.
    """
    with waiting(connection.connection.dbapi_connection, SHORT_WAIT_MS) as (cursor, timeout_ms):
        start = time.monotonic()
        _run_until(connection, statement, start + timeout_ms / 1000, start + PATIENT_S, cursor)


@contextmanager
def waiting(driver: Any, most_ms: int) -> Iterator[tuple[Any, int]]:
    """A cursor whose connection waits no longer than this, and how long it does otherwise."""
    cursor = driver.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout")
        (timeout_ms,) = cursor.fetchone()
        cursor.execute(f"PRAGMA busy_timeout = {min(timeout_ms, most_ms)}")
        try:
            yield cursor, timeout_ms
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {timeout_ms}")
    finally:
        cursor.close()


def _run_until(connection: Connection, statement: str, until: float, patient_until: float, cursor: Any) -> None:
    """Who has waited long looks more often than who came later: among equals some would wait for ever."""
    wait_ms = SHORT_WAIT_MS
    while True:
        began = time.monotonic()
        try:
            connection.exec_driver_sql(statement)
            return
        except DBAPIError as error:
            now = time.monotonic()
            has_waited = now - began > wait_ms / 2000
            code = getattr(error.orig, "sqlite_errorcode", BUSY)
            if code & 0xFF != BUSY or code == BUSY_SNAPSHOT or not has_waited or now >= until:
                raise
            if now >= patient_until and wait_ms != SHORTEST_WAIT_MS:
                wait_ms = SHORTEST_WAIT_MS
                cursor.execute(f"PRAGMA busy_timeout = {wait_ms}")


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def moment(stamp: str | None) -> datetime | None:
    return datetime.fromisoformat(stamp) if stamp else None
