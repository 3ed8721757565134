"""`python -m stress.peers LINES.jsonl`: the results of runs of peers, as Markdown."""

from pathlib import Path

import click

from ..plot import read
from .showing import table


@click.command()
@click.argument("lines", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(lines: Path) -> None:
    """Show the lines of `python -m stress peers --json`; others are ignored."""
    try:
        found = read(lines)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for result in found:
        if result["run"] == "peers":
            click.echo(f"{table(result)}\n")


if __name__ == "__main__":
    main()
