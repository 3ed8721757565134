"""`kameleon table …`: tables that are in the database already, as entities. Imports what commands share."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .app import App, common, confirming, echo, pass_app, quiet
from .entity import optioned
from .providing import providing
from .reindexing import resumable, watching

if TYPE_CHECKING:
    from kameleon import IndexReport
    from kameleon.existing_tables import TableStatus
    from kameleon.orm.reflection.definition import TableDefinition

AGAIN = "The same command again goes on"

BATCH_SIZE = click.option(
    "--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Rows a transaction."
)


@click.group()
def table() -> None:
    """Search tables that are in the database already."""


@table.command()
@click.argument("table_name", metavar="TABLE")
@click.option(
    "--text",
    metavar="COLUMN[:OPTION...]",
    multiple=True,
    help="A searched column. Options: how often its words count (1 to 10), html, keyword, vector. Repeatable.",
)
@click.option(
    "--join",
    metavar="TABLE.COLUMN[:OPTION...]",
    multiple=True,
    help="A searched column of a table that a foreign key leads to, such as author.name. Repeatable.",
)
@click.option("--id", "key", metavar="COLUMN", multiple=True, help="What makes a record's id; else the primary key.")
@click.option("--where", metavar="SQL", help='Only rows that meet this condition, such as "deleted_at IS NULL".')
@click.option("--tenant", metavar="COLUMN", help="The column that is a record's tenant.")
@click.option("--schema", metavar="NAME", help="The table's schema; TABLE may be SCHEMA.TABLE, too.")
@click.option("--name", metavar="ENTITY", help="The name of the entity; else the table's.")
@BATCH_SIZE
@providing
@quiet
@common
@pass_app
def add(
    app: App,
    /,
    table_name: str,
    text: tuple[str, ...],
    join: tuple[str, ...],
    batch_size: int,
    **options: Any,
) -> None:
    """Index the rows of TABLE, and mark those that change from then on, whatever program writes them.

    What is marked is indexed by `kameleon embeddings sync` or a worker. Searches find the rows under the name of the
    table. A run that was interrupted is completed by the same command again.

    \b
    kameleon table add books --text title:2 --text blurb --where "deleted_at IS NULL"
    """
    if not (text or join):
        raise click.UsageError("name a column to search: --text COLUMN")
    fields = dict(map(optioned, [*text, *join]))
    search = app.open(create=True)
    with resumable(AGAIN), watching() as progress:
        report = search.tables.add(
            table_name,
            fields,
            batch_size=batch_size,
            progress=None if progress is None else lambda done, total: progress("indexing", done, total),
            **options,
        )
    print_report(app, options["name"] or table_name, report)


@table.command("list")
@common
@pass_app
def list_(app: App) -> None:
    """List the tables that were added, with their text columns."""
    found = app.open().tables.list()
    if app.as_json:
        app.print_json([as_json(definition) for definition in found])
    else:
        rows = [(each.entity, full_name(each), ", ".join(each.text), each.where or "") for each in found]
        app.print_rows(("entity", "table", "text", "where"), rows)


@table.command()
@click.argument("names", metavar="[ENTITY]...", nargs=-1)
@common
@pass_app
def status(app: App, names: Sequence[str]) -> None:
    """Show how many rows the tables have, and how many are in the index.

    \b
    kameleon table status books
    """
    tables = app.open().tables
    found = [tables.status(name) for name in names or [each.entity for each in tables.list()]]
    if app.as_json:
        app.print_json([{**as_json(each.definition), **counts_of(each), "problem": each.problem} for each in found])
        return
    rows = [(each.definition.entity, *counts_of(each).values()) for each in found]
    app.print_rows(("entity", "rows", "indexed", "pending", "failed", "not indexed", "marked"), rows)
    for each in found:
        if each.problem:
            echo(each.problem, err=True)
        elif each.marked or each.index.unindexed or each.index.pending:
            echo(f"`kameleon embeddings sync` indexes what is left of {each.definition.entity}", err=True)


@table.command()
@click.argument("entity", metavar="ENTITY")
@BATCH_SIZE
@providing
@quiet
@common
@pass_app
def refresh(app: App, entity: str, batch_size: int) -> None:
    """Index all rows of a table as they are now; what is as it was is neither embedded nor written.

    \b
    kameleon table refresh books
    """
    search = app.open()
    with resumable(AGAIN), watching() as progress:
        report = search.tables.refresh(
            entity,
            batch_size=batch_size,
            progress=None if progress is None else lambda done, total: progress("indexing", done, total),
        )
    print_report(app, entity, report)


@table.command()
@click.argument("entity", metavar="ENTITY")
@confirming
@common
@pass_app
def remove(app: App, entity: str, no_confirm: bool) -> None:
    """Forget a table: its triggers, and what the index has of it. The table itself is left as it is.

    \b
    kameleon table remove books --no-confirm
    """
    tables = app.open().tables
    tables.get(entity)
    if not no_confirm:
        click.confirm(f"Remove {entity} from the index? Its table stays as it is.", abort=True, err=True)
    tables.remove(entity)
    app.show({"entity": entity, "removed": True}, f"removed {entity} from the index; its table is as it was")


def print_report(app: App, entity: str, report: "IndexReport") -> None:
    names = ("indexed", "unchanged", "embedded", "reused", "failed", "pending", "outage")
    counts = {name: getattr(report, name) for name in names}
    text = (
        f"{entity}: {report.indexed:,} rows indexed, {report.unchanged:,} unchanged; {report.embedded:,} embedded, "
        f"{report.reused:,} reused, {report.failed:,} failed, {report.pending:,} pending"
    )
    app.show({"entity": entity, **counts}, text)
    if report.outage:
        echo(f"embeddings pending, the provider is down: {report.outage}", err=True)


def counts_of(status: "TableStatus") -> dict[str, int]:
    index = status.index
    return {
        "rows": status.rows,
        "indexed": index.indexed,
        "pending": index.pending,
        "failed": index.failed,
        "unindexed": index.unindexed,
        "marked": status.marked,
    }


def as_json(definition: "TableDefinition") -> dict[str, Any]:
    return {"entity": definition.entity, **asdict(definition), "key": list(definition.key)}


def full_name(definition: "TableDefinition") -> str:
    return f"{definition.schema}.{definition.table}" if definition.schema else definition.table
