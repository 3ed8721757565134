"""SQLite's statements: `{…}` are filled in by the other modules of this package, `:…` and `?` are binds. Imports
`moments`.

`kdb_search.id` is the number of a record's present content, and the key of its embeddings: a changed content is a new
row. Embeddings are never in a `vec0` table: an interpreter without the extension could not even open it.
"""

from sqlalchemy import text

from ...moments import DAY_MS

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS kdb_search (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      tenant TEXT NOT NULL,
      entity_name TEXT NOT NULL,
      record_id TEXT NOT NULL,
      content TEXT NOT NULL,
      content_hash TEXT NOT NULL,
      gaps TEXT NOT NULL,
      created_at TEXT NOT NULL,
      updated_at TEXT NOT NULL,
      UNIQUE (tenant, entity_name, record_id)
    )
    """,
    "CREATE INDEX IF NOT EXISTS kdb_search_tenanted ON kdb_search (entity_name, record_id) WHERE tenant <> ''",
    """
    CREATE TABLE IF NOT EXISTS kdb_embedding_log (
      seq INTEGER PRIMARY KEY,
      mark TEXT NOT NULL,
      tenant TEXT,
      changed BLOB,
      ids INTEGER NOT NULL
    )
    """,
)

CREATE_GENERATION = """
    CREATE TABLE kdb_embedding_g{number} (
      search_id INTEGER NOT NULL,
      passage INTEGER NOT NULL,
      content_hash TEXT NOT NULL,
      embedding BLOB,
      reason TEXT,
      message TEXT,
      attempts INTEGER NOT NULL,
      updated_at TEXT NOT NULL,
      start_at INTEGER,
      end_at INTEGER,
      UNIQUE (search_id, passage)
    )
"""

FIELD_INDEX = """
    CREATE INDEX IF NOT EXISTS "{name}" ON kdb_records (tenant, {key}, entity_name)
"""
FIELD_INDEXES = """
    SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'kdb_records'
      AND (name GLOB 'kdb_records_by_*' OR name GLOB 'kdb_records_at_*')
"""

EMBEDDING_TABLES = text("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'kdb_embedding_g[0-9]*'")
FILE = text("SELECT file FROM pragma_database_list WHERE name = 'main'")
WRITE_NOTHING = "UPDATE kdb_meta SET value = value WHERE key = ''"
HAS_TABLE = text("SELECT 1 FROM sqlite_master WHERE name = :name")

# `refs` is a list of keys: a batch may have a tenant for each of its records.
THESE = """
    json_each(:refs) AS k CROSS JOIN kdb_search AS s ON s.tenant = json_extract(k.value, '$[0]')
      AND s.entity_name = json_extract(k.value, '$[1]') AND s.record_id = json_extract(k.value, '$[2]')
"""

STATES = f"""
    SELECT k.key, s.content_hash, {{embedded}} AS embedded_hash
    FROM {THESE}
    {{join}}
"""

LOCATED = """
    SELECT s.entity_name, s.record_id, s.tenant, s.content_hash, {embedded} AS embedded_hash
    FROM json_each(:refs) AS k CROSS JOIN kdb_search AS s ON s.tenant = ''
      AND s.entity_name = json_extract(k.value, '$[0]') AND s.record_id = json_extract(k.value, '$[1]')
    {join}
    UNION ALL
    SELECT s.entity_name, s.record_id, s.tenant, s.content_hash, {embedded} AS embedded_hash
    FROM json_each(:refs) AS k CROSS JOIN kdb_search AS s INDEXED BY kdb_search_tenanted ON s.tenant <> ''
      AND s.entity_name = json_extract(k.value, '$[0]') AND s.record_id = json_extract(k.value, '$[1]')
    {join}
"""

ENTRIES = f"SELECT k.key, s.content, s.content_hash, s.gaps FROM {THESE}"
PRESENT = f"SELECT k.key, s.id, s.content_hash, s.created_at FROM {THESE}"

# Bulk statements are the driver's, positional: named binds cost as much as the write itself.
# Takes the write lock, too: what is read afterwards no other writer changes.
TAKE_REPLACED = f"""
    DELETE FROM kdb_search WHERE id IN (SELECT s.id FROM {THESE})
    RETURNING entity_name, record_id, tenant, id, content_hash, created_at
"""
RESERVE = "UPDATE main.sqlite_sequence SET seq = seq + ? WHERE name = 'kdb_search' RETURNING seq"
BEGIN_NUMBERS = """
    INSERT INTO main.sqlite_sequence (name, seq) SELECT 'kdb_search', coalesce(max(id), 0) FROM kdb_search
"""
INSERT_NEXT = """
    INSERT INTO kdb_search (tenant, entity_name, record_id, content, content_hash, gaps, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT = """
    INSERT INTO kdb_search (id, tenant, entity_name, record_id, content, content_hash, gaps, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

CACHE = """
    INSERT INTO kdb_embedding_cache (tenant, text_hash, fingerprint, embedding, used_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""

STORED_IDS = text("""
    SELECT r.tenant, r.id FROM json_each(:keys) AS k CROSS JOIN kdb_records AS r
      ON r.tenant = json_extract(k.value, '$[0]') AND r.entity_name = :entity AND r.id = json_extract(k.value, '$[1]')
""")
ADD_RECORD = "INSERT INTO kdb_records (tenant, entity_name, id, data, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)"

UPSERT_EMBEDDING = """
    INSERT INTO kdb_embedding_g{number}
      (search_id, content_hash, embedding, reason, message, passage, start_at, end_at, attempts, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)
    ON CONFLICT (search_id, passage) DO UPDATE
    SET embedding = excluded.embedding, reason = excluded.reason, message = excluded.message,
        start_at = excluded.start_at, end_at = excluded.end_at,
        attempts = CASE WHEN ltrim(content_hash, '~') = ltrim(excluded.content_hash, '~') THEN attempts + 1 ELSE 1 END,
        content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""

GIVE_UP = """
    UPDATE kdb_embedding_g{number} SET content_hash = ltrim(content_hash, '~')
    WHERE search_id IN (SELECT value FROM json_each(:keys)) AND passage = 0 AND content_hash LIKE '~%'
      AND reason = 'server_error' AND attempts >= :attempts
    RETURNING search_id
"""

DELETE_PASSAGES = "DELETE FROM kdb_embedding_g{number} WHERE search_id = ? AND passage > 0"
MOVE_EMBEDDINGS = """
    UPDATE kdb_embedding_g{number} SET search_id = ?, content_hash = ? WHERE search_id = ? AND content_hash = ?
"""
REKEY = """
    UPDATE OR IGNORE kdb_embedding_g{number} SET search_id = :new
    WHERE search_id = :old AND content_hash = (SELECT content_hash FROM kdb_search WHERE id = :new)
"""
DELETE_EMBEDDINGS_OF = "DELETE FROM kdb_embedding_g{number} WHERE search_id IN (SELECT value FROM json_each(?))"
LOG_CHANGE = text("INSERT INTO kdb_embedding_log (mark, tenant, changed, ids) VALUES (:mark, :tenant, :changed, :ids)")

DOCS_OF_TENANT = text("SELECT id FROM kdb_search WHERE tenant = :tenant")
DELETE_EMBEDDINGS_OF_TENANT = """
    DELETE FROM kdb_embedding_g{number} WHERE search_id IN (SELECT id FROM kdb_search WHERE tenant = :tenant)
"""
DELETE_TENANT = "DELETE FROM {table} WHERE tenant = :tenant"
FORGET_TENANT = text("UPDATE kdb_embedding_log SET tenant = NULL WHERE tenant = :tenant")

DOCS_OF_ENTITY = text("SELECT id FROM kdb_search WHERE entity_name = :entity")
RENAME_ENTITY = text("UPDATE kdb_search SET entity_name = :new WHERE entity_name = :entity")
DELETE_EMBEDDINGS_OF_ENTITY = """
    DELETE FROM kdb_embedding_g{number} WHERE search_id IN (SELECT id FROM kdb_search WHERE entity_name = :entity)
"""
DELETE_ENTITY = text("DELETE FROM kdb_search WHERE entity_name = :entity")

PRUNE_LOG = text("""
    DELETE FROM kdb_embedding_log WHERE seq <= (
      SELECT max(seq) FROM (SELECT seq, sum(ids) OVER (ORDER BY seq DESC) AS newer FROM kdb_embedding_log)
      WHERE newer > :kept AND seq < :seq
    )
""")

BY_VECTOR = """
    SELECT e.search_id, max(1.0 - vec_distance_cosine(e.embedding, :vector)) AS score
    FROM kdb_embedding_g{number} AS e {join}
    WHERE e.embedding IS NOT NULL AND {scope} AND e.search_id NOT IN (SELECT value FROM json_each(:excluded))
    GROUP BY e.search_id
    ORDER BY score DESC, e.search_id
    LIMIT :limit
"""

JOIN_CONTENT = "JOIN kdb_search AS s ON s.id = e.search_id"

BY_VECTOR_AMONG = """
    SELECT e.search_id, max(1.0 - vec_distance_cosine(e.embedding, :vector)) AS score
    FROM json_each(:docs) AS k CROSS JOIN kdb_embedding_g{number} AS e ON e.search_id = k.value
    WHERE e.embedding IS NOT NULL AND e.search_id NOT IN (SELECT value FROM json_each(:excluded))
    GROUP BY e.search_id
    ORDER BY score DESC, e.search_id
    LIMIT :limit
"""

EMBEDDINGS_OF = """
    SELECT e.search_id, e.embedding FROM json_each(?) AS k CROSS JOIN {table} AS e ON e.search_id = k.value
    WHERE e.embedding IS NOT NULL
"""

PASSAGES = """
    UNION ALL
    SELECT e.search_id, NULL, NULL, e.start_at, e.end_at, e.embedding, NULL
    FROM json_each(:docs) AS k CROSS JOIN kdb_embedding_g{number} AS e ON e.search_id = k.value
      CROSS JOIN kdb_search AS s ON s.id = e.search_id AND s.content_hash = e.content_hash
    WHERE e.start_at IS NOT NULL AND e.embedding IS NOT NULL
"""

OF_SCOPE = "FROM kdb_search AS s WHERE {scope}"
OF_FILTER = """
    FROM kdb_records AS records CROSS JOIN kdb_search AS s
      ON s.tenant = records.tenant AND s.entity_name = records.entity_name AND s.record_id = records.id
    WHERE {scope}
"""

HAS_RECORD = (
    "EXISTS (SELECT 1 FROM kdb_records AS records WHERE records.tenant = s.tenant "
    "AND records.entity_name = s.entity_name AND records.id = s.record_id "
)

LISTED = """
    SELECT s.id, s.entity_name, s.record_id, s.tenant {source} ORDER BY {columns} LIMIT :most OFFSET :offset
"""

UP_TO = "SELECT json_group_array(id) FROM ({select} LIMIT :most)"
# Few rows have any of the ids: for each of those that have, all of the keys are compared.
IS_NOT_WITHOUT = """NOT (s.record_id IN (SELECT value FROM json_each(:without_ids))
      AND (s.tenant, s.entity_name, s.record_id) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
        FROM json_each(:without)))"""
WHICH_IN_SCOPE = """
    SELECT json_group_array(s.id)
    FROM json_each(:docs) AS k CROSS JOIN kdb_search AS s ON s.id = k.value WHERE {scope}
"""

NAMED_ANYWHERE = """
    SELECT s.id, s.entity_name
    FROM kdb_entities AS e CROSS JOIN json_each(:tenants) AS t CROSS JOIN json_each(:ids) AS k
      CROSS JOIN kdb_search AS s ON s.tenant = t.value AND s.entity_name = e.name AND s.record_id = k.value
"""
NAMED = NAMED_ANYWHERE + " WHERE e.name IN (SELECT value FROM json_each(:entities))"

REFS = """
    SELECT s.id, s.entity_name, s.record_id, s.tenant
    FROM json_each(:docs) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
"""

HITS = """
    SELECT s.id, s.entity_name, s.record_id, s.tenant, s.content, r.data, s.gaps
    FROM json_each(:docs) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
      LEFT JOIN kdb_records AS r ON r.tenant = s.tenant AND r.entity_name = s.entity_name AND r.id = s.record_id
"""

TEXTS = """
    SELECT s.id, s.content, s.gaps, p.start_at, p.end_at
    FROM (SELECT id, CAST(content AS BLOB) AS content, gaps FROM kdb_search WHERE id > ? ORDER BY id LIMIT ?) AS s
      LEFT JOIN {join} ORDER BY s.id
"""
JOIN_PASSAGES = "kdb_embedding_g{number} AS p ON p.search_id = s.id"
WITHOUT_PASSAGES = "(SELECT NULL AS start_at, NULL AS end_at) AS p"

MATCHES = """
    SELECT s.tenant, s.entity_name, s.record_id FROM json_each(:docs) AS m CROSS JOIN kdb_search AS s ON s.id = m.value
    WHERE {scope}
"""
ALL_MATCHES = "SELECT s.tenant, s.entity_name, s.record_id {source}"

COUNT = "SELECT count(*) FROM ({matches})"

# All fields of a record at once: it is parsed once, and its values are returned as they are in its JSON.
FACETS = """
    SELECT json_extract(r.data, {paths}), count(*)
    FROM ({matches}) AS m CROSS JOIN kdb_records AS r
      ON r.tenant = m.tenant AND r.entity_name = m.entity_name AND r.id = m.record_id
    GROUP BY 1
"""

VALUES = text("""
    SELECT r.entity_name, r.id, r.tenant, json_extract(r.data, :path) AS value, json_type(r.data, :path) AS kind
    FROM json_each(:refs) AS k CROSS JOIN kdb_records AS r ON r.tenant = json_extract(k.value, '$[0]')
      AND r.entity_name = json_extract(k.value, '$[1]') AND r.id = json_extract(k.value, '$[2]')
""")

COUNT_EACH = """
    SELECT {counts}
    FROM ({matches}) AS m CROSS JOIN kdb_records AS records
      ON records.tenant = m.tenant AND records.entity_name = m.entity_name AND records.id = m.record_id
"""
DAYS = f"""
    SELECT (at.ms - ((at.ms % {DAY_MS}) + {DAY_MS}) % {DAY_MS}) / {DAY_MS} AS day, count(*) AS records
    FROM (
      SELECT {{moment}} AS ms
      FROM ({{matches}}) AS m CROSS JOIN kdb_records AS records
        ON records.tenant = m.tenant AND records.entity_name = m.entity_name AND records.id = m.record_id
    ) AS at
    WHERE at.ms IS NOT NULL GROUP BY day
"""
VALUES_AMONG = """
    SELECT r.entity_name, r.id, r.tenant, json_extract(r.data, :path) AS value, json_type(r.data, :path) AS kind
    FROM ({matches}) AS m CROSS JOIN kdb_records AS r
      ON r.tenant = m.tenant AND r.entity_name = m.entity_name AND r.id = m.record_id
"""

VALUES_OF = """
    SELECT s.id, json_extract(r.data, :path), json_type(r.data, :path)
    FROM json_each(:docs) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
      CROSS JOIN kdb_records AS r ON r.tenant = s.tenant AND r.entity_name = s.entity_name AND r.id = s.record_id
"""

PROBED = """
    SELECT s.id, s.entity_name, s.record_id, s.tenant, {columns}
    FROM json_each(:docs) AS k CROSS JOIN kdb_search AS s ON s.id = k.value
      LEFT JOIN kdb_records AS records
      ON records.tenant = s.tenant AND records.entity_name = s.entity_name AND records.id = s.record_id
"""

TENANTS = "SELECT tenant, count(*) FROM kdb_search WHERE tenant <> '' GROUP BY tenant ORDER BY 2 DESC, 1 LIMIT :limit"
ENTITIES = """
    WITH RECURSIVE tenants(tenant) AS ({tenants}), names(tenant, name) AS (
      SELECT t.tenant, (SELECT min(s.entity_name) FROM kdb_search AS s WHERE s.tenant = t.tenant) FROM tenants AS t
      UNION ALL
      SELECT n.tenant,
        (SELECT min(s.entity_name) FROM kdb_search AS s WHERE s.tenant = n.tenant AND s.entity_name > n.name)
      FROM names AS n WHERE n.name IS NOT NULL
    )
    SELECT DISTINCT name FROM names WHERE name IS NOT NULL ORDER BY name
"""
OF_TENANTS, OF_ALL_TENANTS = (
    "SELECT value FROM json_each(:tenants)",
    """
    SELECT min(tenant) FROM kdb_search
    UNION ALL SELECT (SELECT min(s.tenant) FROM kdb_search AS s WHERE s.tenant > tenants.tenant) FROM tenants
    WHERE tenants.tenant IS NOT NULL
""",
)

EMBEDDINGS_AT = f"""
    SELECT k.key, e.embedding FROM {THESE}
      JOIN kdb_embedding_g{{number}} AS e ON e.search_id = s.id AND e.content_hash = s.content_hash AND e.passage = 0
    WHERE e.embedding IS NOT NULL
"""

FIRST_EMBEDDINGS = """
    SELECT e.search_id, e.embedding
    FROM json_each(:docs) AS k CROSS JOIN kdb_embedding_g{number} AS e ON e.search_id = k.value AND e.passage = 0
    WHERE e.embedding IS NOT NULL
"""

CACHED = text("""
    SELECT c.tenant, c.text_hash, c.embedding, c.used_at
    FROM json_each(:keys) AS k CROSS JOIN kdb_embedding_cache AS c ON c.tenant = json_extract(k.value, '$[0]')
      AND c.text_hash = json_extract(k.value, '$[1]') AND c.fingerprint = :fingerprint
""")

STATUS = """
    SELECT s.entity_name, count(*) AS indexed, max(s.updated_at) AS last_updated,
      sum({pending}) AS pending, sum({failed}) AS failed
    FROM kdb_search AS s {join} WHERE {tenants}
    GROUP BY s.entity_name ORDER BY s.entity_name
"""

JOIN_EMBEDDING = "LEFT JOIN kdb_embedding_g{number} AS e ON e.search_id = s.id AND e.passage = 0"
IS_PENDING = "s.content_hash <> '' AND (e.search_id IS NULL OR e.content_hash <> s.content_hash)"
IS_TRIED = "e.content_hash = '~' || s.content_hash"
IS_NEW = "s.content_hash <> '' AND (e.search_id IS NULL OR ltrim(e.content_hash, '~') <> s.content_hash)"
IS_FAILED = "e.search_id IS NOT NULL AND e.content_hash = s.content_hash AND e.reason IS NOT NULL"

OF_ENTITIES = "s.entity_name IN (SELECT value FROM json_each(:entities))"
PENDING = """
    SELECT s.id, s.entity_name, s.record_id, s.tenant, CAST(s.content AS BLOB) AS content, s.content_hash, s.gaps
    FROM kdb_search AS s {join}
    WHERE s.id > :after AND s.id <= :upto AND {condition}
    ORDER BY s.id LIMIT :limit
"""

BOUNDS = text("""
    SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM kdb_search) WHERE place % :size = 0
    ORDER BY id
""")

DELETE_EMBEDDINGS = "DELETE FROM kdb_embedding_g{number} WHERE search_id = ?"
DELETE_RECORDS = f"""
    DELETE FROM kdb_search WHERE id IN (SELECT s.id FROM {THESE})
    RETURNING entity_name, record_id, tenant, id
"""
DROP_GENERATION = "DROP TABLE IF EXISTS kdb_embedding_g{number}"

COPY_EMBEDDINGS = """
    INSERT OR IGNORE INTO kdb_embedding_g{target}
    SELECT e.* FROM kdb_embedding_g{source} AS e
    WHERE e.search_id > :after AND e.search_id <= :upto
      AND e.search_id NOT IN (SELECT s.id FROM kdb_search AS s WHERE {without})
"""

FAILURES = """
    SELECT s.entity_name, s.record_id, e.reason, e.message, e.attempts, s.tenant
    FROM kdb_search AS s {join}
    WHERE {condition} AND {tenants} ORDER BY s.entity_name, s.record_id, s.tenant
"""
