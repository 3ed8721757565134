"""What was asked, checked once at the door."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from ..content import check_entity, normalize
from ..errors import InvalidInput

if TYPE_CHECKING:
    from .store import Among

MODES = ("hybrid", "keyword", "vector")
CANDIDATES = 100
MAX_LIMIT = 10_000


class SearchOptions(TypedDict, total=False):
    """What `search` may be asked besides the query and its entities."""

    limit: int
    min_score: float
    where: Any
    mode: str
    highlight: bool


@dataclass(frozen=True, slots=True)
class Query:
    """`entities` empty means all. `depth` is how many candidates each leg puts forward."""

    text: str
    entities: tuple[str, ...] = ()
    limit: int = 10
    min_score: float = 0.0
    where: Mapping[str, Any] | None = None
    mode: str = "hybrid"
    highlight: bool = False
    among: "Among | None" = None

    @property
    def says_something(self) -> bool:
        return bool(self.text) and not self.text.isspace()

    @property
    def depth(self) -> int:
        return max(CANDIDATES, 2 * self.limit)


def ask(
    text: object,
    *,
    entities: Iterable[object] = (),
    limit: int = 10,
    min_score: float = 0.0,
    where: Any = None,
    mode: str = "hybrid",
    highlight: bool = False,
    among: "Among | None" = None,
) -> Query:
    """A checked Query. Raises InvalidInput, naming what is possible."""
    if not isinstance(text, str):
        raise InvalidInput(f"a query is text, not {type(text).__name__}")
    if mode not in MODES:
        raise InvalidInput(f"unknown mode {mode!r}. Known: {', '.join(MODES)}")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit is a whole number of hits from 1 to {MAX_LIMIT:,}, not {limit!r}")
    if not 0.0 <= min_score <= 1.0:
        raise InvalidInput(f"min_score lies between 0 and 1, as scores do; got {min_score!r}")
    return Query(
        text=normalize(text),
        entities=tuple(dict.fromkeys(check_entity(name) for name in entities)),
        limit=limit,
        min_score=min_score,
        where=where,
        mode=mode,
        highlight=highlight,
        among=among,
    )
