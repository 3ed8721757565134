"""The read side: queries, retrieval, fusion, pages of hits. Imports `values` and `engine`.

`SearchEngine` and its results can be imported from here, too. They load when they are first used, for `kameleon.engine`
imports this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine import SearchEngine
    from ..values import IndexStatus, SearchResult, SearchResults

__all__ = ["IndexStatus", "SearchEngine", "SearchResult", "SearchResults"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import kameleon

    return getattr(kameleon, name)
