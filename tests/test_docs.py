"""Every page of the documentation: its code runs, its links resolve, and the commands and options it names exist."""

import os
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "stress" / "README.md"])
COMMAND: click.Group = import_module("kameleon_cli.main").kameleon

ON_POSTGRESQL, SCHEMA = "postgresql+psycopg://app@db.example/app", 'schema="search"'
RUN = {"python", "console"}
NOT_RUN = {"json", "make", "py", "sh", "sql", "text", "toml", "yaml"}

FILES = {
    "contacts.jsonl": "".join(
        f'{{"id": {n}, "name": "Person {n}", "about": "lives in Norway", "age": {20 + n}}}\n' for n in range(5)
    ),
    "queries.jsonl": '{"_id": "q", "text": "Person 2"}\n',
    "qrels.tsv": "query-id\tcorpus-id\tscore\nq\tPerson/2\t1\n",
    "synonyms.txt": "# places\noslo, christiania\n",
    "myapp/models.py": "",
    "works.csv": "code;title;year\nM-1;A ship in a gale;1842\nM-2;Bread;1951\n",
}
"""What the pages' commands read."""

PEERS = {"from-chroma.md": "chromadb", "from-lancedb.md": "lancedb"}
"""The packages that a page's code needs, which the extra `test` leaves out for their size."""

PRIVATE = (
    r"abreast|asked|ears?|hear(?:s|d|ing)?|house|patien\w+|reached|resign\w*|rooms?|sa(?:y|ys|id)|stands"
    r"|tells?|told|truths?"
)
"""Words that are no standard terms. The field has others: rendered, reported, queried, captured, module."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    output: str
    """The `text` block right below it, which is what it prints."""


def blocks(page: Path, language: str) -> list[Block]:
    fenced = re.compile(rf"^```{language}\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
    return [Block(language, code, output or "") for code, output in fenced.findall(page.read_text("utf-8"))]


def named(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def having(language: str) -> list[Path]:
    found = [page for page in PAGES if blocks(page, language)]
    assert found
    return found


# Code


@named(PAGES)
def test_a_block_runs_or_names_a_language_that_does_not(page: Path) -> None:
    fences = re.findall(r"^ *```(.*)$", page.read_text("utf-8"), re.MULTILINE)
    assert not fences[1::2] or set(fences[1::2]) == {""}
    assert set(fences[::2]) <= RUN | NOT_RUN


@named(having("python"))
def test_python_runs_from_top_to_bottom(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if page.name in PEERS:
        pytest.importorskip(PEERS[page.name], reason=f"{PEERS[page.name]} is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    request.addfinalizer(lambda: dispose_registries(names))
    for block in blocks(page, "python"):
        code = block.text
        if ON_POSTGRESQL in code:
            url = request.getfixturevalue("pg_url").render_as_string(hide_password=False)
            code = code.replace(ON_POSTGRESQL, url).replace(SCHEMA, f'schema="{request.getfixturevalue("schema")}"')
        try:
            exec(compile(code, str(page), "exec"), names)  # noqa: S102
        finally:
            dispose(names)
        assert capsys.readouterr().out == block.output


def dispose_registries(names: dict[str, Any]) -> None:
    """So that other tests have no two classes of one name."""
    for value in names.values():
        if isinstance(value, type) and issubclass(value, DeclarativeBase) and value is not DeclarativeBase:
            value.registry.dispose()


def dispose(names: dict[str, Any]) -> None:
    for value in names.values():
        opened = getattr(value, "engine", value)
        if isinstance(opened, Engine):
            opened.dispose()


@named(having("console"))
def test_commands_run_from_top_to_bottom(page: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAMELEON_")}
    for line, output in commands(page):
        name, *arguments = shlex.split(line)
        if name == "export":
            setting, _, value = arguments[0].partition("=")
            environment[setting] = value
            continue
        if name == "sqlite3":
            run_sql(tmp_path, *arguments)
            continue
        assert name == "kameleon"
        stdin = b""
        if "<" in arguments:
            *arguments, _, file = arguments
            stdin = (tmp_path / file).read_bytes()
        done = command(*arguments, environment=environment, stdin=stdin)
        assert done.returncode == 0, (line, done.stderr)
        assert not output or done.stdout == output, line


def run_sql(folder: Path, database: str, *rest: str) -> None:
    """`sqlite3 DATABASE SQL`, or `sqlite3 DATABASE < FILE`, by a connection of the driver."""
    script = (folder / rest[1]).read_text("utf-8") if rest[0] == "<" else rest[0]
    with closing(sqlite3.connect(folder / database)) as connection:
        connection.executescript(script)


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """Each line that begins with `$ `, with the lines below it, which are its output."""
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            yield line, output


# The command


def every_command(command: click.Command = COMMAND, path: str = "kameleon") -> dict[str, click.Command]:
    """By name, groups too."""
    found = {path: command}
    for name, inner in getattr(command, "commands", {}).items():
        found |= every_command(inner, f"{path} {name}")
    return found


def options(command: click.Command) -> set[str]:
    flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts) if flag[0] == "-"}
    return flags | {"-h", "--help"}


def test_the_help_describes_every_option_that_it_lists() -> None:
    listed = [
        (name, option.opts[-1], option.help)
        for name, command in every_command().items()
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    assert len(listed) > 100
    assert [(name, flag) for name, flag, text in listed if not text] == []


EVERYWHERE = {"-d", "--database", "--namespace", "--json", "-h", "--help"}


def test_the_page_of_the_command_has_a_section_for_each_and_a_row_for_each_option() -> None:
    parts = re.split(r"^#{2,3} (.*)$", (ROOT / "docs" / "cli.md").read_text("utf-8"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    shared = {slug(title): option_rows(body) for title, body in sections.items() if title.startswith("Options ")}
    assert shared["options-of-every-command"] == EVERYWHERE
    described = {
        title.strip("`"): option_rows(body).union(
            *(shared[name] for name in re.findall(r"\(#(options-[\w-]+)\)", body))
        )
        for title, body in sections.items()
        if title.startswith("`kameleon ")
    }
    groups = {name for name, command in every_command().items() if isinstance(command, click.Group)}
    expected = {name: options(command) - EVERYWHERE for name, command in every_command().items() if name not in groups}
    assert expected
    assert described == expected


def option_rows(section: str) -> set[str]:
    """The options that the first column of its table names."""
    cells = re.findall(r"^\| (`-.*?) \|", section, re.MULTILINE)
    return set(re.findall(r"(?<=`)--?[a-z][a-z-]*", "".join(cells)))


@named(PAGES)
def test_each_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    commands = every_command()
    shell = "".join(block.text for language in ("console", "sh") for block in blocks(page, language))
    fenced = re.findall(r"^(?:\$ )?(kameleon .*)$", shell, re.MULTILINE)
    inline = re.findall(r"`(kameleon [^`]+)`", page.read_text("utf-8").replace("\n", " "))
    for line in fenced + inline:
        words = re.sub(r"\s#.*", "", line).split()
        name = max((name for name in commands if words[: len(name.split())] == name.split()), key=len)
        rest = words[len(name.split()) :]
        assert not isinstance(commands[name], click.Group) or not rest or rest[0].startswith("-"), line
        used = {word.partition("=")[0] for word in rest if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert used <= options(commands[name]) | EVERYWHERE, line


# Pages


def headings(page: Path) -> set[str]:
    """As the fragments of their addresses."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return set(map(slug, titles))


def slug(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@named(PAGES)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not fragment or fragment in headings(target), link


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text("utf-8").splitlines()) <= 200
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(readme)}
    assert set((ROOT / "docs").rglob("*.md")) <= linked


PLAIN = [page for page in PAGES if page.name != "CHANGELOG.md"]


@named(PLAIN)
def test_pages_use_the_standard_terms(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", " ", page.read_text("utf-8"), flags=re.DOTALL)
    found = re.findall(rf"\b(?:{PRIVATE})\b", prose, re.IGNORECASE)
    assert found == []


def test_names_in_tests_and_stress_use_the_standard_terms() -> None:
    paths = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "stress").rglob("*.py")]
    names = {name for path in paths for name in re.findall(r"(?:def|class) (\w+)", path.read_text("utf-8"))}
    assert len(names) > 1000
    assert [name for name in names if re.search(rf"(?:^|_)(?:{PRIVATE})(?:_|$)", name, re.IGNORECASE)] == []


def test_paths_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"`((?:kameleon|cli|tests|stress|docs|examples|tools)/[\w/.]*)`", text)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []
