"""The page, the API and the MCP server over a SearchEngine, on its public verbs alone. Imports this package alone."""

from .application import app as app
