"""The API's routes. Imports `documents`."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..documents import results_document
from .serving import Serving


def routes(serving: Serving) -> list[BaseRoute]:
    async def search(request: Request) -> Response:
        asked = request.query_params
        within = serving.within(request, asked.get("tenant"))
        results = await run_in_threadpool(serving.search.search, asked.get("query", ""), highlight=True, **within)
        return JSONResponse(results_document(results))

    return [Route("/api/search", search)]
