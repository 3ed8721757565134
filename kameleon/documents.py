"""The JSON documents of what calls return, for the command, the API and tools alike. Imports `excerpts`
and `values`."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any

from .excerpts import Passage
from .values import Bucket, IndexReport, ReindexRun, SearchResult, SearchResults


def results_document(results: SearchResults, *, explain: bool = False) -> dict[str, Any]:
    """The hits and the figures of an answer, by the names that they have in Python; `explain` adds what was measured:
    each hit's legs, and the plan. A `facets` value that is a bucket has its ends, and the filter for it."""
    facets = facets_document(results.facets)
    return {
        "total": results.total,
        "is_total_exact": results.is_total_exact,
        "exact": results.exact,
        "hits": [hit_document(hit, explain=explain) for hit in results],
        "cursor": results.cursor,
        **({"facets": facets} if facets else {}),
        "note": results.plan.note,
        "corrections": results.plan.corrections,
        "synonyms": results.plan.synonyms,
        **({"plan": shallow(results.plan)} if explain else {}),
    }


def hit_document(hit: SearchResult, *, explain: bool = False) -> dict[str, Any]:
    """Without the keys that are empty: `tenant`, `is_pinned`, `passages`, and `explanation` unless wanted."""
    return {
        "entity": hit.entity,
        "id": hit.id,
        **({"tenant": hit.tenant} if hit.tenant else {}),
        "score": round(hit.score, 6),
        **({"is_pinned": True} if hit.is_pinned else {}),
        "data": row_document(hit.data),
        "matched_text": hit.matched_text,
        "spans": hit.spans,
        "snippet": hit.snippet and shallow(hit.snippet),
        **({"passages": [passage_document(passage) for passage in hit.passages]} if hit.passages else {}),
        **({"explanation": [shallow(leg) for leg in hit.explanation]} if explain else {}),
    }


def row_document(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The values of a record or a row, as JSON has them."""
    return None if data is None else {name: as_json(value) for name, value in data.items()}


def as_json(value: Any) -> Any:
    """A value as JSON has it, None for a number that it does not have."""
    if isinstance(value, str | Mapping):
        return plain(value) if isinstance(value, Enum) else value
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    made = plain(value)
    return None if made != made else made


def shallow(value: Any) -> dict[str, Any]:
    """A dataclass with slots as a mapping, its values as they are: `asdict` copies them, at 0.1 ms a hit."""
    return {name: getattr(value, name) for name in value.__slots__}


def passage_document(passage: Passage) -> dict[str, Any]:
    return shallow(passage) | {"score": round(passage.score, 6)}


def record_document(record: Any) -> dict[str, Any]:
    """A record of the record store."""
    return {
        "entity": record.entity,
        "id": record.id,
        **({"tenant": record.tenant} if record.tenant else {}),
        "data": record.data,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def insert_document(report: Any) -> dict[str, Any]:
    """What an insert did; of an entity that was made its name."""
    made = report.created_entity
    return {
        "inserted": report.inserted,
        "updated": report.updated,
        "skipped": report.skipped,
        "index": report_document(report.index),
        "created_entity": made and made.name,
        "unsearched": report.unsearched,
        "keyword_only": report.keyword_only,
        "ids": report.ids,
    }


def report_document(report: IndexReport) -> dict[str, Any]:
    """What became of the index rows of a writing call."""
    failures = [{**ref._asdict(), "reason": reason} for ref, reason in report.failures]
    return asdict(report) | {"failures": failures}


def run_document(run: ReindexRun) -> dict[str, Any]:
    """A run of a reindex, with its rate."""
    return {**asdict(run), "rows_per_second": run.rows_per_second, "seconds_left": run.seconds_left}


def facets_document(facets: Mapping[str, Mapping[Any, int]]) -> dict[str, list[dict[str, Any]]]:
    """The counts of each field, in their order."""
    return {
        field: [{**facet_document(field, value), "count": count} for value, count in counts.items()]
        for field, counts in facets.items()
    }


def facet_document(field: str, value: Any) -> dict[str, Any]:
    """A value as JSON has it; with the filter for it in `where` if the value is none: for a bucket, by its ends, and
    for a date."""
    if isinstance(value, Bucket):
        start, end = map(plain, value)
        return {
            "from": start,
            "to": end,
            "where": {field: {name: as_filter(end) for name, end in value.filter.items()}},
        }
    if isinstance(value, date):
        return {"value": plain(value), "where": {field: as_filter(value)}}
    return {"value": plain(value)}


def as_filter(value: Any) -> Any:
    """A value as `where` takes it in JSON."""
    return {"$date": value.isoformat()} if isinstance(value, date) else plain(value)


def plain(value: Any) -> Any:
    """A value as JSON has it: what it lacks is a number where it is one, else a text."""
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, date | time) else str(value)
