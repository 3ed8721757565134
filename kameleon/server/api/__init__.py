"""The API below /api. Imports this package alone."""

from starlette.routing import BaseRoute

from .. import openapi
from ..operations import endpoints
from ..serving import Serving
from . import index, judging, records, searching

OPERATIONS = [*searching.OPERATIONS, *records.OPERATIONS, *index.OPERATIONS, *judging.OPERATIONS, *openapi.OPERATIONS]


def routes(serving: Serving) -> list[BaseRoute]:
    return [*endpoints(serving, OPERATIONS)]
