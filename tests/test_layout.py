"""The layout of the package: order of the packages, who imports whom, and the documented public names."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kameleon import RecordStore, SearchEngine
from kameleon.administration import Administration, CacheAdministration
from kameleon.existing_tables import ExistingTables
from kameleon.indexing.index import Index
from kameleon.judgements import Judgements
from kameleon.query_rules import QueryRules
from kameleon.reindex.generations import Reindexing
from kameleon.synonyms import Synonyms

REPOSITORY = Path(__file__).parents[1]
ROOT = REPOSITORY / "kameleon"
ORDER = (
    *("errors", "telemetry", "excerpts", "facet_counts", "documents", "values", "moments", "boosts"),
    *("forking", "urls", "sqlite_files", "markup", "content", "metrics", "files"),
    *("sqlalchemy_internals", "event_loop", "memory_pool", "async_connections", "database"),
    *("analysis", "embeddings", "stores", "keywords", "indexing", "search", "orm"),
    *("reindex", "records", "doctor", "synonyms", "query_rules", "judgements", "table_plans", "existing_tables"),
    *("tenants", "administration", "coroutines", "engine"),
    *(
        "entities",
        "exporting",
        "importers",
        "rebuilding",
        "evaluation",
        "worker",
        "testing",
        "alembic",
        "gate",
        "integrations",
        "server",
    ),
)
OUTSIDE = ("kameleon", "cli", "stress", "tools", "examples")
MODULES = {path.relative_to(ROOT).with_suffix("").parts: path for path in ROOT.rglob("*.py")}
OPENING = {"database", "sqlite_files"}
"""Modules that set up an application's engine, before there is a store."""
DIALECT_SQL = re.compile(
    r"\b(PRAGMA|pg_\w+|sqlite_master|json_each|json_extract|jsonb_\w+|to_\w*ts\w+|regclass|unnest|ON CONFLICT|BEGIN)\b"
)


@dataclass(frozen=True)
class Source:
    """What the tests read of a module, which is parsed once; `texts` are its literals that are no docstrings."""

    docstring: str
    imports: tuple[ast.ImportFrom, ...]
    texts: tuple[str, ...]
    is_raw: bool


@cache
def parsed(path: Path) -> Source:
    tree = ast.parse(path.read_text("utf-8"))
    nodes = list(ast.walk(tree))
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in docs)
    return Source(
        ast.get_docstring(tree) or "",
        tuple(node for node in nodes if isinstance(node, ast.ImportFrom) and node.level),
        tuple(text for text in texts if isinstance(text, str)),
        any(isinstance(node, ast.Attribute) and node.attr == "exec_driver_sql" for node in nodes),
    )


def imported(module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a module imports of kameleon, inside functions and for type checking, too."""
    for node in parsed(MODULES[module]).imports:
        base = (*module[: len(module) - node.level], *(node.module or "").split("."))
        yield from (tuple(filter(None, (*base, alias.name))) for alias in node.names)


@cache
def arrows() -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Each module and what it imports."""
    return {(module, target) for module in MODULES if module[0] in ORDER for target in imported(module)}


def test_packages_import_only_packages_before_them() -> None:
    packages = {(module[0], target[0]) for module, target in arrows() if target[0] in ORDER}
    assert len(packages) > len(ORDER)
    assert [(a, b) for a, b in packages if ORDER.index(b) > ORDER.index(a)] == [("search", "engine")], "documented"


def test_the_table_of_packages_is_in_the_order_that_is_tested() -> None:
    table = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8").partition("## Where a thing belongs")[2]
    assert tuple(re.findall(r"`kameleon/(\w+)(?:/|\.py)`", table.partition("| `cli/` |")[0])) == ORDER
    assert {module[0] for module in MODULES} - {"__init__"} == set(ORDER)


def test_a_modules_docstring_names_every_package_that_it_imports() -> None:
    wrong, seen = [], 0
    for module, path in MODULES.items():
        source = path.read_text("utf-8")
        if not source or module == ("__init__",):
            continue
        seen += 1
        sentences = re.findall(r"\bImports\s([^.]*)\.", parsed(path).docstring)
        packages = {target[0] for target in imported(module)} - {module[0]}
        if len(sentences) != 1 or not packages <= set(re.findall(r"`(\w+)`", sentences[0])):
            wrong.append((path.name, packages))
    assert wrong == []
    assert seen > 100


def test_a_dialects_modules_are_imported_by_that_dialect_alone() -> None:
    imports = {(module[:2], target[:2]) for module, target in arrows() if target[1:2] in {("sqlite",), ("postgresql",)}}
    assert imports == {(("stores", name), ("stores", name)) for name in ("sqlite", "postgresql")}


def test_only_tests_import_tests() -> None:
    paths = [path for name in OUTSIDE for path in (REPOSITORY / name).rglob("*.py")]
    assert [path for path in paths if re.search(r"^\s*(from|import) tests\b", path.read_text("utf-8"), re.M)] == []


def test_sql_of_a_dialect_is_in_stores_alone() -> None:
    found = set()
    for path in [*ROOT.rglob("*.py"), *ROOT.with_name("cli").rglob("*.py")]:
        source = parsed(path)
        if source.is_raw or any(map(DIALECT_SQL.search, source.texts)):
            found.add("stores" if "stores" in path.parts else path.stem)
    assert found == {"stores", *OPENING}


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
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    namespaces = {row.split("`")[1].removeprefix("search."): set(re.findall(r"`(\w+)`", row)) for row in rows}
    namespaces = {name: verbs for name, verbs in namespaces.items() if f"| `search.{name}` |" in page}
    documented = {name for row in rows if not row.startswith("| `search.") for name in re.findall(r"`(\w+)`", row)}
    assert names == documented | namespaces.keys()
    namespaced: dict[str, type] = {"cache": CacheAdministration, "admin": Administration, "rules": QueryRules}
    namespaced |= {"judgements": Judgements, "synonyms": Synonyms, "tables": ExistingTables}
    for name, cls in namespaced.items():
        assert namespaces[name] == {verb for verb in dir(cls) if not verb.startswith("_")}
    assert namespaces["reindexing"] < set(dir(Reindexing))
    assert namespaces["index"] < set(dir(Index))
    verbs = [name for name in names if callable(getattr(SearchEngine, name, None))]
    assert len(verbs) <= 32
    assert all(getattr(SearchEngine, name).__doc__ for name in verbs)


def test_the_documentation_has_every_public_name_of_the_record_store() -> None:
    page = (ROOT.parent / "docs/api.md").read_text("utf-8")
    public = {name for name in dir(RecordStore) if not name.startswith("_")}
    twins = {name for name in public if name.startswith("a") and name[1:] in public}
    assert {name for name in public - twins if f"`{name}`" not in page} == set()
