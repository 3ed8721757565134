"""`python -m stress RUN`."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from .database import BACKENDS
from .report import Arguments, for_people, line

RUNS = (
    "files",
    *(
        "insert",
        "search",
        "keywords",
        "embed",
        "commit",
        "reindex",
        "quality",
        "ranking",
        "typos",
        "startup",
        "peers",
    ),
    *(
        "tables",
        "server",
        "servers",
        "beside",
        "fork",
        "sessions",
        "crash",
        "concurrency",
        "soak",
        "hostile",
        "tenants",
    ),
    *("tenants-speed", "triggers"),
)
TENANT_CLASSES = ("small", "middle", "large", "many")


@click.command()
@click.argument("name", metavar="RUN", type=click.Choice([*RUNS, "all", "plot"]))
@click.option("--backend", type=click.Choice(BACKENDS), help="The database; without it both, one after the other.")
@click.option("--rows", type=click.IntRange(1), default=30_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="Of crash and hostile.")
@click.option(
    "--seconds", type=click.FloatRange(1), default=600, show_default=True, help="Of concurrency, soak and tenants."
)
@click.option("--scale", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Of tenants-speed.")
@click.option(
    "--class", "classes", type=click.Choice(TENANT_CLASSES), multiple=True, help="Of tenants-speed; without it all."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON line a run.")
def main(
    name: str,
    backend: str | None,
    rows: int,
    seed: int,
    rounds: int,
    seconds: float,
    scale: float,
    classes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure, and report what was measured on what.

    \b
    insert       JSON lines to searchable, and the write path alone, against SQL by hand; a model behind a network
    files        the same records from JSON lines, CSV and Parquet, read alone and inserted; memory
    search       hybrid search against the same by hand; filters, recall, memory, beside a writer
    keywords     the keyword index as commits leave it, by size, against the same by hand; commits of one object
    embed        what the embedding service adds, and what it saves
    commit       commits of 10,000 and of one object, against plain ones and index writes by hand
    reindex      another model, against embedding and bulk inserts by hand; its memory
    quality      nDCG@10 of each leg and of both, by weight, on judged collections
    ranking      boosts, caps, diversity, pins and snippets beside plain searches; nDCG@10 by diversity
    typos        which words are corrected, right ones and misspelt ones, and nDCG@10 of misspelt queries
    startup      the command, from a new process to its answer
    tables       rows of an existing table to searchable, against a hand-written loop; raw SQL and sync
    triggers     what raw inserts, updates and deletes of a table cost with triggers, and without
    server       8 clients of the API against the library in 8 threads; first paint and keystrokes of the page
    servers      1,000 texts on a healthy, a slow, a limited and a half-broken embeddings server
    peers        Chroma, LanceDB, txtai, zvec, Qdrant Edge, bm25s, langchain-postgres, pg_textsearch and SQL by hand
    beside       searches beside a bulk sync of the same process, with each kind of provider
    sessions     --rows random steps of sessions, compared with the tables after each commit
    crash        --rounds kills on every path that writes, and full and read-only disks
    concurrency  eight writers and eight readers, as many transactions as it takes, --seconds at most
    soak         the same for --seconds; memory and files over time
    fork         2,000 requests over four forked workers with each provider, a thread at work as they are forked
    hostile      hostile input through every public call, --rounds of it random
    tenants      what a tenant can learn of another, by every public verb and by SQL, for --seconds
    tenants-speed  ingest and queries of tenants against indexes of their records alone, --scale of 1
    all          each of them, in a process of its own
    plot         pictures in stress/figures of the lines in stress/figures/measured.jsonl

    A run that finds a fault ends with it and status 1.
    """
    signal.signal(signal.SIGTERM, terminated)
    if name == "plot":
        draw()
        return
    if name == "all" or backend is None:
        options = [f"--rows={rows}", f"--seed={seed}", f"--rounds={rounds}", f"--seconds={seconds}", f"--scale={scale}"]
        options += [f"--class={each}" for each in classes] + (["--json"] if as_json else [])
        each_alone(RUNS if name == "all" else [name], BACKENDS if backend is None else [backend], options)
        return
    args = Arguments(
        backend=backend, rows=rows, seed=seed, rounds=rounds, seconds=seconds, scale=scale, classes=classes
    )
    run = import_module(
        f".{name.replace('-', '_')}", __package__
    ).run  # alone, for what others import would count in its memory
    result = line(name, args, run(args))
    for row in [json.dumps(result)] if as_json else for_people(result):
        click.echo(row)


def draw() -> None:
    from .plot import plot

    try:
        for path in plot():
            click.echo(f"drew {path.name}", err=True)
    except FileNotFoundError as error:
        advice = "add there the lines that runs print with --json"
        raise click.ClickException(f"no {error.filename}: {advice}") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def each_alone(names: Sequence[str], backends: Sequence[str], options: Sequence[str]) -> None:
    """Runs each in a process of its own, since peak memory is a process's. The others run even if one fails."""
    failed = []
    for name in names:
        for backend in backends:
            click.echo(f"{name} on {backend} …", err=True)
            if alone([sys.executable, "-m", "stress", name, f"--backend={backend}", *options]):
                failed.append(f"{name} on {backend}")
    if failed:
        raise click.ClickException(f"{', '.join(failed)} failed")


def alone(command: Sequence[str]) -> int:
    """Returns the exit status. Ctrl-C and SIGTERM let the process stop its server and delete its folders."""
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    except SystemExit:
        process.terminate()
        process.wait()
        raise


def terminated(number: int, _frame: Any) -> None:
    """Raises once: a second signal would interrupt the cleanup of the first."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
