"""`kameleon judgements`: how relevant records are to queries. Imports what commands share."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from .app import App, common, naming_records, pass_app, quiet
from .evaluating import FILE, read
from .search import entities_of
from .tenancy import chosen_tenants, of_tenant, of_tenants, within_tenants

OUT = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.group()
def judgements() -> None:
    """Judge how relevant records are to queries, and keep that with the index, for `kameleon eval`.

    Searches do not depend on it.

    \b
    kameleon judgements set "running shoes" --relevant Product/p-1 --irrelevant Product/p-9
    kameleon eval
    """


@judgements.command("set")
@click.argument("query")
@naming_records("relevant", "A record that is relevant.")
@naming_records("irrelevant", "A record that is not.")
@click.option("--gain", type=float, default=1.0, show_default=True, help="How relevant: the gain of --relevant.")
@of_tenant("The tenant of the records.")
@quiet
@common
@pass_app
def set_(
    app: App,
    query: str,
    relevant: Sequence[tuple[str, str]],
    irrelevant: Sequence[tuple[str, str]],
    gain: float,
    tenant: str | None,
) -> None:
    """Judge records for QUERY, in place of what was judged of them before.

    \b
    kameleon judgements set "running shoes" --relevant Product/p-1 --irrelevant Product/p-9
    """
    if not relevant and not irrelevant:
        raise click.UsageError(f"give --relevant or --irrelevant, such as {shlex.quote('Product/p-1')}")
    kept, made = app.open().judgements, []
    for records, each in ((relevant, gain), (irrelevant, 0.0)):
        made += kept.set(query, records, each, tenant=tenant) if records else []
    app.show([one.as_document() for one in made], f"{made[0].query}: judged {len(made)}")


@judgements.command("list")
@click.option("-e", "--entity", "entities", metavar="NAME", multiple=True, help="Only this entity. Repeatable.")
@click.option("--query", metavar="TEXT", help="Only this query.")
@of_tenants
@common
@pass_app
def list_(app: App, entities: tuple[str, ...], query: str | None, tenants: tuple[str, ...], all_tenants: bool) -> None:
    """List what was judged: of no tenant, or of those that are named.

    \b
    kameleon judgements list
    """
    tenant = chosen_tenants(tenants, all_tenants)
    found = app.open().judgements.list(query=query, entities=entities, tenant=tenant)
    if app.as_json:
        app.print_json([one.as_document() for one in found])
        return
    rows = ((one.query, f"{one.entity}/{one.id}", f"{one.gain:g}", one.tenant) for one in found)
    app.print_rows(("query", "record", "gain", "tenant"), rows)


@judgements.command("export")
@click.option("--queries", type=OUT, required=True, help='Write JSON lines of {"_id": "…", "text": "…"}.')
@click.option("--qrels", type=OUT, required=True, help="Write lines of query-id, corpus-id and score.")
@of_tenant("The tenant whose judgements are meant.")
@quiet
@common
@pass_app
def export(app: App, queries: Path, qrels: Path, tenant: str | None) -> None:
    """Write both files as BEIR has them, which `kameleon eval` and `import` read.

    \b
    kameleon judgements export --queries queries.jsonl --qrels qrels.tsv
    """
    from kameleon.evaluation import qrels_lines, query_lines

    found = app.open().judgements.list(tenant=tenant)
    texts = [(file, "".join(lines(found))) for file, lines in ((qrels, qrels_lines), (queries, query_lines))]
    for file, text in texts:
        file.write_text(text, "utf-8", newline="\n")
    count = sum(1 for _ in groupby(found, lambda one: one.query))
    document = {"queries": count, "judgements": len(found)}
    app.show(document, f"exported {len(found):,} judgements of {count:,} queries")


@judgements.command("import")
@click.option("--queries", type=FILE, required=True, help='JSON lines of {"_id": "…", "text": "…"}.')
@click.option("--qrels", type=FILE, required=True, help="Lines of query-id, corpus-id and score, separated by tabs.")
@click.option("-e", "--entity", "entities", metavar="NAME", multiple=True, help="Only this entity. Repeatable.")
@within_tenants
@quiet
@common
@pass_app
def import_(app: App, queries: Path, qrels: Path, entities: tuple[str, ...], within: Mapping[str, Any]) -> None:
    """Keep what both files judge, in place of what was judged of the same queries and records.

    What is judged of records that are not in the index is left out.

    \b
    kameleon judgements import --queries queries.jsonl --qrels qrels.tsv
    """
    from kameleon.evaluation import judgements_of

    texts, judged = read(queries, qrels)
    engine = app.open()
    entities_of(engine, entities)
    count = engine.judgements.load(judgements_of(engine, texts, judged, entities=entities, **within))
    left = of_queries(judged, texts) - count
    also = f"; left out {left:,} of records that are not in the index" if left > 0 else ""
    app.show({"judgements": count, "left_out": max(left, 0)}, f"imported {count:,} judgements{also}")


@judgements.command("remove")
@click.argument("query")
@naming_records("record", "Only what was judged of this record.")
@of_tenant("The tenant whose judgements are meant.")
@quiet
@common
@pass_app
def remove(app: App, query: str, record: Sequence[tuple[str, str]], tenant: str | None) -> None:
    """Remove what was judged of QUERY.

    \b
    kameleon judgements remove "running shoes" --record Product/p-9
    """
    count = app.open().judgements.remove(query, record or None, tenant=tenant)
    if not count:
        of = f"of the tenant {tenant}" if tenant else "without a tenant"
        raise click.ClickException(
            f"no judgement {of} is of {query!r:.80} and such a record. See them: `kameleon judgements list`"
        )
    app.show({"query": query, "removed": count}, f"removed {count:,}")


def of_queries(judged: Mapping[str, Mapping[str, float]], texts: Iterable[str]) -> int:
    """How many records the queries judge."""
    return sum(len(judged.get(query, ())) for query in texts)
