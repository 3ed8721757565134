"""What re-embedding an index costs: its time against embedding and bulk inserts by hand, its memory, and PostgreSQL's
vector index apart.

`python -m stress.reindex URL BATCH_SIZE` is the process whose memory is measured.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, Engine

from kameleon import SearchEngine, create_engine
from kameleon.content import content_hash
from kameleon.embeddings import EmbeddingProvider, EmbeddingService, FastEmbedProvider, StaticProvider
from kameleon.stores.postgresql.copy import Packed, adapt, vectors
from kameleon.stores.tables import parts

from .corpus import MINILM, passages
from .database import POSTGRESQL, address, database
from .report import Arguments, Figures, stopwatch
from .workloads.small_model import small_model

Row = tuple[int, str, str]

TRIES = 3
ROWS_OF_A_TRANSFORMER = 2_000
BATCH_SIZES = (128, 1_000)
ROWS_A_CALL = 10_000
ROOT = Path(__file__).parents[1]
STATUS, RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")

SQLITE_BY_HAND = (
    "DROP TABLE IF EXISTS hand_embedding",
    """
    CREATE TABLE hand_embedding (
      search_id INTEGER NOT NULL, passage INTEGER NOT NULL, content_hash TEXT NOT NULL, embedding BLOB, reason TEXT,
      message TEXT, attempts INTEGER NOT NULL, updated_at TEXT NOT NULL, UNIQUE (search_id, passage)
    )
    """,
)
SQLITE_INSERT = "INSERT INTO hand_embedding VALUES (?, 0, ?, ?, NULL, NULL, 1, ?)"
POSTGRESQL_BY_HAND = (
    "DROP TABLE IF EXISTS hand_embedding",
    """
    CREATE TABLE hand_embedding (
      entity_name text COLLATE "C" NOT NULL, record_id text COLLATE "C" NOT NULL, passage integer NOT NULL,
      content_hash text NOT NULL, embedding vector({dimensions}), reason text, message text, attempts integer NOT NULL,
      updated_at timestamptz NOT NULL, PRIMARY KEY (entity_name, record_id, passage)
    )
    """,
    "ALTER TABLE hand_embedding ALTER COLUMN embedding SET STORAGE PLAIN",
)
POSTGRESQL_INSERT = "INSERT INTO hand_embedding VALUES {rows}"
POSTGRESQL_ROW = "('Record', %s, 0, %s, CAST(%s AS vector), NULL, NULL, 1, %s)"


def run(args: Arguments) -> Figures:
    """From a small model's embeddings to the bundled one's; the run's own figures are those of 128 records a batch. A
    transformer's, which takes as long as models do, are apart."""
    texts = passages(args.rows, args.seed)
    with index(args.backend, texts) as search:
        figures = dict(timed(search, StaticProvider(), texts))
        if args.backend == POSTGRESQL:
            figures["vector_index_s"] = vector_index_s(search)
        figures["memory"] = remembered(search)
    if MINILM.is_dir():
        texts = texts[:ROWS_OF_A_TRANSFORMER]
        with index(args.backend, texts) as search:
            figures["minilm"] = timed(search, FastEmbedProvider(str(MINILM)), texts, tries=1)
    return figures


@contextmanager
def index(backend: str, texts: Sequence[str]) -> Iterator[SearchEngine]:
    """Embedded by a small model."""
    with tempfile.TemporaryDirectory() as folder, database(backend) as engine:
        search = SearchEngine(engine, StaticProvider(small_model(Path(folder), 64)))
        for part in parts([*enumerate(texts)], ROWS_A_CALL):
            search.index_records_batch([("Record", record_id(n), text) for n, text in part])
        yield search


def record_id(n: int) -> str:
    """The order of ids is that of records on both databases."""
    return f"{n:08}"


@dataclass
class Best:
    """The fastest of several tries. The rest of its time is reading and, of `reindex`, commits."""

    seconds: float = inf
    embedding_s: float = 0.0
    writing_s: float = 0.0

    def take(self, seconds: float, embedding_s: float, writing_s: float) -> None:
        if seconds < self.seconds:
            self.seconds, self.embedding_s, self.writing_s = seconds, embedding_s, writing_s

    def figures(self, prefix: str) -> dict[str, float]:
        rest = self.seconds - self.embedding_s - self.writing_s
        figures = {
            "seconds": self.seconds,
            "embedding_s": self.embedding_s,
            "writing_s": self.writing_s,
            "rest_s": rest,
        }
        return {f"{prefix}{name}": round(value, 2) for name, value in figures.items()}


def timed(
    search: SearchEngine, provider: EmbeddingProvider, texts: Sequence[str], tries: int = TRIES
) -> Mapping[str, Any]:
    service = EmbeddingService(provider)
    service.embed_batch(texts[:10])
    found: dict[str, Any] = {"rows": len(texts)}
    for batch_size in BATCH_SIZES:
        ours, by_hand = Best(), Best()
        for _ in range(tries):
            by_hand.take(*embed_by_hand(search.engine, service, texts, batch_size))
            ours.take(*reindex(search, provider, batch_size))
        figures = {
            **ours.figures(""),
            "rows_per_second": round(len(texts) / ours.seconds),
            **by_hand.figures("by_hand_"),
            "times_by_hand": round(ours.seconds / by_hand.seconds, 3),
        }
        found |= figures if batch_size == BATCH_SIZES[0] else {f"batch_{batch_size}": figures}
    return found


def reindex(search: SearchEngine, provider: EmbeddingProvider, batch_size: int) -> tuple[float, float, float]:
    """The call without the vector index; then the index is as it was before."""
    with without_vector_index(search), stopwatch() as watch:
        report = search.reindex(provider=provider, batch_size=batch_size)
    assert report.switched
    search.reindexing.rollback()
    search.reindexing.prune()
    return watch.seconds - report.indexing_s, report.embedding_s, report.writing_s


def without_vector_index(search: SearchEngine) -> AbstractContextManager[object]:
    return patch.object(search.index.store.vectors, "build_index", return_value=False)


def embed_by_hand(
    engine: Engine, service: EmbeddingService, texts: Sequence[str], batch_size: int
) -> tuple[float, float, float]:
    """The same texts in slices, embedded by the same service, inserted into a table of the same columns, committed."""
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        for statement in SQLITE_BY_HAND if is_sqlite else POSTGRESQL_BY_HAND:
            connection.exec_driver_sql(statement.format(dimensions=service.provider.dimensions))
    insert = insert_into_sqlite if is_sqlite else insert_into_postgresql
    rows = [(n, text, content_hash(text)) for n, text in enumerate(texts)]
    embedding_s = 0.0
    with engine.connect() as connection, stopwatch() as watch:
        for part in parts(rows, batch_size):
            with stopwatch() as embedding:
                made = service.embed_batch([text for _, text, _ in part]).embeddings
            embedding_s += embedding.seconds
            insert(connection, part, made)
            connection.commit()
    return watch.seconds, embedding_s, watch.seconds - embedding_s


def insert_into_sqlite(connection: Connection, part: Sequence[Row], made: Sequence[Any]) -> None:
    now = datetime.now(UTC).isoformat()
    rows = [(n, hash_, vector.tobytes(), now) for (n, _, hash_), vector in zip(part, made, strict=True)]
    connection.exec_driver_sql(SQLITE_INSERT, rows)


def insert_into_postgresql(connection: Connection, part: Sequence[Row], made: Sequence[Any]) -> None:
    """With one statement, vectors in pgvector's binary format."""
    adapt(connection)
    now = datetime.now(UTC)
    packed = vectors([vector.tobytes() for vector in made], len(made[0]), is_half=False)
    values: list[Any] = []
    for (n, _, hash_), vector in zip(part, packed, strict=True):
        values += (record_id(n), hash_, Packed(vector or b""), now)
    statement = POSTGRESQL_INSERT.format(rows=", ".join([POSTGRESQL_ROW] * len(part)))
    connection.exec_driver_sql(statement, tuple(values))


def vector_index_s(search: SearchEngine) -> float:
    """Over the bundled model's embeddings; then the index is as it was before."""
    with without_vector_index(search):
        search.reindex(provider=StaticProvider())
    with stopwatch() as watch:
        search.admin.index_vectors()
    search.reindexing.rollback()
    search.reindexing.prune()
    return round(watch.seconds, 1)


def remembered(search: SearchEngine) -> Any:
    """In a process of its own, which has not made the index."""
    command = [sys.executable, "-m", "stress.reindex", address(search.engine), str(BATCH_SIZES[0])]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    search.reindexing.rollback()
    search.reindexing.prune()
    return json.loads(output)


def main(url: str, batch_size: str) -> None:
    """The peak while it reindexes and the memory before, in MB; the model is part of both."""
    bundled = StaticProvider()
    search = SearchEngine(create_engine(url), bundled)
    EmbeddingService(bundled).embed_batch(["a text"])
    RESET_PEAK.write_text("5")
    idle = memory_mb("VmRSS")
    with without_vector_index(search):
        report = search.reindex(batch_size=int(batch_size))
    assert report.switched
    peak = memory_mb("VmHWM")
    figures = {"idle_mb": idle, "peak_mb": peak, "above_idle_mb": peak - idle}
    print(json.dumps({name: round(value, 1) for name, value in figures.items()} | {"embedded": report.embedded}))


def memory_mb(name: str) -> float:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
