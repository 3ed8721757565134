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
from .report import Asked, Figures, for_people, line

RUNS: dict[str, Callable[[Asked], Figures]] = {
    "insert": insert.run,
    "search": search.run,
    "embed": embed.run,
    "commit": commit.run,
    "reindex": reindex.run,
    "quality": quality.run,
    "crash": crash.run,
    "concurrency": concurrency.run,
    "soak": soak.run,
    "peers": peers.run,
    "hostile": hostile.run,
    "sessions": sessions.run,
    "startup": startup.run,
}


@click.command()
@click.argument("name", metavar="RUN", type=click.Choice([*RUNS, "all"]))
@click.option("--backend", type=click.Choice(BACKENDS), help="The database; both in turn, unless it is said.")
@click.option("--rows", type=click.IntRange(1), default=30_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="Kills of crash.")
@click.option("--seconds", type=click.FloatRange(1), default=600, show_default=True, help="Of concurrency and soak.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a run.")
def main(name: str, backend: str | None, rows: int, seed: int, rounds: int, seconds: float, as_json: bool) -> None:
    """Measure, and say what was measured on what."""
    if name == "all" or backend is None:
        # Each in a process of its own: memory's peak is a process's.
        for run in RUNS if name == "all" else [name]:
            for one in BACKENDS if backend is None else [backend]:
                options = [f"--backend={one}", f"--rows={rows}", f"--seed={seed}", f"--rounds={rounds}"]
                options += [f"--seconds={seconds}", *(["--json"] if as_json else [])]
                subprocess.run([sys.executable, "-m", "stress", run, *options], check=True)
        return
    asked = Asked(backend=backend, rows=rows, seed=seed, rounds=rounds, seconds=seconds)
    said = line(name, asked, RUNS[name](asked))
    for row in [json.dumps(said)] if as_json else for_people(said):
        click.echo(row)


if __name__ == "__main__":
    main()
