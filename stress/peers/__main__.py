"""`python -m stress.peers LINES.jsonl`: what runs of peers said, as Markdown."""

from pathlib import Path

import click

from ..plot import read
from .showing import table


@click.command()
@click.argument("lines", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(lines: Path) -> None:
    """Show the lines of `python -m stress peers --json`; others are passed over."""
    try:
        found = read(lines)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for said in found:
        if said["run"] == "peers":
            click.echo(f"{table(said)}\n")


if __name__ == "__main__":
    main()
