"""Statements with which an application's role, set to the tenant "a", tries to learn of the rows of the tenant "b".

Each runs in a savepoint that is rolled back. What it returns, counts or raises is compared with what it would if there
were no such rows; where that differs, the attempt has learnt something. KNOWN is what docs/tenants.md lists.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

OWN, OTHER = "a", "b"
OTHERS_WORD = "zorblatt"
"""In every text and every id of the tenant "b", and nowhere else."""
PATTERN = f"{OTHERS_WORD}|{OTHERS_WORD.encode().hex()}"
REFUSED = "42501"
"""The SQLSTATE of policies and of missing rights."""
KNOWN = frozenset(
    [
        *(("unique", column) for column in ("doc", "seq")),
        *(("estimate", column) for column in ("tenant", "entity_name", "fingerprint")),
        *(("removed", column) for column in ("record_id", "doc", "seq")),
    ]
)
"""Kinds of attempts and columns of which docs/tenants.md states that something is learnt."""

TABLES = """
    SELECT c.relname FROM pg_class AS c
    WHERE c.relkind = 'r' AND c.relname ~ '^kdb_' AND c.relnamespace = CAST(current_schema AS regnamespace)
      AND EXISTS (SELECT 1 FROM pg_attribute AS t WHERE t.attrelid = c.oid AND t.attname = 'tenant') = :has_tenant
    ORDER BY 1
"""
COLUMNS = """
    SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
UNIQUE = """
    SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_index AS i
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
    WHERE i.indrelid = to_regclass(:table) AND i.indisunique GROUP BY i.indexrelid
"""
READS = {
    "select": "SELECT * FROM {table} WHERE tenant NOT IN ('', 'a')",
    "text": "SELECT 1 FROM {table} AS t WHERE CAST(t AS text) ~ :pattern",
    "for update": "SELECT * FROM {table} WHERE tenant = 'b' FOR UPDATE",
    "for no key update": "SELECT * FROM {table} WHERE tenant = 'b' FOR NO KEY UPDATE",
    "for share": "SELECT * FROM {table} WHERE tenant = 'b' FOR SHARE",
    "for key share": "SELECT * FROM {table} WHERE tenant = 'b' FOR KEY SHARE",
    "update": "UPDATE {table} SET tenant = 'a' WHERE tenant = 'b' RETURNING *",
    "delete": "DELETE FROM {table} WHERE tenant = 'b' RETURNING *",
    "merge": "MERGE INTO {table} AS t USING (VALUES ('b')) AS o (tenant) ON t.tenant = o.tenant "
    "WHEN MATCHED THEN DELETE",
    "cast": "SELECT CASE WHEN tenant = 'b' THEN CAST(CAST(t AS text) AS integer) END AS n FROM {table} AS t "
    "WHERE tenant = 'b'",
    "division": "SELECT 1 FROM {table} WHERE 1 / (CASE WHEN tenant = 'b' THEN 0 ELSE 1 END) = 0",
    "view": "CREATE TEMPORARY VIEW kdb_attack AS SELECT * FROM {table}; SELECT * FROM kdb_attack WHERE tenant = 'b'",
}
"""Each returns, changes and raises nothing where there are no rows of "b"."""
LEAK = """
    CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001
    AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$
"""
ROW = "jsonb_populate_record(CAST(NULL AS {table}), CAST(:row AS jsonb))"
INSERT = f"INSERT INTO {{table}} OVERRIDING SYSTEM VALUE SELECT (row).* FROM (SELECT {ROW} AS row) AS given"
MERGE = f"""
    MERGE INTO {{table}} AS t USING {ROW} AS o ON {{same}}
    WHEN MATCHED THEN DELETE
    WHEN NOT MATCHED THEN INSERT ({{columns}}) OVERRIDING SYSTEM VALUE VALUES ({{values}})
"""
OPERATORS = {
    "text": ("{column} = :value", "{column} > :value"),
    "bytea": ("{column} = CAST(:value AS bytea)", "{column} > CAST(:value AS bytea)"),
    "jsonb": (
        "{column} = to_jsonb(CAST(:value AS text))",
        "{column} @> jsonb_build_object('text', CAST(:value AS text))",
    ),
    "tsvector": ("{column} @@ plainto_tsquery('simple', :value)",),
}
"""Conditions of which the planner estimates by statistics, if it has any, how many rows they hold for."""
WORDS, TEXTS = ("lantern", OTHERS_WORD, "qqqqqqqq"), ("!", "~", f"{OTHERS_WORD} 7", f"{OTHERS_WORD} 77")
"""What a column is compared with: with one word the planner expects as many rows as with another."""
CATALOGS = {
    "pg_stats": "SELECT * FROM pg_stats WHERE schemaname = current_schema AND tablename = ANY(:tables)",
    "pg_stats_ext": "SELECT * FROM pg_stats_ext WHERE schemaname = current_schema AND tablename = ANY(:tables)",
    "pg_statistic": "SELECT * FROM pg_statistic",
    "pg_statistic_ext_data": "SELECT * FROM pg_statistic_ext_data",
}


class Attempt(NamedTuple):
    """`learnt` is empty for nothing."""

    kind: str
    table: str
    learnt: str = ""
    column: str = ""

    @property
    def is_known(self) -> bool:
        return (self.kind, self.column) in KNOWN


@dataclass(frozen=True)
class Target:
    """A table of the index with a tenant: its columns with their types, those of each unique index, and a row of the
    other tenant's as JSON."""

    table: str
    columns: Mapping[str, str]
    uniques: Sequence[Sequence[str]]
    row: Mapping[str, Any]

    def other_keys(self, columns: Sequence[str]) -> dict[str, Any]:
        """The row with values in these columns that no row has; its tenant stays."""
        changed = {name: self.row[name] for name in columns if name != "tenant"}
        return {**self.row, **{n: v + 10**9 if isinstance(v, int) else f"{v}-absent" for n, v in changed.items()}}

    @property
    def keys(self) -> list[str]:
        return sorted({name for unique in self.uniques for name in unique})


class Outcome(NamedTuple):
    """What a statement returned, or why it failed; without texts that name its own values."""

    state: str = ""
    message: str = ""
    detail: str = ""
    changed: int = 0
    rows: tuple[Any, ...] = ()

    @property
    def is_nothing(self) -> bool:
        return not self.state and not self.rows and self.changed <= 0


def targets(owner: Connection, unused: Collection[str]) -> list[Target]:
    """The tables to attack. Raises AssertionError for one in which one of the tenants has no row, but for those that
    the index does not use."""
    found = []
    for table in owner.execute(text(TABLES), {"has_tenant": True}).scalars().all():
        columns = {row[0]: row[1] for row in owner.execute(text(COLUMNS), {"table": table})}
        uniques = owner.execute(text(UNIQUE), {"table": table}).scalars().all()
        for tenant in (OWN, OTHER):
            row = text(f"SELECT to_jsonb(t) FROM {table} AS t WHERE tenant = :tenant ORDER BY CAST(t AS text) LIMIT 1")
            of_tenant = owner.scalar(row, {"tenant": tenant})
            assert (of_tenant is None) == (table in unused), f"{table} has no row of {tenant}"
        if table not in unused:
            found.append(Target(table, columns, uniques, of_tenant))
    assert len(found) > len(unused)
    return found


def outcome(connection: Connection, statement: str, binds: Mapping[str, Any]) -> Outcome:
    """Runs statements, which are separated by semicolons, and takes back what they change."""
    savepoint = connection.begin_nested()
    try:
        *before, last = statement.split("; ")
        for one in before:
            connection.execute(text(one), binds)
        result = connection.execute(text(last), binds)
        rows = tuple(map(tuple, result)) if result.returns_rows else ()
        return Outcome(changed=0 if result.returns_rows else result.rowcount, rows=rows)
    except DBAPIError as error:
        diagnosis: Any = error.orig
        diagnosis = diagnosis.diag
        return Outcome(diagnosis.sqlstate, diagnosis.message_primary, diagnosis.message_detail or "")
    finally:
        savepoint.rollback()


def attempts(connection: Connection, attacked: Sequence[Target]) -> Iterator[Attempt]:
    """All of them, as the tenant "a"."""
    connection.execute(text("SELECT set_config('app.tenant', :tenant, false)"), {"tenant": OWN})
    connection.commit()
    for target in attacked:
        for attack in (reading, copying, leaking, taking, inserting, colliding, estimating, counting):
            yield from attack(connection, target)
    for table in connection.execute(text(TABLES), {"has_tenant": False}).scalars().all():
        found = outcome(connection, READS["text"].format(table=table), {"pattern": PATTERN})
        yield Attempt("text", table, "" if found.is_nothing else str(found))
    for name, statement in CATALOGS.items():
        found = outcome(connection, statement, {"tables": [target.table for target in attacked]})
        yield Attempt("catalog", name, "" if found.is_nothing or found.state == REFUSED else f"{len(found.rows)} rows")
    connection.rollback()


def reading(connection: Connection, target: Target) -> Iterator[Attempt]:
    for kind, statement in READS.items():
        found = outcome(connection, statement.format(table=target.table), {"pattern": PATTERN})
        yield Attempt(kind, target.table, "" if found.is_nothing else str(found))


def copying(connection: Connection, target: Target) -> Iterator[Attempt]:
    driver: Any = connection.connection.driver_connection
    for statement in (f"COPY {target.table} (tenant) TO STDOUT", f"COPY (SELECT tenant FROM {target.table}) TO STDOUT"):
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            tenants = set(b"".join(bytes(part) for part in copy).decode().split("\n"))
        yield Attempt("copy", target.table, "".join(tenants - {"", OWN}))


def leaking(connection: Connection, target: Target) -> Iterator[Attempt]:
    """A condition that costs the planner less than the policy's, in a query and below a view."""
    notices: list[str] = []
    driver: Any = connection.connection.driver_connection
    driver.add_notice_handler(handler := lambda notice: notices.append(notice.message_primary))
    leak = f"SELECT tenant FROM {target.table} WHERE pg_temp.leak(tenant)"
    for statement in (leak, f"CREATE TEMPORARY VIEW kdb_attack AS {leak}; SELECT count(*) FROM kdb_attack"):
        savepoint = connection.begin_nested()
        connection.execute(text(LEAK))
        found = outcome(connection, statement, {})
        savepoint.rollback()
        assert OWN in notices, (target.table, found)
        yield Attempt("function", target.table, "".join({*notices} - {"", OWN}))
    driver.remove_notice_handler(handler)


def taking(connection: Connection, target: Target) -> Iterator[Attempt]:
    """Gives rows of its own to the other tenant."""
    found = outcome(connection, f"UPDATE {target.table} SET tenant = 'b'", {})
    yield Attempt("give", target.table, "" if found.state == REFUSED else str(found))


def inserting(connection: Connection, target: Target) -> Iterator[Attempt]:
    """Rows with a key that the other tenant has, and with one that it has not: both are refused alike."""
    conflicts = ["", " ON CONFLICT DO NOTHING RETURNING *"]
    for unique in target.uniques:
        conflicts.append(f" ON CONFLICT ({', '.join(unique)}) DO UPDATE SET tenant = 'a' RETURNING *")
    statements = {f"insert{conflict}": INSERT + conflict for conflict in conflicts}
    names = list(target.columns)
    for unique in target.uniques:
        same = " AND ".join(f"t.{name} = o.{name}" for name in unique)
        merge = MERGE.format(
            table="{table}", same=same, columns=", ".join(names), values=", ".join(f"o.{name}" for name in names)
        )
        statements[f"merge of {', '.join(unique)}"] = merge
    for name, statement in statements.items():
        rows = (target.row, target.other_keys(target.keys))
        there, absent = (
            outcome(connection, statement.format(table=target.table), {"row": json.dumps(r)}) for r in rows
        )
        learnt = "" if there == absent and there.state == REFUSED else f"{name}: {there}, {absent}"
        yield Attempt(name.split(" ")[0], target.table, learnt)


def colliding(connection: Connection, target: Target) -> Iterator[Attempt]:
    """Rows of its own with a value of the other tenant's under a unique index that is without the tenant."""
    for unique in target.uniques:
        if "tenant" in unique:
            continue
        absent = {**target.other_keys(target.keys), "tenant": OWN}
        there = {**absent, **{name: target.row[name] for name in unique}}
        update = f" ON CONFLICT ({', '.join(unique)}) DO UPDATE SET tenant = 'a' RETURNING *"
        for conflict in ("", " ON CONFLICT DO NOTHING RETURNING *", update):
            statement = INSERT.format(table=target.table) + conflict
            found, other = (outcome(connection, statement, {"row": json.dumps(row)}) for row in (there, absent))
            learnt = "" if bool(found.state or not found.rows) == bool(other.state or not other.rows) else str(found)
            yield Attempt("unique", target.table, learnt, ", ".join(unique))
            shown = any(OTHERS_WORD in f"{part}" for part in found)
            yield Attempt("shown by a conflict", target.table, str(found) if shown else "", ", ".join(unique))


def estimating(connection: Connection, target: Target) -> Iterator[Attempt]:
    """The planner expects as many rows whatever a column is compared with, unless it has statistics of the column."""
    for column, kind in target.columns.items():
        for condition in OPERATORS.get(kind, ()):
            statement = f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {target.table} WHERE {condition.format(column=column)}"
            values = [*WORDS] if kind == "tsvector" else [*WORDS, *TEXTS, str(target.row[column])]
            plans = [connection.execute(text(statement), {"value": value}).scalar_one() for value in values]
            rows = [plan[0]["Plan"]["Plan Rows"] for plan in plans]
            yield Attempt("estimate", target.table, f"{condition}: {rows}" if len({*rows}) > 1 else "", column)


def counting(connection: Connection, target: Target) -> Iterator[Attempt]:
    """EXPLAIN ANALYZE counts the rows that a policy removes of those that an index finds."""
    savepoint = connection.begin_nested()
    connection.execute(text("SET LOCAL enable_seqscan = off"))
    for column in [name for name in target.keys if name not in ("tenant", "entity_name", "fingerprint")]:
        where = f"{column} = (jsonb_populate_record(CAST(NULL AS {target.table}), CAST(:row AS jsonb))).{column}"
        if "entity_name" in target.columns:
            where = f"entity_name = :entity AND {where}"
        statement = text(f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT 1 FROM {target.table} WHERE tenant <> '' AND {where}")
        removed = []
        for row in (target.row, target.other_keys([column])):
            binds = {"row": json.dumps(row), "entity": row.get("entity_name", "")}
            plan = connection.execute(statement, binds).scalar_one()
            removed.append(sum(counted(plan[0]["Plan"])))
        yield Attempt("removed", target.table, f"{removed}" if removed[0] != removed[1] else "", column)
    savepoint.rollback()


def counted(plan: Mapping[str, Any]) -> Iterator[int]:
    yield from (round(count) for name, count in plan.items() if name.startswith("Rows Removed by"))
    for part in plan.get("Plans", ()):
        yield from counted(part)
