"""How fast records become searchable: `data insert` whole, and the write path against SQL written by hand, on both
databases."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pgvector.psycopg import register_vector
from sqlalchemy import Engine

from kameleon import SearchEngine, create_engine
from kameleon.embeddings import EmbeddingProvider

from .corpus import passages, record_file
from .database import postgresql
from .report import line, run_command, stopwatch

DIMENSIONS = 256
SETS = ("wikipedia_movies", "open_english_wordnet")
LOOP_ROWS = 1_000
TRIES = 5

BY_HAND = """
    CREATE TABLE search (
      id INTEGER PRIMARY KEY, entity_name TEXT NOT NULL, record_id TEXT NOT NULL, content TEXT NOT NULL,
      content_hash TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, UNIQUE (entity_name, record_id)
    );
    CREATE VIRTUAL TABLE search_fts USING fts5(terms, tokenize = 'porter unicode61 remove_diacritics 2');
    CREATE TABLE embedding (
      search_id INTEGER NOT NULL, passage INTEGER NOT NULL, content_hash TEXT NOT NULL, embedding BLOB,
      updated_at TEXT NOT NULL, UNIQUE (search_id, passage)
    );
"""


UPSERT_BY_HAND = """
    INSERT INTO search VALUES (?, 'Record', ?, ?, ?, ?, ?) ON CONFLICT (entity_name, record_id) DO UPDATE
    SET content = excluded.content, content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""


class AtHand(EmbeddingProvider):
    """Looks vectors up that were made before."""

    model_name = "at-hand"
    dimensions = DIMENSIONS
    batch_size = 100_000

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        made = np.random.default_rng(seed).standard_normal((len(texts), DIMENSIONS), dtype=np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        self.vectors = dict(zip(texts, made, strict=True))

    def embed_batch(self, texts: Sequence[str]) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        return [self.vectors[text] for text in texts]


def run(rows: int, seed: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            if (path := record_file(name)) is not None:
                yield data_insert(name, path, Path(folder))
        yield write_path(rows, seed, Path(folder))
    yield from postgresql_write_path(rows, seed)


def data_insert(name: str, path: Path, folder: Path) -> str:
    url = f"sqlite:///{folder / name}.db"
    output, seconds, memory = run_command(
        "-d", url, "--json", "data", "insert", "Record", "--from-file", str(path), "--batch-size", "100"
    )
    summary = json.loads(output)
    return line(
        "data insert",
        records=name,
        rows=summary["inserted"],
        seconds=round(seconds, 2),
        rows_per_second=round(summary["inserted"] / seconds),
        peak_mb=round(memory),
        database_mb=round((folder / f"{name}.db").stat().st_size / 1e6),
    )


def write_path(rows: int, seed: int, folder: Path) -> str:
    texts = passages(rows, seed)
    provider = AtHand(texts, seed)
    records = [("Record", str(n), text) for n, text in enumerate(texts)]
    by_hand = [hand_written(folder / f"hand{n}.db", texts, provider) for n in range(TRIES)]
    batch = [index_batch(folder / f"batch{n}.db", records, provider) for n in range(TRIES)]
    loop = index_loop(folder / "loop.db", records[:LOOP_ROWS], provider) / LOOP_ROWS * rows
    return line(
        "index_records_batch",
        rows=rows,
        seed=seed,
        seconds=round(min(batch), 2),
        rows_per_second=round(rows / min(batch)),
        hand_written_seconds=round(min(by_hand), 2),
        rate_to_hand_written=round(min(by_hand) / min(batch), 2),
        loop_seconds=round(loop, 1),
        times_the_loop=round(loop / min(batch), 1),
    )


def hand_written(path: Path, texts: Sequence[str], provider: AtHand) -> float:
    with stopwatch() as watch:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = wal")
        connection.executescript(BY_HAND)
        with connection:
            write_by_hand(connection, texts, provider)
        connection.close()
    return watch.seconds


def write_by_hand(connection: sqlite3.Connection, texts: Sequence[str], provider: AtHand) -> None:
    now = "2026-01-01T00:00:00.000000+00:00"
    blobs = [provider.vectors[text].tobytes() for text in texts]
    connection.executemany(UPSERT_BY_HAND, ((n, str(n), text, f"{n:032x}", now, now) for n, text in enumerate(texts)))
    connection.executemany("INSERT INTO search_fts (rowid, terms) VALUES (?, ?)", enumerate(texts))
    connection.executemany(
        "INSERT INTO embedding VALUES (?, 0, ?, ?, ?)", ((n, f"{n:032x}", blob, now) for n, blob in enumerate(blobs))
    )


def index_batch(path: Path, records: Sequence[tuple[str, str, str]], provider: AtHand) -> float:
    engine = create_engine(f"sqlite:///{path}")
    with stopwatch() as watch:
        SearchEngine(engine, provider).index_records_batch(records)
    engine.dispose()
    return watch.seconds


def index_loop(path: Path, records: Sequence[tuple[str, str, str]], provider: AtHand) -> float:
    engine = create_engine(f"sqlite:///{path}")
    search = SearchEngine(engine, provider)
    with stopwatch() as watch:
        for entity, id_, text in records:
            search.index_record(entity, id_, text)
    engine.dispose()
    return watch.seconds


POSTGRESQL_BY_HAND = """
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


def postgresql_write_path(rows: int, seed: int) -> Iterator[str]:
    texts = passages(rows, seed)
    provider = AtHand(texts, seed)
    records = [("Record", str(n), text) for n, text in enumerate(texts)]
    with postgresql() as engine:
        for with_hnsw, tries in ((False, TRIES), (True, 1)):
            by_hand, batch = [], []
            for _ in range(tries):
                by_hand.append(hand_written_rows(engine, texts, provider, with_hnsw=with_hnsw))
                batch.append(index_into(engine, records, provider, with_hnsw=with_hnsw))
            yield line(
                "index_records_batch, PostgreSQL",
                rows=rows,
                seed=seed,
                hnsw=with_hnsw,
                seconds=round(min(batch), 2),
                rows_per_second=round(rows / min(batch)),
                hand_written_seconds=round(min(by_hand), 2),
                rate_to_hand_written=round(min(by_hand) / min(batch), 2),
            )


def hand_written_rows(engine: Engine, texts: Sequence[str], provider: AtHand, *, with_hnsw: bool) -> float:
    """Binary COPY as pgvector's README has it; multi-row inserts of 1,000 where the index is there."""
    with engine.begin() as connection:
        connection.exec_driver_sql(POSTGRESQL_BY_HAND)
        if with_hnsw:
            connection.exec_driver_sql(HNSW.format(table="hand_embedding"))
    with engine.connect() as connection, stopwatch() as watch:
        driver: Any = connection.connection.driver_connection
        write_rows_by_hand(driver, texts, provider, with_hnsw=with_hnsw)
        driver.commit()
    return watch.seconds


def write_rows_by_hand(driver: Any, texts: Sequence[str], provider: AtHand, *, with_hnsw: bool = False) -> None:
    register_vector(driver)
    now = datetime.now(UTC)
    rows = [("Record", str(n), text, 35, f"{n:032x}", now, now) for n, text in enumerate(texts)]
    embeddings = [("Record", str(n), 0, f"{n:032x}", provider.vectors[text], 1, now) for n, text in enumerate(texts)]
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


def index_into(engine: Engine, records: Sequence[tuple[str, str, str]], provider: AtHand, *, with_hnsw: bool) -> float:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS ours CASCADE")
    search = SearchEngine(engine, provider, schema="ours")
    if with_hnsw:
        search.index_record("Other", "1", records[0][2])
        with engine.begin() as connection:
            connection.exec_driver_sql(HNSW.format(table="ours.kdb_embedding_g1"))
    with stopwatch() as watch:
        search.index_records_batch(records)
    return watch.seconds
