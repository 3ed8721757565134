"""1,000 texts on a healthy, a slow, a limited and a half-broken embeddings server: requests, texts paid, seconds."""

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any, ClassVar

from kameleon import SearchEngine
from kameleon.embeddings import OpenAIProvider

from .corpus import passages
from .database import database
from .embeddings_server import DIMENSIONS, Server
from .embeddings_server import Handler as Plain
from .report import Arguments, Figures, stopwatch

TEXTS = 1_000
SYNCS = 4
KINDS = ("healthy", "slow", "limited", "half_broken")
LATENCY_S = 0.02
SECONDS_A_TEXT, TIMEOUT_S = 0.015, 1.0
"""The slow server's one slot takes 1.5 s for a request of 100 texts, which the client waits 1 s for."""
SECONDS_A_REQUEST = 0.25
MOST_TEXTS, BAD = 50, "unreadable"
BAD_EVERY = 100


class Handler(Plain):
    kind = ""
    lock: ClassVar[Lock] = Lock()
    slot: ClassVar[Lock] = Lock()
    counts: ClassVar[dict[str, int]] = {"requests": 0, "refused": 0, "texts_sent": 0, "texts_paid": 0}
    free_at = 0.0

    def do_POST(self) -> None:  # noqa: N802 - the base class calls it so
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = request["input"]
        refusal = getattr(self, f"_{self.kind}")(texts)
        with self.lock:
            self.counts["requests"] += 1
            self.counts["texts_sent"] += len(texts)
            self.counts["refused" if refusal else "texts_paid"] += 1 if refusal else len(texts)
        if refusal:
            status, headers, message = refusal
            self._answer(status, headers, {"error": {"message": message}})
            return
        rows = [{"index": n, "embedding": self.vector(DIMENSIONS)} for n in range(len(texts))]
        self._answer(200, {}, {"object": "list", "data": rows})

    def _answer(self, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _healthy(self, _texts: list[str]) -> None:
        time.sleep(LATENCY_S)

    def _slow(self, texts: list[str]) -> None:
        with self.slot:
            time.sleep(SECONDS_A_TEXT * len(texts))

    def _limited(self, _texts: list[str]) -> tuple[int, dict[str, str], str] | None:
        with self.lock:
            now = time.monotonic()
            if now < Handler.free_at:
                return 429, {"retry-after": "1"}, "rate limit reached"
            Handler.free_at = now + SECONDS_A_REQUEST
        time.sleep(LATENCY_S)
        return None

    def _half_broken(self, texts: list[str]) -> tuple[int, dict[str, str], str] | None:
        time.sleep(LATENCY_S)
        if len(texts) > MOST_TEXTS:
            return 400, {}, f"at most {MOST_TEXTS} texts"
        if any(BAD in text for text in texts):
            return 500, {}, "cannot encode NaN"
        return None


class Quiet(Server):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that timed out."""


def serve(kind: str, pipe: Connection) -> None:
    """Answers a message on the pipe with what was counted."""
    Handler.kind = kind
    server = Quiet(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(f"http://127.0.0.1:{server.server_address[1]}/v1")
    while pipe.recv():
        pipe.send(dict(Handler.counts))


@contextmanager
def playing(kind: str) -> Iterator[tuple[str, Connection]]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(kind, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.terminate()
        process.join()


def run(args: Arguments) -> Figures:
    return {"rows": min(TEXTS, args.rows), **{kind: measured(kind, args) for kind in KINDS}}


def measured(kind: str, args: Arguments) -> dict[str, Any]:
    """A write, then up to four syncs until nothing is pending."""
    texts = passages(min(TEXTS, args.rows), args.seed)
    if kind == "half_broken":
        texts = [f"{text} {BAD}" if n % BAD_EVERY == 7 else text for n, text in enumerate(texts)]
    with database(args.backend) as engine, playing(kind) as (url, counts):
        timeout_s = TIMEOUT_S if kind == "slow" else 30.0
        provider = OpenAIProvider("m", dimensions=DIMENSIONS, api_key="none", base_url=url, timeout_s=timeout_s)
        search = SearchEngine(engine, provider)
        with stopwatch() as watch:
            search.index_records_batch([("Text", str(n), text) for n, text in enumerate(texts)])
            syncs = 0
            while syncs < SYNCS and search.get_status()[0].pending:
                search.sync()
                syncs += 1
        (status,) = search.get_status()
        counts.send(True)
        return {
            **counts.recv(),
            "seconds": round(watch.seconds, 2),
            "syncs": syncs,
            "embedded": status.indexed - status.pending - status.failed,
            "failed": status.failed,
            "pending": status.pending,
        }
