"""Records read from files and streams: JSON, CSV and TSV. No database. Imports `errors`.

`records` yields them as mappings, `items` with their places and what is wrong with those that cannot be read.
"""

from .items import Item, ReadOptions
from .loaded import LoadedFiles
from .reading import items, records

__all__ = ["Item", "LoadedFiles", "ReadOptions", "items", "records"]
