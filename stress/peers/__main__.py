"""`python -m stress.peers LINES.jsonl [FOLDER]`: what runs of peers said, as Markdown, and as charts in a folder."""

import json
from pathlib import Path
from typing import TextIO

import click

from .showing import charts, table


@click.command()
@click.argument("lines", type=click.File())
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
def main(lines: TextIO, folder: Path | None) -> None:
    """Show the lines of `python -m stress peers --json`; others are passed over."""
    for said in map(json.loads, lines):
        if said["run"] != "peers":
            continue
        click.echo(table(said))
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for name, chart in charts(said).items():
                (folder / f"peers-{said['backend']}-{name}.svg").write_text(chart)


if __name__ == "__main__":
    main()
