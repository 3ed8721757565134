"""A part of the hostile input through every public call; `python -m stress hostile` uses all of it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from kameleon import SearchEngine, create_engine
from kameleon.embeddings import CallableProvider
from kameleon.errors import MAX_MESSAGE, InvalidInput, KameleonError
from stress.workloads.hostile import PublicCalls, bad_providers, check_provider, diagnosed
from stress.workloads.hostile_values import KEY, LINES, STRINGS, VALUES, random_strings

from .conftest import with_citus

Done = subprocess.CompletedProcess[str]


@pytest.fixture(params=with_citus("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.filterwarnings("ignore")
def test_hostile_input_is_stored_unchanged_or_refused_with_our_errors(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    calls = PublicCalls(engine)
    calls.put({name: value for name, (value, _) in STRINGS.items()} | dict(random_strings(7, 3)), part=len(STRINGS))
    calls.put({name: value for name, (value, _) in VALUES.items()}, part=2 * len(VALUES))
    calls.track()
    calls.check()
    assert calls.outcome.faults + diagnosed(calls.search) == []
    assert KEY not in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_a_broken_provider_costs_no_keyword_and_its_errors_show_no_key(tmp_path: Path) -> None:
    for name, function in bad_providers().items():
        engine = create_engine(f"sqlite:///{tmp_path / name}.db")
        assert check_provider(engine, name, function) == []
        engine.dispose()


def test_a_message_is_one_bounded_line() -> None:
    message = str(KameleonError("start \x1b[31m\n\u202e" + "x" * 10**6 + " end"))
    assert message.startswith("start \\x1b[31m\\n\\u202ex")
    assert message.endswith("x end")
    assert len(message) < 2 * MAX_MESSAGE


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/x?password=hunter2&port=abc",
        "u:hunter2@h",
        "postgresql://u:hunter2@h:port/x",
        "sqlite:///a\0b?hunter2",
        "sqlite:///\ud800",
    ],
)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        create_engine(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [("a\0b", 4), ("\ud800", 4), (None, 4), ("x" * 5_000, 4), ("m", 0), ("m", True)],
)
def test_a_model_that_no_index_can_note_down_is_refused(name: Any, dimensions: Any) -> None:
    search = SearchEngine(create_engine("sqlite://"), CallableProvider(len, dimensions=dimensions, model_name=name))
    with pytest.raises(InvalidInput, match="a provider's"):
        search.index_record("Note", "1", "fox")


@pytest.fixture
def run(command: Callable[..., Done]) -> Callable[..., Done]:
    def call(*arguments: str, stdin: bytes = b"", **variables: str) -> Done:
        done = command(*arguments, environment={"COLUMNS": "100", **variables}, stdin=stdin)
        shown = done.stdout + done.stderr
        assert not {*shown} & {"\x1b", "\x9b", "\x07", "\u202e"}, done.args
        assert "Traceback" not in shown
        assert len(done.stderr) < 2 * MAX_MESSAGE
        return done

    return call


def test_the_good_lines_among_hostile_ones_are_stored(run: Callable[..., Done], tmp_path: Path) -> None:
    hostile = [line for line, _ in LINES.values()]
    good = [json.dumps({"id": f"good {n}", "text": value}) for n, value in enumerate(("fox", "\x9b2J \x1b[31m \u202e"))]
    stdin = b"\n".join([good[0].encode(), *hostile, good[1].encode()])
    done = run("data", "insert", "Log", "--skip-invalid", "--rejects", "bad.jsonl", "--json", stdin=stdin)
    assert (done.returncode, json.loads(done.stdout)["inserted"]) == (0, 3), f"a NUL is a space: {done.stderr}"
    assert json.loads(done.stdout)["rejected"] == len((tmp_path / "bad.jsonl").read_bytes().splitlines())
    for shown in (run("data", "list", "Log"), run("search", "fox 2J", "--explain", "--facet", "text")):
        assert shown.returncode == 0


@pytest.mark.parametrize("name", ["escape", "drop", "backslash", "binds", "traversal", "long name", "blank"])
def test_a_command_refuses_hostile_arguments_in_one_line(run: Callable[..., Done], name: str) -> None:
    value = STRINGS[name][0]
    for arguments in (
        ("data", "get", value, value),
        ("entity", "create", "E", "--search", "a", "--field", f"{value}:{value}"),
        ("search", value, "--entity", value, "--where", value),
        ("data", "insert", "E", "--from-file", value),
        ("entity", "describe", "E", "--database", value),
        ("embeddings", "cache", "clear", "--older-than", value),
    ):
        assert run(*arguments).returncode in (1, 2), arguments
    assert run("entity", "list", KAMELEON_URL=value or "x").returncode == 1
