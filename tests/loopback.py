"""An embeddings server on the loopback interface: it answers by a script of faults, then without any."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Answer = tuple[int, dict[str, str], bytes]
Fault = Callable[[dict[str, Any]], Answer | None]

DIMENSIONS = 8


def vector(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    made = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype("<f4")
    return np.asarray(made / np.linalg.norm(made), "<f4")


def answer(rows: list[dict[str, Any]]) -> Answer:
    return 200, {}, json.dumps({"object": "list", "data": rows, "model": "m", "usage": {}}).encode()


def good(request: dict[str, Any]) -> Answer:
    is_base64 = request.get("encoding_format") == "base64"
    made = [vector(text) for text in request["input"]]
    values: list[Any] = [base64.b64encode(v.tobytes()).decode() if is_base64 else v.tolist() for v in made]
    return answer([{"object": "embedding", "index": n, "embedding": value} for n, value in enumerate(values)])


def error(status: int, message: str = "no", *, headers: dict[str, str] | None = None, **fields: Any) -> Fault:
    body = json.dumps({"error": {"message": message, **fields}}).encode()
    return lambda _request: (status, headers or {}, body)


def cut(_request: dict[str, Any]) -> None:
    """The connection closes without an answer."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.ports: list[int] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.script: list[Fault] = []
        self.always: Fault = good
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def inputs(self) -> list[list[str]]:
        return [request["input"] for request in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that close the connection, which is part of the script."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.ports.append(self.client_address[1])
            self.server.keys.append(self.headers.get("authorization", ""))
            self.server.paths.append(self.path)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
            fault = self.server.script.pop(0) if self.server.script else self.server.always
        answered = fault(request)
        with self.server.lock:
            self.server.in_flight -= 1
        if answered is None:
            self.close_connection = True
            return
        status, headers, body = answered
        is_chunked = "transfer-encoding" in headers
        length = {} if is_chunked else {"content-length": str(len(body))}
        self.send_response(status)
        for name, value in {"content-type": "application/json", **length, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(chunked(body) if is_chunked else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def chunked(body: bytes, size: int = 700) -> bytes:
    parts = [body[n : n + size] for n in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        # Each client would read all authorities of the web: half of a test's time. This folder has none.
        patch.setenv("SSL_CERT_DIR", str(Path(__file__).parent))
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
