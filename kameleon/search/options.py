"""The options of a search, as callers give them. Imports `boosts`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from ..boosts import Boosts
from .reranking import Reranker

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.sql.base import ExecutableOption

    from .fusion import Fusion


class TenantOption(TypedDict, total=False):
    """`tenant` is whose records are read: one tenant, several, or `kameleon.ALL_TENANTS`. Without it those are read
    that have none, and a search of an entity that has tenants raises TenantRequired."""

    tenant: object


class SearchOptions(TenantOption, total=False):
    """Options of `search` beside the query and its entities.

    `limit` (10) hits after the first `offset` (0), or after the page whose `cursor` is given: then no hit of an
    earlier page comes again, whatever was written in between.

    `mode` is hybrid, keyword or vector. `vector` is compared with the records' in place of the embedding of the query,
    which is not made; it has the dimensions of the index. Without words it ranks alone, as with mode="vector".
    `where` filters inside both legs: by the fields of stored records, by the
    columns of a mapped class, or by any SQLAlchemy condition on one. `ids` are the only records to search, 10,000 at
    most, of whichever of the entities has them. `min_score` (0) leaves out hits below it. `hide` are records that are
    no hits. `tenant` as in TenantOption.

    `fusion` makes one ranking of two: weighted, rrf, dbsf, or a function of the `fusion.Leg`s that gives a score
    from 0 to 1 by key; `weight` is the vector's (0..1) in this query, the model's own where it is None. `boost` raises
    records after the fusion, by boosts of `kameleon.boosts`, instead of those of their entities; of [] none is raised.
    `rerank` is a callable (query, texts) -> scores 0..1 that orders the `rerank_top` (50) best again, and leaves out
    the others. `sort` orders the 1,000 best by a field instead ("-price": the greatest first) or by several
    ("-year,name", or a list).

    `limit_by={"brand": 1}` leaves out hits beyond so many of each value of a field. `group_by="entity"` gives `limit`
    hits of each entity. `diversity` (0 to 1) orders the 100 best so that each is relevant and unlike those before it.
    `pin` are records to put before all others, whether they match or not: as for `hide`, (entity, id) pairs, hits or
    refs, or ids where one entity is searched. `synonyms` and `rules` (True) are whether those of the index are used.

    `count` counts what matches. `facets` names fields whose values are counted over all of it; {field: bounds} or
    {field: "month"} counts buckets of them.

    `highlight` fills `spans` and `snippet`, of `snippet_length` (180) characters at most, `passages` (0) that many of
    the best parts of each record, `explain` fills `explanation`. `load=True` with `session=` loads the hits' mapped
    objects through that session, a statement for each class; a list is loader options of the one class that is
    searched, {class: options} those of several, and no others are loaded. `data=True` fills the `data` of hits of
    mapped classes and tables with their rows' texts and filterable columns, with a statement for each class.
    """

    limit: int
    offset: int
    cursor: str | None
    mode: str
    vector: "Sequence[float] | NDArray[Any] | None"
    where: Any
    ids: Iterable[str | int | UUID] | None
    min_score: float
    hide: Iterable[object]
    fusion: "str | Fusion"
    weight: float | None
    boost: Boosts | None
    rerank: Reranker | None
    rerank_top: int
    sort: str | Sequence[str] | None
    limit_by: Mapping[str, int] | None
    group_by: str | None
    diversity: float
    pin: Iterable[object]
    synonyms: bool
    rules: bool
    count: bool
    facets: Iterable[str | Mapping[str, Any]] | Mapping[str, Any]
    highlight: bool
    snippet_length: int | None
    passages: int
    explain: bool
    data: bool
    load: "bool | Sequence[ExecutableOption] | Mapping[type, Sequence[ExecutableOption]]"
