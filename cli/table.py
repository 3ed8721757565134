"""`kameleon table …`: tables that are in the database already, as entities. Imports what commands share."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .app import App, common, confirming, echo, pass_app, quiet
from .entity import optioned
from .providing import providing
from .reindexing import AGAIN, POSITIVE, duration, resumable, watching

if TYPE_CHECKING:
    from kameleon import IndexReport
    from kameleon.existing_tables import TableStatus
    from kameleon.orm.reflection.definition import TableDefinition
    from kameleon.table_plans import TablePlan

SAMPLES = 2
"""Bounds the records that a dry run shows. Chosen, not measured."""
SHOWN = 200
"""Bounds the characters of a record that are shown. Chosen, not measured."""

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
@click.option("--schema", metavar="NAME", help="The table's schema, where TABLE is not SCHEMA.TABLE.")
@click.option("--name", metavar="NAME", help="The name of the entity; else the table's.")
@click.option("--replace", is_flag=True, help="Change how a table that was added before is searched.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, how long it takes and what it costs.")
@click.option("--rate", metavar="ROWS/S", type=POSITIVE, help="With --dry-run: assume this many rows a second.")
@click.option("--price-per-million", type=click.FloatRange(0), help="What a million tokens cost.")
@BATCH_SIZE
@providing
@confirming
@common
@pass_app
def add(
    app: App,
    /,
    table_name: str,
    text: tuple[str, ...],
    join: tuple[str, ...],
    batch_size: int,
    dry_run: bool,
    no_confirm: bool,
    **options: Any,
) -> None:
    """Index the rows of TABLE, and mark those that change from then on, whatever program writes them.

    What is marked is indexed by `kameleon embeddings sync` or a worker. Searches find the rows under the name of the
    table. A run that was interrupted is completed by the same command again.

    \b
    kameleon table add books --text title:2 --text blurb --where "deleted_at IS NULL"
    kameleon table add books --text title --join author.name --dry-run
    """
    estimating = {name: options.pop(name) for name in ("rate", "price_per_million")}
    check(text, join, rate=None if dry_run else estimating["rate"])
    fields = dict(map(optioned, [*text, *join]))
    if options["schema"] is None and "." in table_name:
        options["schema"], _, table_name = table_name.partition(".")
    search = app.open(is_read_only=dry_run)
    plan = search.tables.plan(table_name, fields, **estimating, **options)
    show_plan(app, plan, is_dry_run=dry_run)
    if dry_run:
        return
    if may_cost(plan) and not no_confirm:
        click.confirm("Index the rows?", abort=True, err=True)
    search.index.prepare_schema(create_tables=True)
    with resumable(AGAIN), indexing() as progress:
        report = search.tables.add(table_name, fields, batch_size=batch_size, progress=progress, **options)
    print_report(app, plan.definition.entity, report)
    if not plan.indexed:
        echo(f"search it: `kameleon search WORDS --entity {shlex.quote(plan.definition.entity)}`", err=True)


def check(text: Sequence[str], join: Sequence[str], *, rate: float | None) -> None:
    wrong = {
        "name the columns to search: --text COLUMN, --join TABLE.COLUMN": not (text or join),
        "--rate goes with --dry-run": rate is not None,
        **{
            f"--join is TABLE.COLUMN, such as author.name, not {given!r:.80}: a column of the table itself is --text": (
                "." not in optioned(given)[0]
            )
            for given in join
        },
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise click.UsageError(message)


@contextmanager
def indexing() -> "Iterator[Callable[[int, int], None] | None]":
    """Show a bar on a terminal."""
    with watching() as update:
        yield None if update is None else partial(update, "indexing")


# plans


def show_plan(app: App, plan: "TablePlan", *, is_dry_run: bool) -> None:
    if is_dry_run and app.as_json:
        app.print_json(as_document(plan))
        return
    for line in lines_of_plan(plan, is_dry_run=is_dry_run):
        echo(line, err=True)


def may_cost(plan: "TablePlan") -> bool:
    """Whether the embeddings are paid for."""
    return bool(plan.tokens) and (plan.is_costly if plan.cost is None else plan.cost > 0)


def lines_of_plan(plan: "TablePlan", *, is_dry_run: bool) -> Iterator[str]:
    definition = plan.definition
    of_all = f" of {plan.rows_in_table:,}" if definition.where else ""
    done = f", {plan.indexed:,} of them indexed already" if plan.indexed else ""
    yield f"{full_name(definition)}: {plan.rows:,}{of_all} rows{done}"
    yield f"entity {definition.entity}, id: {', '.join(plan.key)}, text: {', '.join(weighted(definition))}"
    for sample in plan.samples[: SAMPLES if is_dry_run else 1]:
        of_tenant = f" of {sample.tenant}" if sample.tenant else ""
        yield f"  {sample.id}{of_tenant}: {shortened(sample.text)}"
    for warning in plan.warnings:
        yield f"note: {warning}"
    if plan.model is not None and (is_dry_run or may_cost(plan)):
        yield f"model {plan.model}, about {plan.tokens:,} tokens; {cost_of(plan)}"
    if is_dry_run or plan.makes_tables:
        made = f"kameleon's tables {'would be' if is_dry_run else 'are'} made in this database" * plan.makes_tables
        yield "; ".join(filter(None, [made, time_of(plan) if is_dry_run else ""]))
    if is_dry_run:
        yield "nothing was written; without --dry-run this is done"


def weighted(definition: "TableDefinition") -> Iterator[str]:
    for name, field in definition.text.items():
        yield f"{name} (weight {int(field.weight)})" if field.weight > 1 else name


def shortened(text: str) -> str:
    line = " | ".join(text.split("\n"))
    return f"{line[:SHOWN]}…" if len(line) > SHOWN else line or "(no text)"


def cost_of(plan: "TablePlan") -> str:
    if plan.cost is not None:
        return f"cost: about {plan.cost:.4g}"
    return "cost: not known without --price-per-million" if plan.is_costly else "no cost: the model runs here"


def time_of(plan: "TablePlan") -> str:
    if plan.seconds is None:
        return "time: not known without --rate"
    return f"time: about {duration(plan.seconds)}"


def as_document(plan: "TablePlan") -> dict[str, Any]:
    return {**asdict(plan), "definition": as_json(plan.definition), "entity": plan.definition.entity}


# tables


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
        app.print_json([status_document(each) for each in found])
        return
    rows = [(each.definition.entity, *counts_of(each).values()) for each in found]
    app.print_rows(("entity", "rows", "indexed", "pending", "failed", "not indexed", "marked"), rows)
    for each in found:
        if each.problem:
            echo(each.problem, err=True)
        elif not each.has_triggers:
            echo(f"{each.definition.entity} has no triggers: {refreshing(each.definition.entity)}", err=True)
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
    """Index all rows of a table as they are now, and remove the records whose rows are gone; what is as it was is
    neither embedded nor written.

    \b
    kameleon table refresh books
    """
    search = app.open()
    with resumable(AGAIN), indexing() as progress:
        report = search.tables.refresh(entity, batch_size=batch_size, progress=progress)
    print_report(app, entity, report)


@table.command()
@click.argument("entity", metavar="ENTITY")
@confirming
@common
@pass_app
def remove(app: App, entity: str, no_confirm: bool) -> None:
    """Drop the triggers of a table, and remove what the index has of it. The table itself is left as it is.

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


def refreshing(entity: str) -> str:
    return f"`kameleon table refresh {shlex.quote(entity)}` indexes its rows as they are now"


def status_document(status: "TableStatus") -> dict[str, Any]:
    own = {"rows_in_table": status.rows_in_table, "has_triggers": status.has_triggers, "problem": status.problem}
    return {**as_json(status.definition), **counts_of(status), **own}


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
