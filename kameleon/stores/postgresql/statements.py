"""PostgreSQL's statements, as templates: `Templates` fills in `{…}`, `:…` and `%s` are binds. Imports nothing of
kameleon's."""

from sqlalchemy import text

CREATE = (
    """
    CREATE TABLE IF NOT EXISTS {search} (
      entity_name text COLLATE "C" NOT NULL,
      record_id text COLLATE "C" NOT NULL,
      content text NOT NULL,
      terms tsvector NOT NULL,
      n_terms integer NOT NULL,
      content_hash text NOT NULL,
      created_at timestamptz NOT NULL,
      updated_at timestamptz NOT NULL,
      PRIMARY KEY (entity_name, record_id)
    )
    """,
    "CREATE INDEX IF NOT EXISTS kdb_search_terms ON {search} USING gin (terms)",
)

CREATE_GENERATION = """
    CREATE TABLE {embedding} (
      entity_name text COLLATE "C" NOT NULL,
      record_id text COLLATE "C" NOT NULL,
      passage integer NOT NULL DEFAULT 0,
      content_hash text NOT NULL,
      embedding {vector}({dimensions}),
      reason text,
      message text,
      attempts integer NOT NULL DEFAULT 1,
      updated_at timestamptz NOT NULL,
      start_at integer,
      end_at integer,
      PRIMARY KEY (entity_name, record_id, passage)
    )
"""
IDENTITY = """
    SELECT oid AS database, pg_postmaster_start_time() AS began, pg_is_in_recovery() AS is_replica
    FROM pg_database WHERE datname = current_database()
"""
STORE_PLAIN = "ALTER TABLE {embedding} ALTER COLUMN embedding SET STORAGE PLAIN"
# What others may do with the records' table they may do with a new generation's, for every write touches each of them.
GRANTS = """
    SELECT 'GRANT ' || string_agg(a.privilege_type, ', ') || ' ON ' || $kdb${embedding}$kdb$ || ' TO '
      || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    FROM pg_class AS c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
    WHERE c.oid = to_regclass(:search) AND pg_get_userbyid(a.grantee) <> current_user
    GROUP BY a.grantee
"""
CREATE_HNSW = """
    CREATE INDEX {concurrently} IF NOT EXISTS {hnsw_name} ON {embedding}
    USING hnsw (embedding {vector}_ip_ops) WITH (m = {m}, ef_construction = {ef_construction})
"""
DROP_GENERATION = "DROP TABLE IF EXISTS {embedding}"
DROP_HNSW = "DROP INDEX {concurrently} IF EXISTS {hnsw}"
COUNT_EMBEDDINGS = "SELECT count(*) FROM (SELECT 1 FROM {embedding} LIMIT :many) AS e"
ANALYZE_EMBEDDING, ANALYZE_SEARCH = "ANALYZE {embedding}", "ANALYZE {search}"
# Nothing behind a pooler, which gives the next statement to another server process.
RAISE_MEMORY = """
    SELECT m.setting || 'kB', set_config('maintenance_work_mem', greatest(CAST(m.setting AS bigint),
      least(:most_kb, (SELECT count(*) FROM {embedding}) * :row_bytes / 1024)) || 'kB', false)
    FROM pg_settings AS m WHERE m.name = 'maintenance_work_mem' AND pg_backend_pid() = :pid
"""
RESTORE_MEMORY = text("SELECT set_config('maintenance_work_mem', :before, false)")
HNSW_STATE = text("""
    SELECT i.indisvalid, p.pid IS NOT NULL AS is_building
    FROM pg_index AS i LEFT JOIN pg_stat_progress_create_index AS p ON p.index_relid = i.indexrelid
    WHERE i.indexrelid = to_regclass(:hnsw)
""")
INDEX_PROGRESS = """
    SELECT phase, CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END,
      CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END, NULLIF(current_locker_pid, 0)
    FROM pg_stat_progress_create_index WHERE relid = to_regclass(%s) LIMIT 1
"""

NO_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('kameleon ' || :what, 0))")
NO_IDLE_LIMIT = "SET LOCAL idle_in_transaction_session_timeout = 0"
# Without a bind: the portal of a statement with one keeps its snapshot, which the build would wait for.
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('kameleon index of {name}', 0))"
HAS_TABLE = text("SELECT to_regclass(:name) IS NOT NULL")
HAS_SCHEMA = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
EXTENSIONS = text("""
    SELECT e.extname, e.extversion, quote_ident(n.nspname) AS schema
    FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname IN ('vector', 'citus')
""")
CAN_ADD_VECTOR = text("""
    SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'vector')
      AND NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'
""")
LANGUAGES = text(
    "SELECT CAST(CAST(c.oid AS regconfig) AS text) AS name, nspname, cfgname FROM pg_ts_config AS c "
    "JOIN pg_namespace AS n ON n.oid = c.cfgnamespace ORDER BY 1"
)
EMBEDDING_TABLES = text("""
    SELECT CAST(substring(c.relname FROM '^kdb_embedding_g([0-9]+)$') AS integer)
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'embedding'
    WHERE c.relkind IN ('r', 'p') AND c.relname ~ '^kdb_embedding_g[0-9]+$'
      AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:search))
""")

STATES = """
    SELECT s.record_id, s.content_hash, {embedded} AS embedded_hash
    FROM {search} AS s {join}
    WHERE s.entity_name = :entity AND s.record_id = ANY(:ids)
"""

ENTRIES = """
    SELECT entity_name, record_id, content, content_hash FROM {search}
    WHERE entity_name = :entity AND record_id = ANY(:ids)
"""

UPSERT = """
    INSERT INTO {search} (entity_name, record_id, content, terms, n_terms, content_hash, created_at, updated_at)
    {rows}
    ON CONFLICT (entity_name, record_id) DO UPDATE SET content = excluded.content, terms = excluded.terms,
      n_terms = excluded.n_terms, content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""
# What counts again has a weight of its own, which scores do not see and phrases pass over.
ROWS = """
    SELECT entity_name, record_id, content,
      CASE again WHEN '' THEN to_tsvector({language}, words)
      ELSE to_tsvector({language}, words) || setweight(to_tsvector({language}, again), 'A') END,
      n_terms, content_hash, updated_at, updated_at
    FROM {rows}
"""
LOADED = "kdb_loading ORDER BY entity_name, record_id"
# Arrays, a column each: the driver takes longer over many binds than the server over the rows.
GIVEN = """
    unnest(CAST(%s AS text[]), CAST(%s AS text[]), CAST(%s AS text[]), CAST(%s AS text[]), CAST(%s AS text[]),
      CAST(%s AS integer[]), CAST(%s AS text[]))
      AS given(entity_name, record_id, content, words, again, n_terms, content_hash),
    CAST(%s AS timestamptz) AS updated_at
"""
LOADING = """
    CREATE TEMPORARY TABLE kdb_loading (
      entity_name text COLLATE "C", record_id text COLLATE "C", content text, words text, again text, n_terms integer,
      content_hash text, updated_at timestamptz
    ) ON COMMIT DROP
"""
LOADING_COLUMNS = ("entity_name", "record_id", "content", "words", "again", "content_hash", "n_terms", "updated_at")

UPSERT_EMBEDDING = """
    INSERT INTO {embedding} AS e
      (entity_name, record_id, passage, content_hash, embedding, reason, message, attempts, updated_at, start_at,
       end_at)
    {rows}
    ON CONFLICT (entity_name, record_id, passage) DO UPDATE
    SET embedding = excluded.embedding, reason = excluded.reason, message = excluded.message,
        start_at = excluded.start_at, end_at = excluded.end_at,
        attempts = CASE WHEN ltrim(e.content_hash, '~') = ltrim(excluded.content_hash, '~')
          THEN e.attempts + 1 ELSE 1 END,
        content_hash = excluded.content_hash, updated_at = excluded.updated_at
"""
GIVE_UP = """
    UPDATE {embedding} SET content_hash = ltrim(content_hash, '~')
    WHERE entity_name = :entity AND record_id = ANY(:ids) AND passage = 0 AND content_hash LIKE '~%'
      AND reason = 'server_error' AND attempts >= :attempts
    RETURNING record_id
"""
EMBEDDING_COLUMNS = ("entity_name", "record_id", "content_hash", "updated_at", "embedding")
REFUSAL_COLUMNS, PASSAGE_COLUMNS = ("reason", "message"), ("passage", "start_at", "end_at")
EMBEDDINGS_GIVEN = """
    SELECT entity_name, record_id, passage, content_hash, embedding, reason, message, 1, updated_at, start_at, end_at
    FROM unnest(CAST(%s AS text[]), CAST(%s AS text[]), CAST(%s AS text[]), CAST(ARRAY[{vectors}] AS {vector}[]),
        CAST(%s AS text[]), CAST(%s AS text[]), CAST(%s AS integer[]), CAST(%s AS integer[]), CAST(%s AS integer[]))
        AS given(entity_name, record_id, content_hash, embedding, reason, message, passage, start_at, end_at),
      CAST(%s AS timestamptz) AS updated_at
"""
MAY_MAKE_TEMPORARY = text("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
STORED_IDS = "SELECT id FROM {records} WHERE entity_name = :entity AND id = ANY(:ids)"
RECORD_COLUMNS = ("entity_name", "id", "data", "created_at", "updated_at")

ANY_EMBEDDING = "SELECT 1 FROM {embedding} WHERE entity_name = :entity AND record_id = ANY(:ids) LIMIT 1"

LOCK_ROWS = "SELECT 1 FROM {search} WHERE entity_name = :entity AND record_id = ANY(:ids) ORDER BY record_id FOR UPDATE"
HASHES = """
    SELECT s.record_id, s.content_hash, (
      SELECT max(e.passage) FROM {embedding} AS e WHERE e.entity_name = s.entity_name AND e.record_id = s.record_id
    ) AS last_passage
    FROM {search} AS s WHERE s.entity_name = :entity AND s.record_id = ANY(:ids) ORDER BY s.record_id {lock}
"""

DELETE_STALE = """
    DELETE FROM {embedding} AS e USING {search} AS s
    WHERE s.entity_name = :entity AND s.record_id = ANY(:ids)
      AND e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.content_hash <> s.content_hash
"""
DELETE_PASSAGES = """
    DELETE FROM {embedding} WHERE entity_name = :entity AND record_id = ANY(:ids) AND passage > 0
"""
DELETE = "DELETE FROM {search} WHERE entity_name = :entity AND record_id = ANY(:ids) RETURNING record_id"
DELETE_EMBEDDINGS = "DELETE FROM {embedding} WHERE entity_name = :entity AND record_id = ANY(:ids)"

# The CTEs of the vector leg. `near` is what the planner makes of it: the HNSW index, or an exact scan where that is
# cheaper or there is no index. HNSW may run dry before enough of a filter's matches are found: then `whole` looks at
# all. A filter that few records pass is left to neither: `few` compares those alone. What a gate shuts is not begun.
INDEX = """index AS MATERIALIZED (
      SELECT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(:hnsw) AND indisvalid) AS is_there
    )"""
ALLOWED = """allowed AS MATERIALIZED (
      SELECT kdb_records.entity_name, kdb_records.id AS record_id FROM {records} WHERE {condition} LIMIT :narrow
    )"""
ALLOWED_AMONG = """allowed AS MATERIALIZED (
      SELECT n.entity_name, a.record_id
      FROM unnest(CAST(:scope AS text[])) AS n(entity_name) CROSS JOIN ({among}) AS a(record_id) LIMIT :narrow
    )"""
ALLOWED_BY_PHRASES = """allowed AS MATERIALIZED (
      SELECT s.entity_name, s.record_id FROM {search} AS s WHERE {phrases} LIMIT :narrow
    )"""
DISTANCE = "e.embedding {ip} CAST(:vector AS {vector})"
NEAR = """near AS MATERIALIZED (
      SELECT n.*, (SELECT is_there FROM index) AS is_hnsw FROM (SELECT 1{if_wide}) AS is_open CROSS JOIN LATERAL (
        SELECT e.entity_name, e.record_id, e.content_hash, {distance} AS distance FROM {embedding} AS e
        WHERE e.embedding IS NOT NULL AND {scope} ORDER BY {distance} LIMIT :limit
      ) AS n
    )"""
WHOLE = """whole AS MATERIALIZED (
      SELECT n.*, false AS is_hnsw
      FROM (SELECT 1 FROM index WHERE is_there AND (SELECT count(*) FROM near) < :limit{and_wide}) AS is_open
        CROSS JOIN LATERAL (
          SELECT e.entity_name, e.record_id, e.content_hash, {distance} AS distance FROM {embedding} AS e
          WHERE e.embedding IS NOT NULL AND {scope} ORDER BY ({distance}) + 0 LIMIT :limit
        ) AS n
    )"""
IS_WIDE = "(SELECT count(*) FROM allowed) = :narrow"
FEW = """few AS MATERIALIZED (
      SELECT n.*, false AS is_hnsw FROM (SELECT 1 WHERE NOT {is_wide}) AS is_open CROSS JOIN LATERAL (
        SELECT e.entity_name, e.record_id, e.content_hash, {distance} AS distance
        FROM allowed AS a JOIN {embedding} AS e ON e.entity_name = a.entity_name AND e.record_id = a.record_id
        WHERE e.embedding IS NOT NULL ORDER BY ({distance}) + 0 LIMIT :limit
      ) AS n
    )"""
NEAREST = """nearest AS MATERIALIZED (
      SELECT * FROM near WHERE NOT EXISTS (SELECT 1 FROM whole) UNION ALL SELECT * FROM whole
    )"""
NEAREST_OR_FEW = """nearest AS MATERIALIZED (
      SELECT * FROM near WHERE NOT EXISTS (SELECT 1 FROM whole)
      UNION ALL SELECT * FROM whole UNION ALL SELECT * FROM few
    )"""
BEST = """best AS MATERIALIZED (
      SELECT entity_name, record_id, content_hash, min(distance) AS distance, bool_or(is_hnsw) AS is_hnsw,
        (SELECT count(*) FROM nearest) AS looked_at
      FROM nearest GROUP BY entity_name, record_id, content_hash
    )"""
BY_VECTOR = """
    WITH {ctes}
    SELECT s.entity_name, s.record_id, -n.distance AS cosine, {score} AS score, true AS is_nearest, n.is_hnsw,
      n.looked_at
    FROM best AS n
      JOIN {search} AS s ON s.entity_name = n.entity_name AND s.record_id = n.record_id
        AND s.content_hash = n.content_hash
"""
OTHERS = """
    UNION ALL
    SELECT s.entity_name, s.record_id, -min({distance}), NULL, false, false, 0
    FROM unnest(CAST(:entities AS text[]), CAST(:ids AS text[])) AS k(entity_name, record_id)
      JOIN {embedding} AS e ON e.entity_name = k.entity_name AND e.record_id = k.record_id AND e.embedding IS NOT NULL
      JOIN {search} AS s ON s.entity_name = e.entity_name AND s.record_id = e.record_id
        AND s.content_hash = e.content_hash
    GROUP BY s.entity_name, s.record_id
"""
# Beyond the order of an index: a record has few of them.
PASSAGE = """LEFT JOIN LATERAL (
        SELECT e.start_at, e.end_at FROM {embedding} AS e
        WHERE e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.content_hash = s.content_hash
          AND e.embedding IS NOT NULL AND e.start_at IS NOT NULL
        ORDER BY ({distance}) + 0, e.passage LIMIT 1
      ) AS p ON true"""
NO_PASSAGE = "CROSS JOIN (SELECT CAST(NULL AS integer) AS start_at, CAST(NULL AS integer) AS end_at) AS p"

HITS = """
    SELECT s.entity_name, s.record_id, s.content, r.data, p.start_at, p.end_at
    FROM unnest(CAST(:entities AS text[]), CAST(:ids AS text[])) AS k(entity_name, record_id)
      JOIN {search} AS s ON s.entity_name = k.entity_name AND s.record_id = k.record_id
      LEFT JOIN {records} AS r ON r.entity_name = s.entity_name AND r.id = s.record_id
      {passage}
"""
MATCHES = """
    SELECT s.entity_name, s.record_id FROM (
      {holding}SELECT * FROM unnest(CAST(:entities AS text[]), CAST(:ids AS text[])) AS k(entity_name, record_id)
    ) AS m JOIN {search} AS s ON s.entity_name = m.entity_name AND s.record_id = m.record_id
    WHERE {scope}
"""
HOLDING = "SELECT entity_name, record_id FROM {search} WHERE terms @@ CAST(:match AS tsquery) UNION "
COUNT = "SELECT count(*) FROM ({matches}) AS m"
FACET = """
    SELECT v.value, count(*) AS records
    FROM ({matches}) AS m JOIN {records} AS r ON r.entity_name = m.entity_name AND r.id = m.record_id
      CROSS JOIN LATERAL (
        SELECT DISTINCT e.value FROM jsonb_array_elements(
          CASE jsonb_typeof(r.data #> :path) WHEN 'array' THEN r.data #> :path
            ELSE jsonb_build_array(r.data #> :path) END
        ) AS e(value)
      ) AS v
    WHERE jsonb_typeof(v.value) IN ('string', 'number', 'boolean')
    GROUP BY v.value ORDER BY records DESC, v.value LIMIT :limit
"""
VALUES = """
    SELECT r.entity_name, r.id, r.data #> :path AS value
    FROM unnest(CAST(:entities AS text[]), CAST(:ids AS text[])) AS k(entity_name, record_id)
      JOIN {records} AS r ON r.entity_name = k.entity_name AND r.id = k.record_id
    WHERE jsonb_typeof(r.data #> :path) IN ('string', 'number', 'boolean')
"""
ENTITIES = """
    WITH RECURSIVE names(name) AS (
      (SELECT entity_name FROM {search} ORDER BY entity_name LIMIT 1)
      UNION ALL
      SELECT (SELECT entity_name FROM {search} WHERE entity_name > name ORDER BY entity_name LIMIT 1) FROM names
      WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL
"""
EMBEDDING_OF = """
    SELECT CAST(e.embedding AS real[]) FROM {search} AS s JOIN {embedding} AS e
      ON e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.content_hash = s.content_hash
    WHERE s.entity_name = :entity AND s.record_id = :id AND e.passage = 0
"""

CACHED = """
    SELECT text_hash, embedding, used_at FROM {embedding_cache}
    WHERE text_hash = ANY(:keys) AND fingerprint = :fingerprint
"""

STATUS = """
    SELECT s.entity_name, count(*) AS indexed, max(s.updated_at) AS last_updated,
      count(*) FILTER (WHERE {pending}) AS pending, count(*) FILTER (WHERE {failed}) AS failed
    FROM {search} AS s {join}
    GROUP BY s.entity_name ORDER BY s.entity_name
"""
JOIN_EMBEDDING = """
    LEFT JOIN {embedding} AS e ON e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.passage = 0
"""
# A subquery of one value is looked up for each row: a join might be planned by reading the whole table for each batch.
LOOKED_UP = """(
    SELECT e.content_hash FROM {embedding} AS e
    WHERE e.entity_name = s.entity_name AND e.record_id = s.record_id AND e.passage = 0{failed}
)"""
STILL_PENDING = "s.content_hash <> '' AND {looked_up} IS DISTINCT FROM s.content_hash"
IS_NEW = "s.content_hash <> '' AND ltrim({looked_up}, '~') IS DISTINCT FROM s.content_hash"
IS_TRIED = "{looked_up} = '~' || s.content_hash"
IS_REFUSED = "{looked_up} = s.content_hash"
IS_PENDING = "s.content_hash <> '' AND (e.record_id IS NULL OR e.content_hash <> s.content_hash)"
IS_FAILED = "e.record_id IS NOT NULL AND e.content_hash = s.content_hash AND e.reason IS NOT NULL"
PENDING = """
    SELECT s.entity_name, s.record_id, s.content, s.content_hash
    FROM {search} AS s
    WHERE (s.entity_name, s.record_id) > (:entity, :id) AND {condition}
    ORDER BY s.entity_name, s.record_id LIMIT :limit
"""
COPIED_UPTO = " AND (e.entity_name, e.record_id) <= (:last_entity, :last_id)"
UPTO = "(s.entity_name, s.record_id) <= (:last_entity, :last_id)"
OF_ENTITIES = "s.entity_name = ANY(:of)"
BOUNDS = """
    SELECT entity_name, record_id FROM (
      SELECT entity_name, record_id, row_number() OVER (ORDER BY entity_name, record_id) AS place FROM {search}
    ) AS numbered
    WHERE place % :size = 0 ORDER BY place
"""
COPY_EMBEDDINGS = """
    INSERT INTO {target}
    SELECT e.* FROM {embedding} AS e
    WHERE (e.entity_name, e.record_id) > (:entity, :id) AND e.entity_name <> ALL(:without){upto}
    ON CONFLICT DO NOTHING
"""
# A transaction that has read the registry holds a lock on it until it ends; one that is prepared has no process.
REGISTRY_LOCKS = """
    SELECT virtualtransaction FROM pg_locks
    WHERE relation = to_regclass(:registry) AND pid IS DISTINCT FROM pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
READERS = text(REGISTRY_LOCKS)
# A transaction with a snapshot may read the registry later as it was then.
SNAPSHOTS = text(f"""{REGISTRY_LOCKS}
    UNION ALL
    SELECT pid || ' ' || backend_xmin FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type = 'client backend'
""")
FAILURES = """
    SELECT s.entity_name, s.record_id, e.reason, e.message, e.attempts
    FROM {search} AS s {join}
    WHERE {condition} ORDER BY s.entity_name, s.record_id
"""
