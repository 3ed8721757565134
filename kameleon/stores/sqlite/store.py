"""A store in a SQLite database, put together from this package's parts. Imports `errors`."""

from sqlalchemy import Engine

from ...errors import InvalidInput
from ..protocols import Store
from ..settings import Settings
from ..tables import tables_in
from .connections import SQLiteConnections
from .contents import SQLiteContents
from .embeddings import SQLiteEmbeddings
from .exports import SQLiteExports
from .health import SQLiteHealth
from .keys import SQLiteKeys
from .policies import SQLitePolicies
from .postings import SQLitePostings
from .records import SQLiteRecords
from .schema import SQLiteSchema
from .scope import SQLiteScopes
from .triggers import SQLiteTriggers
from .vectors import VECTOR_SEARCHES, SQLiteVectors
from .writes import SQLiteWrites


def make_store(
    engine: Engine,
    *,
    vector_search: str = "auto",
    language: str | None = None,
    keyword_search: str | None = None,
    namespace: str | None = None,
) -> Store:
    if vector_search not in VECTOR_SEARCHES:
        raise InvalidInput(f"unknown vector_search {vector_search!r}. Known: {', '.join(VECTOR_SEARCHES)}")
    if keyword_search == "server":
        raise InvalidInput(
            "keyword_search='server' ranks keywords in PostgreSQL; SQLite has no server. Leave keyword_search out"
        )
    tables = tables_in(namespace=namespace)
    names = tables.names
    settings = Settings(tables, language, keyword_search)
    connections = SQLiteConnections(engine, names)
    scopes, keys = SQLiteScopes(names), SQLiteKeys(engine.dialect)
    vectors = SQLiteVectors(names, scopes, vector_search)
    return Store(
        tables=tables,
        connections=connections,
        schema=SQLiteSchema(connections, tables, settings, vectors),
        writes=SQLiteWrites(names, tables),
        embeddings=SQLiteEmbeddings(names),
        contents=SQLiteContents(names, scopes),
        exports=SQLiteExports(names),
        records=SQLiteRecords(names),
        keys=keys,
        scopes=scopes,
        postings=SQLitePostings(names),
        vectors=vectors,
        triggers=SQLiteTriggers(names),
        policies=SQLitePolicies(),
        health=SQLiteHealth(engine, tables, vectors),
        settings=settings,
    )
