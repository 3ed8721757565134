"""`kameleon search` and `kameleon similar`. Imports what commands share."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from math import prod
from typing import Any, TypeVar

import click

import kameleon
from kameleon.documents import as_json, results_document
from kameleon.errors import UNPRINTABLE, StorageError
from kameleon.values import Bucket, LegScore

from .app import App, common, echo, importing, naming_records, parse_object, pass_app
from .boosts import boost_option, read_boosts
from .providing import providing
from .tenancy import within_tenants

INTERVALS = ("day", "week", "month", "year")

F = TypeVar("F", bound=Callable[..., Any])


def searching(command: F) -> F:
    """Add the options that `search` and `similar` share."""
    command = within_tenants(importing(providing(command)))
    for option in (
        click.option(
            *("--field", "fields"), metavar="NAME", multiple=True, help="Show this field of each hit, too. Repeatable."
        ),
        click.option(
            "--passages",
            type=click.IntRange(0, 20),
            default=0,
            help="Show so many of the best passages of each hit, with their places in its text.",
        ),
        click.option("--explain", is_flag=True, help="Show each leg's score of each hit, and what it cost."),
        click.option("--min-score", type=click.FloatRange(0, 1), default=0.0, help="Only hits of at least this score."),
        click.option(
            "--mode",
            type=click.Choice(["hybrid", "keyword", "vector"]),
            default="hybrid",
            show_default=True,
            help="Search by both legs, or by one.",
        ),
        click.option("--limit", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Hits at most."),
        boost_option,
        click.option("--where", metavar="JSON", help='Only records that match, such as \'{"status": "open"}\'.'),
        naming_records("hide", "Leave this record out."),
        click.option("--id", "ids", metavar="ID", multiple=True, help="Only the record of this id. Repeatable."),
        click.option(
            *("-e", "--entity", "entities"), metavar="NAME", multiple=True, help="Only this entity. Repeatable."
        ),
    ):
        command = option(command)
    return command


def read_shared(
    where: str | None, ids: tuple[str, ...], boosts: tuple[str, ...], within: Mapping[str, Any], **options: Any
) -> dict[str, Any]:
    """The options of `searching` as `search` and `similar` of an engine take them. Raises InvalidInput."""
    condition = parse_object(where, "--where") if where else None
    boost = {"boost": read_boosts(boosts)} if boosts else {}  # of none, those of the entities, or none for `similar`
    return {"where": condition, "ids": ids or None, **boost, **within, **options}


@click.command()
@click.argument("query", default="")
@searching
@click.option(
    "--fusion",
    type=click.Choice(["weighted", "rrf", "dbsf"]),
    default="weighted",
    show_default=True,
    help="How the legs' scores are combined: weighted sum, reciprocal ranks, or by their distribution.",
)
@click.option(
    "--weight",
    type=click.FloatRange(0, 1),
    help="The vector leg's weight, the keyword leg having the rest. Default: the model's own.",
)
@click.option("--offset", type=click.IntRange(0, 10_000), default=0, help="Skip so many of the best hits.")
@click.option("--cursor", metavar="CURSOR", help="Continue after a page: the `cursor` of its --json output.")
@click.option(
    "--sort", metavar="FIELD", help="Order the 1,000 best by a field, -FIELD: the greatest first; several with commas."
)
@click.option(
    *("--facet", "facets"),
    metavar="FIELD[:BUCKETS]",
    multiple=True,
    help="Count a field's values, or those between bounds (price:0,10,100), or by day, week, month or year "
    "(created:month). Repeatable.",
)
@click.option("--count", is_flag=True, help="Count all that match.")
@naming_records("pin", "Put this record before all others.")
@click.option("--no-synonyms", "synonyms", is_flag=True, flag_value=False, default=True, help="Use no synonyms.")
@click.option("--no-rules", "rules", is_flag=True, flag_value=False, default=True, help="Use no query rules.")
@click.option("--group-by", type=click.Choice(["entity"]), help="Return --limit hits of each.")
@click.option(
    "--limit-by",
    metavar="FIELD:N",
    callback=lambda _context, _option, given: read_limit_by(given) if given else None,
    help="At most N hits, over all pages, of each value of a field: brand:1.",
)
@click.option(
    "--diversity",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Order the 100 best so that each is relevant and unlike those before it: 0 by relevance alone, to 1.",
)
@click.option("--rerank", metavar="MODEL", help="Rerank the 50 best with a cross-encoder: a name or a folder.")
@click.option("--sync-first", is_flag=True, help="Index the rows that triggers marked, before. Writes to the index.")
@common
@pass_app
def search(
    app: App,
    /,
    query: str,
    entities: tuple[str, ...],
    rerank: str | None,
    explain: bool,
    count: bool,
    fields: tuple[str, ...],
    sync_first: bool,
    **options: Any,
) -> None:
    """Search by keywords and by meaning, best first; without a QUERY, list records by entity and id.

    \b
    Any text is a query. In it, at the beginning of a word:
      "exact phrase"            is in the record, in this order
      -word, -"a phrase"        is not in it (write: kameleon search -- "-word other")
      prefix*                   any word that begins so
      field:word                is in that field of the entity

    Filters: $eq $ne $gt $gte $lt $lte $between $in $nin $exists $contains $startswith $like $ilike $icontains $any
    $all $and $or $not.

    \b
    kameleon search "order #12345"
    kameleon search "cannot log in" --entity Ticket --where '{"priority": {"$in": ["high", "urgent"]}}'
    kameleon search "refund" --facet status --sort=-created --limit 20
    kameleon search --entity Product --facet price:0,10,100 --facet created:month
    kameleon search "lamp" --boost orders:100 --boost created:30d:0.5 --boost '{"in_stock": true}:1.2'
    kameleon search "desk lamp" --entity Product --limit-by brand:1 --diversity .3
    """
    options = read_shared(**options) | {"explain": explain, "count": count, "data": app.as_json or bool(fields)}
    options["facets"] = [read_facet(facet) for facet in options["facets"]]
    engine = caught_up(app.open()) if sync_first else app.open()
    options["entities"] = entities_of(engine, entities) or None
    entities_of(engine, [entity for entity, _ in options["pin"]])
    found = engine.search(query, highlight=True, rerank=reranker(rerank), **options)
    show(app, found, {"query": query}, fields=fields, explain=explain, count=count)


def reranker(name: str | None) -> Any:
    if name is None:
        return None
    from kameleon.embeddings import FastEmbedReranker

    return FastEmbedReranker(name)


def caught_up(engine: "kameleon.SearchEngine") -> "kameleon.SearchEngine":
    """Index the rows that triggers marked, and print how many these were."""
    try:
        report = engine.sync(only_marked=True)
    except StorageError as error:
        raise StorageError(f"--sync-first writes to the index, which failed: {error}") from error
    if report.indexed:
        echo(f"indexed {report.indexed:,} rows that were changed", err=True)
    if report.outage:
        echo(f"embeddings pending, the provider is down: {report.outage}", err=True)
    return engine


@click.command()
@click.argument("entity")
@click.argument("id")
@searching
@common
@pass_app
def similar(
    app: App,
    /,
    entity: str,
    id: str,
    entities: tuple[str, ...],
    explain: bool,
    fields: tuple[str, ...],
    **options: Any,
) -> None:
    """Find the records most like one that is in the index, among its own entity's or those of --entity.

    \b
    kameleon similar Ticket T-17 --limit 5
    """
    options = read_shared(**options) | {"explain": explain, "data": app.as_json or bool(fields)}
    engine = app.open()
    (own,), among = entities_of(engine, [entity]), entities_of(engine, entities)
    found = engine.similar(own, id, entities=among or None, highlight=True, **options)
    show(app, found, {"entity": entity, "id": id}, fields=fields, explain=explain)


def show(
    app: App,
    results: "kameleon.SearchResults",
    request: Mapping[str, Any],
    *,
    fields: Sequence[str] = (),
    explain: bool = False,
    count: bool = False,
) -> None:
    if app.as_json:
        document = results_document(results, explain=explain)
        app.print_json({**request, **document, "note": app.advised(results.plan.note)})
        return
    app.print_rows(("score", "entity", "id", *fields, "text"), [cells(hit, fields) for hit in results])
    print_passages(results)
    print_notes(results, fields)
    for field, counts in results.facets.items():
        echo(f"{field}: " + ", ".join(f"{shown(value)} ({count})" for value, count in counts.items()))
    if count:
        echo(f"{how_many(results)} in all")
    if explain:
        print_explanation(results)


def cells(hit: "kameleon.SearchResult", fields: Sequence[str]) -> Sequence[Any]:
    """A row of the table of hits."""
    text = styled(hit) if sys.stdout.isatty() else str(hit.snippet)
    return (f"{hit.score:.3f}", hit.entity, hit.id, *(shown_field(hit, name) for name in fields), text)


def print_notes(results: "kameleon.SearchResults", fields: Sequence[str]) -> None:
    """What is to be known beside the hits, on stderr."""
    if not results:
        echo("no record matches", err=True)
    for name in fields if results else ():
        if not any(name in (hit.data or {}) for hit in results):
            echo(f"no hit has a field {name!r:.80}", err=True)
    if pinned := [f"{hit.entity}/{hit.id}" for hit in results if hit.is_pinned]:
        echo(f"pinned, whatever the score: {', '.join(pinned)}", err=True)
    for typed, taken in results.plan.corrections.items():
        how = "also showing" if typed in results.plan.terms else "showing"
        few = "few records have" if typed in results.plan.terms else "no record has"
        echo(f'{how} results for {taken} ({few} "{typed}")', err=True)
    for typed, others in results.plan.synonyms.items():
        echo(f"also searching for {', '.join(others)} ({typed})", err=True)
    if results.plan.note:
        echo(results.plan.note, err=True)


def read_facet(text: str) -> Any:
    """A field, or its name and what makes its buckets."""
    field, colon, buckets = text.partition(":")
    if not colon:
        return text
    return {field: buckets if buckets in INTERVALS else [read_bound(bound) for bound in buckets.split(",")]}


def read_limit_by(text: str) -> dict[str, int]:
    """A field and a number. Raises UsageError."""
    field, _, most = text.rpartition(":")
    if not field or not most.isdecimal():
        raise click.UsageError(f"--limit-by takes a field and a number of hits, such as brand:1, not {text!r:.80}")
    return {field: int(most)}


def read_bound(text: str) -> Any:
    """A number, a date, a date with a time, or the text itself."""
    readers: tuple[Callable[[str], Any], ...] = (int, float, date.fromisoformat, datetime.fromisoformat)
    for read in readers:
        with suppress(ValueError):
            return read(text)
    return text


def shown(value: Any) -> str:
    if isinstance(value, Bucket):
        start, end = ("" if bound is None else shown(bound) for bound in value)
        return f"{start} to {end}" if start and end else f"{start} and more" if start else f"below {end}"
    return str(value) if isinstance(value, str | date) else json.dumps(value)


def how_many(results: "kameleon.SearchResults") -> str:
    return f"{'' if results.is_total_exact else 'at least '}{results.total}"


def shown_field(hit: "kameleon.SearchResult", name: str) -> str:
    """A field of a record or a row; nothing where it has none."""
    value = as_json((hit.data or {}).get(name))
    return "" if value is None else shown(value)


def entities_of(engine: "kameleon.SearchEngine", names: Sequence[str]) -> list[Any]:
    """What a search takes for names: classes of tables, and of the application's modules that were imported. Raises
    UnknownEntity for one that is neither declared nor indexed."""
    from kameleon.entities import named  # SQLAlchemy loads with it

    return named(engine, names)


def styled(hit: "kameleon.SearchResult") -> Any:
    """The snippet with what matched in colour."""
    from rich.text import Text

    snippet = hit.snippet
    assert snippet is not None  # noqa: S101 - it was searched with highlight=True
    text = Text(UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(snippet)))
    for start, end in snippet.spans:
        text.stylize("bold yellow", start + snippet.is_cut_before, end + snippet.is_cut_before)
    return text


def print_passages(results: "kameleon.SearchResults") -> None:
    for place, hit in enumerate(results, 1):
        for passage in hit.passages:
            echo(f"\n{place}. {hit.entity} {hit.id}, characters {passage.start} to {passage.end}: {passage.score:.3f}")
            echo(passage.text)


def print_explanation(results: "kameleon.SearchResults") -> None:
    plan = results.plan
    legs = ", ".join(f"{leg} {ms} ms" for leg, ms in plan.legs.items())
    scanned = ", ".join(f"{leg} {rows}" for leg, rows in plan.rows_scanned.items())
    echo(f"\n{plan.mode}; {legs}; terms: {' '.join(plan.terms) or 'none'}; model: {plan.model or 'none'}")
    echo(f"rows looked at: {scanned or 'unknown'}")
    embedding = "none" if "embedding" not in plan.legs else "from memory" if plan.is_query_cached else "made now"
    echo(
        f"{how_many(results)} in all; "
        f"{'exact' if results.exact else 'approximate'}; vectors: {plan.vector_search or 'none'}; "
        f"query embedding: {embedding}"
    )
    for place, hit in enumerate(results, 1):
        echo(f"{place}. {hit.entity} {hit.id}  {hit.score:.4f}")
        if hit.is_pinned:
            echo("   pinned")
        boosts = [leg for leg in hit.explanation if leg.leg.startswith("boost:")]
        for leg in (leg for leg in hit.explanation if leg.leg != "pinned"):
            echo(f"   {leg.leg}: {explained(leg)}")
            if len(boosts) > 1 and leg is boosts[-1]:
                echo(f"   all boosts: x {prod(boost.score for boost in boosts):.4f}")


def explained(leg: LegScore) -> str:
    if leg.leg == "diversity":
        return f"place {leg.rank} by relevance, which is {leg.score:.4f}; at most {leg.raw:.4f} like a hit before it"
    if leg.leg.startswith("boost:{"):
        return f"x {leg.score:.4f} ({'holds' if leg.raw else 'does not hold'})"
    if leg.leg.startswith("boost:"):
        return f"x {leg.score:.4f} (value {leg.raw:.4f})"
    rank = f"rank {leg.rank}" if leg.rank else "not among its candidates"
    terms = f": {' '.join(leg.terms)}" if leg.terms else ""
    return f"{leg.weight:.2f} x {leg.score:.4f} (raw {leg.raw:.4f}, {rank}){terms}"
