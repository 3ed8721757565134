"""`python -m stress.peers LINES.jsonl`: what runs of peers said, as Markdown."""

import json
from typing import TextIO

import click

from .showing import table


@click.command()
@click.argument("lines", type=click.File())
def main(lines: TextIO) -> None:
    """Show the lines of `python -m stress peers --json`; others are passed over."""
    for said in map(json.loads, lines):
        if said["run"] == "peers":
            click.echo(table(said))


if __name__ == "__main__":
    main()
