"""An embeddings server on loopback, in a process of its own, with a given latency."""

import base64
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any, ClassVar

import numpy as np

DIMENSIONS = 256


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    latency_s = 0.0
    vectors: ClassVar[dict[int, str]] = {}

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        vector = self.vector(request.get("dimensions", DIMENSIONS))
        rows = [{"object": "embedding", "index": n, "embedding": vector} for n in range(len(request["input"]))]
        body = json.dumps({"object": "list", "data": rows, "model": "m", "usage": {}}).encode()
        time.sleep(self.latency_s)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def vector(self, dimensions: int) -> str:
        if dimensions not in self.vectors:
            self.vectors[dimensions] = base64.b64encode(np.full(dimensions, 0.5, "<f4").tobytes()).decode()
        return self.vectors[dimensions]

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64


def serve(latency_s: float, sender: Connection) -> None:
    Handler.latency_s = latency_s
    server = Server(("127.0.0.1", 0), Handler)
    sender.send(f"http://127.0.0.1:{server.server_address[1]}/v1")
    server.serve_forever()


@contextmanager
def serving(latency_s: float) -> Iterator[str]:
    """The server's base URL."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(latency_s, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()
