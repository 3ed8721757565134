"""The MCP server. Imports this package alone."""

from .server import routes as routes
from .server import serve_stdio as serve_stdio
