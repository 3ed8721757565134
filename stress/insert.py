"""How fast records become searchable: from JSON lines with the bundled model and with one behind a network, and the
write path alone, against the same by hand."""

import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from sqlalchemy import Engine

from kameleon import SearchEngine
from kameleon.embeddings import EmbeddingProvider, OpenAIProvider, StaticProvider
from kameleon.stores.postgresql.hnsw import INDEXED_FROM
from kameleon.stores.tables import parts

from .by_hand import HNSW, Hand, Vectors
from .corpus import documents, passages, write_lines
from .database import POSTGRESQL, address, database
from .embeddings_server import DIMENSIONS, serving
from .report import Arguments, Figures, latencies, run_command, stopwatch

TRIES = 5
LOOP_ROWS = 1_000
COMMIT_BATCH = 1_000
SLICE = 100
LATENCY_S = 0.1
IN_FLIGHT = 10
BATCH_SIZES = (1, 10, 100, 1_000, 10_000)
ROWS_A_BATCH_SIZE = {1: 500, 10: 5_000}


class AtHand(EmbeddingProvider):
    """Returns vectors that were made before."""

    model_name = "at-hand"
    dimensions = DIMENSIONS
    batch_size = 100_000

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        made = np.random.default_rng(seed).standard_normal((len(texts), DIMENSIONS), dtype=np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        self.matrix: Vectors = made
        self.vectors = dict(zip(texts, made, strict=True))

    def embed_batch(self, texts: Sequence[str]) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        return [self.vectors[text] for text in texts]


def run(args: Arguments) -> Figures:
    """The run's own figures are those of the command with the bundled model."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "records.jsonl"
        write_lines(source, documents(args.rows, args.seed))
        return {
            **from_lines(args, source),
            "network": over_network(args, source),
            **write_path(args),
        }


def from_lines(args: Arguments, source: Path) -> Figures:
    """`kameleon data insert` as a user runs it, its start included; by hand in this process, started already. On
    PostgreSQL both build the vector index at the end, from as many rows on."""
    with database(args.backend) as engine:
        options = ("--from-file", str(source), "--batch-size", str(COMMIT_BATCH))
        output, seconds, memory = run_command("-d", address(engine), "--json", "data", "insert", "Record", *options)
        inserted = json.loads(output)
    with database(args.backend) as engine:
        hand = lines_by_hand(engine, source, with_hnsw=args.backend == POSTGRESQL and args.rows >= INDEXED_FROM)
    return {
        "rows": inserted["inserted"],
        "seconds": round(seconds, 2),
        "rows_per_second": round(inserted["inserted"] / seconds),
        "times_by_hand": round(seconds / hand, 2),
        "by_hand_seconds": round(hand, 2),
        "commit_batch": COMMIT_BATCH,
        "peak_mb": round(memory),
    }


def lines_by_hand(engine: Engine, source: Path, *, with_hnsw: bool) -> float:
    """Parse, embed with the same model, insert; a commit a batch."""
    provider = StaticProvider()
    provider.embed_batch(["a text"])
    hand = Hand(engine)
    hand.make_tables()
    with hand.connection() as driver, stopwatch() as watch, source.open() as lines:
        texts = [text_of(json.loads(line)) for line in lines]
        for number, part in enumerate(parts(texts, COMMIT_BATCH)):
            vectors = np.asarray(provider.embed_batch(part), np.float32)
            hand.write(driver, part, vectors, number * COMMIT_BATCH)
            driver.commit()
        if with_hnsw:
            hand.index(driver)
    return watch.seconds


def text_of(record: dict[str, Any]) -> str:
    return f"{record['title']} {record['text']}"


def over_network(args: Arguments, source: Path) -> Figures:
    """Against the same requests by hand, as many in flight, whose answers are not read.

    Loading the client, a second or so that few records do not outweigh, is in ours alone; the command's start is in
    neither."""
    with source.open() as lines:
        texts = [text_of(json.loads(line)) for line in lines]
    with serving(LATENCY_S) as url:
        requests = requests_by_hand(url, texts)
        took = {size: inserted_over(url, args.backend, source, size) for size in (SLICE, COMMIT_BATCH)}
    ideal = -(-len(texts) // SLICE) * LATENCY_S / IN_FLIGHT
    return {
        "request_ms": 1000 * LATENCY_S,
        "in_flight": IN_FLIGHT,
        "waiting_s": round(ideal, 2),
        "requests_by_hand_s": round(requests, 2),
        **{f"batch_{size}_s": seconds for size, seconds in took.items()},
        **{f"batch_{size}_to_requests": round(seconds / requests, 2) for size, seconds in took.items()},
    }


def inserted_over(url: str, backend: str, source: Path, size: int) -> float:
    """Seconds that the command reports, with a server's model, by batches of a size."""
    with database(backend) as engine:
        provider = OpenAIProvider(dimensions=DIMENSIONS, api_key="none", base_url=url)
        SearchEngine(engine, provider).index_record("Record", "first", "The index is of this model.")
        inserting = ("data", "insert", "Record", "--from-file", str(source), "--batch-size", str(size))
        with patch.dict(os.environ, OPENAI_API_KEY="none"):
            output, _, _ = run_command("-d", address(engine), "--json", *inserting)
        return float(json.loads(output)["seconds"])


def requests_by_hand(url: str, texts: Sequence[str]) -> float:
    import openai

    client = openai.OpenAI(api_key="none", base_url=url)

    def request(part: list[str]) -> int:
        answer = client.embeddings.create(
            input=part, model="text-embedding-3-small", dimensions=DIMENSIONS, encoding_format="base64"
        )
        return len(answer.data)

    request(["warm up the connection"])
    with stopwatch() as watch, ThreadPoolExecutor(IN_FLIGHT) as pool:
        assert sum(pool.map(request, parts(texts, SLICE))) == len(texts)
    return watch.seconds


def write_path(args: Arguments) -> Figures:
    """`index_records_batch` with vectors at hand; the run's latencies are those of a loop of single calls."""
    texts = passages(args.rows, args.seed)
    provider = AtHand(texts, args.seed)
    records = [("Record", str(n), text) for n, text in enumerate(texts)]
    hand, batch = [], []
    for _ in range(TRIES):
        hand.append(hand_written(args.backend, texts, provider))
        batch.append(indexed(args.backend, records, provider))
    loop = looped(args.backend, records[:LOOP_ROWS], provider)
    per_record = sum(loop) / len(loop) / 1000
    return {
        **latencies(loop),
        "index_records_batch": {
            "seconds": round(min(batch), 2),
            "rows_per_second": round(args.rows / min(batch)),
            "by_hand_seconds": round(min(hand), 2),
            "times_by_hand": round(min(batch) / min(hand), 2),
            "times_the_loop": round(per_record * args.rows / min(batch), 1),
        },
        **({"with_hnsw": with_hnsw(records, provider)} if args.backend == POSTGRESQL else {}),
        "batch_sizes": {
            str(size): by_size(args.backend, size, records, provider) for size in BATCH_SIZES if size <= args.rows
        },
    }


def hand_written(backend: str, texts: Sequence[str], provider: AtHand, *, with_hnsw: bool = False) -> float:
    with database(backend) as engine:
        hand = Hand(engine)
        hand.make_tables(with_hnsw=with_hnsw)
        with hand.connection() as driver, stopwatch() as watch:
            hand.write(driver, texts, provider.matrix)
            driver.commit()
    return watch.seconds


def indexed(backend: str, records: Sequence[tuple[str, str, str]], provider: AtHand) -> float:
    with database(backend) as engine:
        search = SearchEngine(engine, provider)
        with stopwatch() as watch:
            search.index_records_batch(records)
    return watch.seconds


def looped(backend: str, records: Sequence[tuple[str, str, str]], provider: AtHand) -> list[float]:
    """Milliseconds a call."""
    took = []
    with database(backend) as engine:
        search = SearchEngine(engine, provider)
        for record in records:
            with stopwatch() as watch:
                search.index_record(*record)
            took.append(1000 * watch.seconds)
    return took


def with_hnsw(records: Sequence[tuple[str, str, str]], provider: AtHand) -> Figures:
    """Seconds with the vector index existing from the start, on both sides."""
    texts = [text for _, _, text in records]
    by_hand = hand_written(POSTGRESQL, texts, provider, with_hnsw=True)
    with database(POSTGRESQL) as engine:
        search = SearchEngine(engine, provider)
        search.index_record("Other", "1", texts[0])
        with engine.begin() as connection:
            connection.exec_driver_sql(HNSW.format(table="kdb_embedding_g1"))
        with stopwatch() as watch:
            search.index_records_batch(records)
    return {
        "seconds": round(watch.seconds, 2),
        "by_hand_seconds": round(by_hand, 2),
        "times_by_hand": round(watch.seconds / by_hand, 2),
    }


def by_size(backend: str, size: int, records: Sequence[tuple[str, str, str]], provider: AtHand) -> Figures:
    """Records a second where each call, or hand-written transaction, has so many."""
    some = records[: ROWS_A_BATCH_SIZE.get(size, len(records))]
    with database(backend) as engine:
        search = SearchEngine(engine, provider)
        with stopwatch() as ours:
            for part in parts(some, size):
                search.index_records_batch(part)
    with database(backend) as engine:
        hand = Hand(engine)
        hand.make_tables()
        with hand.connection() as driver, stopwatch() as theirs:
            for start in range(0, len(some), size):
                texts = [text for _, _, text in some[start : start + size]]
                hand.write(driver, texts, provider.matrix[start : start + size], start)
                driver.commit()
    return {
        "rows_per_second": round(len(some) / ours.seconds),
        "by_hand_rows_per_second": round(len(some) / theirs.seconds),
    }
