"""Deletes a tenant from every table, and what the server's statistics have of it. Imports `values`."""

from collections.abc import Sequence

from sqlalchemy import Connection

from ...values import Generation
from . import statements_vectors as sql
from .postings import PostgreSQLPostings
from .templates import Templates

KEYED = (
    "tail",
    "dead",
    "segment",
    "word",
    "posting",
    "terms",
    "queue",
    "dirty",
    "embedding_cache",
    "records",
    "synonym",
    "query_rule",
    "judgement",
    "search",
)
"""The tables with a tenant, but for those of embeddings."""
FOLDED = ("tail", "dead", "segment")
"""Those of partitions that may be folded."""
WITH_KEYS = ("reindex_range",)
"""Tables without a tenant whose statistics may have keys of records."""

EXISTING = """
    SELECT c.oid, t.name FROM unnest(CAST(%s AS text[])) WITH ORDINALITY AS t(name, place)
      JOIN pg_class AS c ON c.oid = to_regclass(t.name) ORDER BY t.place
"""
LOCK = "LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
PARTITIONS = "SELECT DISTINCT entity_name FROM {table} WHERE tenant = %s"
DELETE = "DELETE FROM {table} WHERE tenant = %s"
# ANALYZE leaves the statistics of an empty table as they were: a row without values takes the place of the deleted.
FILL = """
    INSERT INTO {table} OVERRIDING SYSTEM VALUE
    SELECT filled.* FROM jsonb_populate_record(CAST(NULL AS {table}), (
      SELECT jsonb_object_agg(a.attname, CASE t.typcategory WHEN 'N' THEN '0' WHEN 'D' THEN 'epoch' ELSE '' END)
      FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
      WHERE a.attrelid = %s AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
    )) AS filled
    WHERE NOT EXISTS (SELECT 1 FROM {table})
    RETURNING ctid
"""
EMPTY = "DELETE FROM {table} WHERE ctid = %s"


def drop_tenant(
    connection: Connection,
    templates: Templates,
    postings: PostgreSQLPostings,
    tenant: str,
    generations: Sequence[Generation],
) -> None:
    """An index of the tenant's vectors goes last: that waits for who reads the table."""
    embeddings = list(map(templates.embedding, generations))
    keyed = [*(templates.names[name] for name in KEYED), *embeddings]
    others = [templates.names[name] for name in WITH_KEYS]
    tables = connection.exec_driver_sql(EXISTING, ([*keyed, *others],)).all()
    of_partitions = {templates.names[name] for name in FOLDED}
    folded = [table for _, table in tables if table in of_partitions]
    _wait_for_maintenance(connection, postings, tenant, folded, [table for _, table in tables if table in embeddings])
    for _, table in tables:
        if table in keyed:
            connection.exec_driver_sql(DELETE.format(table=table), (tenant,))
    number = connection.scalar(sql.TENANT_NUMBER, {"tenant": tenant})
    for generation in generations:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {templates.hnsw(generation, number)}")
    for oid, table in tables:
        _analyze(connection, oid, table, may_fill=not templates.has_citus)


def _wait_for_maintenance(
    connection: Connection, postings: PostgreSQLPostings, tenant: str, folded: Sequence[str], embeddings: Sequence[str]
) -> None:
    """Waits for what writes no record: builds of vector indexes, which would wait for this transaction, and folds of
    the tenant's keywords. Those that begin now wait, or are left out."""
    for table in embeddings:
        connection.exec_driver_sql(LOCK.format(table=table))
    found = (connection.exec_driver_sql(PARTITIONS.format(table=table), (tenant,)).scalars() for table in folded)
    for entity in sorted({entity for names in found for entity in names}):
        postings.lock(connection, tenant, entity)


def _analyze(connection: Connection, oid: int, table: str, *, may_fill: bool) -> None:
    row = connection.exec_driver_sql(FILL.format(table=table), (oid,)).scalar() if may_fill else None
    connection.exec_driver_sql(f"ANALYZE {table}")
    if row is not None:
        connection.exec_driver_sql(EMPTY.format(table=table), (row,))
