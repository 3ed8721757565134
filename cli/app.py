"""What every command shares: its options, opening the database, and printing. Imports public names of kameleon, which
load SQLAlchemy when they are used."""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import kameleon
from kameleon.errors import SchemaMissing, StorageError, printable, redacted

if TYPE_CHECKING:
    from .chosen import Chosen


def echo(text: str, *, err: bool = False) -> None:
    """Print lines without control characters. The commands in them get this command's --database and --namespace."""
    context = click.get_current_context(silent=True)
    app = context.find_root().find_object(App) if context is not None else None
    shown = app.advised(text) if app is not None else text
    click.echo("\n".join(map(printable, shown.split("\n"))), err=err)


class Interrupted(click.ClickException):
    exit_code = 130


F = TypeVar("F", bound=Callable[..., Any])

ADVICE = re.compile("`kameleon (?!-)")
CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
DEFAULT_URL = "sqlite:///kameleon.db"
DEFAULT_PROVIDER = "static"


@dataclass
class App:
    database: str | None = None
    namespace: str | None = None
    as_json: bool = False
    chosen: "Chosen | None" = None
    has_imported: bool = False

    @property
    def url(self) -> str:
        return self.database or os.environ.get("KAMELEON_URL") or DEFAULT_URL

    @property
    def arguments(self) -> list[str]:
        """The arguments that name the index to another command. The database is not among them where KAMELEON_URL or
        the current folder names it, or has to because the URL holds a secret."""
        from kameleon.urls import has_secret  # SQLAlchemy loads with it

        database = ["-d", self.database] if self.database and not has_secret(self.database) else []
        return [*database, *(["--namespace", self.namespace] if self.namespace else [])]

    @property
    def is_hidden(self) -> bool:
        """Whether another command needs KAMELEON_URL, which is not set, to find this database."""
        return bool(self.database) and "-d" not in self.arguments and os.environ.get("KAMELEON_URL") != self.database

    def advised(self, text: str) -> str:
        """A message whose commands work on this database."""
        if ADVICE.search(text) is None:
            return text
        named = "".join(f"{word} " for word in map(shlex.quote, self.arguments))
        hint = " (with KAMELEON_URL set to this database's URL)" if self.is_hidden else ""
        return ADVICE.sub(lambda found: found.group() + named, text) + hint

    def without_secrets(self, text: str) -> str:
        from kameleon.urls import secrets_of

        for secret in sorted(secrets_of(self.url), key=len, reverse=True):
            text = text.replace(secret, "…")
        return redacted(text)

    def engine(self, *, create: bool = False, is_read_only: bool = False) -> Any:
        """SQLAlchemy's engine of the database; `create=False` raises StorageError where there is none. It replaces
        connections that a restart of the database's server has ended, and its errors, which are logged, have no
        queries and no records."""
        from kameleon.sqlite_files import read_only  # SQLAlchemy loads with it

        engine = kameleon.create_engine(self.url, pool_pre_ping=True, hide_parameters=True)
        file = engine.url.database
        is_file = engine.dialect.name == "sqlite" and file and file != ":memory:" and not file.startswith("file:")
        if is_file and not create and not Path(str(file)).exists():
            raise StorageError(
                f"no database at {file}. --database or KAMELEON_URL names another; "
                "`kameleon data insert ENTITY < FILE` makes one"
            )
        if is_read_only and is_file:
            return kameleon.create_engine(read_only(engine.url), hide_parameters=True)
        return engine

    @property
    def options(self) -> Any:
        """Those of SearchEngine that the command line or the environment gives."""
        is_postgresql = self.url.startswith("postgres")
        names = ("schema", "language", "keyword_search") if is_postgresql else ("language", "keyword_search")
        given = {name: os.environ.get(f"KAMELEON_{name.upper()}") or None for name in ("namespace", *names)}
        return {**given, "namespace": self.namespace or given["namespace"]}

    def open(
        self, *, create: bool = False, by_name: bool = False, is_read_only: bool = False
    ) -> "kameleon.SearchEngine":
        """Open the index with the provider that the command line names, else with its own; `by_name` with its own."""
        engine = self.engine(create=create, is_read_only=is_read_only)
        search = kameleon.SearchEngine(engine, DEFAULT_PROVIDER, create_tables=create, **self.options)
        if self.chosen is None or by_name:
            return search
        models: Any = []
        with suppress(SchemaMissing):  # the database has no tables of kameleon yet
            models = search.generations()
        provider = self.chosen.provider(models)
        return kameleon.SearchEngine(engine, provider, create_tables=create, **self.options)

    def records(self, *, create: bool = False) -> "kameleon.RecordStore":
        return kameleon.RecordStore(self.open(create=create))

    def show(self, document: Any, text: str) -> None:
        """Print a JSON document with --json, else a text."""
        if self.as_json:
            self.print_json(document)
        else:
            echo(text)

    def print_json(self, value: Any) -> None:
        """DEL and the C1 controls, which JSON leaves as they are, are escaped: a terminal would obey them. Dates and
        times are those of ISO 8601."""
        text = json.dumps(value, ensure_ascii=False, default=lambda other: getattr(other, "isoformat", other.__str__)())
        click.echo(CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text))

    def print_rows(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, is_headed: bool = False) -> None:
        """A table on a terminal, tab-separated lines in a pipe, there with names of columns if it `is_headed`."""
        if not sys.stdout.isatty():
            for row in [columns, *rows] if is_headed else rows:
                click.echo("\t".join(printable(" ".join(str(cell).split())) for cell in row))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
        Console().print(table)


def common(command: F) -> F:
    """Add --database, --namespace and --json, which may be given before or after the command."""
    for option in (
        click.option(
            "--json", "as_json", is_flag=True, expose_value=False, callback=_remember, help="Print one JSON document."
        ),
        click.option(
            "--namespace",
            metavar="NAME",
            expose_value=False,
            callback=_remember,
            help="Which index of the database; without it, the one that has no name.",
        ),
        click.option(
            "-d", "--database", metavar="URL", expose_value=False, callback=_remember, help="The database to work on."
        ),
    ):
        command = option(command)
    return command


def importing(command: F) -> F:
    """Add --import, for commands that read the application's classes."""
    return click.option(
        "--import",
        multiple=True,
        metavar="MODULE",
        expose_value=False,
        callback=_import,
        help="Import this module of the application, for its searchable classes; may be repeated.",
    )(command)


def _import(context: click.Context, _parameter: click.Parameter, modules: Sequence[str]) -> None:
    """Import from the current folder, as `python -m` does."""
    if modules:
        context.find_root().ensure_object(App).has_imported = True
        sys.path.insert(0, "")
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:
            raise click.UsageError(f"--import {name}: {error}. Run it in the folder that holds the module") from error


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    app = context.find_root().ensure_object(App)
    if value and parameter.name:
        setattr(app, parameter.name, value)


def confirming(command: F) -> F:
    """Add --no-confirm."""
    return click.option("--no-confirm", is_flag=True, help="Begin without a confirmation and without waiting.")(command)


def quiet(command: F) -> F:
    """Accept --no-confirm, for scripts, in a command that confirms nothing; its help leaves it out."""
    return click.option("--no-confirm", is_flag=True, expose_value=False, hidden=True)(command)


@contextmanager
def bar(task: str, text: str, *columns: Any) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr, and remove it at the end. Yields what updates it."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    with Progress(
        SpinnerColumn(), TextColumn(text), *columns, console=Console(stderr=True), transient=True
    ) as progress:
        yield partial(progress.update, progress.add_task(task, total=None))


pass_app = click.make_pass_decorator(App, ensure=True)


def parse_object(text: str, what: str) -> Mapping[str, Any]:
    """A JSON object from the command line; a usage error otherwise."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError(f'{what} is a JSON object such as \'{{"status": "open"}}\', not {text:.40}')
    return value


def naming_records(name: str, help: str) -> Callable[[F], F]:
    """Add an option that names records as ENTITY/ID, of which the id may have slashes."""

    def read(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> list[tuple[str, str]]:
        pairs = [(value, *value.partition("/")) for value in values]
        for value, entity, _, id_ in pairs:
            if not (entity and id_):
                raise click.UsageError(f"--{name} is ENTITY/ID such as Product/p-1, not {value:.40}")
        return [(entity, id_) for _, entity, _, id_ in pairs]

    return click.option(f"--{name}", metavar="ENTITY/ID", multiple=True, callback=read, help=f"{help} Repeatable.")
