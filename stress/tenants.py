"""Tries to learn of another tenant: by every public verb, and on PostgreSQL by SQL with an application's role.

Two databases get the same calls of one tenant; in the second another tenant writes and searches in between, at random.
Each observation of the first tenant (hits and their scores, counts, facets, suggestions, corrections, plans, cursors,
errors, reports) must be equal to the last bit. By SQL, under the policies of `kameleon tenants protect`, a role that
may read and write every table looks for the other's rows, their words in the planner's estimates and statistics, and
tries to change them. Not tried: the time that a call takes, and the sizes of files.
"""

import time
from collections.abc import Iterator
from itertools import count

import sqlalchemy
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError

from kameleon import SearchEngine
from kameleon.testing import HashProvider

from .database import POSTGRESQL, address, database
from .report import Arguments, Figures
from .workloads.twins import WAYS, opened
from .workloads.twins import run as observed_run

STEPS = 6
OTHERS_WORD = "zorblatt"
ROLE, PASSWORD = "kameleon_stress_app", "kameleon"


def run(args: Arguments) -> Figures:
    """For `seconds`; raises AssertionError with the first thing that was learnt."""
    end = time.monotonic() + args.seconds
    observations = runs = 0
    for seed in count(args.seed):
        for way in WAYS:
            observations += compared(args.backend, way, seed)
            runs += 1
        if time.monotonic() >= end:
            break
    figures = {"runs": runs, "observations": observations, "learnt": 0}
    if args.backend == POSTGRESQL:
        figures["statements"] = by_sql()
    return figures


def compared(backend: str, way: str, seed: int) -> int:
    """How many observations of a tenant alone were the same beside another."""
    make = WAYS[way]
    with (
        database(backend) as first,
        database(backend) as second,
        opened(address(first)) as alone,
        opened(address(second)) as shared,
    ):
        expected = list(observed_run(make(alone, "a"), None, seed, STEPS))
        found = list(observed_run(make(shared, "a"), make(shared, "b"), seed, STEPS))
    for (name, wanted), (_, value) in zip(expected, found, strict=True):
        if value != wanted:
            raise AssertionError(f"{way}, seed {seed}: another tenant changes {name}: {value}, not {wanted}")
    return len(expected)


# by SQL


def by_sql() -> int:
    """Tries statements as the tenant "a"; how many."""
    with database(POSTGRESQL) as engine:
        search = SearchEngine(engine, HashProvider(), cache=True)
        for tenant, word in (("a", "lantern"), ("b", OTHERS_WORD)):
            records = [("Note", n, f"{word} of the harbour {word}{n}") for n in range(400)]
            search.index_records_batch(records, tenant=tenant)
        with engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
            make_role(connection)
        search.admin.protect()
        with engine.begin() as connection:
            schema = connection.scalar(text("SELECT current_schema"))
            connection.exec_driver_sql(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {ROLE}"
            )
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}")
        url = engine.url.set(username=ROLE, password=PASSWORD)
        app = sqlalchemy.create_engine(url, poolclass=NullPool)
        try:
            with app.connect() as connection:
                tried = sum(1 for _ in attempts(connection))
        finally:
            app.dispose()
            with engine.begin() as connection:
                connection.exec_driver_sql(f"DROP OWNED BY {ROLE} CASCADE")
                connection.exec_driver_sql(f"DROP ROLE {ROLE}")
    return tried


def make_role(connection: Connection) -> None:
    if not connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": ROLE}):
        connection.exec_driver_sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")


def attempts(connection: Connection) -> Iterator[str]:
    """Each statement that was tried. Raises AssertionError where one shows or changes what is the other tenant's."""
    query = """
        SELECT c.relname, a.attname, format_type(a.atttypid, NULL) AS kind
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relkind = 'r' AND c.relnamespace = CAST(current_schema AS regnamespace) AND a.attnum > 0
          AND NOT a.attisdropped AND EXISTS (
            SELECT 1 FROM pg_attribute AS t WHERE t.attrelid = c.oid AND t.attname = 'tenant')
    """
    columns = connection.execute(text(query)).all()
    connection.execute(text("SELECT set_config('app.tenant', 'a', false)"))
    connection.commit()
    for table in sorted({row.relname for row in columns}):
        yield from on_table(connection, table)
    for row in columns:
        if row.kind in ("text", "jsonb", "bytea"):
            yield estimated(connection, row.relname, row.attname, row.kind)
    statement = "SELECT count(*) FROM pg_stats WHERE schemaname = current_schema AND tablename = ANY(:tables)"
    tables = list({row.relname for row in columns})
    expect(connection.scalar(text(statement), {"tables": tables}) == 0, statement)
    yield statement


def on_table(connection: Connection, table: str) -> Iterator[str]:
    for statement in (
        f"SELECT count(*) FROM {table} WHERE tenant NOT IN ('', 'a')",
        f"SELECT count(*) FROM {table} AS t WHERE CAST(t AS text) LIKE '%{OTHERS_WORD}%'",
    ):
        expect(connection.scalar(text(statement)) == 0, statement)
        yield statement
    for statement in (
        f"UPDATE {table} SET tenant = 'a' WHERE tenant = 'b'",
        f"DELETE FROM {table} WHERE tenant = 'b'",
        f"SELECT 1 FROM {table} WHERE tenant = 'b' FOR UPDATE",
    ):
        expect(connection.execute(text(statement)).rowcount <= 0, statement)
        yield statement
    taken = f"UPDATE {table} SET tenant = 'b'"
    try:
        with connection.begin_nested():
            expect(connection.execute(text(taken)).rowcount == 0, taken)
    except DBAPIError as error:
        expect(getattr(error.orig, "sqlstate", "") == "42501", taken)
    connection.rollback()
    yield taken


def estimated(connection: Connection, table: str, column: str, kind: str) -> str:
    """Compares the planner's estimates for a text that the other tenant has and for one that nobody has."""
    rows = []
    for word in (OTHERS_WORD, "qqqqqqqq"):
        plan = connection.execute(
            text(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table} WHERE CAST({column} AS text) > :low"), {"low": word}
        ).scalar_one()
        rows.append(plan[0]["Plan"]["Plan Rows"])
        if kind == "text":
            plan = connection.execute(
                text(f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table} WHERE {column} >= :low"), {"low": word}
            ).scalar_one()
            rows.append(plan[0]["Plan"]["Plan Rows"])
    half = len(rows) // 2
    is_key = column in ("tenant", "entity_name", "record_id", "id")
    expect(is_key or rows[:half] == rows[half:], f"EXPLAIN of {table}.{column}: {rows}")
    return f"EXPLAIN of {table}.{column}"


def expect(is_so: bool, statement: str) -> None:
    if not is_so:
        raise AssertionError(f"another tenant's is visible: {statement}")
