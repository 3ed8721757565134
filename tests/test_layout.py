"""Packages import those that stand before them in this list, and a dialect is known to itself alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from kameleon import SearchEngine

ROOT = Path(__file__).parents[1] / "kameleon"
ORDER = (
    *(
        "values",
        "errors",
        "forking",
        "urls",
        "sqlite_files",
        "content",
        "metrics",
        "sqlalchemy_internals",
        "async_connections",
        "database",
    ),
    *(
        "analysis",
        "embeddings",
        "stores",
        "indexing",
        "search",
        "orm",
        "reindex",
        "records",
        "doctor",
        "administration",
        "engine",
    ),
)
MODULES = {path.relative_to(ROOT).with_suffix("").parts: path for path in ROOT.rglob("*.py")}


def imported(module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a module imports of kameleon, inside functions and for type checking, too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*module[: len(module) - node.level], *(node.module or "").split("."))
            yield from (tuple(filter(None, (*base, alias.name))) for alias in node.names)


ARROWS = {(module, target) for module in MODULES if module[0] in ORDER for target in imported(module)}


def test_packages_import_only_what_stands_before_them() -> None:
    packages = {(module[0], target[0]) for module, target in ARROWS if target[0] in ORDER}
    assert len(packages) > len(ORDER)
    assert [(a, b) for a, b in packages if ORDER.index(b) > ORDER.index(a)] == [("search", "engine")], "the facade's"


def test_a_dialects_modules_are_known_to_that_dialect_alone() -> None:
    known = {(module[:2], target[:2]) for module, target in ARROWS if target[1:2] in {("sqlite",), ("postgresql",)}}
    assert known == {(("stores", name), ("stores", name)) for name in ("sqlite", "postgresql")}


def test_public_names_are_where_they_are_documented() -> None:
    from kameleon import search
    from kameleon.doctor import examine
    from kameleon.evaluation import evaluate
    from kameleon.gate import Gate
    from kameleon.records import RecordStore
    from kameleon.search import IndexStatus, SearchEngine, SearchResult, SearchResults
    from kameleon.search.fusion import Leg

    names = [IndexStatus, SearchEngine, SearchResult, SearchResults, Leg, Gate, RecordStore, evaluate, examine]
    assert all(callable(name) for name in names)
    assert sorted(search.__all__) == ["IndexStatus", "SearchEngine", "SearchResult", "SearchResults"]


def test_the_documentation_has_every_public_name_of_the_engine() -> None:
    names = {name for name in dir(SearchEngine) if not name.startswith("_")} | {"index"}
    page = (ROOT.parent / "docs/api.md").read_text("utf-8").partition("## Where earlier")[0]
    documented = set(re.findall(r"`(\w+)`", "\n".join(line for line in page.splitlines() if line.startswith("| `"))))
    assert names == documented | {"reindexing", "cache", "admin"}
    verbs = [name for name in names if callable(getattr(SearchEngine, name, None))]
    assert len(verbs) <= 30
    assert all(getattr(SearchEngine, name).__doc__ for name in verbs)
