"""Records read from files, folders and streams: JSON, CSV, TSV, Parquet, Markdown, HTML and text. No database. Imports
this package alone.

`records` yields them as mappings, `items` with their places and what is wrong with those that cannot be read.
"""

from .items import Item, ReadOptions
from .loaded import LoadedFiles
from .reading import items, records

__all__ = ["Item", "LoadedFiles", "ReadOptions", "items", "records"]
