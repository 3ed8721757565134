"""kameleon: hybrid search in the database an application already has.

Names load when they are first used, so that a command which needs only some of them starts at once. This facade imports
from all packages, and no package imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import KameleonError as KameleonError

__version__ = "0.1.0"
"""The one place of the version: the package's metadata are made of it."""

if TYPE_CHECKING:
    from .content import Field as Field
    from .database import create_async_engine as create_async_engine
    from .database import create_engine as create_engine
    from .database import set_up_engine as set_up_engine
    from .engine import SearchEngine as SearchEngine
    from .excerpts import Passage as Passage
    from .excerpts import Snippet as Snippet
    from .orm.declaration import searchable as searchable
    from .rebuilding import rebuild as rebuild
    from .records import RecordStore as RecordStore
    from .values import ALL_TENANTS as ALL_TENANTS
    from .values import IndexReport as IndexReport
    from .values import IndexStatus as IndexStatus
    from .values import SearchResult as SearchResult
    from .values import SearchResults as SearchResults
    from .worker import Worker as Worker

MODULES: dict[str, tuple[str, ...]] = {
    ".content": ("Field",),
    ".database": ("create_async_engine", "create_engine", "set_up_engine"),
    ".engine": ("SearchEngine",),
    ".excerpts": ("Passage", "Snippet"),
    ".orm.declaration": ("searchable",),
    ".rebuilding": ("rebuild",),
    ".records": ("RecordStore",),
    ".values": ("ALL_TENANTS", "IndexReport", "IndexStatus", "SearchResult", "SearchResults"),
    ".worker": ("Worker",),
}
"""The public names of each module; type checkers read the imports above."""
__all__ = sorted(["KameleonError", *(name for names in MODULES.values() for name in names)])


def __getattr__(name: str) -> Any:
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
