"""Packaging: listed packages, dependency groups, imports at start, public names, and the list of slow tests."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import kameleon
import kameleon.embeddings

from .conftest import SLOW, SLOW_ON_POSTGRESQL, SLOW_WHEN_ASYNC, TESTS_SLOW_ON_POSTGRESQL

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_package_of_the_tree_is_listed() -> None:
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "kameleon").rglob("__init__.py")} | {
        "kameleon_cli"
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_dependency_groups_are_the_extras() -> None:
    groups = PROJECT["dependency-groups"]
    assert groups["test"] == PROJECT["project"]["optional-dependencies"]["test"]
    assert {"include-group": "test"} in groups["dev"]


POSIX_ONLY = {
    "crypt",
    "curses",
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
}


def test_no_module_needs_posix_to_be_imported() -> None:
    modules = [*(ROOT / "kameleon").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    assert modules
    assert {str(path): found for path in modules if (found := imported(path) & POSIX_ONLY)} == {}


def imported(path: Path) -> set[str]:
    """The imports of a module outside functions."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return names


def test_each_slow_test_exists() -> None:
    for file, names in SLOW.items():
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert [name for name in names if f"def {name}(" not in source] == [], file


def test_each_suite_and_test_that_is_slow_on_a_backend_exists() -> None:
    sources = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py")}
    assert {*SLOW_ON_POSTGRESQL, *SLOW_WHEN_ASYNC} <= sources.keys()
    every = "".join(sources.values())
    assert [name for name in TESTS_SLOW_ON_POSTGRESQL if f"def {name}(" not in every] == []


@pytest.mark.parametrize("package", [kameleon, kameleon.embeddings], ids=lambda package: package.__name__)
def test_public_names_are_sorted_and_exist(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    assert [name for name in names if not hasattr(package, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        package.nonsense  # type: ignore[attr-defined] # noqa: B018


SERVER = ("starlette", "uvicorn", "jinja2", "pydantic", "mcp", "opentelemetry", "prometheus_client", "webbrowser")
"""What the extras of the server, of MCP and of telemetry load, and nothing else."""
FILES = ("pyarrow", "zstandard", "yaml", "charset_normalizer", "chromadb", "lancedb")
"""What the extras of files and of the importers load."""


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import kameleon_cli.main",
            {"numpy", "tokenizers", "rich", "sqlalchemy", "fastembed", "openai", *SERVER, *FILES},
        ),
        (
            "import kameleon; kameleon.SearchEngine; kameleon.RecordStore",
            {"numpy", "tokenizers", "rich", "fastembed", *SERVER, *FILES},
        ),
        ("import kameleon.embeddings as e; e.StaticProvider()", {"fastembed", "openai", "sqlalchemy"}),
    ],
)
def test_heavy_imports_wait_until_they_are_used(code: str, absent: set[str]) -> None:
    script = f"{code}\nimport sys\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(loaded.split()) & absent == set()
    assert "kameleon" in loaded
