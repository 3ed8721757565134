"""Other ways to the same searches, side by side: the same records, vectors and questions, each in its own environment.

Vectors are made beforehand by the bundled model, so that no ingest embeds. Questions are eight words of a passage.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from kameleon.embeddings import StaticProvider

from ..corpus import passages
from ..database import POSTGRESQL, SQLITE, database
from ..report import Arguments, Figures
from ..search import QUERIES, questions_of
from .environments import REQUIREMENTS, ROOT, python_for
from .judging import compared, judged
from .scripts.given import WARM

PEERS = {
    SQLITE: ("ours", "by_hand", "chroma", "lance", "txtai", "zvec", "qdrant_edge", "bm25s"),
    POSTGRESQL: ("ours", "by_hand", "langchain", "pg_textsearch"),
}
SECONDS = 600
SIZE = text("""
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = CAST(current_schema() AS regnamespace)
""")


def run(args: Arguments) -> Figures:
    texts = passages(args.rows, args.seed)
    questions = questions_of(texts, args.seed, WARM + QUERIES)
    with tempfile.TemporaryDirectory() as folder:
        vectors, query_vectors = give(Path(folder), texts, [question for _, question in questions])
        sources = [place for place, _ in questions[WARM:]]
        peers = {}
        for peer in PEERS[args.backend]:
            result = answers(peer, args.backend, Path(folder))
            if "failed" not in result:
                result = judged(result, texts, vectors, query_vectors[WARM:], sources)
            peers[peer] = result
    return {
        "rows": len(texts),
        "queries": QUERIES,
        "dimensions": vectors.shape[1],
        "peers": compared(peers),
    }


def give(folder: Path, texts: Sequence[str], questions: Sequence[str]) -> tuple[Any, Any]:
    """Write what each peer reads; the vectors of the texts and of the questions."""
    provider = StaticProvider()
    made = []
    for name, some in (("vectors", texts), ("query_vectors", questions)):
        matrix = np.asarray(provider.embed_batch(list(some)), dtype=np.float32)
        made.append(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
        np.save(folder / f"{name}.npy", made[-1])
    rows = (json.dumps({"id": str(place), "text": one}) for place, one in enumerate(texts))
    (folder / "records.jsonl").write_text("\n".join(rows))
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in questions))
    return made[0], made[1]


def answers(peer: str, backend: str, given: Path) -> dict[str, Any]:
    """The figures of a peer's script, and its size on disk; or why there are none."""
    try:
        python = python_for(peer)
        with place_for(backend) as (store, url, engine):
            result = started(peer, python, given, store, url)
            return {"disk_mb": round((size(store) if engine is None else size_of(engine)) / 1e6), **result}
    except subprocess.TimeoutExpired as error:
        return {"failed": f"stopped after {error.timeout:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": (error.stderr.strip().splitlines() or [f"exit {error.returncode}"])[-1]}
    except (IndexError, ValueError) as error:
        return {"failed": f"no figures in its last line: {error}"}


@contextmanager
def place_for(backend: str) -> Iterator[tuple[Path, str, Engine | None]]:
    with tempfile.TemporaryDirectory() as store:
        if backend == SQLITE:
            yield Path(store), "", None
            return
        with database(backend) as engine:
            yield Path(store), engine.url.render_as_string(hide_password=False), engine


def started(peer: str, python: Path, given: Path, store: Path, url: str) -> dict[str, Any]:
    path = str(ROOT) if peer not in REQUIREMENTS else ""
    process = subprocess.run(
        [str(python), "-m", f"scripts.{peer}_peer", str(given), str(store), *([url] if url else [])],
        check=True,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
    )
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(SIZE))
