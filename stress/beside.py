"""How long searches take beside a bulk sync of the same process, with each kind of provider."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, ClassVar

from kameleon import SearchEngine
from kameleon.embeddings import OpenAIProvider, StaticProvider

from .corpus import MINILM, passages
from .database import database
from .embeddings_server import DIMENSIONS, Handler, serving
from .report import Arguments, Figures, latencies, stopwatch

LATENCY_S = 0.2
TRANSFORMER_TEXTS, NETWORK_TEXTS = 300, 3_000
ALONE, MOST, PAUSE_S = 50, 1_000, 0.02
RETRY_AFTER_S = 1


def run(args: Arguments) -> Figures:
    """`limited` is a server that refuses every fourth bulk request for a second."""
    with serving(LATENCY_S) as url, limited() as limited_url:
        providers: dict[str, tuple[Any, int]] = {
            "static": (StaticProvider(), args.rows),
            "network": (network(url), NETWORK_TEXTS),
            "limited": (network(limited_url), NETWORK_TEXTS),
        }
        if MINILM.is_dir():
            from kameleon.embeddings import FastEmbedProvider

            providers["fastembed"] = (FastEmbedProvider(str(MINILM)), min(args.rows, TRANSFORMER_TEXTS))
        return {name: beside(args, provider, texts) for name, (provider, texts) in providers.items()}


def network(url: str) -> OpenAIProvider:
    return OpenAIProvider("m", dimensions=DIMENSIONS, api_key="none", base_url=url)


def beside(args: Arguments, provider: Any, texts: int) -> Figures:
    found = passages(texts + 1, args.seed)
    with database(args.backend) as engine:
        SearchEngine(engine).index_records_batch(("Note", str(n), text) for n, text in enumerate(found[:-1]))
        search = SearchEngine(engine, provider)
        search.index_record("Note", "first", found[-1])
        queries = (f"{' '.join(found[n % texts].split()[:6])} {n}" for n in range(ALONE + MOST))
        alone = [searched(search, query)[0] for query, _ in zip(queries, range(ALONE), strict=False)]
        with stopwatch() as watch:
            bulk = Thread(target=search.sync)
            bulk.start()
            meanwhile = list[tuple[float, str]]()
            while bulk.is_alive() and len(meanwhile) < MOST - ALONE:
                meanwhile.append(searched(search, next(queries)))
                time.sleep(PAUSE_S)
            bulk.join()
    took = [milliseconds for milliseconds, _ in meanwhile]
    return {
        "texts": texts,
        "sync_seconds": round(watch.seconds, 2),
        "alone": latencies(alone),
        "beside": {
            "searches": len(took),
            "by_keywords_alone": sum(note.startswith("keywords only") for _, note in meanwhile),
            **latencies(took),
        },
    }


def searched(search: SearchEngine, query: str) -> tuple[float, str]:
    with stopwatch() as watch:
        note = search.search(query).plan.note
    return 1000 * watch.seconds, note


class Limited(Handler):
    """Refuses every fourth request for several texts."""

    bulk_requests: ClassVar[list[int]] = []

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        length = int(self.headers["content-length"])
        if length < 1_000:
            super().do_POST()
            return
        self.bulk_requests.append(length)
        if len(self.bulk_requests) % 4:
            super().do_POST()
            return
        self.rfile.read(length)
        body = b'{"error": {"message": "Rate limit reached"}}'
        self.send_response(429)
        headers = {"retry-after": RETRY_AFTER_S, "content-type": "application/json", "content-length": len(body)}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)


def serve(connection: Connection) -> None:
    Limited.latency_s = LATENCY_S
    server = ThreadingHTTPServer(("127.0.0.1", 0), Limited)
    connection.send(f"http://127.0.0.1:{server.server_address[1]}/v1")
    server.serve_forever()


@contextmanager
def limited() -> Iterator[str]:
    """The base URL of a server that limits bulk requests."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()
