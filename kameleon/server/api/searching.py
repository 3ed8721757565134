"""/api/search, /api/similar and /api/suggest. Imports `documents`, `entities`, `errors` and `values`."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ...documents import hit_document
from ...entities import named
from ...errors import ProviderError
from ...values import SearchResult, SearchResults
from ..answers import SearchAnswer, Suggestions
from ..columns import check_columns
from ..models import GivenHit, Searching, SearchRequest, SimilarRequest, SuggestRequest, Within
from ..operations import Call, Operation
from ..replies import Reply
from ..serving import Serving

NO_OPTIONS = ("entity", "entities", "legs", "query", "id", "text", *Within.model_fields)
"""Names of requests that are no options of the verbs, or are read in another way."""
OF_LEGS = (
    *("limit", "where", "ids", "min_score", "hide", "synonyms", "highlight", "snippet_length", "explain", "data"),
    "vectors",
)
"""What narrows and shows the hits of one leg, beside what orders those of both."""
OF_VECTORS = ("vector", "min_similarity")
"""What is of the vector leg alone."""


def search(call: Call[SearchRequest]) -> Reply:
    given, began = call.given, time.perf_counter()
    options = options_of(given) | searched(call.serving, given.entity, given.entities) | call.within
    check_columns(options)
    results = call.serving.with_text(call.serving.search.search(given.query, **options))
    document = results.as_dict(explain=given.explain)
    if given.legs:
        document["legs"] = legs(call.serving, given.query, options, explain=given.explain)
    return Reply(document, timings=timings(results, began))


def similar(call: Call[SimilarRequest]) -> Reply:
    given, began = call.given, time.perf_counter()
    (entity,) = named(call.serving.search, [given.entity])
    options = options_of(given) | searched(call.serving, None, given.entities) | call.within
    check_columns(options, entity)
    results = call.serving.with_text(call.serving.search.similar(entity, given.id, **options))
    return Reply(results.as_dict(explain=given.explain), timings=timings(results, began))


def suggest(call: Call[SuggestRequest]) -> Mapping[str, Any]:
    given = call.given
    options = searched(call.serving, given.entity, given.entities) | call.within
    return {"suggestions": call.serving.search.suggest(given.text, limit=given.limit, **options)}


def legs(serving: Serving, query: str, options: Mapping[str, Any], *, explain: bool) -> Mapping[str, Any]:
    """The best hits of each leg alone, for a query that ranks; none of vectors that cannot be compared, for which the
    note of the answer has the reason."""
    if not query.strip() and "vector" not in options:
        return {"keyword": [], "vector": []}
    kept = (*OF_LEGS, "entities", "tenant")
    own = {"keyword": {}, "vector": {name: options[name] for name in OF_VECTORS if name in options}}
    shared = {name: value for name, value in options.items() if name in kept} | {"rules": False, "boost": []}
    found: dict[str, list[SearchResult]] = {}
    for mode in ("keyword", "vector"):
        if mode == "keyword" and not query.strip():
            found[mode] = []
            continue
        try:
            found[mode] = serving.with_text(serving.search.search(query, mode=mode, **shared, **own[mode]))
        except ProviderError:
            found[mode] = []
    return {mode: [hit_document(hit, explain=explain) for hit in hits] for mode, hits in found.items()}


def options_of(given: Searching) -> dict[str, Any]:
    """What the verbs take, as they take it."""
    options: dict[str, Any] = {"highlight": given.highlight, "data": True, **given.options(*NO_OPTIONS)}
    if isinstance(options.get("ids"), str | int):
        options["ids"] = [options["ids"]]
    for name in ("pin", "hide"):
        if name in options:
            options[name] = [pair_of(one) for one in options[name]]
    return options


def pair_of(one: Any) -> Any:
    """A record that is given as a hit, by its entity and id."""
    return (one.entity, one.id) if isinstance(one, GivenHit) else one


def searched(serving: Serving, *given: str | Iterable[str] | None) -> dict[str, Any]:
    """The entities that are named, as the verbs take them. Raises UnknownEntity."""
    present = [[one] if isinstance(one, str) else one for one in given if one is not None]
    names = [name for names in present for name in names]
    return {"entities": named(serving.search, names)} if present else {}


def timings(results: SearchResults, began: float) -> Mapping[str, float]:
    total = round((time.perf_counter() - began) * 1000, 3)
    return {**results.plan.legs, "total": total}


SEARCH: dict[str, Any] = {
    "path": "/api/search",
    "summary": "Search, best first.",
    "run": search,
}
SIMILAR: dict[str, Any] = {"path": "/api/similar", "summary": "Find the records most like one.", "run": similar}
SUGGEST: dict[str, Any] = {"path": "/api/suggest", "summary": "Complete the last word of a text.", "run": suggest}
OPERATIONS = [
    Operation("GET", **SEARCH, parameters=SearchRequest, answer=SearchAnswer),
    Operation("POST", **SEARCH, body=SearchRequest, answer=SearchAnswer),
    Operation("GET", **SIMILAR, parameters=SimilarRequest, answer=SearchAnswer),
    Operation("POST", **SIMILAR, body=SimilarRequest, answer=SearchAnswer),
    Operation("GET", **SUGGEST, parameters=SuggestRequest, answer=Suggestions),
]
