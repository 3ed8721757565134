"""Chooses the store of an engine, and checks its options. The dialects' `store` modules load by name. Imports
`errors`."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, TypedDict

from sqlalchemy import Engine

from ..errors import InvalidInput
from .protocols import Store
from .tables import schema_map


class StoreOptions(TypedDict, total=False):
    """Options of the database.

    `namespace` sets an index apart from others in one database, whose models may differ: "a" has the tables `kdb_a_…`.
    1 to 20 small letters a-z and digits, a letter first; without it the tables are `kdb_…`.
    `language` is how a new index reads texts: "english" (default), another name of `analysis.languages`, "simple"
    (words as they are); an existing index has its own. SQLite: `vector_search` ("auto", "numpy", "sqlite-vec").
    PostgreSQL: `keyword_search` is where a new index ranks keywords, in "index" (default), kameleon's own, or "server",
    a tsvector with a GIN index; `schema` holds the tables (default: the connection's own), `m` and `ef_construction`
    shape the HNSW index (16, 64), `ef_search` is how far a query looks in it at first (100), and five times as far
    where it may have missed some.
    """

    vector_search: Literal["auto", "numpy", "sqlite-vec"]
    keyword_search: Literal["index", "server"]
    schema: str
    language: str
    namespace: str | None
    m: int
    ef_construction: int
    ef_search: int


MODULES = {"sqlite": ".sqlite.store", "postgresql": ".postgresql.store"}
OPTIONS = {
    "sqlite": ("namespace", "vector_search", "language", "keyword_search"),
    "postgresql": ("namespace", "schema", "language", "keyword_search", "m", "ef_construction", "ef_search"),
}


def make_store(engine: Engine, options: Mapping[str, Any]) -> Store:
    """Makes the store of the engine's database; a `schema_translate_map` of the engine applies to its tables, too.
    Raises InvalidInput."""
    name = engine.dialect.name
    if name not in MODULES:
        raise InvalidInput(f"kameleon has no store for {name!r}. Known: {', '.join(sorted(MODULES))}")
    if name == "postgresql" and engine.dialect.driver != "psycopg":
        raise InvalidInput(
            f"kameleon uses PostgreSQL through psycopg 3, this engine uses {engine.dialect.driver}. "
            "Open it as postgresql+psycopg://… (pip install 'kameleon[postgresql]')"
        )
    given = {option: value for option, value in options.items() if value is not None}
    if translated := schema_map(engine).get(given.get("schema")):
        given["schema"] = translated
    unknown = sorted(set(given) - set(OPTIONS[name]))
    if unknown:
        raise InvalidInput(f"{unknown[0]!r} is no option of {name}. Known: {', '.join(OPTIONS[name])}")
    made: Store = import_module(MODULES[name], __package__).make_store(engine, **given)
    return made


def vector_tables(engine: Engine) -> Any:
    """Returns the functions that read an application's tables of pgvector's columns. Raises InvalidInput for another
    database."""
    if engine.dialect.name != "postgresql":
        raise InvalidInput("a pgvector table is in PostgreSQL: name its database, --from postgresql+psycopg://…")
    return import_module(".postgresql.vector_tables", __package__)
