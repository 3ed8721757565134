"""kameleon: hybrid search in the database an application already has.

Names load when they are first used, so that a command which needs only some of them starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import KameleonError

if TYPE_CHECKING:
    from .database import create_async_engine, create_engine, set_up_engine
    from .engine import SearchEngine
    from .orm.declaration import searchable
    from .rebuilding import rebuild
    from .records import RecordStore
    from .values import IndexReport, IndexStatus, SearchResult, SearchResults
    from .worker import Worker

__all__ = [
    "IndexReport",
    "IndexStatus",
    "KameleonError",
    "RecordStore",
    "SearchEngine",
    "SearchResult",
    "SearchResults",
    "Worker",
    "create_async_engine",
    "create_engine",
    "rebuild",
    "searchable",
    "set_up_engine",
]

_HOMES = {
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
    "searchable": ".orm.declaration",
    "set_up_engine": ".database",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
