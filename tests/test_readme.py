"""The code of the README and of the pages in docs runs, as it stands."""

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine

ON_POSTGRESQL = "postgresql+psycopg://app@db.example/app"
ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(language: str, page: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_the_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = [block for block in blocks("python") if ON_POSTGRESQL not in block]
    assert len(code) == 7
    names: dict[str, Any] = {}
    for block in code:
        exec(block, names)  # noqa: S102
        for opened in (names["engine"], names["search"].engine):
            opened.dispose()
    assert capsys.readouterr().out == "0.60 Note 1: Wages were not paid in March\n"


def test_the_python_for_postgresql_runs(pg_url: URL, pg_engine: Engine) -> None:
    (block,) = (block for block in blocks("python") if ON_POSTGRESQL in block)
    names: dict[str, Any] = {}
    exec(block.replace(ON_POSTGRESQL, pg_url.render_as_string(hide_password=False)), names)  # noqa: S102
    names["engine"].dispose()
    with pg_engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA search CASCADE")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("python", page)], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python", page):
        exec(block, names)  # noqa: S102
        for value in list(names.values()):
            if isinstance(opened := getattr(value, "engine", value), Engine):
                opened.dispose()


def test_there_are_pages() -> None:
    assert [page.name for page in PAGES if blocks("console", page)]


@pytest.mark.parametrize(
    "page", [README, *(page for page in PAGES if blocks("console", page))], ids=lambda page: page.name
)
def test_the_commands_run_from_top_to_bottom(page: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    rows = [{"id": n, "name": f"Person {n}", "about": "lives in Norway", "age": 20 + n} for n in range(5)]
    (tmp_path / "contacts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "Person 3"}\n')
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t3\t1\n")
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "models.py").touch()
    commands = [line for block in blocks("console", page) for line in block.splitlines()]
    assert len(commands) > (10 if page == README else 0)
    shown = ""
    for line in (command.removeprefix("$ ") for command in commands):
        name, *arguments = shlex.split(line)
        assert name == "kameleon"
        stdin = b""
        if "<" in arguments:
            *arguments, _, file = arguments
            stdin = (tmp_path / file).read_bytes()
        done = command(*arguments, environment=dict(os.environ), stdin=stdin)
        assert done.returncode == 0, (line, done.stderr)
        shown += done.stdout
    if page == README:
        assert "deleted 1 of 1" in shown
