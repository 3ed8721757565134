"""Tries to learn of another tenant: by every public verb, and on PostgreSQL by SQL with an application's role.

Two databases get the same calls of one tenant; in the second another tenant writes and searches in between, at random.
Each observation of the first tenant (hits and their scores, counts, facets, suggestions, corrections, plans, cursors,
errors, reports) must be equal to the last bit. By SQL, under the policies of `kameleon tenants protect`, a role that
may read and write every table tries `workloads.sql_attacks`. Not tried: the time that a call takes, and the sizes of
files.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import uuid4

import sqlalchemy
from sqlalchemy import Engine, NullPool, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import RecordStore, SearchEngine, searchable
from kameleon.testing import HashProvider

from .database import POSTGRESQL, address, database
from .report import Arguments, Figures
from .workloads.sql_attacks import OTHER, OTHERS_WORD, OWN, Attempt, attempts, targets
from .workloads.twins import WAYS, opened
from .workloads.twins import run as observed_run

STEPS = 6
PASSWORD = "kameleon"  # noqa: S105 - of roles that go with the run
KEYWORD_TABLES = ("kdb_tail", "kdb_dead", "kdb_segment", "kdb_word", "kdb_posting")
UNUSED: Mapping[str, Sequence[str]] = {"index": (), "server": KEYWORD_TABLES}
"""The tables that stay empty, by where keywords are ranked."""


class Base(DeclarativeBase):
    pass


@searchable(fields=["text"], tenant="org")
class Letter(Base):
    __tablename__ = "attacked_letter"

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str]
    text: Mapped[str]


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
    figures: dict[str, Any] = {"runs": runs, "observations": observations, "learnt": 0}
    if args.backend == POSTGRESQL:
        figures["sql"] = {keyword_search: by_sql(keyword_search) for keyword_search in UNUSED}
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
        expected = list(observed_run(make(alone, OWN), None, seed, STEPS))
        found = list(observed_run(make(shared, OWN), make(shared, OTHER), seed, STEPS))
    for (name, wanted), (_, value) in zip(expected, found, strict=True):
        if value != wanted:
            raise AssertionError(f"{way}, seed {seed}: another tenant changes {name}: {value}, not {wanted}")
    return len(expected)


# by SQL


def by_sql(keyword_search: str) -> Figures:
    """Counts what was tried as the tenant "a" under policies, and what docs/tenants.md lists as open."""
    with database(POSTGRESQL) as engine, filled(engine, keyword_search) as (search, app):
        search.admin.protect()
        tried = attacked(engine, app, keyword_search)
    if learnt := [attempt for attempt in tried if attempt.learnt and not attempt.is_known]:
        raise AssertionError(f"another tenant's is visible, {len(learnt)} times: {learnt[0]}")
    known = Counter(f"{attempt.kind} {attempt.column}" for attempt in tried if attempt.learnt)
    return {"attempts": len(tried), "tables": len({attempt.table for attempt in tried}), "documented": dict(known)}


def attacked(owner: Engine, app: Engine, keyword_search: str, tables: Sequence[str] = ()) -> Sequence[Attempt]:
    """The attempts on an owner's tables, on all of them or on some, with fresh statistics of the server's."""
    with owner.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
        found = targets(connection, UNUSED[keyword_search])
    with app.connect() as connection:
        return list(attempts(connection, [each for each in found if not tables or each.table in tables]))


@contextmanager
def filled(engine: Engine, keyword_search: str = "index") -> Iterator[tuple[SearchEngine, Engine]]:
    """An index in which two tenants have rows in every table, and an engine of a role that may read and write them."""
    options: Any = {"cache": True, "keyword_search": keyword_search}
    search = SearchEngine(engine, HashProvider(), **options)
    Base.metadata.create_all(engine)
    search.track(Letter)
    RecordStore(search).create_entity("Bill", search=["text"], tenant_field="org")
    later = SearchEngine(engine, HashProvider(), indexing="deferred", **options)
    for tenant, word in ((OWN, "lantern"), (OTHER, OTHERS_WORD)):
        fill(search.for_tenant(tenant), tenant, word)
        with later.attach(sessionmaker(engine)).begin() as session:
            session.add(Letter(id=f"{word} later", org=tenant, text=word))
        with engine.begin() as connection:
            connection.execute(insert(Letter).values(id=f"{word} marked", org=tenant, text=word))
    role = f"kameleon_stress_{uuid4().hex[:8]}"
    with engine.begin() as connection:
        schema = connection.scalar(text("SELECT current_schema"))
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    app = sqlalchemy.create_engine(engine.url.set(username=role, password=PASSWORD), poolclass=NullPool)
    try:
        yield search, app
    finally:
        app.dispose()
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {role} CASCADE")
            connection.exec_driver_sql(f"DROP ROLE {role}")


def fill(of_tenant: Any, tenant: str, word: str) -> None:
    """Enough records for a segment, some of them deleted; then some for the tail."""
    notes = [("Note", f"{word} {n}", f"{word} of the harbour {word}{n}") for n in range(600)]
    of_tenant.index_records_batch(notes)
    of_tenant.delete_records([note[:2] for note in notes[:3]])
    of_tenant.index_records_batch([("Note", f"{word} late {n}", f"{word} late") for n in range(3)])
    bills = [{"id": f"{word} {n}", "org": tenant, "text": f"{word}{n} bill"} for n in range(30)]
    RecordStore(of_tenant).insert("Bill", bills)
    of_tenant.synonyms.add(f"{word}, {word} bill")
    of_tenant.rules.set(f"{word} harbour", pin=[("Note", f"{word} 7")], hide=[("Note", f"{word} 8")])
    of_tenant.judgements.set(f"{word} harbour", [("Note", f"{word} 7")])
