"""A store in a PostgreSQL database, put together from this package's parts. Imports `errors`.

Tables of records and embeddings have the records' own keys, so that Citus can distribute them by `record_id`. Nothing
here needs a trigger, a lock that search would wait for, or state that outlives a transaction.
"""

from sqlalchemy import Engine

from ...errors import InvalidInput
from ..protocols import Store
from ..settings import Settings
from ..tables import tables_in
from .connections import PostgreSQLConnections
from .contents import PostgreSQLContents
from .copy import Copy
from .embeddings import PostgreSQLEmbeddings
from .exports import PostgreSQLExports
from .health import PostgreSQLHealth
from .keys import PostgreSQLKeys
from .policies import PostgreSQLPolicies
from .postings import PostgreSQLPostings
from .records import PostgreSQLRecords
from .schema import PostgreSQLSchema
from .scope import PostgreSQLScopes
from .templates import MAX_EF_SEARCH, Templates, check_schema
from .terms import PostgreSQLTerms
from .triggers import PostgreSQLTriggers
from .vectors import PostgreSQLVectors
from .writes import PostgreSQLWrites


def make_store(
    engine: Engine,
    *,
    schema: str | None = None,
    language: str | None = None,
    keyword_search: str | None = None,
    m: int = 16,
    ef_construction: int = 64,
    ef_search: int = 100,
    namespace: str | None = None,
) -> Store:
    check_number("m", m, 2, 100)
    check_number("ef_construction", ef_construction, 2 * m, 1_000)
    check_number("ef_search", ef_search, 1, MAX_EF_SEARCH)
    check_schema(schema)
    tables, keys = tables_in(schema, namespace), PostgreSQLKeys()
    templates = Templates(schema, m, ef_construction, ef_search, tables.names)
    settings = Settings(tables, language, keyword_search)
    copying, policies = Copy(templates, settings), PostgreSQLPolicies(templates, settings)
    connections = PostgreSQLConnections(engine, templates, policies)
    postings, scopes = PostgreSQLPostings(templates.prefix, copying, tables.names), PostgreSQLScopes(templates)
    vectors = PostgreSQLVectors(connections, templates, scopes)
    return Store(
        tables=tables,
        connections=connections,
        schema=PostgreSQLSchema(engine, connections, templates, tables, postings, settings, policies),
        writes=PostgreSQLWrites(templates, tables, copying),
        embeddings=PostgreSQLEmbeddings(templates, tables, copying),
        contents=PostgreSQLContents(templates, scopes),
        exports=PostgreSQLExports(templates),
        records=PostgreSQLRecords(templates, tables, copying),
        keys=keys,
        scopes=scopes,
        postings=postings,
        vectors=vectors,
        triggers=PostgreSQLTriggers(templates),
        policies=policies,
        health=PostgreSQLHealth(connections, templates, tables, vectors, settings),
        settings=settings,
        server_terms=PostgreSQLTerms(templates, scopes),
    )


def check_number(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{name} is a whole number from {least} to {most}, not {value!r:.40}")
