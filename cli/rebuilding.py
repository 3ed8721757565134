"""`kameleon rebuild`: rebuilds an index of another schema version from its contents. Imports what commands share."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import kameleon

from .app import App, common, confirming, echo, pass_app

if TYPE_CHECKING:
    from kameleon.rebuilding import RebuildReport


@click.command()
@click.option("--dry-run", is_flag=True, help="Count what would be rebuilt, and change nothing.")
@click.option(
    "--keyword-search",
    type=click.Choice(("index", "server")),
    help="Where keywords are ranked from now on: in kameleon's own index or, on PostgreSQL, in the server.",
)
@confirming
@common
@pass_app
def rebuild(app: App, dry_run: bool, keyword_search: str | None, no_confirm: bool) -> None:
    """Rebuild an index that another version of kameleon made, or with another keyword search, from its contents, in one
    transaction: all or nothing.

    Records, entities and what the index holds of each record stay, and embeddings where their table is of this
    version's shape; others are pending afterwards. Stop what writes to the index before, and make a backup.

    \b
    kameleon rebuild --dry-run
    kameleon rebuild --no-confirm
    kameleon rebuild --keyword-search server
    """
    engine = app.engine()
    options = {**app.options, **({"keyword_search": keyword_search} if keyword_search else {})}
    plan = kameleon.rebuild(engine, dry_run=True, **options)
    if dry_run or not plan.is_needed:
        print_report(app, plan)
        return
    if not no_confirm:
        confirm(plan)
    report = kameleon.rebuild(engine, **options)
    print_report(app, report)


def confirm(plan: "RebuildReport") -> None:
    if not sys.stdin or not sys.stdin.isatty():
        raise click.UsageError(
            "the rebuild cannot be confirmed without a terminal: add --no-confirm, or --dry-run to see what it does"
        )
    click.confirm(f"{counted(plan)} Rebuild?", abort=True, err=True)


def counted(report: "RebuildReport") -> str:
    total = sum(report.records.values())
    return (
        f"{total:,} records of {len(report.records):,} entities, from schema version "
        f"{report.from_version or 'unknown'} to {report.to_version}."
    )


def print_report(app: App, report: "RebuildReport") -> None:
    if app.as_json or not report.is_done:
        planned = f"would rebuild {counted(report)}"
        current = f"nothing to rebuild: this index has schema version {report.to_version}"
        app.show(asdict(report), planned if report.is_needed else current)
        return
    echo(f"rebuilt {counted(report)} {report.embeddings_kept:,} embeddings kept, {report.pending:,} pending")
    if report.pending:
        echo("`kameleon embeddings sync` embeds what is pending", err=True)
    for entity, count in report.unweighted.items():
        echo(
            f"{count:,} records of {entity} have weighted fields, which count once now: `kameleon doctor --import "
            "MODULE --fix` with the module of its class indexes them again",
            err=True,
        )
