"""`kameleon search`."""

import sys
from dataclasses import asdict
from typing import Any

import click

import kameleon
from kameleon.errors import UnknownEntity

from .app import App, common, parse_object, pass_app

SNIPPET = 160


@click.command()
@click.argument("query")
@click.option("-e", "--entity", "entities", multiple=True, help="Only this entity. Repeatable.")
@click.option("--where", metavar="JSON", help='Only records that match, such as \'{"status": "open"}\'.')
@click.option("--limit", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Hits at most.")
@click.option("--mode", type=click.Choice(["hybrid", "keyword", "vector"]), default="hybrid", show_default=True)
@click.option("--min-score", type=click.FloatRange(0, 1), default=0.0, help="Only hits of at least this score.")
@click.option("--explain", is_flag=True, help="Show what each leg said of each hit.")
@common
@pass_app
def search(
    app: App,
    query: str,
    entities: tuple[str, ...],
    where: str | None,
    limit: int,
    mode: str,
    min_score: float,
    explain: bool,
) -> None:
    """Search by keywords and by meaning, best first.

    Any text is a query. Filters: $eq $ne $gt $gte $lt $lte $in $nin $exists $contains $and $or $not.

    \b
    kameleon search "order #12345"
    kameleon search "cannot log in" --entity Ticket --where '{"priority": {"$in": ["high", "urgent"]}}'
    """
    if not query.strip():
        raise click.UsageError("the query is empty. Give it a word, or list records with `kameleon data list ENTITY`")
    condition = parse_object(where, "--where") if where else None
    engine = app.open()
    check_entities(engine, entities)
    results = engine.search(
        query,
        entities=entities,
        where=condition,
        limit=limit,
        mode=mode,
        min_score=min_score,
        highlight=True,
    )
    if app.as_json:
        app.print_json(as_json(query, results, explain))
        return
    is_terminal = sys.stdout.isatty()
    rows = [
        (f"{hit.score:.3f}", hit.entity, hit.id, styled(hit) if is_terminal else snippet(hit)[0]) for hit in results
    ]
    app.print_rows(("score", "entity", "id", "text"), rows)
    if not results:
        click.echo("no record matches", err=True)
    if results.plan.note:
        click.echo(results.plan.note, err=True)
    if explain:
        print_explanation(results)


def check_entities(engine: "kameleon.SearchEngine", wanted: tuple[str, ...]) -> None:
    """Raises UnknownEntity for a name that is neither declared nor indexed."""
    if not wanted:
        return
    known = {entity.name for entity in kameleon.RecordStore(engine).entities()}
    if not known.issuperset(wanted):
        known |= {status.entity for status in engine.get_status()}
    for name in wanted:
        if name not in known:
            raise UnknownEntity(f"unknown entity {name!r}. Known: {', '.join(sorted(known)) or 'none'}")


def as_json(query: str, results: "kameleon.SearchResults", explain: bool) -> dict[str, Any]:
    hits = [
        {
            "entity": hit.entity,
            "id": hit.id,
            "score": round(hit.score, 6),
            "data": hit.data,
            "matched_text": hit.matched_text,
            "spans": hit.spans,
            **({"explanation": [asdict(leg) for leg in hit.explanation]} if explain else {}),
        }
        for hit in results
    ]
    plan = {"plan": asdict(results.plan)} if explain else {}
    return {
        "query": query,
        "total": results.total,
        "exact": results.exact,
        "hits": hits,
        "note": results.plan.note,
        **plan,
    }


def snippet(hit: "kameleon.SearchResult") -> tuple[str, int]:
    """About `SNIPPET` characters around the first match on one line, and where they begin."""
    first = hit.spans[0][0] if hit.spans else 0
    start = hit.matched_text.rfind(" ", 0, max(0, first - SNIPPET // 3)) + 1 if first > SNIPPET // 2 else 0
    return hit.matched_text[start : start + SNIPPET].replace("\n", " "), start


def styled(hit: "kameleon.SearchResult") -> Any:
    from rich.text import Text

    words, start = snippet(hit)
    text = Text(words)
    for begin, end in hit.spans:
        if begin < start + len(words) and end > start:
            text.stylize("bold yellow", max(0, begin - start), end - start)
    return text


def print_explanation(results: "kameleon.SearchResults") -> None:
    plan = results.plan
    legs = ", ".join(f"{leg} {ms} ms" for leg, ms in plan.legs.items())
    click.echo(f"\n{plan.mode}; {legs}; terms: {' '.join(plan.terms) or 'none'}; model: {plan.model or 'none'}")
    click.echo(f"candidates: {results.total}, {'exact' if results.exact else 'approximate'}")
    for place, hit in enumerate(results, 1):
        click.echo(f"{place}. {hit.entity} {hit.id}  {hit.score:.4f}")
        for leg in hit.explanation:
            rank = f"rank {leg.rank}" if leg.rank else "not among its candidates"
            click.echo(f"   {leg.leg}: {leg.weight:.2f} x {leg.score:.4f} (raw {leg.raw:.4f}, {rank})")
