"""The public name of `kameleon.reindex.gate`. Imports `reindex`."""

from .reindex.gate import Gate as Gate
from .reindex.gate import GateQuery as GateQuery
