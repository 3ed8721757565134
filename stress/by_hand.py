"""The baselines: what an application would write without us, on each database.

Each writes the same rows with the keys, hashes and times that ours have, and does nothing else: no comparison with what
is stored, no hashing, no check of a vector, no term analysis, and on SQLite no columns for analysed terms, failures and
the places of passages.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pgvector.psycopg import register_vector
from sqlalchemy import Engine

from .database import SQLITE

Vectors = np.ndarray[Any, np.dtype[np.float32]]

NOW = "2026-01-01T00:00:00.000000+00:00"
SQLITE_TABLES = """
    DROP TABLE IF EXISTS hand_search;
    DROP TABLE IF EXISTS hand_fts;
    DROP TABLE IF EXISTS hand_embedding;
    CREATE TABLE hand_search (
      id INTEGER PRIMARY KEY, entity_name TEXT NOT NULL, record_id TEXT NOT NULL, content TEXT NOT NULL,
      content_hash TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, UNIQUE (entity_name, record_id)
    );
    CREATE VIRTUAL TABLE hand_fts USING fts5(terms, tokenize = 'porter unicode61 remove_diacritics 2');
    CREATE TABLE hand_embedding (
      search_id INTEGER NOT NULL, passage INTEGER NOT NULL, content_hash TEXT NOT NULL, embedding BLOB,
      updated_at TEXT NOT NULL, UNIQUE (search_id, passage)
    );
"""
SQLITE_UPSERT = """
    INSERT INTO hand_search VALUES (?, 'Record', ?, ?, ?, ?, ?) ON CONFLICT (entity_name, record_id) DO UPDATE
    SET content = excluded.content, content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""
POSTGRESQL_TABLES = """
    DROP TABLE IF EXISTS hand_search, hand_embedding;
    CREATE TABLE hand_search (
      entity_name text COLLATE "C" NOT NULL, record_id text COLLATE "C" NOT NULL, content text NOT NULL,
      terms tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED, n_terms integer NOT NULL,
      content_hash text NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
      PRIMARY KEY (entity_name, record_id)
    );
    CREATE INDEX ON hand_search USING gin (terms);
    CREATE TABLE hand_embedding (
      entity_name text COLLATE "C" NOT NULL, record_id text COLLATE "C" NOT NULL, passage integer NOT NULL,
      content_hash text NOT NULL, embedding vector(256), reason text, message text, attempts integer NOT NULL,
      updated_at timestamptz NOT NULL, PRIMARY KEY (entity_name, record_id, passage)
    );
"""
SEARCH_COLUMNS = "entity_name, record_id, content, n_terms, content_hash, created_at, updated_at"
SEARCH_TYPES = ("text", "text", "text", "int4", "text", "timestamptz", "timestamptz")
EMBEDDING_COLUMNS = "entity_name, record_id, passage, content_hash, embedding, attempts, updated_at"
EMBEDDING_TYPES = ("text", "text", "int4", "text", "vector", "int4", "timestamptz")
HNSW = "CREATE INDEX ON {table} USING hnsw (embedding vector_ip_ops) WITH (m = 16, ef_construction = 64)"


class Hand:
    """Inserts of texts and vectors, numbered on from `start`, inside the transaction of a driver's connection."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == SQLITE

    def make_tables(self, *, with_hnsw: bool = False) -> None:
        """Empty ones. On PostgreSQL `with_hnsw` rows are then inserted 1,000 a statement, else by COPY."""
        self._with_hnsw = with_hnsw
        with self.connection() as driver:
            if self.is_sqlite:
                driver.executescript(SQLITE_TABLES)
                return
            driver.execute(POSTGRESQL_TABLES)
            if with_hnsw:
                self.index(driver)
            driver.commit()

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """The driver's own connection, with its defaults except SQLite's WAL: the driver begins transactions."""
        if self.is_sqlite:
            with closing(sqlite3.connect(self.engine.url.database or "")) as driver:
                driver.execute("PRAGMA journal_mode = wal")
                yield driver
            return
        with self.engine.connect() as connection:
            yield connection.connection.driver_connection

    def index(self, driver: Any) -> None:
        """The vector index of PostgreSQL, with as much memory as `database` gives every connection."""
        driver.execute(HNSW.format(table="hand_embedding"))
        driver.commit()

    def write(self, driver: Any, texts: Sequence[str], vectors: Vectors, start: int = 0) -> None:
        if self.is_sqlite:
            write_sqlite(driver, texts, vectors, start)
        else:
            write_postgresql(driver, texts, vectors, start, with_hnsw=self._with_hnsw)


def write_sqlite(driver: sqlite3.Connection, texts: Sequence[str], vectors: Vectors, start: int) -> None:
    numbered = [*enumerate(texts, start)]
    driver.executemany(SQLITE_UPSERT, ((n, str(n), text, f"{n:032x}", NOW, NOW) for n, text in numbered))
    driver.executemany("INSERT INTO hand_fts (rowid, terms) VALUES (?, ?)", numbered)
    blobs = enumerate((vector.tobytes() for vector in vectors), start)
    driver.executemany(
        "INSERT INTO hand_embedding VALUES (?, 0, ?, ?, ?)", ((n, f"{n:032x}", b, NOW) for n, b in blobs)
    )


def write_postgresql(driver: Any, texts: Sequence[str], vectors: Vectors, start: int, *, with_hnsw: bool) -> None:
    """Binary COPY as pgvector's README has it, or multi-row inserts."""
    register_vector(driver)
    now = datetime.now(UTC)
    rows = [("Record", str(n), text, 35, f"{n:032x}", now, now) for n, text in enumerate(texts, start)]
    embeddings = [("Record", str(n), 0, f"{n:032x}", vector, 1, now) for n, vector in enumerate(vectors, start)]
    with driver.cursor() as cursor:
        if with_hnsw:
            insert_rows(cursor, "hand_search", SEARCH_COLUMNS, rows)
            insert_rows(cursor, "hand_embedding", EMBEDDING_COLUMNS, embeddings)
        else:
            copy_rows(cursor, "hand_search", SEARCH_COLUMNS, SEARCH_TYPES, rows)
            copy_rows(cursor, "hand_embedding", EMBEDDING_COLUMNS, EMBEDDING_TYPES, embeddings)


def copy_rows(cursor: Any, table: str, columns: str, types: Sequence[str], rows: Sequence[Any]) -> None:
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN WITH (FORMAT BINARY)") as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def insert_rows(cursor: Any, table: str, columns: str, rows: Sequence[Any]) -> None:
    places = "(" + ", ".join(["%s"] * len(rows[0])) + ")"
    for start in range(0, len(rows), 1_000):
        part = rows[start : start + 1_000]
        statement = f"INSERT INTO {table} ({columns}) VALUES {', '.join([places] * len(part))}"
        cursor.execute(statement, [value for row in part for value in row])
