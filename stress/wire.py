"""A TCP port on loopback before a PostgreSQL server: the bytes that pass, and the statements that are sent."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL

CHUNK = 65_536
PORT = 5432
UNCOUNTED = (b"BEGIN", b"COMMIT", b"ROLLBACK", b"SET LOCAL")
PLAIN = {"sslmode": "disable", "gssencmode": "disable"}


class Wire:
    """Counts of all connections together; `prepared` are statements that the server keeps under a name."""

    def __init__(self) -> None:
        self.sent = self.received = self.statements = self.prepared = 0
        self.sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def note_sent(self, message: bytes) -> None:
        """A message of the client's, its type first: Q runs a text, P parses one, E runs what was parsed."""
        kind, body = message[:1], message[5:]
        name, _, rest = body.partition(b"\0")
        statement = name if kind == b"Q" else rest
        with self._lock:
            self.sent += len(message)
            self.statements += kind in b"QE"
            self.statements -= kind in b"QP" and statement.lstrip().startswith(UNCOUNTED)
            self.prepared += kind == b"P" and name != b""

    def note_received(self, part: bytes) -> None:
        with self._lock:
            self.received += len(part)


@contextmanager
def wired(url: URL) -> Iterator[tuple[URL, Wire]]:
    """The URL of the port, and what passes it. The server's port speaks no TLS."""
    wire = Wire()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, url, wire), daemon=True).start()
        query = {name: value for name, value in url.query.items() if name not in ("host", "port")}
        own = url.set(host="127.0.0.1", port=listener.getsockname()[1], query={**query, **PLAIN})
        try:
            yield own, wire
        finally:
            for end in (listener, *wire.sockets):  # a server that stops waits for its clients
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def accept(listener: socket.socket, url: URL, wire: Wire) -> None:
    with suppress(OSError):  # the listener is closed
        while True:
            client, _ = listener.accept()
            server = connect(url)
            wire.sockets += [client, server]
            messages = Messages(wire.note_sent)
            for ends in ((client, server, messages.add), (server, client, wire.note_received)):
                threading.Thread(target=pump, args=ends, daemon=True).start()


def connect(url: URL) -> socket.socket:
    host, port = url.query.get("host", url.host) or "127.0.0.1", int(str(url.query.get("port", url.port or PORT)))
    if not str(host).startswith("/"):
        return socket.create_connection((str(host), port))
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(Path(str(host)) / f".s.PGSQL.{port}"))
    return server


def pump(source: socket.socket, target: socket.socket, note: Callable[[bytes], object]) -> None:
    """Counts before it passes on: who has an answer finds it counted."""
    with suppress(OSError):  # one end is closed
        while part := source.recv(CHUNK):
            note(part)
            target.sendall(part)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Messages:
    """Cuts what a client sends into messages: the first has no type, the others a byte of it before their length."""

    def __init__(self, note: Callable[[bytes], None]) -> None:
        self._note, self._buffer, self._type_bytes = note, b"", 0

    def add(self, part: bytes) -> None:
        self._buffer += part
        while len(self._buffer) >= self._type_bytes + 4:
            size = self._type_bytes + int.from_bytes(self._buffer[self._type_bytes :][:4], "big")
            if len(self._buffer) < size:
                return
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            if self._type_bytes:
                self._note(message)
            self._type_bytes = 1
