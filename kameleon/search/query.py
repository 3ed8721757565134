"""What was asked, checked once at the door."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from ..content import check_entity, normalize
from ..errors import InvalidInput, seen
from ..forking import lazy
from ..values import Ref
from .fusion import check_fusion
from .ordering import Sort, read_sort
from .paging import Cursor, first_page, read_cursor
from .reranking import RERANKED, Reranker, check_reranker
from .syntax import Asked, parse

if TYPE_CHECKING:
    from ..stores.protocols import NamedFields
    from ..stores.values import Among
    from .fusion import Fusion

MODES = ("hybrid", "keyword", "vector")
GROUPINGS = ("entity",)
CANDIDATES = 100
DEEP = 300
SORTED = 1_000
MAX_LIMIT = 10_000
MAX_FACETS = 20
NO_PAGE = Cursor(b"")


class SearchOptions(TypedDict, total=False):
    """Options of `search` beside the query and its entities.

    `limit` (10) hits after the first `offset` (0), or after the page whose `cursor` is given: then no hit of an
    earlier page comes again, whatever was written in between. `min_score` (0) leaves out hits below it. `where`
    filters inside both legs: by the fields of stored records, by the columns of a mapped class, or by any
    SQLAlchemy condition on one. `mode` is hybrid, keyword or vector.

    `fusion` makes one ranking of two: weighted, rrf, dbsf, or a function of the `fusion.Leg`s that gives a score
    from 0 to 1 by key; `weight` is the vector's (0..1) in this query, the model's own where it is None.

    `sort` orders the 1,000 best by a field ("-price": the greatest first), in a hybrid search those that have a
    word of the query. `group_by="entity"` gives `limit` hits of each entity. `facets` names fields whose values are
    counted over all that match, `count` counts those. `rerank` is a callable (query, texts) -> scores 0..1 that
    orders the `rerank_top` (50) best anew, and leaves out the others. `highlight` fills `spans`, `explain` fills
    `explanation`.
    """

    limit: int
    offset: int
    cursor: str | None
    min_score: float
    where: Any
    mode: str
    fusion: "str | Fusion"
    weight: float | None
    highlight: bool
    count: bool
    facets: Iterable[str]
    sort: str | None
    group_by: str | None
    rerank: Reranker | None
    rerank_top: int
    explain: bool


@dataclass(frozen=True)
class Query:
    """`text` is what ranks of what was typed, `asked` its conditions. `entities` empty means all, unless the search is
    among none of them. `weight` is the vector's, None the generation's own. `columns` reads the fields of a mapped
    class, None stands for the record store's. `like` is the record that others are to be similar to; `text` is its own
    then."""

    asked: Asked
    entities: tuple[str, ...] = ()
    is_nowhere: bool = False
    limit: int = 10
    offset: int = 0
    min_score: float = 0.0
    where: Mapping[str, Any] | None = None
    mode: str = "hybrid"
    fusion: "str | Fusion" = "weighted"
    weight: float | None = None
    highlight: bool = False
    count: bool = False
    facets: tuple[str, ...] = ()
    sort: Sort | None = None
    group_by: str | None = None
    rerank: Reranker | None = None
    rerank_top: int = RERANKED
    explain: bool = False
    among: "Among | None" = None
    columns: "NamedFields | None" = None
    like: Ref | None = None
    page: Cursor = NO_PAGE

    @property
    def text(self) -> str:
        return self.asked.text

    @property
    def says_something(self) -> bool:
        """Whether there is something to look for, and somewhere."""
        return not self.is_nowhere and bool(self.text) and not self.text.isspace()

    @property
    def end(self) -> int:
        """How many of the best are looked at until the page ends."""
        return max(self.offset, len(self.page.shown)) + self.limit

    @lazy
    def depth(self) -> int:
        """How many candidates each leg puts forward."""
        if self.sort:
            return SORTED
        if self.rerank:
            return max(CANDIDATES, self.window)
        return max(CANDIDATES if self.fusion == "weighted" else DEEP, 2 * self.end)

    @property
    def window(self) -> int:
        """How many of the best are reranked, whatever the page."""
        return max(self.rerank_top, self.limit)

    @property
    def reads_records(self) -> bool:
        """Whether the declared fields of the record store have to be known."""
        return bool(self.where) or (self.columns is None and bool(self.facets or self.sort))


def check_text(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"a query is text, not {type(text).__name__}")
    return normalize(text)


def ask(
    text: object,
    *,
    fields: Collection[str] = (),
    entities: Iterable[object] | None = (),
    limit: int = 10,
    offset: int = 0,
    cursor: str | None = None,
    min_score: float = 0.0,
    where: Any = None,
    mode: str = "hybrid",
    fusion: object = "weighted",
    weight: float | None = None,
    highlight: bool = False,
    count: bool = False,
    facets: Iterable[str] = (),
    sort: str | None = None,
    group_by: str | None = None,
    rerank: Reranker | None = None,
    rerank_top: int = RERANKED,
    explain: bool = False,
    among: "Among | None" = None,
    columns: "NamedFields | None" = None,
    like: Ref | None = None,
) -> Query:
    """A checked Query; `fields` are those that it may name. Raises InvalidInput, naming what is possible."""
    typed = check_text(text)
    if mode not in MODES:
        raise InvalidInput(f"unknown mode {seen(mode)}. Known: {', '.join(MODES)}")
    check_whole("limit", limit, 1)
    check_whole("offset", offset, 0)
    check_whole("rerank_top", rerank_top, 1)
    if isinstance(min_score, bool) or not isinstance(min_score, int | float) or not 0.0 <= min_score <= 1.0:
        raise InvalidInput(f"min_score lies between 0 and 1, as scores do; got {seen(min_score)}")
    check_together(offset, cursor, group_by, sort, rerank)
    check_reranker(rerank)
    query = Query(
        asked=Asked(typed) if like else parse(typed, fields),
        entities=tuple(dict.fromkeys(check_entity(name) for name in entities or ())),
        is_nowhere=entities is None,
        limit=limit,
        offset=offset,
        min_score=min_score,
        where=where,
        mode=mode,
        fusion=check_fusion(fusion),
        weight=None if weight is None else check_weight(weight),
        highlight=highlight,
        count=count,
        facets=check_facets(facets),
        sort=read_sort(sort),
        group_by=group_by,
        rerank=rerank,
        rerank_top=rerank_top,
        explain=explain,
        among=among,
        columns=columns,
        like=like,
    )
    first = first_page(ranked_by(query, typed))
    query = replace(query, page=first if cursor is None else read_cursor(cursor, first))
    most, what = (query.window, "rerank orders") if rerank else (SORTED, "sort orders") if sort else (MAX_LIMIT, "")
    if query.end > most:
        raise InvalidInput(
            f"{what or 'a search reaches'} the {most:,} best, and this page ends at {query.end:,}. "
            f"{'Raise rerank_top' if rerank else 'Narrow it with where='}"
        )
    return query


def ranked_by(query: Query, typed: str) -> list[Any]:
    """Whatever changes the order of a query's hits."""
    among = query.among and [query.among.sql, [bind.value for bind in query.among.binds.values()]]
    fusion = query.fusion if isinstance(query.fusion, str) else "function"
    reranked = query.rerank_top if query.rerank else None
    return [
        *(
            typed,
            query.entities,
            query.is_nowhere,
            query.where,
            among,
            query.mode,
            query.min_score,
            query.sort,
            query.like,
        ),
        *(fusion, query.weight, reranked),
    ]


def check_together(offset: int, cursor: object, group_by: object, sort: object, rerank: object) -> None:
    if group_by is not None and group_by not in GROUPINGS:
        raise InvalidInput(f"unknown group_by {seen(group_by)}. Known: {', '.join(GROUPINGS)}")
    if cursor is not None and (offset or group_by):
        raise InvalidInput(f"a cursor says where its page begins: leave {'offset' if offset else 'group_by'} out")
    if offset and group_by:
        raise InvalidInput("groups have no second page: leave offset out, and raise limit, which is each group's")
    if rerank is not None and (sort is not None or group_by is not None):
        raise InvalidInput(f"rerank and {'sort' if sort is not None else 'group_by'} both say the order: leave one out")


def check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_LIMIT:
        raise InvalidInput(f"{name} is a whole number of hits from {least} to {MAX_LIMIT:,}, not {seen(value)}")


def check_facets(facets: Iterable[str]) -> tuple[str, ...]:
    if isinstance(facets, str):
        raise InvalidInput(f"facets is a list of fields; for one, use facets=[{seen(facets)}]")
    if not isinstance(facets, Iterable):
        raise InvalidInput(f"facets is a list of fields, not {seen(facets)}")
    named = list(facets)
    if wrong := [name for name in named if not isinstance(name, str) or not name]:
        raise InvalidInput(f"facets are names of fields, not {seen(wrong[0])}")
    if len(set(named)) > MAX_FACETS:
        raise InvalidInput(f"facets are {MAX_FACETS} fields at most, not {len(set(named))}")
    return tuple(dict.fromkeys(named))


def check_weight(weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise InvalidInput(f"weight is the vector's share of a score, a number from 0 to 1, not {seen(weight, 80)}")
    return float(weight)
