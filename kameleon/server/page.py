"""The page's routes. Imports nothing of kameleon's but this package."""

from pathlib import Path

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
        return TEMPLATES.TemplateResponse(request, "index.html", {"serving": serving, "modules": MODULES})

    return [Route("/", index, name="index")]
