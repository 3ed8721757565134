"""Describes a search to observers. Imports `telemetry` and `values`."""

from sqlalchemy import Engine

from ..telemetry import Operation, operation
from ..telemetry.measures import (
    DOCUMENTS,
    LEGS,
    MODE,
    OPERATION,
    PROVIDER,
    QUERY_TEXT,
    RETRIEVAL,
    RETURNED_ROWS,
    STEP,
    database,
)
from ..values import SearchResults
from .query import Query


def retrieval(engine: Engine) -> Operation:
    """A search, to be entered."""
    begun = operation()
    if begun.is_observed:
        begun.begin(RETRIEVAL, attributes={OPERATION: RETRIEVAL, PROVIDER: "kameleon", **database(engine)})
    return begun


def describe_query(observed: Operation, query: Query) -> None:
    """Set what is known before the search. The content of a record that others are to be similar to is none of it."""
    of = ",".join(query.entities)
    observed.set(
        {
            MODE: query.mode,
            "gen_ai.request.top_k": query.limit,
            **({"gen_ai.data_source.id": of} if of else {}),
            **({"kameleon.search.similar": True} if query.like else {QUERY_TEXT: query.typed}),
        },
        title=f"{RETRIEVAL} {of}" if len(query.entities) == 1 else "",
    )


def describe_results(observed: Operation, found: SearchResults) -> None:
    plan = found.plan
    observed.set(
        {
            LEGS: ",".join(leg for leg in ("keyword", "vector") if leg in plan.legs),
            RETURNED_ROWS: len(found),
            "kameleon.search.total": found.total,
            "kameleon.search.exact": found.exact,
            DOCUMENTS: [{"entity": hit.entity, "id": hit.id, "score": round(hit.score, 6)} for hit in found],
        }
    )
    observed.time(STEP, {step: milliseconds / 1000 for step, milliseconds in plan.legs.items()})
