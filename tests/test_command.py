"""Properties of every `kameleon` command: no secret is printed, and the commands that it advises can be run."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import DBAPIError

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import OpenAIProvider
from kameleon.embeddings.provider import EmbeddingProvider
from kameleon.keywords.folding import FOLD_FROM
from kameleon.stores.model_commands import command as reindex_command
from kameleon.testing import HashProvider

from .conftest import end_connection
from .loopback import DIMENSIONS, Server, serving
from .test_cli import Run, checked, lines

root: click.Group = import_module("kameleon_cli.main").kameleon
App = import_module("kameleon_cli.app").App
without_database = import_module("kameleon_cli.detaching").without_database

SOURCES = Path(__file__).parents[1]
PASSWORD = "hunter2"  # noqa: S105
NOTES = [{"id": str(n), "text": f"some words {n}"} for n in range(3)]


@pytest.fixture
def run(command: Callable[..., Any]) -> Run:
    return checked(command)


def parsed(line: str) -> click.Context:
    """The context of a command line; raises click.ClickException for one that is not valid."""
    words = shlex.split(line.split(" < ")[0])[1:]
    context = root.make_context("kameleon", words, obj=App())
    command: click.Command = root
    while isinstance(command, click.Group):
        name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        assert name is not None
        command, context = inner, inner.make_context(name, rest, parent=context)
    return context


# secrets


SPELLINGS = [
    ["-d", "{}", "data", "insert", "Note"],
    ["-d{}", "data", "insert", "Note"],
    ["--database={}", "data", "insert", "Note"],
    ["data", "insert", "Note", "--database", "{}"],
    ["data", "insert", "--database={}", "Note"],
]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=" ".join)
def test_the_advice_to_continue_names_no_password(run: Run, pg_url: URL, spelling: list[str]) -> None:
    url = pg_url.set(password=PASSWORD).render_as_string(hide_password=False)
    broken = lines(NOTES[:2]) + "broken\n"
    failed = run(*(word.format(url) for word in spelling), stdin=broken, status=1)
    assert PASSWORD not in failed.stderr
    advice = re.search(r"KAMELEON_URL to this database's URL\. Continue with: (kameleon .*)$", failed.stderr.strip())
    assert advice
    words = shlex.split(advice[1].removesuffix("< INPUT"))[1:]
    run(*words, stdin=lines(NOTES), KAMELEON_URL=url)
    assert len(run("data", "list", "Note", KAMELEON_URL=url).stdout.splitlines()) == len(NOTES)


def test_the_advice_to_continue_does_not_stop_at_the_same_record(run: Run) -> None:
    run("data", "insert", "Note", stdin=lines(NOTES[1:2]))
    failed = run("data", "insert", "Note", stdin=lines(NOTES), status=1)
    advice = failed.stderr.strip().rpartition("Continue with: ")[2]
    run(*shlex.split(advice.removesuffix("< INPUT"))[1:], stdin=lines(NOTES))
    assert len(run("data", "list", "Note").stdout.splitlines()) == len(NOTES)
    broken = run("data", "insert", "Note", "--on-conflict", "ignore", stdin="broken\n", status=1)
    assert "Correct it, or add --skip-invalid" in broken.stderr


def test_a_database_without_a_secret_is_named(run: Run) -> None:
    failed = run("-d", "sqlite:///my notes.db", "data", "insert", "Note", stdin="broken\n", status=1)
    assert "Continue with: kameleon -d 'sqlite:///my notes.db' data insert Note --from-line 1 < INPUT" in failed.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?user=u&password=hunter2",
        "postgresql://u:hunter%32@127.0.0.1:1/x",
        "postgresql://u:hunter2/x",
        "postgresql://u:a@hunter2@127.0.0.1:1/x",
        "postgresql://u:hunter2@127.0.0.1:port/x",
        "postgresql://127.0.0.1:1/x?hunter2",
        "postgres:hunter2@127.0.0.1",
        "mysql://u:hunter2@127.0.0.1/x",
    ],
)
@pytest.mark.parametrize("form", [["-d", "{}", "search", "x", "--json"], ["{}", "search", "x"], ["search", "x", "{}"]])
def test_no_error_shows_the_password(run: Run, url: str, form: list[str]) -> None:
    status = 1 if "-d" in form else 2
    failed = run(*(word.format(url) for word in form), status=status)
    assert failed.stderr
    if "@" in url or form[0] == "-d":
        assert PASSWORD not in failed.stderr + failed.stdout
        assert "hunter%32" not in failed.stderr + failed.stdout


def test_a_password_in_the_environment_is_shown_neither(run: Run) -> None:
    failed = run("search", "x", KAMELEON_URL="postgresql://u:hunter2@127.0.0.1:1/x", status=1)
    assert failed.stderr
    assert PASSWORD not in failed.stderr


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["-d", "URL", "search", "x"], ["search", "x"]),
        (["search", "--database=URL", "x"], ["search", "x"]),
        (["search", "-dURL", "x", "--json"], ["search", "x", "--json"]),
        (["search", "x", "--database", "URL"], ["search", "x"]),
        (
            ["embeddings", "reindex", "--dry-run", "--dimensions", "7"],
            ["embeddings", "reindex", "--dry-run", "--dimensions", "7"],
        ),
    ],
)
def test_a_command_line_without_its_database(given: list[str], left: list[str]) -> None:
    assert without_database(given) == left


def test_a_process_in_the_background_has_the_url_in_its_environment(
    pg_url: URL, console_script: str, tmp_path: Path
) -> None:
    url = pg_url.set(password=PASSWORD)
    engine = kameleon.create_engine(url)
    search = SearchEngine(engine, "static")
    search.index_records_batch([("Page", n, f"some words {n}") for n in range(30_000)])
    command = [console_script, "-d", url.render_as_string(hide_password=False), "embeddings", "reindex", "--force"]
    done = subprocess.run(
        [*command, "--background", "--json"], capture_output=True, check=True, cwd=tmp_path, text=True
    )
    output = json.loads(done.stdout)
    line = Path(f"/proc/{output['pid']}/cmdline")
    if not line.parent.exists():
        pytest.skip("there is no /proc, or the run is over already")
    assert PASSWORD.encode() not in line.read_bytes()
    assert PASSWORD not in done.stdout
    search.reindexing.cancel()
    engine.dispose()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "api_key=hunter2"], "OPENAI_API_KEY"),
        (["--base-url", "http://u:hunter2@127.0.0.1:9/v1"], "OPENAI_API_KEY"),
        (["--base-url", "http://127.0.0.1:9/v1?api_key=hunter2"], "OPENAI_API_KEY"),
    ],
)
def test_a_secret_is_no_option(run: Run, arguments: list[str], message: str) -> None:
    refused = run("embeddings", "sync", *arguments, status=2)
    assert message in refused.stderr
    assert PASSWORD not in refused.stderr


# advice


def strings(source: str) -> Iterator[str]:
    """The texts of a module, with 1 for what is put into them."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(first.value) for first in bodies if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)


def commands(command: click.Command) -> Iterator[click.Command]:
    """A command and those of its groups."""
    yield command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from commands(inner)


@cache
def advice() -> list[str]:
    """Every command line that a message of the code, or a command's help, names."""
    found: set[str] = set()
    for folder in ("kameleon", "cli"):
        sources = [path.read_text("utf-8") for path in (SOURCES / folder).rglob("*.py")]
        for source in (source for source in sources if "`kameleon " in source):
            for text in strings(source):
                lines = re.findall("`(kameleon [^`]*)`", " ".join(text.split()))
                found.update(line.replace("--keyword-search 1", "--keyword-search index") for line in lines)
    for command in commands(root):
        found.update(re.findall(r"^ *(?:KAMELEON_\S+ )?(kameleon .*)$", command.help or "", re.MULTILINE))
    return sorted(found)


def test_each_parameter_of_a_command_has_a_name_of_its_own() -> None:
    named = [(command.name, [each.name for each in command.params]) for command in commands(root)]
    assert len(named) > 50
    assert [(command, names) for command, names in named if len(set(names)) < len(names)] == []


@pytest.mark.parametrize("line", advice())
def test_what_the_code_advises_is_a_command(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "myapp").mkdir()
    for name in (
        "MODULE.py",
        "myapp/models.py",
        "tickets.jsonl",
        "synonyms.txt",
        "queries.jsonl",
        "qrels.tsv",
        "acme.jsonl.gz",
    ):
        (tmp_path / name).touch()
    with closing(parsed(line)) as context:
        assert context.command.name


def test_errors_contain_advice_to_check() -> None:
    assert len(advice()) > 30


class Added(EmbeddingProvider):
    name = "added"
    model_name = "an added one"
    dimensions = 4
    options = {"region": "eu west", "cut": 512}  # noqa: RUF012

    def embed(self, text: str) -> Any:
        return [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        (
            OpenAIProvider("nomic-embed-text", dimensions=8, api_key="k", base_url="http://127.0.0.1:9/v1"),
            ["--provider openai", "--model nomic-embed-text", "--dimensions 8", "--base-url http://127.0.0.1:9/v1"],
        ),
        (
            OpenAIProvider(api_key="k", passage_tokens=64),
            ["--provider openai", "--model text-embedding-3-small", "--option passage_tokens=64"],
        ),
    ],
)
def test_the_advice_for_a_model_names_its_server_and_options(provider: EmbeddingProvider, words: list[str]) -> None:
    line = reindex_command(provider).split("`")[1]
    assert [word for word in words if word not in line] == []
    chosen = parsed(line).find_root().obj.chosen
    assert chosen.provider_name == provider.name


def test_the_advised_command_makes_the_same_provider() -> None:
    url = "http://127.0.0.1:9/v1"
    provider = OpenAIProvider("nomic-embed-text", dimensions=8, api_key="k", base_url=url, passage_tokens=64)
    line = reindex_command(provider).split("`")[1]
    made = parsed(line).find_root().obj.chosen.provider([])
    assert dict(made.options) == dict(provider.options)


@pytest.mark.parametrize("provider", [HashProvider(), Added()])
def test_what_no_command_can_name_is_not_advised(provider: EmbeddingProvider) -> None:
    assert reindex_command(provider) == "search.reindex() of an engine with this provider"


def test_advice_works_on_the_database_that_was_given(run: Run) -> None:
    failed = run("-d", "sqlite:///other.db", "search", "words", status=1)
    assert "`kameleon -d sqlite:///other.db data insert ENTITY < FILE`" in failed.stderr
    run("-d", "sqlite:///other.db", "data", "insert", "Note", stdin=lines(NOTES))
    run("-d", "sqlite:///other.db", "embeddings", "reindex", "--force")
    status = run("-d", "sqlite:///other.db", "embeddings", "status").stdout
    advised = re.findall("`kameleon ([^`]*)`", status)
    assert len(advised) == 2
    for line in advised:
        run(*shlex.split(line))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_data_insert_ends_with_the_keywords_folded(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, run: Run
) -> None:
    """Also where all is one transaction, which no fold is in."""
    is_file = database == "sqlite"
    url = make_url(f"sqlite:///{tmp_path / 'films.db'}") if is_file else request.getfixturevalue("pg_url")
    shown = url.render_as_string(hide_password=False)
    films = [{"id": str(n), "text": f"the fox {n}"} for n in range(FOLD_FROM + 1)]
    run("-d", shown, "data", "insert", "Film", "--atomic", stdin=lines(films))
    engine = create_engine(url)
    with engine.connect() as connection:
        tail, segments = (
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("kdb_tail", "kdb_segment")
        )
    engine.dispose()
    assert tail < FOLD_FROM
    assert segments == 1


def test_advice_for_a_database_with_a_password(pg_url: URL, run: Run) -> None:
    url = pg_url.set(password=PASSWORD).render_as_string(hide_password=False)
    run("-d", url, "data", "insert", "Note", stdin=lines(NOTES))
    run("-d", url, "embeddings", "reindex", "--force")
    status = run("-d", url, "embeddings", "status").stdout
    assert PASSWORD not in status
    assert "with KAMELEON_URL set" in status
    assert "KAMELEON_URL" not in run("embeddings", "status", KAMELEON_URL=url).stdout


# ids that were made up


def test_records_without_an_id_are_counted(run: Run) -> None:
    rows = [{"key": str(n), "text": f"some words {n}"} for n in range(51)]
    done = run("data", "insert", "Note", stdin=lines([*rows, {"id": "1", "text": "with an id"}]))
    assert "51 records had no `id`" in done.stderr
    assert "--id-field" in done.stderr
    output = json.loads(run("data", "insert", "Note", "--json", stdin=lines(rows)).stdout)
    assert output["ids_made"] == 51
    assert "--id-field" in output["note"]
    assert len(run("data", "list", "Note", "--limit", "200").stdout.splitlines()) == 103
    by_key = run("data", "insert", "Other", "--id-field", "key", "--json", stdin=lines(rows))
    assert (json.loads(by_key.stdout)["ids_made"], json.loads(by_key.stdout)["note"]) == (0, "")
    assert "no `id`" not in by_key.stderr
    again = run("data", "insert", "Other", "--id-field", "key", "--on-conflict", "ignore", "--json", stdin=lines(rows))
    assert json.loads(again.stdout)["skipped"] == 51


# providers


PROVIDED = [
    "data insert",
    "search",
    "serve",
    "similar",
    "doctor",
    "eval",
    "embeddings reindex",
    "embeddings rollback",
    "embeddings status",
    "embeddings sync",
    "embeddings worker",
]
CONFIRMED = [
    "data insert",
    "data update",
    "data delete",
    "doctor",
    "distribute",
    "purge",
    "rebuild",
    "tenants protect",
    "tenants unprotect",
    "embeddings reindex",
    "embeddings rollback",
    "embeddings prune",
    "embeddings cancel",
    "embeddings sync",
    "embeddings worker",
    "embeddings cache clear",
]


def named(path: str) -> click.Command:
    command: click.Command = root
    for name in path.split():
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


def options_of(path: str) -> set[str]:
    return {option for parameter in named(path).params for option in parameter.opts}


@pytest.mark.parametrize("path", PROVIDED)
def test_commands_that_embed_take_a_provider(path: str) -> None:
    assert options_of(path) >= {"--provider", "--model", "--dimensions", "--base-url", "--option"}


@pytest.mark.parametrize("path", CONFIRMED)
def test_scripts_may_pass_no_confirm(path: str) -> None:
    assert "--no-confirm" in options_of(path)


def test_doctor_reports_nothing_about_the_driver_which_the_command_cannot_choose(run: Run) -> None:
    run("data", "insert", "Note", stdin=lines(NOTES))
    assert run("doctor").stdout == "nothing found\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--provider", "nobody"], "Unknown embedding provider 'nobody'"),
        (["--option", "pooling=max"], "has no option pooling. It has:"),
        (["--option", "pooling"], "--option is NAME=VALUE"),
        (["--provider", "openai", "--option", "batch_size=many"], "batch_size is int, not 'many'"),
        (["--provider", "openai", "--option", "batch_size=1.5"], "batch_size is int, not '1.5'"),
        (["--base-url", "http://127.0.0.1:9/v1"], "static has no server"),
        (["--dimensions", "7"], "256 dimensions, not 7"),
    ],
)
def test_options_of_a_provider_are_checked(run: Run, arguments: list[str], message: str) -> None:
    run("data", "insert", "Note", stdin=lines(NOTES))
    assert message in run("embeddings", "sync", *arguments, status=2).stderr


@pytest.fixture
def loopback() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_every_command_that_uses_a_server_takes_its_url(run: Run, loopback: Server) -> None:
    server = ["--base-url", loopback.url, "--model", "nomic", "--dimensions", str(DIMENSIONS)]
    key = {"OPENAI_API_KEY": "local"}
    run("data", "insert", "Note", *server, stdin=lines(NOTES), **key)
    output = json.loads(run("embeddings", "status", "--json", **key).stdout)
    assert output["generations"][0]["model_name"] == "nomic"
    assert output["totals"]["pending"] == 0
    requests = len(loopback.requests)
    others = [{"id": note["id"], "text": f"others {note['id']}"} for note in NOTES]
    run("data", "insert", "Other", "--option", "batch_size=1", stdin=lines(others), **key)
    assert len(loopback.requests) == requests + len(NOTES)
    run("embeddings", "sync", *server, **key)
    report = json.loads(run("embeddings", "reindex", *server, "--force", "--json", "--no-confirm", **key).stdout)
    assert (report["model"], report["embedded"] + report["reused"]) == ("nomic", 2 * len(NOTES))


def test_a_commands_engine_replaces_lost_connections_and_hides_what_it_sends(pg_url: URL) -> None:
    engine = App(database=pg_url.render_as_string(hide_password=False)).engine()
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    end_connection(engine)
    with engine.connect() as connection, pytest.raises(DBAPIError, match="parameters hidden") as raised:
        connection.exec_driver_sql("SELECT 1 / (%(number)s * 0)", {"number": 815})
    assert "815" not in str(raised.value)
    engine.dispose()
