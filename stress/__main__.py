"""`python -m stress RUN`."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import click

from . import crash, embed, insert, orm, quality, reindex, search, search_sqlite, sessions, startup

RUNS: dict[str, Callable[[int, int], Iterator[str]]] = {
    "crash": crash.run,
    "embed": embed.run,
    "insert": insert.run,
    "orm": orm.run,
    "quality": quality.run,
    "reindex": reindex.run,
    "reindex-memory": reindex.run_memory,
    "search": search.run,
    "sessions": sessions.run,
    "startup": startup.run,
}


@click.command()
@click.argument("name", metavar="RUN", type=click.Choice([*RUNS, "all"]))
@click.option("--rows", type=click.IntRange(1), default=30_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True, help="Of crash.")
@click.option("--backend", type=click.Choice(["postgresql", "sqlite"]), default="postgresql", help="Of search.")
def main(name: str, rows: int, seed: int, rounds: int, backend: str) -> None:
    """Measure, a JSON line each.

    \b
    crash    re-embedding by processes that are killed: what holds after each kill
    embed    what the embedding service adds, and what it saves
    insert   records to searchable, against SQL by hand and a loop of single calls
    orm      commits of attached sessions, against plain ones and index writes by hand
    quality  nDCG@10 of each leg and of both, on judged collections
    reindex  re-embedding, against embedding and bulk inserts by hand; its memory; the vector index
    reindex-memory  its memory alone, for many rows
    search   hybrid search, against a query by hand and an exact scan; on SQLite filters, memory and a writer too
    sessions random sessions on both databases, compared with the tables after each commit
    startup  the command from a standing start
    """
    if name == "all":  # each in a process of its own: a child's peak memory begins with its parent's
        for one in RUNS:
            options = [f"--rows={rows}", f"--seed={seed}", f"--rounds={rounds}"]
            for database in ("postgresql", "sqlite") if one == "search" else (backend,):
                command = [sys.executable, "-m", "stress", one, *options, f"--backend={database}"]
                subprocess.run(command, check=True)
        return
    if name == "search" and backend == "sqlite":
        made = search_sqlite.run(rows, seed)
    else:
        made = crash.run(rows, seed, rounds) if name == "crash" else RUNS[name](rows, seed)
    for figures in made:
        click.echo(figures)


if __name__ == "__main__":
    main()
