"""`kameleon embeddings …`: the models of the index and what is still to embed. Imports what commands share."""

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from kameleon.errors import redacted

from .app import App, common, echo, importing, pass_app, quiet
from .providing import providing
from .reindexing import cancel, duration, prune, reindex, rollback
from .tenancy import limited_to_tenants

if TYPE_CHECKING:
    from kameleon import SearchEngine
    from kameleon.values import Failure, Generation, IndexReport, IndexStatus, ReindexRun

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.group()
def embeddings() -> None:
    """Show and complete the embeddings, and move them to another model."""


for command in (reindex, rollback, prune, cancel):
    embeddings.add_command(command)


@embeddings.command()
@click.option("--failed", "list_failed", is_flag=True, help="List the records that the provider refused, and why.")
@importing
@providing
@quiet
@common
@pass_app
def status(app: App, list_failed: bool) -> None:
    """Show provider, model and dimensions, how much of each entity is embedded, and a reindex that is under way.

    With --import, also how many rows of the application's classes are not in the index.

    \b
    kameleon embeddings status --import myapp.models
    """
    engine = app.open()
    if list_failed:
        print_failures(app, engine.failures())
        return
    models = engine.generations()
    if app.as_json:
        app.print_json(as_document(engine, models))
        return
    if engine.namespace is not None:
        echo(f"namespace: {engine.namespace}")
    for line in [*model_lines(engine, models), *run_lines(engine.reindexing.status(), models)]:
        echo(line)
    found = engine.get_status()
    if any(s.keyword_search == "server" for s in found):
        echo('keywords are ranked in the server (keyword_search="server")')
    counts = [(s.entity, s.indexed, s.pending, s.failed, s.unindexed, updated(s)) for s in found]
    app.print_rows(("entity", "indexed", "pending", "failed", "not indexed", "last updated"), counts)
    if any(s.unindexed for s in found):
        echo("`kameleon embeddings sync --import MODULE` indexes the rows that are not in the index", err=True)
    for note in sorted({status.note for status in found if status.note}):
        echo(note, err=True)


def print_failures(app: App, failures: "Sequence[Failure]") -> None:
    if app.as_json:
        app.print_json([asdict(failure) for failure in failures])
        return
    columns = ("entity", "id", "reason", "attempts", "message")
    app.print_rows(columns, [[getattr(failure, name) for name in columns] for failure in failures])


def updated(status: "IndexStatus") -> str:
    return f"{status.last_updated:%Y-%m-%d %H:%M:%S} UTC" if status.last_updated else ""


def as_document(engine: "SearchEngine", models: "Sequence[Generation]") -> dict[str, Any]:
    found = engine.get_status()
    totals = {name: sum(getattr(s, name) for s in found) for name in ("indexed", "pending", "failed", "unindexed")}
    totals["cached"] = sum(part.texts for part in engine.cache.status())
    return {
        "namespace": engine.namespace,
        "generations": [
            {**asdict(model), "options": plain_options(model), "vector_index": engine.admin.vector_index(model)}
            for model in models
        ],
        "entities": [asdict(status) for status in found],
        "totals": totals,
        "runs": [
            {**asdict(run), "rows_per_second": run.rows_per_second, "seconds_left": run.seconds_left}
            for run in engine.reindexing.status()
        ],
    }


def plain_options(model: "Generation") -> dict[str, Any]:
    return {name: redacted(value) if isinstance(value, str) else value for name, value in model.options.items()}


def model_lines(engine: "SearchEngine", models: "Sequence[Generation]") -> Iterator[str]:
    for model in models:
        name = f"{model.provider} {model.model_name}, {model.dimensions} dimensions"
        yield f"{model.state}: {name} (generation {model.number}), vector index: {engine.admin.vector_index(model)}"
    yield from weighting_lines(models)
    if any(model.state == "retired" for model in models):
        yield (
            "`kameleon embeddings rollback` goes back to what was active last, `kameleon embeddings prune` drops what "
            "is not active"
        )
    if not models:
        yield "no model yet: the first record makes one"


def weighting_lines(models: "Sequence[Generation]") -> Iterator[str]:
    """A line for each model whose weight follows from the query."""
    from kameleon.search.weighting import stored

    for model in models:
        if model.weighting is not None:
            yield f"weight by query (generation {model.number}): {stored(model.weighting)}"


def run_lines(runs: "Sequence[ReindexRun]", models: "Sequence[Generation]") -> Iterator[str]:
    """Lines of runs that are under way, and of builds that no process works at."""
    building = {model.number for model in models if model.state == "building"}
    for run in runs:
        line = f"reindex: generation {run.generation}, {run.done:,} of {run.total:,} records"
        if run.owner is not None:
            left = f", about {duration(run.seconds_left)} left" if run.seconds_left and run.phase == "embedding" else ""
            yield f"{line}, {run.phase}, {run.rows_per_second:,.0f} records/s{left}, {run.owner}"
        elif run.generation in building:
            yield f"{line}, {idle(run, may_be_pruned=any(model.state == 'active' for model in models))}"


def idle(run: "ReindexRun", *, may_be_pruned: bool) -> str:
    dropped = "; `kameleon embeddings prune` drops it" if may_be_pruned else ""
    if run.phase == "refused":
        return f"its gate refused it: `kameleon embeddings reindex` without --gate switches to it{dropped}"
    return f"no process works at it: `kameleon embeddings reindex` with the same options resumes{dropped}"


@embeddings.command()
@click.option("--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Records a transaction.")
@click.option("--retry-failed", is_flag=True, help="Also try again what the provider refused.")
@limited_to_tenants("Embed what this tenant's records lack.")
@importing
@providing
@quiet
@common
@pass_app
def sync(app: App, batch_size: int, retry_failed: bool, tenant: Any) -> None:
    """Index rows that triggers marked, and with --import rows of the application's classes that are not in the index,
    or all of a class whose declaration was changed; embed what is pending, and build PostgreSQL's vector index if it is
    missing and the embeddings are many. A second run changes nothing.

    \b
    kameleon embeddings sync --retry-failed
    kameleon embeddings sync --import myapp.models
    """
    report = app.open().sync(batch_size=batch_size, retry_failed=retry_failed, tenant=tenant)
    app.show(document_of(report), f"{counts_of(report)}, {report.pending} pending")
    if report.outage:
        echo(f"stopped: {report.outage}", err=True)
        raise click.exceptions.Exit(1)


@embeddings.command()
@click.option("--once", is_flag=True, help="Stop when nothing is due.")
@click.option(
    "--batch-size", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Records claimed at a time."
)
@click.option(
    "--poll", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between queries for work."
)
@click.option(
    "--lease",
    type=click.FloatRange(1),
    default=300.0,
    show_default=True,
    help="Seconds until claimed records may be claimed by another worker.",
)
@importing
@providing
@quiet
@common
@pass_app
def worker(app: App, once: bool, batch_size: int, poll: float, lease: float) -> None:
    """Make the embeddings that commits left for later, on any number of machines, and help a reindex along.

    Runs until SIGTERM or Ctrl-C, and finishes the batch it has begun.

    \b
    kameleon embeddings worker --once
    """
    from kameleon.worker import Worker

    working = Worker(app.open(), batch_size=batch_size, lease_s=lease)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    total = working.run(stop, poll_s=None if once else poll, done=print_batch)
    app.show(document_of(total), counts_of(total))
    if once and total.outage:
        raise click.exceptions.Exit(1)


def document_of(report: "IndexReport") -> dict[str, Any]:
    return {name: getattr(report, name) for name in ("embedded", "reused", "failed", "pending", "outage")}


def counts_of(report: "IndexReport") -> str:
    return f"{report.embedded + report.reused} embedded, {report.failed} failed"


def print_batch(report: "IndexReport") -> None:
    outage = f", {report.pending} postponed: {report.outage}" if report.outage else ""
    echo(f"{counts_of(report)}{outage}", err=True)


@embeddings.group()
def cache() -> None:
    """The embeddings that are kept by text, so that no text is paid for twice."""


@cache.command("status")
@common
@pass_app
def cache_status(app: App) -> None:
    """Show what the cache holds of each model."""
    engine = app.open()
    models = {model.fingerprint: model.model_name for model in engine.generations()}
    found = engine.cache.status()
    if app.as_json:
        app.print_json([{**asdict(part), "model": models.get(part.fingerprint)} for part in found])
        return
    rows = [
        (models.get(p.fingerprint, p.fingerprint), p.texts, f"{p.size / 1e6:.1f} MB", f"{p.last_used:%Y-%m-%d}")
        for p in found
    ]
    app.print_rows(("model", "texts", "size", "last used"), rows)


@cache.command("clear")
@click.option("--older-than", metavar="AGE", help="Only what was not used for this long, such as 30d or 12h.")
@quiet
@common
@pass_app
def cache_clear(app: App, older_than: str | None) -> None:
    """Empty the cache, or drop what was not used for a while.

    \b
    kameleon embeddings cache clear --older-than 30d
    """
    since = datetime.now(UTC) - parse_age(older_than) if older_than is not None else None
    cleared = app.open().cache.clear(since)
    app.show({"cleared": cleared}, f"cleared {cleared} texts")


def parse_age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if match is None:
        raise click.UsageError(f"--older-than is a number and one of s, m, h, d, w, such as 30d, not {text!r}")
    return timedelta(seconds=int(match[1]) * SECONDS[match[2]])
