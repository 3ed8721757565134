"""kameleon: hybrid search in the database an application already has.

Names load when they are first used, so that a command which needs only some of them starts at once. This facade imports
from all packages, and no package imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import KameleonError as KameleonError

if TYPE_CHECKING:
    from .database import create_async_engine as create_async_engine
    from .database import create_engine as create_engine
    from .database import set_up_engine as set_up_engine
    from .engine import SearchEngine as SearchEngine
    from .orm.mapping import searchable as searchable
    from .rebuilding import rebuild as rebuild
    from .records import RecordStore as RecordStore
    from .values import IndexReport as IndexReport
    from .values import IndexStatus as IndexStatus
    from .values import SearchResult as SearchResult
    from .values import SearchResults as SearchResults
    from .worker import Worker as Worker

MODULES = {
    "IndexReport": ".values",
    "IndexStatus": ".values",
    "RecordStore": ".records",
    "SearchEngine": ".engine",
    "SearchResult": ".values",
    "SearchResults": ".values",
    "Worker": ".worker",
    "create_async_engine": ".database",
    "create_engine": ".database",
    "rebuild": ".rebuilding",
    "searchable": ".orm.mapping",
    "set_up_engine": ".database",
}
"""By public name, in which module it is; type checkers read the imports above."""
__all__ = sorted(["KameleonError", *MODULES])


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name], __name__), name)
