"""Serves an application on a socket until a signal ends it. Imports `errors`."""

import errno
import ipaddress
import os
import socket
from types import FrameType

import uvicorn
from starlette.datastructures import URL
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import InvalidInput, KameleonError

GRACE_S = 5
"""Bounds how long answers that were begun may take after a signal: streams of MCP have no end. Chosen, not measured."""
BACKLOG = 128
"""Connections that wait to be accepted, as `listen` bounds them on most systems."""


STEPS = {
    errno.EADDRINUSE: "Name another with --port, or --port 0 for a free one",
    errno.EACCES: "Ports below 1024 need rights: name another with --port",
}


class CannotListen(KameleonError):
    pass


class Prefixed:
    """An application behind a path prefix, whether the proxy in front removes it from the path or not."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        parts = prefix.strip("/").split("/")
        if "" in parts or {".", ".."} & set(parts) or not prefix.isprintable() or set(prefix) & set("?#\\ "):
            raise InvalidInput(f"a path prefix is a path such as /search, not {prefix!r:.80}")
        self.app = app
        self.prefix = "/" + "/".join(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path == self.prefix:
                await RedirectResponse(URL(f"{self.prefix}/").replace(query=scope["query_string"].decode("latin-1")))(
                    scope, receive, send
                )
                return
            inner = path if path.startswith(f"{self.prefix}/") else self.prefix + path
            scope = {**scope, "root_path": self.prefix, "path": inner}
        await self.app(scope, receive, send)


class Server(uvicorn.Server):
    """Ends in order at SIGINT and SIGTERM, and at once at the second: neither is an error of the process."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        number = error.errno or 0
        reason = (os.strerror(number) if number > 0 else str(error.strerror)).lower()  # names have negative ones
        step = STEPS.get(number, "Name an address of this machine, such as --host 127.0.0.1")
        raise CannotListen(f"cannot listen at {host!r:.80} port {port}: {reason}. {step}") from error


def address_of(listening: socket.socket, prefix: str = "") -> str:
    """Its URL for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is replaced
    path = "/".join(filter(None, prefix.split("/")))
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{path}{'/' if path else ''}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until a signal. Requests are not logged, for their addresses hold queries."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        ws="none",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    with listening:
        Server(config).run(sockets=[listening])
