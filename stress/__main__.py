"""`python -m stress RUN`."""

import json
import subprocess
import sys
from collections.abc import Callable

import click

from . import (
    commit,
    concurrency,
    crash,
    embed,
    hostile,
    insert,
    peers,
    quality,
    reindex,
    search,
    sessions,
    soak,
    startup,
)
from .database import BACKENDS
from .plot import FIGURES, MEASURED, plot
from .report import Asked, Figures, for_people, line

RUNS: dict[str, Callable[[Asked], Figures]] = {
    "insert": insert.run,
    "search": search.run,
    "embed": embed.run,
    "commit": commit.run,
    "reindex": reindex.run,
    "quality": quality.run,
    "startup": startup.run,
    "peers": peers.run,
    "sessions": sessions.run,
    "crash": crash.run,
    "concurrency": concurrency.run,
    "soak": soak.run,
    "hostile": hostile.run,
}


@click.command()
@click.argument("name", metavar="RUN", type=click.Choice([*RUNS, "all", "plot"]))
@click.option("--backend", type=click.Choice(BACKENDS), help="The database; both in turn, unless it is said.")
@click.option("--rows", type=click.IntRange(1), default=30_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="Of crash and hostile.")
@click.option("--seconds", type=click.FloatRange(1), default=600, show_default=True, help="Of concurrency and soak.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a run.")
def main(name: str, backend: str | None, rows: int, seed: int, rounds: int, seconds: float, as_json: bool) -> None:
    """Measure, and say what was measured on what.

    \b
    insert       JSON lines to searchable, and the write path alone, against SQL by hand; a model behind a network
    search       hybrid search against the same by hand; filters, recall, memory, beside a writer
    embed        what the embedding service adds, and what it saves
    commit       commits of attached sessions against plain ones and index writes by hand
    reindex      another model, against embedding and bulk inserts by hand; its memory
    quality      nDCG@10 of each leg and of both, by weight, on judged collections
    startup      the command from a standing start
    peers        Chroma, LanceDB, txtai, langchain-postgres and SQL by hand, side by side
    sessions     --rows random steps of sessions, compared with the tables after each commit
    crash        --rounds kills on every path that writes, and full and read-only disks
    concurrency  eight writers and eight readers, as many transactions as it takes, --seconds at most
    soak         the same for --seconds; memory and files over time
    hostile      nasty input through every public way in, --rounds of it random
    all          each of them, in a process of its own
    plot         pictures in stress/figures of the lines in stress/figures/measured.jsonl

    A run that finds a fault ends with it and status 1.
    """
    if name == "plot":
        for path in plot(MEASURED, FIGURES):
            click.echo(f"drew {path.name}", err=True)
        return
    if name == "all" or backend is None:
        options = [f"--rows={rows}", f"--seed={seed}", f"--rounds={rounds}", f"--seconds={seconds}"]
        options += ["--json"] if as_json else []
        each_alone(list(RUNS) if name == "all" else [name], list(BACKENDS) if backend is None else [backend], options)
        return
    asked = Asked(backend=backend, rows=rows, seed=seed, rounds=rounds, seconds=seconds)
    said = line(name, asked, RUNS[name](asked))
    for row in [json.dumps(said)] if as_json else for_people(said):
        click.echo(row)


def each_alone(names: list[str], backends: list[str], options: list[str]) -> None:
    """Each in a process of its own, for memory's peak is a process's. The rest is run when one fails."""
    failed = []
    for name in names:
        for backend in backends:
            command = [sys.executable, "-m", "stress", name, f"--backend={backend}", *options]
            if subprocess.run(command, check=False).returncode:
                failed.append(f"{name} on {backend}")
    if failed:
        raise click.ClickException(f"{', '.join(failed)} failed")


if __name__ == "__main__":
    main()
