"""The API below /api. Imports this package alone."""

from starlette.routing import BaseRoute

from ..operations import endpoints
from ..serving import Serving
from . import index, records, searching

OPERATIONS = [*searching.OPERATIONS, *records.OPERATIONS, *index.OPERATIONS]


def routes(serving: Serving) -> list[BaseRoute]:
    return [*endpoints(serving, OPERATIONS)]
