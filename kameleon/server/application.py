"""Puts the application together. Imports `engine`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from ..engine import SearchEngine
from . import api, metrics
from .page import routes as page_routes
from .problems import HANDLERS
from .security import Guard, checked_hosts
from .serving import Serving, TenantOf
from .sessions import Sessions

STATIC = Path(__file__).parent / "static"


def app(
    search: SearchEngine,
    *,
    write: bool = False,
    tenant: "str | TenantOf | None" = None,
    token: str | None = None,
    hosts: Sequence[str] = (),
    mcp: bool | Mapping[str, Any] = False,
    page: bool = True,
    title: str = "kameleon",
) -> Starlette:
    """An ASGI application with the page at `/` and the API below `/api`, to be served or mounted at any path.

    It changes nothing unless it may `write`. `tenant` is that of every request, or a function of the request that gives
    it; without it requests may name theirs. Requests have to bring `token`, where there is one; without it the
    application leaves authentication to the one that it is mounted in. `hosts` are the names that it answers for
    besides addresses and those of the loopback interface; "*" is any. `mcp` adds `/mcp`, and may be its options:
    `max_tokens` of a result, `descriptions` of tools by their names. `page=False` leaves the page out. Raises
    InvalidInput for a token that can be guessed and a host that is no name.
    """
    sessions = None if token is None else Sessions(token)
    serving = Serving(search, write, tenant, title, signs_in=token is not None)
    guard = Middleware(Guard, hosts=checked_hosts(hosts), sessions=sessions, page=page)
    return Starlette(
        routes=[*(sessions.routes() if sessions and page else ()), *routes_of(serving, page=page, mcp=mcp)],
        middleware=[Middleware(metrics.Measured), guard],
        exception_handlers=HANDLERS,
    )


def routes_of(serving: Serving, *, page: bool, mcp: bool | Mapping[str, Any]) -> list[BaseRoute]:
    files = Mount("/static", StaticFiles(directory=STATIC), name="static")
    tools = () if mcp is False else mcp_routes(serving, **({} if mcp is True else mcp))
    return [*(page_routes(serving) if page else ()), *api.routes(serving), *metrics.routes(serving), *tools, files]


def mcp_routes(serving: Serving, **options: Any) -> list[BaseRoute]:
    """Raises MissingExtra."""
    from .mcp import routes

    return routes(serving, **options)
