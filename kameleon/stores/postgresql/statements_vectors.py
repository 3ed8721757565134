"""PostgreSQL's statements on vectors and their HNSW indexes, as templates. Imports nothing of kameleon's."""

from sqlalchemy import text

NO_IDLE_LIMIT = "SET LOCAL idle_in_transaction_session_timeout = 0"
CREATE_HNSW = """
    CREATE INDEX {concurrently} IF NOT EXISTS {hnsw_name} ON {embedding}
    USING hnsw ((CAST(embedding AS {halfvec})) {halfvec_ip_ops}) WITH (m = {m}, ef_construction = {ef_construction})
    {where}
"""
DROP_HNSW = "DROP INDEX {concurrently} IF EXISTS {prefix}{hnsw}"
HAS_TENANTS = "SELECT EXISTS (SELECT 1 FROM {tenanted})"
# Each tenant is found by the one before, and counted no further than needed.
LARGE_TENANTS = """
    WITH RECURSIVE tenants(tenant) AS (
      (SELECT e.tenant FROM {embedding} AS e ORDER BY e.tenant LIMIT 1)
      UNION ALL
      SELECT n.tenant FROM tenants AS t CROSS JOIN LATERAL (
        SELECT e.tenant FROM {embedding} AS e WHERE e.tenant > t.tenant ORDER BY e.tenant LIMIT 1
      ) AS n
    )
    SELECT t.tenant, hashtextextended(t.tenant, 0) FROM tenants AS t
    WHERE EXISTS (SELECT 1 FROM {embedding} AS e WHERE e.tenant = t.tenant OFFSET :before LIMIT 1)
"""
COUNT_EMBEDDINGS = "SELECT count(*) FROM (SELECT 1 FROM {embedding} LIMIT :many) AS e"
ANALYZE_EMBEDDING, ANALYZE_SEARCH = "ANALYZE {embedding}", "ANALYZE {search}"
# Nothing behind a pooler, which gives the next statement to another server process.
RAISE_MEMORY = """
    SELECT m.setting || 'kB', set_config('maintenance_work_mem', greatest(CAST(m.setting AS bigint),
      least(:most_kb, (SELECT count(*) FROM {embedding}) * :row_bytes / 1024)) || 'kB', false)
    FROM pg_settings AS m WHERE m.name = 'maintenance_work_mem' AND pg_backend_pid() = :pid
"""
RESTORE_MEMORY = text("SELECT set_config('maintenance_work_mem', :before, false)")
HNSW_STATES = text("""
    SELECT c.relname AS name, i.indisvalid, p.pid IS NOT NULL AS is_building
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
      LEFT JOIN pg_stat_progress_create_index AS p ON p.index_relid = i.indexrelid
    WHERE i.indrelid = to_regclass(:embedding) AND starts_with(c.relname, :hnsw)
""")
INDEX_PROGRESS = """
    SELECT phase, CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END,
      CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END, NULLIF(current_locker_pid, 0)
    FROM pg_stat_progress_create_index WHERE relid = to_regclass(%s) LIMIT 1
"""

# The vector leg: a row for each passage, without a doc where its content is there no more, then those of `beside`. The
# tenant is no condition of the join: without statistics the planner would look up all records of the tenant for it.
TENANT_NUMBER = text('SELECT hashtextextended(CAST(:tenant AS text) COLLATE "C", 0)')
OF_TENANT = "hashtextextended({alias}tenant, 0) = CAST('{number}' AS bigint)"
HAS_INDEX = "EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:hnsw) AND indisvalid)"
DISTANCE = "e.embedding {ip} CAST({bind} AS {vector})"
# The index has the embeddings in half the precision; what it finds is compared in full.
INDEXED_DISTANCE = "CAST(e.embedding AS {halfvec}) {ip} CAST(CAST({bind} AS {vector}) AS {halfvec})"
EXACT_DISTANCE = "({distance}) + 0"
BY_VECTOR = """
    {ctes}
    SELECT CASE WHEN {of_tenants} THEN s.doc END, -n.distance, n.is_hnsw
    FROM ({nearest}) AS n LEFT JOIN {search} AS s ON s.doc = n.doc AND s.content_hash = n.content_hash
    UNION ALL
    SELECT e.doc, -min({distance}), NULL FROM unnest(CAST(:beside AS bigint[])) AS k(doc)
      CROSS JOIN LATERAL (SELECT e.* FROM {embedding} AS e WHERE e.doc = k.doc {fence}) AS e
    WHERE e.embedding IS NOT NULL AND {beside} GROUP BY e.doc
"""
NEAREST = """
    SELECT e.doc, e.content_hash, {distance} AS distance, (SELECT {has_index}) AS is_hnsw FROM {embedding} AS e
    WHERE e.embedding IS NOT NULL AND {scope}{part} ORDER BY {order} LIMIT :limit
"""
# Within a filter: `near` looks in the HNSW index, where there is one. It may run dry before enough of the matches are
# found: then `whole` looks at all. A filter that few records pass is left to neither: `few` compares those alone. What
# a gate shuts is not begun.
INDEX = "index AS MATERIALIZED (SELECT {has_index} AS is_there)"
ALLOWED = """allowed AS MATERIALIZED (
      SELECT records.tenant, records.entity_name, records.id AS record_id FROM {records} AS records
      WHERE {condition} LIMIT :narrow
    )"""
ALLOWED_AMONG = """allowed AS MATERIALIZED (
      SELECT CAST(:tenant AS text) AS tenant, n.entity_name, a.record_id
      FROM unnest(CAST(:scope AS text[])) AS n(entity_name) CROSS JOIN ({among}) AS a(record_id) LIMIT :narrow
    )"""
ALLOWED_OF_ALL = """allowed AS MATERIALIZED (
      SELECT s.tenant, s.entity_name, s.record_id FROM {search} AS s WHERE {of_records} LIMIT :narrow
    )"""
ALLOWED_DOCS = """allowed AS MATERIALIZED (
      SELECT doc FROM unnest(CAST(:docs AS bigint[])) AS k(doc) LIMIT :narrow
    )"""
IS_WIDE = "(SELECT count(*) FROM allowed) = :narrow"
NEAR = """near AS MATERIALIZED (
      SELECT n.*, true AS is_hnsw FROM (SELECT 1 FROM index WHERE is_there AND {is_wide}) AS is_open
        CROSS JOIN LATERAL (
          SELECT e.doc, e.content_hash, {distance} AS distance FROM {embedding} AS e
          WHERE e.embedding IS NOT NULL AND {near}{part} ORDER BY {indexed_distance} LIMIT :limit
        ) AS n
    )"""
WHOLE = """whole AS MATERIALIZED (
      SELECT n.*, false AS is_hnsw
      FROM (SELECT 1 WHERE (SELECT count(*) FROM near) < :limit AND {is_wide}) AS is_open
        CROSS JOIN LATERAL (
          SELECT e.doc, e.content_hash, {distance} AS distance FROM {embedding} AS e
          WHERE e.embedding IS NOT NULL AND {near} ORDER BY {exact_distance} LIMIT :limit
        ) AS n
    )"""
FEW = """few AS MATERIALIZED (
      SELECT n.*, false AS is_hnsw FROM (SELECT 1 WHERE NOT {is_wide}) AS is_open CROSS JOIN LATERAL (
        SELECT e.doc, e.content_hash, {distance} AS distance FROM allowed AS a JOIN {embedding} AS e ON {joined}
        WHERE e.embedding IS NOT NULL AND {scope} ORDER BY {exact_distance} LIMIT :limit
      ) AS n
    )"""
NEAREST_IN_FILTER = """
    SELECT * FROM near WHERE NOT EXISTS (SELECT 1 FROM whole)
    UNION ALL SELECT * FROM whole UNION ALL SELECT * FROM few
"""
OF_RECORDS = "e.tenant = a.tenant AND e.entity_name = a.entity_name AND e.record_id = a.record_id"
OF_DOCS = "e.doc = a.doc"
# As the server sends an array: other forms of a vector take the driver longer to read.
FIRST_EMBEDDINGS = """
    SELECT e.doc, array_send(CAST(e.embedding AS real[])) FROM {embedding} AS e
    WHERE e.doc = ANY(%(docs)s) AND e.passage = 0 AND e.embedding IS NOT NULL
"""
EMBEDDINGS_AT = """
    SELECT e.* FROM {keys} CROSS JOIN LATERAL (
      SELECT s.entity_name, s.record_id, s.tenant, array_send(CAST(e.embedding AS real[]))
      FROM {search} AS s JOIN {embedding} AS e
        ON e.tenant = s.tenant AND e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.doc = s.doc
          AND e.content_hash = s.content_hash
      WHERE {s_is_key} AND e.passage = 0 AND e.embedding IS NOT NULL {fence}
    ) AS e
"""
