"""Refuses requests of other sites' pages and those without the token, and adds the headers that restrict a browser.
Imports `errors`.

A page of another site can have a browser send requests here, and, with a name of its own that resolves to this machine
(DNS rebinding), read the answers. The browser names the page in `Origin` and `Sec-Fetch-Site`, and that name in `Host`.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import partial
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import InvalidInput, seen
from .problems import problem
from .sessions import Sessions, path_of, sign_in_page

SAFE = {"GET", "HEAD"}
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; "
    "object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "private, no-cache",
}
"""Of every answer, unless it has its own."""


class Guard:
    """Middleware that answers requests of other sites and, where there is a token, those without it."""

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str] = (), sessions: Sessions | None = None, page: bool = True
    ) -> None:
        self.app = app
        self.has_page = page
        self.hosts = frozenset(hosts)
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = self.refusal(Request(scope)) or self.app
        await answer(scope, receive, partial(send_with_headers, send))

    def refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self.is_own_host(host):
            return problem(
                421,
                "HostNotAllowed",
                f"this server does not answer for the host {host!r:.80}: start it with --allowed-host and that name, "
                "or give the name to kameleon.server.app in hosts=",
            )
        if not self.is_own_site(request, host):
            origin = request.headers.get("origin", "another site")
            return problem(
                403,
                "OriginNotAllowed",
                f"the request comes from a page of {origin!r:.80}, not of {host!r:.80}. Behind a proxy that changes "
                "the Host, start this server with --allowed-host and the name that browsers use",
            )
        return self.unless_signed_in(request)

    def is_own_host(self, host: str) -> bool:
        """Where a token is required, any name without `hosts`: another site's page does not have it."""
        if "*" in self.hosts or (self.sessions is not None and not self.hosts):
            return bool(host) or "*" in self.hosts
        name = name_of(host)
        return name in self.hosts or is_never_rebound(name)

    def is_own_site(self, request: Request, host: str) -> bool:
        """A link from another site is followed; nothing else that its pages request is answered."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site in ("same-origin", "none"):
            return True
        if origin is not None:
            place = urlsplit(origin).netloc.lower() if "://" in origin else ""
            return bool(place) and (place == host.lower() or name_of(place) in self.hosts)
        is_link = request.method in SAFE and request.headers.get("sec-fetch-mode") == "navigate"
        return site is None or is_link

    def is_open(self, request: Request) -> bool:
        """Whether a path is for everyone: the sign-in form and what it is drawn with."""
        path = path_of(request)
        return self.has_page and (path == "/sign-in" or path.startswith("/static/"))

    def unless_signed_in(self, request: Request) -> Response | None:
        if self.sessions is None or self.sessions.admits(request) or self.is_open(request):
            return None
        if self.has_page and path_of(request) in ("", "/") and request.method in SAFE:
            return sign_in_page(request)
        answer = problem(
            401,
            "TokenRequired",
            "this server requires its token: send it in the header Authorization: Bearer …, or sign in at its page",
        )
        answer.headers["www-authenticate"] = "Bearer"
        return answer


async def send_with_headers(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
    await send(message)


def checked_hosts(hosts: object) -> frozenset[str]:
    """Raises InvalidInput for what is no collection of names."""
    if isinstance(hosts, str) or not isinstance(hosts, Iterable):
        raise InvalidInput(f"hosts is a list of names; for one, use hosts=[{seen(hosts)}]")
    return frozenset(map(checked_host, hosts))


def checked_host(host: object) -> str:
    """Raises InvalidInput for what is no name of a host."""
    if not isinstance(host, str) or not host or set(host) & set("/@ ") or (":" in host and name_of(host) != host):
        raise InvalidInput(
            f"an allowed host is a name such as search.example, without scheme and port, not {seen(host)}"
        )
    return name_of(host)


def name_of(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return (host if host.count(":") > 1 else host.partition(":")[0]).rstrip(".").lower()


def is_never_rebound(name: str) -> bool:
    """Whether no name server decides which machine it is: an address, or a name of the loopback interface."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return is_address(name)


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
