"""`kameleon embeddings reindex`, `rollback`, `prune` and `cancel`: to another model, and back. Imports what commands
share, and the gate and requests of a reindex."""

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import click

from kameleon.errors import InvalidInput, KameleonError

from .app import App, Interrupted, bar, common, confirming, echo, importing, pass_app, quiet
from .chosen import Chosen
from .detaching import detach
from .providing import providing
from .tenancy import limited_to_tenants

if TYPE_CHECKING:
    from kameleon import SearchEngine
    from kameleon.reindex.estimating import ReindexPlan
    from kameleon.reindex.gate import Gate, GateQuery
    from kameleon.reindex.request import PhaseProgress
    from kameleon.values import ReindexReport

CONFIRMATION_S = 5
"""How long a run in place waits for Ctrl-C. Chosen, not measured."""
AGAIN = "Run it again, with the same options, to resume"
SYNC = "`kameleon embeddings sync` embeds what is pending"
POSITIVE = click.FloatRange(0, min_open=True)


class Termination(KeyboardInterrupt):
    """SIGTERM was received. A KeyboardInterrupt, for which drivers cancel what they wait for."""


class Terminated(Interrupted):
    exit_code = 143


@click.command()
@click.argument("entities", metavar="[ENTITY]...", nargs=-1)
@limited_to_tenants("Embed this tenant's records alone.")
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True, help="Records a transaction.")
@click.option("--force", is_flag=True, help="Embed all records again, with the index's own model too.")
@click.option("--in-place", is_flag=True, help="Drop the old embeddings first; only keywords answer meanwhile.")
@click.option("--drop-old", is_flag=True, help="Drop the old embeddings after the switch; no rollback then.")
@click.option(
    "--concurrent-index/--no-concurrent-index",
    default=True,
    show_default=True,
    help="PostgreSQL: build the vector index without making writers wait.",
)
@click.option(
    "--gate", "overlap", metavar="OVERLAP", type=float, help="Switch if this share of the top ten stays, 0..1."
)
@click.option(
    "--gate-queries", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="The queries of the gate."
)
@click.option("--gate-ndcg", metavar="SHARE", type=float, help="Switch if nDCG@10 is at least this share of the old.")
@click.option("--max-minutes", type=click.FloatRange(0), help="Stop after a batch when these are over.")
@click.option("--max-cost", type=click.FloatRange(0), help="Stop before a batch that would cost more.")
@click.option("--price-per-million", type=click.FloatRange(0), help="What a million tokens cost.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, how long it takes and what it costs.")
@click.option("--rate", metavar="ROWS/S", type=POSITIVE, help="With --dry-run: assume this many records a second.")
@click.option("--background", is_flag=True, help="Go on without this terminal, with a log file.")
@importing
@providing
@confirming
@common
@pass_app
def reindex(app: App, /, entities: tuple[str, ...], **given: Any) -> None:
    """Embed the index again, with another model or the same, while search and writing go on.

    The new embeddings are made beside the old, and the index switches when they are complete: until then every search
    is answered from the old ones. Without --provider, --model and --force, what is pending is embedded, or a build
    that was interrupted is completed.

    If it was killed, run it again: it resumes after its last batch. Searches are answered meanwhile from the old
    embeddings, with --in-place by keywords alone. PostgreSQL's vector index is built after the embeddings are loaded:
    drop nothing beforehand.

    A gate's FILE has one JSON object a line, {"query": "…", "relevant": [{"entity": "…", "id": "…", "gain": 1}]};
    without FILE the first words of up to 100 records are the queries. Defaults are 0.5 for OVERLAP and, where there
    are `relevant` records, 0.95 for SHARE.

    \b
    kameleon embeddings reindex --model text-embedding-3-small --dry-run --price-per-million 0.02
    kameleon embeddings reindex --model text-embedding-3-small --gate 0.5 --background
    kameleon embeddings reindex --model nomic-embed-text --base-url http://localhost:8000/v1 --dimensions 768
    kameleon embeddings reindex --model models/my-model --drop-old
    kameleon embeddings reindex --force
    kameleon embeddings reindex Ticket --force --max-minutes 30
    kameleon embeddings reindex --force --tenant acme
    """
    check(entities, given)
    search = app.open(by_name=True)
    options = options_of(given, target_of(app.chosen or Chosen(), search))
    if given["dry_run"]:
        print_plan(app, search.reindexing.plan(*entities, rate=given["rate"], **options))
        return
    if given["in_place"]:
        warn(search, entities, options, waits=not given["no_confirm"] and sys.stderr.isatty())
    if given["background"]:
        detach(app, search)
        return
    with resumable(), watching() as progress:
        report = search.reindex(*entities, **options, progress=progress)
    print_report(app, report)


def check(entities: tuple[str, ...], given: Mapping[str, Any]) -> None:
    has_gate = any(given[name] is not None for name in ("overlap", "gate_queries", "gate_ndcg"))
    wrong = {
        "--in-place drops the old embeddings first: there is nothing for a gate to compare with": (
            given["in_place"] and has_gate
        ),
        "--in-place drops the embeddings of the whole index: name no entity and no tenant": (
            given["in_place"] and (bool(entities) or isinstance(given["tenant"], list))
        ),
        "--in-place drops the old embeddings first: leave --drop-old out": given["in_place"] and given["drop_old"],
        "--gate-ndcg goes with --gate-queries, whose `relevant` it compares with": (
            given["gate_ndcg"] is not None and given["gate_queries"] is None
        ),
        "--rate goes with --dry-run": given["rate"] is not None and not given["dry_run"],
        "--price-per-million goes with --max-cost or --dry-run": (
            given["price_per_million"] is not None and given["max_cost"] is None and not given["dry_run"]
        ),
        "--background and --dry-run exclude each other": given["background"] and given["dry_run"],
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise click.UsageError(message)


def target_of(chosen: Chosen, search: "SearchEngine") -> dict[str, Any]:
    """The provider as `SearchEngine.reindex` takes it: by name, or as an object where a server is named."""
    if chosen.is_of_server:
        return {"provider": chosen.provider(search.generations())}
    return {"provider": chosen.provider_name, "model": chosen.model, "dimensions": chosen.dimensions}


def options_of(given: Mapping[str, Any], target: Mapping[str, Any]) -> Any:
    """Those of `SearchEngine.reindex`."""
    same = ("tenant", "batch_size", "force", "in_place", "drop_old", "concurrent_index")
    limits = ("max_minutes", "max_cost", "price_per_million")
    return {name: given[name] for name in same + limits} | {"gate": gate_of(given), **target}


def gate_of(given: Mapping[str, Any]) -> "Gate | None":
    from kameleon.reindex.gate import Gate

    limits = {"overlap": given["overlap"], "ndcg": given["gate_ndcg"]}
    options: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    if given["gate_queries"] is not None:
        options["queries"] = queries_in(given["gate_queries"])
        if given["gate_ndcg"] is not None and not any(query.relevant for query in options["queries"]):
            raise InvalidInput(f"{given['gate_queries']}: no query has `relevant`, which --gate-ndcg compares with")
    return Gate(**options) if options else None


def queries_in(path: str) -> "list[GateQuery]":
    from kameleon.reindex.gate import read_queries

    try:
        with open(path, encoding="utf-8") as lines:
            queries = read_queries(lines)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8: {error}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    if not queries:
        raise InvalidInput(f"{path} has no queries: it needs one JSON object a line")
    return queries


def warn(search: "SearchEngine", entities: tuple[str, ...], options: Any, *, waits: bool) -> None:
    """Warn of a run in place that will leave search without vectors."""
    from kameleon.reindex.request import Request

    target = search.reindexing.target(Request(entities, **options))
    if target.action != "built" or target.active is None:
        return
    echo("--in-place drops the old embeddings first: only keywords answer until it is done", err=True)
    if waits:
        echo(f"beginning in {CONFIRMATION_S} seconds; Ctrl-C changes nothing", err=True)
        time.sleep(CONFIRMATION_S)


# while it runs


@contextmanager
def resumable(advice: str = AGAIN) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into errors with `advice`; the run has released its lease by then."""

    received: list[int] = []

    def end(number: int, _frame: Any) -> None:
        received.append(number)
        raise Termination if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (KeyboardInterrupt, KameleonError) as error:  # a rollback may fail on a connection that was interrupted
        if not received and isinstance(error, KameleonError):
            raise
        if received[-1:] == [signal.SIGTERM]:
            raise Terminated(f"terminated, what was written is kept. {advice}") from None
        raise Interrupted(f"interrupted, what was written is kept. {advice}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def watching() -> Iterator["PhaseProgress | None"]:
    """Show a bar on a terminal, else the run's log lines."""
    if not sys.stderr.isatty():
        with logging_to(sys.stderr):
            yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with bar("embedding", "{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as update:
        yield lambda phase, done, total: update(description=phase, completed=done, total=total or None)


@contextmanager
def logging_to(stream: TextIO) -> Iterator[None]:
    import logging  # slow to load: not for `--help`

    log, handler = logging.getLogger("kameleon.reindex"), logging.StreamHandler(stream)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


# reports


def print_report(app: App, report: "ReindexReport") -> None:
    if app.as_json:
        app.print_json({**asdict(report), "rows_per_second": report.rows_per_second})
    else:
        for line in lines_of(report):
            echo(line)
    if report.outage:
        cause = " ".join(report.outage.split())
        echo(f"stopped, the provider is down: {cause}. {advice_after(report)}", err=True)
        raise click.exceptions.Exit(1)


def lines_of(report: "ReindexReport") -> Iterator[str]:
    if report.action != "nothing":
        place = f"generation {report.generation} ({report.model})"
        end = ", switched to" if report.switched else ", not switched to" if report.action == "built" else ""
        yield f"{'not finished' if report.stopped else report.action}: {place}{end}"
        yield (
            f"{report.embedded} embedded, {report.reused} reused, {report.failed} failed, {report.pending} pending; "
            f"{report.embedding_s:.1f} s embedding, {report.indexing_s:.1f} s building the index, "
            f"{report.rows_per_second:,.0f} rows/s"
        )
    if report.gate is not None:
        yield gate_line(report)
    for ref, reason in report.failures:
        yield f"failed: {ref.entity} {ref.id}: {reason}"
    yield from report.notes
    if report.stopped and not report.outage:
        yield f"stopped: {report.stopped}. {advice_after(report)}"


def advice_after(report: "ReindexReport") -> str:
    """What to run next. A second rollback would undo the first."""
    return SYNC if report.action == "rolled back" else AGAIN


def gate_line(report: "ReindexReport") -> str:
    gate = report.gate
    assert gate is not None  # noqa: S101 - the caller checks
    line = f"gate: overlap@10 {gate.overlap:.3f} over {gate.queries} queries"
    if gate.ndcg_before is None or gate.ndcg_after is None:
        return line
    return f"{line}; nDCG@10 {gate.ndcg_before:.3f} before, {gate.ndcg_after:.3f} after over {gate.judged} judged"


def print_plan(app: App, plan: "ReindexPlan") -> None:
    if app.as_json:
        app.print_json({**asdict(plan), "dimensions_change": plan.dimensions_change})
        return
    for line in lines_of_plan(plan):
        echo(line, err=True)


def lines_of_plan(plan: "ReindexPlan") -> Iterator[str]:
    target = f"{plan.target_model}, {plan.target_dimensions} dimensions"
    now = f"{plan.current_model}, {plan.current_dimensions} dimensions" if plan.current_model else "no model"
    does = {"built": f"would build {target}, beside {now}", "filled": f"would embed what is pending with {target}"}
    yield does.get(plan.action, f"nothing to do: {target} is the index's model and nothing is pending")
    yield f"{plan.rows:,} records in {plan.batches:,} batches of {plan.batch_size:,}"
    yield f"{plan.distinct:,} distinct texts, {plan.cached:,} of them cached; about {plan.tokens:,} tokens"
    yield "cost: not known without --price-per-million" if plan.cost is None else f"cost: about {plan.cost:.4g}"
    if plan.rows_per_second is None or plan.embedding_s is None:
        yield "time: not known without --rate, no run of this model was measured"
    else:
        yield f"time: about {duration(plan.embedding_s)} embedding at {plan.rows_per_second:,.0f} records/s"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


# generations


@click.command()
@importing
@providing
@quiet
@common
@pass_app
def rollback(app: App) -> None:
    """Make the model that was the index's before the last switch its model again, then embed what was written since.

    \b
    kameleon embeddings rollback
    """
    search = app.open()
    with resumable(f"`kameleon embeddings status` shows which model is active, {SYNC}"), watching() as progress:
        report = search.reindexing.rollback(progress=progress)
    print_report(app, report)


@click.command()
@quiet
@common
@pass_app
def prune(app: App) -> None:
    """Drop the embeddings of all models but the index's own, and of builds beside it that no process works at.

    \b
    kameleon embeddings prune
    """
    report = app.open().reindexing.prune()
    lines = [f"dropped generation {made.number} ({made.model_name})" for made in report.dropped]
    for made in report.waiting:
        lines.append(f"generation {made.number} ({made.model_name}) waits for an open transaction: prune again later")
    document = {name: [asdict(made) for made in getattr(report, name)] for name in ("dropped", "waiting")}
    app.show(document, "\n".join(lines) or "nothing to drop")


@click.command()
@quiet
@common
@pass_app
def cancel(app: App) -> None:
    """Request a reindex that is under way, on any machine, to stop after its batch.

    \b
    kameleon embeddings cancel
    """
    owners = app.open().reindexing.cancel()
    lines = [f"requested {owner} to stop after its batch; the same command again resumes" for owner in owners]
    app.show({"cancelled": owners}, "\n".join(lines) or "nothing to cancel: no reindex is under way")
