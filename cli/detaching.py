"""`--background`: the same command in a process of its own, which outlives the terminal. Imports the identity of
processes."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .app import App, echo

if TYPE_CHECKING:
    import subprocess

    from kameleon import SearchEngine

FLAG = "--background"
POLL_S = 0.1


def detach(app: App, search: "SearchEngine") -> None:
    """Start it, and print where its log is once it has begun, or its output if it has ended."""
    from tempfile import mkstemp  # slow to load: not for `--help`

    number, log = mkstemp(prefix="kameleon-reindex-", suffix=".log")
    try:
        child = start(app, number)
    finally:
        os.close(number)
    try:
        while child.poll() is None and not has_begun(search, child.pid):
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        child.terminate()
        raise
    if child.returncode:
        click.echo(Path(log).read_text("utf-8", "replace").rstrip(), err=True)
        Path(log).unlink()
        raise click.exceptions.Exit(child.returncode)
    report(app, child, log)


def start(app: App, output: int) -> "subprocess.Popen[bytes]":
    """Start the process. The URL of the database is in its environment, for other users see its command line."""
    import subprocess  # slow to load: not for `--help`

    own = [argument for argument in without_database(sys.argv[1:]) if argument != FLAG]
    interpreter = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    return subprocess.Popen(  # noqa: S603 - this process's own command
        [sys.executable, *interpreter, *own],
        env={**os.environ, "KAMELEON_URL": app.url},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def without_database(arguments: Sequence[str]) -> list[str]:
    """A command line without --database, whichever way it was written."""
    kept = []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-d", "--database"):
            next(rest, None)
        elif not argument.startswith("--database=") and not (argument.startswith("-d") and len(argument) > 2):
            kept.append(argument)
    return kept


def has_begun(search: "SearchEngine", pid: int) -> bool:
    from kameleon.reindex.owners import machine, process

    return process(machine(), pid) in [run.owner for run in search.reindexing.status()]


def report(app: App, child: "subprocess.Popen[bytes]", log: str) -> None:
    if app.as_json:
        app.print_json({"pid": child.pid, "log": log, "is_done": child.returncode == 0})
    elif child.returncode == 0:
        click.echo(Path(log).read_text("utf-8", "replace").rstrip())
        click.echo(f"process {child.pid} is done, its log is {log}")
    else:
        echo(f"process {child.pid} is running, its log is {log}")
        echo("`kameleon embeddings status` shows it, `kameleon embeddings cancel` stops it")
