"""Puts the application together. Imports `engine`."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from ..engine import SearchEngine
from . import api, page
from .problems import HANDLERS
from .serving import Serving, TenantOf

STATIC = Path(__file__).parent / "static"


def app(
    search: SearchEngine,
    *,
    write: bool = False,
    tenant: "str | TenantOf | None" = None,
    title: str = "kameleon",
) -> Starlette:
    """An ASGI application with the page at `/` and the API below `/api`, to be served or mounted at any path. `tenant`
    is that of every request, or a function of the request that gives it; without it requests may name theirs."""
    serving = Serving(search, write, tenant, title)
    routes = [
        *page.routes(serving),
        *api.routes(serving),
        Mount("/static", StaticFiles(directory=STATIC), name="static"),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS)
