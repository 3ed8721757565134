"""A room imports only from rooms below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"values", "errors"},
    {
        "content",
        "metrics",
        "queue",
        "search.filters",
        "search.ordering",
        "search.paging",
        "search.reranking",
        "search.syntax",
        "search.spelling",
        "search.fusion",
        "search.tables",
        "search.waiting",
        "search.ownership",
        "async_connections",
    },
    {"identity", "sqlite_files", "urls", "search.claims", "search.owners", "search.query", "search.vocabulary", "gate"},
    {"search.runs", "search.ranges"},
    {"mapping"},
    {
        "statements",
        "embeddings.batching",
        "embeddings.flights",
        "embeddings.folder",
        "embeddings.knowing",
        "embeddings.options",
        "embeddings.passages",
        "embeddings.retry",
        "embeddings.weights",
    },
    {"embeddings.provider"},
    {"embeddings.cache", "embeddings.checking"},
    {"embeddings.queries"},
    {"embeddings.answers", "embeddings.run"},
    {"search.store"},
    {"search.criteria", "search.columns"},
    {
        "search.bm25",
        "search.citus",
        "search.highlighting",
        "search.mirror",
        "search.pgwire",
        "search.postgresql_sql",
        "search.postgresql_errors",
        "search.postgresql_where",
        "search.sqlite_errors",
        "search.sqlite_where",
        "search.sqlite_triggers",
        "search.sqlite_rebuild",
        "search.postgresql_rebuild",
        "search.postgresql_triggers",
        "embeddings.static",
        "embeddings.fastembed",
        "embeddings.reranker",
        "embeddings.openai",
        "embeddings.function",
    },
    {"search.fts5", "search.tsvector", "search.postgresql_hnsw"},
    {"search.postgresql_schema", "search.sqlite_health"},
    {"search.postgresql_health"},
    {
        "search.sqlite",
        "search.postgresql",
        "search.catalog",
        "search.caching",
        "embeddings.service",
        "database",
    },
    {"search.stores", "search.transactions", "search.prepared"},
    {"search.writing", "search.retrieval", "embeddings", "alembic"},
    {"search.services"},
    {"search.answering", "search.filling", "search.building", "tracking", "binds"},
    {"reindex_request"},
    {"estimating", "reindex_run"},
    {"listener", "reindexing", "unindexed"},
    {"search", "search.engine"},
    {"testing", "records", "worker", "evaluation"},
    {"doctor", "rebuilding"},
    {""},
]
PURE = {
    "values",
    "errors",
    "content",
    "queue",
    "gate",
    "metrics",
    "embeddings.batching",
    "embeddings.retry",
    "embeddings.passages",
    "search.filters",
    "search.query",
    "search.syntax",
    "search.spelling",
    "search.fusion",
    "search.ordering",
    "search.paging",
    "search.reranking",
}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT / "kameleon").with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / "kameleon").rglob("*.py")}


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if module in rooms)


def imports(module: str) -> set[str]:
    """The rooms a module imports, leaving out those for type checking alone and those a package hands on by name."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" and module else module.split(".")[:-1]
    tree = ast.parse(path.read_text("utf-8"))
    unchecked = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in unchecked:
            base = package[: len(package) - (node.level - 1)]
            target = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                inner = f"{target}.{alias.name}".lstrip(".")
                found.add(inner if inner in MODULES else target)
    return found


def test_every_room_has_a_floor() -> None:
    assert set(MODULES) <= set().union(*FLOORS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_imports_only_from_below(module: str) -> None:
    above = {other for other in imports(module) if floor(other) >= floor(module)}
    allowed = {"values", "errors"} if module in FLOORS[0] else set()
    siblings = {(a, b) for a in FLOORS[1] for b in {"content"}}
    assert {other for other in above if (module, other) not in siblings} <= allowed


def test_pure_rooms_know_no_database() -> None:
    for module in PURE:
        text = MODULES[module].read_text("utf-8")
        assert "sqlalchemy" not in text
        assert "numpy" not in text


def test_rooms_of_one_database_are_known_to_nobody_else() -> None:
    own = ("search.postgresql", "search.pgwire", "search.citus", "search.tsvector", "search.sqlite", "search.fts5")
    strangers = {module: {other for other in imports(module) if other.startswith(own)} for module in MODULES}
    assert any(strangers.values())
    assert [m for m, known in strangers.items() if known and not m.startswith(own)] == []
