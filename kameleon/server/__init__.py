"""The page, the API and the MCP server over a SearchEngine, on its public verbs alone. Imports `errors`."""

from ..errors import MissingExtra

try:
    from .application import app as app
    from .serving import tenant_of_header as tenant_of_header
except ModuleNotFoundError as _error:
    raise MissingExtra(_error.name or "starlette", "server") from _error
