"""A store in a SQLite database, put together from this package's parts. Imports `errors`."""

from sqlalchemy import Engine

from ...errors import InvalidInput
from ..protocols import Store
from ..tables import Tables
from . import fts5
from .connections import SQLiteConnections
from .contents import SQLiteContents
from .embeddings import SQLiteEmbeddings
from .health import SQLiteHealth
from .keys import SQLiteKeys
from .keywords import DEFAULT_LANGUAGE, SQLiteKeywords
from .records import SQLiteRecords
from .schema import SQLiteSchema
from .triggers import SQLiteTriggers
from .vectors import VECTOR_SEARCHES, SQLiteVectors
from .writes import SQLiteWrites


def make_store(engine: Engine, *, vector_search: str = "auto", language: str | None = None) -> Store:
    if vector_search not in VECTOR_SEARCHES:
        raise InvalidInput(f"unknown vector_search {vector_search!r}. Known: {', '.join(VECTOR_SEARCHES)}")
    if language is not None and language not in fts5.TOKENIZERS:
        raise InvalidInput(
            f"SQLite has no language {language!r:.60}. It has: {', '.join(fts5.TOKENIZERS)}; PostgreSQL has others"
        )
    tables = Tables()
    connections = SQLiteConnections(engine)
    keywords = SQLiteKeywords(engine, tables, language or DEFAULT_LANGUAGE)
    vectors = SQLiteVectors(keywords, keywords.scopes, vector_search)
    keys = SQLiteKeys(engine.dialect)
    return Store(
        tables=tables,
        connections=connections,
        schema=SQLiteSchema(connections, tables, keywords, language),
        writes=SQLiteWrites(tables, keywords),
        embeddings=SQLiteEmbeddings(),
        contents=SQLiteContents(keywords.scopes),
        records=SQLiteRecords(),
        keys=keys,
        keywords=keywords,
        vectors=vectors,
        triggers=SQLiteTriggers(keys),
        health=SQLiteHealth(engine, connections, vectors),
    )
