"""The API below /api. Imports this package alone."""

from starlette.routing import BaseRoute

from ..operations import endpoints
from ..serving import Serving
from . import index, searching

OPERATIONS = [*searching.OPERATIONS, *index.OPERATIONS]


def routes(serving: Serving) -> list[BaseRoute]:
    return [*endpoints(serving, OPERATIONS)]
