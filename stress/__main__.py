"""`python -m stress RUN`."""

import click

from . import insert, startup

RUNS = {"insert": insert.run, "startup": startup.run}


@click.command()
@click.argument("name", metavar="RUN", type=click.Choice([*RUNS, "all"]))
@click.option("--rows", type=click.IntRange(1), default=30_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
def main(name: str, rows: int, seed: int) -> None:
    """Measure: insert (records to searchable), startup (the command from a standing start). A JSON line a measure."""
    for run in RUNS.values() if name == "all" else [RUNS[name]]:
        for figures in run(rows, seed):
            click.echo(figures)


main()
