"""What each peer is given, and how it is measured: the same for all, and nothing but NumPy needed.

`python -m scripts.NAME_peer GIVEN STORE [URL]`: the folder of records and questions, an empty folder to write to, the
URL of an empty PostgreSQL schema.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Protocol

import numpy as np

WARM = 10
LIMIT = 10


@dataclass(frozen=True)
class Question:
    text: str
    vector: np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Given:
    """`url` is a PostgreSQL's, or empty; `store` is where files go."""

    ids: Sequence[str]
    texts: Sequence[str]
    vectors: np.ndarray[Any, np.dtype[np.float32]]
    questions: Sequence[Question]
    store: Path
    url: str

    def by_text(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """For peers that get the vectors of texts from a function."""
        vectors = {question.text: question.vector for question in self.questions}
        return vectors | dict(zip(self.texts, self.vectors, strict=True))


class Peer(Protocol):
    """`about` names the `version`, `vector_index` and `text_index`, and why where the `mode` is not hybrid."""

    def fill(self, given: Given) -> None:
        """From texts and vectors at hand to searchable."""
        ...

    def about(self) -> Mapping[str, str]: ...

    def hybrid(self, question: Question) -> list[str]:
        """Ten ids, best first, their texts read."""
        ...

    def nearest(self, question: Question) -> list[str]:
        """Ten ids by vector alone."""
        ...

    def settle(self) -> None:
        """Runs the maintenance that a server does by itself in time."""
        return

    def close(self) -> None:
        return


def read(folder: Path, store: Path, url: str) -> Given:
    records = [json.loads(row) for row in (folder / "records.jsonl").read_text().splitlines()]
    texts = [json.loads(row)["text"] for row in (folder / "queries.jsonl").read_text().splitlines()]
    return Given(
        ids=[record["id"] for record in records],
        texts=[record["text"] for record in records],
        vectors=np.load(folder / "vectors.npy"),
        questions=[Question(*pair) for pair in zip(texts, np.load(folder / "query_vectors.npy"), strict=True)],
        store=store,
        url=url,
    )


def measure(peer: Peer, given: Given) -> dict[str, Any]:
    start = time.perf_counter()
    peer.fill(given)
    ingest = time.perf_counter() - start
    peer.settle()
    found, hybrid = answers_of(peer.hybrid, given.questions)
    nearest, vector = answers_of(peer.nearest, given.questions)
    about = peer.about()
    peer.close()
    return {
        **about,
        "ingest_seconds": round(ingest, 2),
        **latencies("hybrid", hybrid),
        **latencies("vector", vector),
        "peak_mb": peak_mb(),
        "found": found,
        "nearest": nearest,
    }


def answers_of(
    way: Callable[[Question], list[str]], questions: Sequence[Question]
) -> tuple[list[list[str]], list[float]]:
    """Answers and milliseconds, of all but the first, which warm up."""
    for question in questions[:WARM]:
        way(question)
    answers, took = [], []
    for question in questions[WARM:]:
        start = time.perf_counter()
        answers.append(way(question))
        took.append(1000 * (time.perf_counter() - start))
    return answers, took


def latencies(name: str, took: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(took, n=20, method="inclusive")
    return {f"{name}_p50_ms": round(cuts[9], 2), f"{name}_p95_ms": round(cuts[18], 2)}


def peak_mb() -> int:
    """Of this program alone: ru_maxrss on Linux begins with the peak of the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = dict(row.split(":", 1) for row in status.read_text().splitlines())
        return round(int(found["VmHWM"].split()[0]) / 1024)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2))


def main(peer: Peer) -> None:
    folder, store, *url = sys.argv[1:]
    print(json.dumps(measure(peer, read(Path(folder), Path(store), *url or [""]))))
