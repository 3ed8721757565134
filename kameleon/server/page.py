"""The page's routes. Imports nothing of kameleon's but this package."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.templating import Jinja2Templates

from .serving import Serving

TEMPLATES = Jinja2Templates(directory=Path(__file__).parent / "templates")
MODULES = sorted(path.name for path in Path(__file__).with_name("static").glob("*.js") if path.name != "theme.js")
"""What the page's script imports, so that a browser loads all of it at once."""


def routes(serving: Serving) -> list[BaseRoute]:
    def index(request: Request) -> Response:
        return TEMPLATES.TemplateResponse(request, "index.html", context(serving, request))

    return [Route("/", index, name="index")]


def context(serving: Serving, request: Request) -> dict[str, Any]:
    tenant = "" if serving.tenant is None else serving.within(request)["tenant"]
    return {"serving": serving, "modules": MODULES, "tenant": tenant, "records": digest(serving, tenant)}


def digest(serving: Serving, tenant: str) -> str:
    """Distinguishes what the browser keeps of one database and tenant from what it keeps of others at this address."""
    url = serving.search.engine.url
    name = Path(url.database or "").absolute() if url.get_backend_name() == "sqlite" else url.database
    return sha256(repr((url.host, url.port, str(name), tenant)).encode()).hexdigest()[:16]
