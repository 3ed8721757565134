"""2,000 requests over four forked workers, with each kind of provider, while a thread of the parent searches and writes
as they are forked."""

import os
import pickle
import select
import signal
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from kameleon import SearchEngine
from kameleon.embeddings import get_provider

from .database import database
from .embeddings_server import DIMENSIONS, serving
from .report import Arguments, stopwatch
from .workloads.threads import busy

WORKERS, REQUESTS, RECORDS, BUSY = 4, 2_000, 201, 51
HANGS_AFTER_S = 300.0
SERVER_LATENCY_S = 0.005
MODEL = Path(__file__).parents[2] / "shared" / "models" / "all-MiniLM-L6-v2"


def run(args: Arguments) -> Mapping[str, Any]:
    with serving(SERVER_LATENCY_S) as server:
        os.environ["OPENAI_API_KEY"] = "none"
        kinds: dict[str, dict[str, Any]] = {
            "static": {"provider": "static"},
            "openai": {"provider": "openai", "model": "m", "dimensions": DIMENSIONS, "base_url": server},
        }
        if MODEL.is_dir():
            kinds["fastembed"] = {"provider": "fastembed", "model": str(MODEL)}
        figures = {kind: served(args, options) for kind, options in kinds.items()}
    wrong = [f"{kind}: {each}" for kind, found in figures.items() for each in found.pop("wrong")]
    if wrong:
        raise AssertionError("\n".join([f"seed {args.seed}, {args.backend}:", *wrong[:20]]))
    return {"rows": RECORDS, "workers": WORKERS, "requests": len(kinds) * REQUESTS, **figures}


def served(args: Arguments, options: Mapping[str, Any]) -> dict[str, Any]:
    with database(args.backend) as engine:
        search = SearchEngine(engine, get_provider(**options))
        search.index_records_batch([("Page", n, f"page number {n}") for n in range(RECORDS)])
        with busy(partial(write_and_search, search)), stopwatch() as watch:
            children = [begun(worker, search, engine) for worker in range(WORKERS)]
        with stopwatch() as rest:
            wrong = [each for pid, pipe in children for each in answer(pid, pipe)]
        stored = {status.entity: status.indexed for status in search.get_status()}
    if stored.get("Answer") != REQUESTS // 10:
        wrong.append(f"{stored.get('Answer')} of {REQUESTS // 10} records were written")
    seconds = watch.seconds + rest.seconds
    return {
        "forks_s": round(watch.seconds, 2),
        "seconds": round(seconds, 1),
        "requests_per_second": round(REQUESTS / seconds, 1),
        "wrong": wrong,
    }


def write_and_search(search: SearchEngine, _call: int) -> None:
    search.search("number 5", limit=5)
    search.index_records_batch([("Busy", n, f"busy {n} {time.monotonic()}") for n in range(BUSY)])


def begun(worker: int, search: SearchEngine, engine: Engine) -> tuple[int, int]:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        engine.dispose(close=False)  # as SQLAlchemy requires where the parent's pool has connections
        try:
            wrong = list(requests_of(worker, search))
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            wrong = [f"worker {worker}: {type(error).__name__}: {error}"]
        os.write(theirs, pickle.dumps(wrong[:20]))
        os._exit(0)
    os.close(theirs)
    return pid, ours


def requests_of(worker: int, search: SearchEngine) -> Iterator[str]:
    for n in range(worker, REQUESTS, WORKERS):
        found = [hit.id for hit in search.search(f"page number {n % RECORDS}", entity="Page", limit=1)]
        if found != [str(n % RECORDS)]:
            yield f"page {n % RECORDS} is answered by {found}"
        if n // WORKERS % 10 == 0:
            search.index_record("Answer", n, f"answer {n}")


def answer(pid: int, pipe: int) -> list[str]:
    with os.fdopen(pipe, "rb") as read:
        if not select.select([read], [], [], HANGS_AFTER_S)[0]:
            os.kill(pid, signal.SIGKILL)
        sent = read.read()
    os.waitpid(pid, 0)
    found: list[str] = pickle.loads(sent) if sent else ["a worker hung or died"]  # noqa: S301 - of our own child
    return found
