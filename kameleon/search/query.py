"""Parses and checks a query. Imports `values`, `errors`, `boosts`, `forking`, `content`, `embeddings` and `stores`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..boosts import Boost, identity, read_boosts
from ..content import check_entity
from ..errors import InvalidInput, seen
from ..forking import lazy
from ..values import Ref, Tenants
from .boost_sets import BoostSets, ClassBoosts
from .capping import Cap, read_cap
from .checks import (
    MAX_LIMIT,
    check_diversity,
    check_ids,
    check_min_score,
    check_min_similarity,
    check_query_vector,
    check_text,
    check_weight,
    check_whole,
    check_within,
)
from .facets import Facet, read_facets
from .fusion import check_fusion
from .options import SearchOptions
from .ordering import Sort, read_sort
from .paging import Cursor, first_page, read_cursor
from .reranking import RERANKED, Reranker, check_reranker
from .syntax import Asked, parse

if TYPE_CHECKING:
    from ..embeddings.provider import Vector
    from ..stores.catalog import Entity
    from ..stores.protocols import NamedFields
    from ..stores.values import Among
    from .fusion import Fusion

MODES = ("hybrid", "keyword", "vector")
GROUPINGS = ("entity",)
COUNTED = 10_000
"""Bounds the records without a word of the query that are counted."""
CANDIDATES = 100
"""Bounds from below how many records a leg puts forward."""
DEEP = 300
"""Bounds from below how many records a leg puts forward to a fusion whose scores depend on how many there are."""
DIVERSIFIED = 100
"""Bounds how many of the best are compared with each other for diversity. Chosen, not measured."""
DEEPEST, DEEPER = 10_000, 4
"""Bound how many records a leg puts forward where `limit_by` leaves too few hits, and how many times as many it does at
each try. Chosen, not measured."""
BOOSTED = 200
"""Bounds from below how many records a leg puts forward to boosts, and how many of the best are boosted. Measured with
three boosts of factors up to 1.73 over 100,000 films, against 2,000 of each leg: the first ten have 93 % (queries of
eight words) and 87 % (two words) of those that are the first ten then, with 150 89 and 82, with 300 94 and 89."""
SORTED = 1_000
"""Bounds how many of the best are sorted by a field. Chosen, not measured, as those above."""
MAX_PASSAGES = 20
"""Bounds the passages of a hit. Chosen, not measured."""
SNIPPET, MIN_SNIPPET, MAX_SNIPPET = 180, 20, 2_000
"""The characters of a snippet where no other number is given, the fewest and the most. Chosen, not measured."""


@dataclass(frozen=True)
class Query:
    """A checked query: raises InvalidInput, naming what is possible. `typed` is the query as it was given, `parsed` its
    text and its operators. `entities` empty means all, unless the search `is_nowhere`. The options are those of
    SearchOptions: `weight` None is the generation's own; `boost` None has each record those of its entity, which are in
    `stored_boosts` or `class_boosts`; a ref of `pin` or `hide` without a tenant is of each that is searched.

    `tenants`, `is_undivided` and `visible` are as in Scope; where row security `hides_words`, none are corrected or
    completed, and only those of the hits are shown. `of_classes` are entities that are searched as mapped classes,
    whose fields `columns` reads; those of others are the record store's. `shared` are the fields of those that are
    searched with all others, which no stored record needs to have. `like` is the record that others are to be similar
    to; the text is its own then. `vector` has length 1; a query without words is of mode vector then. Each leg puts
    `least_depth` records forward at least."""

    typed: str
    parsed: Asked
    entities: tuple[str, ...] = ()
    tenants: Tenants = ("",)
    limit: int = 10
    offset: int = 0
    cursor: str | None = None
    mode: str = "hybrid"
    vector: "Vector | None" = field(default=None, compare=False)
    where: Mapping[str, Any] | None = None
    ids: tuple[str, ...] | None = None
    min_score: float = 0.0
    min_similarity: float | None = None
    hide: tuple[Ref, ...] = ()
    fusion: "str | Fusion" = "weighted"
    weight: float | None = None
    boost: tuple[Boost, ...] | None = None
    rerank: Reranker | None = None
    rerank_top: int = RERANKED
    sort: tuple[Sort, ...] = ()
    limit_by: Cap | None = None
    group_by: str | None = None
    diversity: float = 0.0
    pin: tuple[Ref, ...] = ()
    synonyms: bool = True
    rules: bool = True
    count: bool = False
    facets: tuple[Facet, ...] = ()
    highlight: bool = False
    snippet_length: int | None = None
    passages: int = 0
    explain: bool = False
    vectors: bool = False
    is_undivided: bool = False
    is_nowhere: bool = False
    among: "Among | None" = None
    visible: "Sequence[tuple[str, Among]]" = ()
    hides_words: bool = False
    of_classes: tuple[str, ...] = ()
    columns: "NamedFields | None" = None
    shared: frozenset[str] = frozenset()
    like: Ref | None = None
    stored_boosts: "Mapping[str, Entity]" = field(default_factory=dict)
    class_boosts: tuple[ClassBoosts, ...] = ()
    least_depth: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidInput(f"unknown mode {seen(self.mode)}. Known: {', '.join(MODES)}")
        check_whole("limit", self.limit, 1)
        check_whole("offset", self.offset, 0)
        check_whole("rerank_top", self.rerank_top, 1)
        check_min_score(self.min_score)
        check_min_similarity(self.min_similarity)
        check_reranker(self.rerank)
        check_within("passages", self.passages, 0, MAX_PASSAGES)
        if self.snippet_length is not None:
            check_within("snippet_length", self.snippet_length, MIN_SNIPPET, MAX_SNIPPET)
        check_fusion(self.fusion)
        self._check_together()
        self._check_end()

    @lazy
    def page(self) -> Cursor:
        """Which hits earlier pages have shown."""
        first = first_page(self._ranked_by)
        return first if self.cursor is None else read_cursor(self.cursor, first)

    @property
    def shown(self) -> Sequence[bytes]:
        """The digests of those hits."""
        return () if self.cursor is None or self.is_browse else self.page.shown

    @lazy
    def boosts(self) -> BoostSets:
        """Those that order the hits: none where these are sorted, or listed."""
        if self.sort or self.is_browse:
            return BoostSets()
        return BoostSets(self.boost, self.stored_boosts, self.class_boosts)

    def boosted_by(self, entities: "Mapping[str, Entity]") -> "Query":
        """The query, where it gives no boosts, with those of the searched ones of these entities."""
        if not entities or self.boost is not None:
            return self
        names = set(self.entities or entities) - set(self.of_classes)
        return replace(self, stored_boosts={name: entity for name, entity in entities.items() if name in names})

    @property
    def digest(self) -> bytes:
        """What a cursor of the query begins with."""
        return first_page(self._ranked_by).query

    @property
    def is_browse(self) -> bool:
        """Whether records are listed: an empty query ranks none."""
        return self.like is None and self.vector is None and (not self.typed or self.typed.isspace())

    def is_of_tenants(self, ref: Ref) -> bool:
        return self.tenants is None or ref.tenant in self.tenants

    @property
    def text(self) -> str:
        return self.parsed.text

    @property
    def has_text(self) -> bool:
        """Whether there is something to look for, and somewhere."""
        return not self.is_nowhere and bool(self.text) and not self.text.isspace()

    @property
    def is_ranked(self) -> bool:
        """Whether there is a text or a vector to look for, and somewhere."""
        return self.has_text or (self.vector is not None and not self.is_nowhere)

    @property
    def end(self) -> int:
        """How many of the best are looked at until the page ends."""
        return max(self.offset, len(self.shown)) + self.limit

    @lazy
    def depth(self) -> int:
        """How many candidates each leg puts forward."""
        if self.sort:
            return SORTED
        least = BOOSTED if self.boosts else CANDIDATES
        if self.rerank:
            return max(least, self.window)
        least = max(least, 2 * DIVERSIFIED) if self.diversity else least
        return max(least if self.fusion == "weighted" else DEEP, 2 * self.end, self.least_depth)

    def deeper(self) -> "Query | None":
        """The query with more candidates; None where there are no more to be had."""
        if self.sort or self.rerank or self.depth >= DEEPEST:
            return None
        return replace(self, least_depth=min(DEEPEST, DEEPER * self.depth))

    @property
    def ranked_first(self) -> int:
        """How many hits determine the page and whether one follows."""
        return max(self.end + 1, DIVERSIFIED if self.diversity else 0)

    @property
    def is_counted(self) -> bool:
        return bool(self.count or self.facets)

    @property
    def window(self) -> int:
        """How many of the best are reranked, whatever the page."""
        return max(self.rerank_top, self.limit)

    @property
    def snippet_characters(self) -> int:
        return SNIPPET if self.snippet_length is None else self.snippet_length

    @property
    def has_stored(self) -> bool:
        """Whether records of the record store may be found: those of no mapped class that was named."""
        return not self.entities or not set(self.entities) <= set(self.of_classes)

    @property
    def reads_records(self) -> bool:
        """Whether the declared fields of the record store have to be read."""
        named = self.where or self.parsed.fields or self.facets or self.sort or self.limit_by
        return self.has_stored and bool(named or (self.boost and self.boosts))

    @property
    def _ranked_by(self) -> list[Any]:
        """Whatever changes the order of the hits."""
        narrowed = [("", self.among)] if self.among else self.visible
        among = [[name, one.sql, [bind.value for bind in one.binds.values()]] for name, one in narrowed]
        fusion = self.fusion if isinstance(self.fusion, str) else "function"
        reranked = self.rerank_top if self.rerank else None
        scope = [self.entities, self.tenants, self.is_nowhere, self.where, self.ids, among, self.pin, self.hide]
        if self.is_browse:
            return [*scope, self.sort]
        boosts = None if self.boost is None else [identity(boost) for boost in self.boost]
        cap = self.limit_by and [self.limit_by.field, self.limit_by.most]
        vector = None if self.vector is None else self.vector.tobytes().hex()
        ranked = [self.mode, self.min_score, self.sort, self.like, fusion, self.weight, reranked, boosts, vector]
        ranked += [] if self.min_similarity is None else [float(self.min_similarity)]
        return [self.typed, *scope, *ranked, self.diversity, cap, self.synonyms, self.rules]

    def _check_together(self) -> None:
        if self.group_by is not None and self.group_by not in GROUPINGS:
            raise InvalidInput(f"unknown group_by {seen(self.group_by)}. Known: {', '.join(GROUPINGS)}")
        if self.cursor is not None and (self.offset or self.group_by):
            option = "offset" if self.offset else "group_by"
            raise InvalidInput(f"a cursor names where its page begins: leave {option} out")
        if self.offset and self.group_by:
            raise InvalidInput("groups have no second page: leave offset out, and raise limit, which is each group's")
        if self.snippet_length is not None and not self.highlight:
            raise InvalidInput("snippet_length is of the snippets that highlight=True makes: give both")
        if self.rerank is not None and (self.sort or self.group_by is not None):
            option = "sort" if self.sort else "group_by"
            raise InvalidInput(f"rerank and {option} both set the order: leave one out")
        if self.boost and self.sort:
            raise InvalidInput("boost and sort both set the order: leave one out")
        self._check_vector()
        self._check_pin()
        self._check_spread()

    def _check_vector(self) -> None:
        if self.min_similarity is not None and (self.mode == "keyword" or self.is_browse):
            without = "mode='keyword' compares no vectors" if self.mode == "keyword" else "an empty query has no vector"
            raise InvalidInput(f"{without}: leave min_similarity out")
        if self.vector is None:
            return
        if self.like is not None:
            raise InvalidInput("similar compares the record's own embedding: leave vector out, or search(vector=…)")
        if self.mode == "keyword":
            raise InvalidInput("mode='keyword' compares no vectors: leave vector or mode out")
        if self.rerank is not None and not self.has_text:
            raise InvalidInput("rerank scores texts against the words of a query, and there are none: leave it out")

    def _check_pin(self) -> None:
        if self.pin and (self.sort or self.like is not None or self.is_browse):
            option = "sort" if self.sort else "similar" if self.like is not None else "an empty query"
            raise InvalidInput(f"pin puts records before the best of a query, and {option} has none: leave pin out")

    def _check_spread(self) -> None:
        """What `diversity` and `limit_by` cannot be used with."""
        if self.diversity and (self.sort or self.group_by):
            option = "sort" if self.sort else "group_by"
            raise InvalidInput(f"diversity and {option} both set the order: leave one out")
        if self.limit_by and self.group_by:
            raise InvalidInput("limit_by and group_by both choose the hits of a group: leave one out")
        if self.is_browse and (self.diversity or self.limit_by):
            option = "diversity" if self.diversity else "limit_by"
            raise InvalidInput(f"{option} chooses among ranked hits, and an empty query ranks none: leave it out")

    def _check_end(self) -> None:
        if self.is_browse:
            return
        most, verb = (self.window, "rerank orders") if self.rerank else (SORTED, "sort orders")
        if not (self.rerank or self.sort):
            most, verb = MAX_LIMIT, "a search pages through"
        if self.end > most:
            raise InvalidInput(
                f"{verb} the {most:,} best, and this page ends at {self.end:,}. "
                f"{'Raise rerank_top' if self.rerank else 'Narrow it with where='}"
            )


def make_query(
    text: object,
    *,
    fields: Collection[str] = (),
    entities: Iterable[object] | None = (),
    like: Ref | None = None,
    **options: Any,
) -> Query:
    """Parse a query and check its options, which are those of `Query`; `fields` are those that it may name. `entities`
    None and no `tenants` find nothing. Raises InvalidInput, and TypeError for an option that there is not."""
    if unknown := sorted(options.keys() - Query.__dataclass_fields__.keys()):
        known = ", ".join(sorted(SearchOptions.__annotations__))
        raise TypeError(f"a search has no option {', '.join(map(repr, unknown))}. Its options: {known}")
    typed = check_text(text)
    parsed = Asked(typed) if like else parse(typed, fields)
    if options.get("vector") is not None:
        options["vector"] = check_query_vector(options["vector"])
        if not parsed.text.strip() and options.get("mode", "hybrid") == "hybrid":
            options["mode"] = "vector"
    options["ids"] = check_ids(options.get("ids"))
    if options.get("boost") is not None:
        options["boost"] = read_boosts(options["boost"])
    options["facets"] = read_facets(options.get("facets", ()))
    options["sort"] = read_sort(options.get("sort"))
    options["limit_by"] = read_cap(options.get("limit_by"))
    options["diversity"] = check_diversity(options.get("diversity", 0.0))
    if options.get("weight") is not None:
        options["weight"] = check_weight(options["weight"])
    return Query(
        typed,
        parsed,
        tuple(dict.fromkeys(check_entity(name) for name in entities or ())),
        is_nowhere=entities is None or () in (options.get("tenants"), options["ids"]),
        like=like,
        **options,
    )
