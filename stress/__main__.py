"""`python -m stress RUN`."""

import click

from . import embed, insert, startup

RUNS = {"embed": embed.run, "insert": insert.run, "startup": startup.run}


@click.command()
@click.argument("name", metavar="RUN", type=click.Choice([*RUNS, "all"]))
@click.option("--rows", type=click.IntRange(1), default=30_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
def main(name: str, rows: int, seed: int) -> None:
    """Measure, a JSON line each.

    \b
    embed    what the embedding service adds, and what it saves
    insert   records to searchable, against SQL by hand and a loop of single calls
    startup  the command from a standing start
    """
    for run in RUNS.values() if name == "all" else [RUNS[name]]:
        for figures in run(rows, seed):
            click.echo(figures)


if __name__ == "__main__":
    main()
