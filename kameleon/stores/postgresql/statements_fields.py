"""PostgreSQL's statements on the fields of stored records, templates as those of `statements` are. Imports
`moments`."""

from ...moments import DAY_MS

# All fields of a record at once: it is read once.
FACETS = """
    SELECT CAST(jsonb_build_array({paths}) AS text), count(*)
    FROM ({matches}) AS m
      JOIN {records} AS r ON r.tenant = m.tenant AND r.entity_name = m.entity_name AND r.id = m.record_id
    GROUP BY 1
"""
VALUES = """
    SELECT r.entity_name, r.id, r.tenant, r.data{path} AS value
    FROM {keys} JOIN {records} AS r ON r.tenant = k.tenant AND r.entity_name = k.entity_name AND r.id = k.record_id
    WHERE jsonb_typeof(r.data{path}) IN ('string', 'number', 'boolean')
"""
COUNT_EACH = """
    SELECT {counts}
    FROM ({matches}) AS m JOIN {records} AS records
      ON records.tenant = m.tenant AND records.entity_name = m.entity_name AND records.id = m.record_id
"""
DAYS = f"""
    SELECT (at.ms - ((at.ms % {DAY_MS}) + {DAY_MS}) % {DAY_MS}) / {DAY_MS} AS day, count(*) AS records
    FROM (
      SELECT {{moment}} AS ms
      FROM ({{matches}}) AS m JOIN {{records}} AS records
        ON records.tenant = m.tenant AND records.entity_name = m.entity_name AND records.id = m.record_id
    ) AS at
    WHERE at.ms IS NOT NULL GROUP BY day
"""
VALUES_AMONG = """
    SELECT r.entity_name, r.id, r.tenant, r.data{path} AS value
    FROM ({matches}) AS m
      JOIN {records} AS r ON r.tenant = m.tenant AND r.entity_name = m.entity_name AND r.id = m.record_id
    WHERE jsonb_typeof(r.data{path}) IN ('string', 'number', 'boolean')
"""
PROBED = """
    SELECT s.doc, s.entity_name, s.record_id, s.tenant, records.id IS NOT NULL{columns}
    FROM {search} AS s LEFT JOIN {records} AS records
      ON records.tenant = s.tenant AND records.entity_name = s.entity_name AND records.id = s.record_id
    WHERE s.doc = ANY(CAST(:docs AS bigint[]))
"""
VALUES_OF = """
    SELECT s.doc, r.data{path} AS value
    FROM {search} AS s
      JOIN {records} AS r ON r.tenant = s.tenant AND r.entity_name = s.entity_name AND r.id = s.record_id
    WHERE s.doc = ANY(CAST(:docs AS bigint[])) AND jsonb_typeof(r.data{path}) <> 'null'
"""
