"""Whatever one tenant writes and searches, another observes nothing of it. Two databases get the same calls of tenant
"a"; in the second, tenant "b" writes and searches in between. Each observation of "a" is equal to the last bit."""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine

import kameleon
from kameleon import RecordStore, SearchEngine, Worker
from kameleon.administration import Administration, CacheAdministration
from kameleon.existing_tables import ExistingTables
from kameleon.judgements import Judgements
from kameleon.query_rules import QueryRules
from kameleon.reindex.generations import Reindexing
from kameleon.synonyms import Synonyms
from kameleon.tenants import ForTenant
from stress.tenants import UNUSED, attacked, filled
from stress.workloads.sql_attacks import Attempt
from stress.workloads.twins import BY_OTHERS, QUICK, WAYS, opened, run

from .conftest import schema_on, url_in


@contextmanager
def twins(backend: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[list[SearchEngine]]:
    if backend == "sqlite":
        with opened(f"sqlite:///{folder / 'x.db'}") as x, opened(f"sqlite:///{folder / 'y.db'}") as y:
            yield [x, y]
        return
    server: URL = request.getfixturevalue("server")
    with (
        schema_on(server) as first,
        schema_on(server) as second,
        opened(url_in(server, first)) as x,
        opened(url_in(server, second)) as y,
    ):
        yield [x, y]


def check(backend: str, way: str, seed: int, steps: int, folder: Path, request: pytest.FixtureRequest) -> None:
    make = WAYS[way]
    with twins(backend, folder, request) as (alone, shared):
        expected = list(run(make(alone, "a"), None, seed, steps))
        found = list(run(make(shared, "a"), make(shared, "b"), seed, steps))
    assert len(expected) > 50
    assert any(value and value[0] for (_, name), value in expected if isinstance(name, tuple) and name[0] == "red fox")
    for (name, wanted), (_, value) in zip(expected, found, strict=True):
        assert value == wanted, name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_nothing_that_another_tenant_does_is_observed(
    backend: str, way: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    check(backend, way, 21, QUICK, tmp_path, request)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 103))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_nothing_that_another_tenant_does_is_observed_in_any_order(
    backend: str, way: str, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    check(backend, way, seed, 8, tmp_path, request)


def public_verbs() -> set[str]:
    """The public methods of what an application holds, and the public functions that take it, as they are named."""
    classes = (SearchEngine, ForTenant, RecordStore, Administration, CacheAdministration, Reindexing, Worker)
    kept = Synonyms, QueryRules, Judgements, ExistingTables
    members = [getattr(cls, name) for cls in (*classes, *kept) for name in dir(cls) if not name.startswith("_")]
    members += [getattr(kameleon, name) for name in kameleon.__all__]
    for module in ("evaluation", "doctor", "testing"):
        functions = inspect.getmembers(import_module(f"kameleon.{module}"), inspect.isfunction)
        members += [f for name, f in functions if name[0] != "_" and "search" in inspect.signature(f).parameters]
    return {member.__qualname__ for member in members if inspect.isfunction(member)}


def test_every_public_verb_is_observed_or_reads_nothing_of_a_tenant(tmp_path: Path) -> None:
    answered: Counter[str] = Counter()
    for name, make in WAYS.items():
        with opened(f"sqlite:///{tmp_path / name}.db") as search:
            way = make(search, "a")
            assert list(run(way, None, 0, 1))
        answered += way.answered
    others = {verb for verbs in BY_OTHERS.values() for verb in verbs.split()}
    verbs = public_verbs()
    assert len(verbs) > 50
    assert verbs - others == {verb for verb in answered if verb in verbs}
    assert others <= verbs


# by SQL


def tried(engine: Engine, app: Engine, keyword_search: str, tables: Sequence[str]) -> set[Attempt]:
    found = attacked(engine, app, keyword_search, tables)
    assert {attempt.table for attempt in found} >= set(tables)
    return set(found)


def check_sql(engine: Engine, keyword_search: str, tables: Sequence[str] = ()) -> None:
    """With policies nothing is learnt but what docs/tenants.md lists; without them, something by each kind."""
    with filled(engine, keyword_search) as (search, app):
        search.admin.protect()
        protected = tried(engine, app, keyword_search, tables)
        search.admin.unprotect()
        open_ = tried(engine, app, keyword_search, tables)
    assert [attempt for attempt in protected if attempt.learnt and not attempt.is_known] == []
    kinds = {attempt.kind for attempt in protected}
    assert {attempt.kind for attempt in protected if attempt.learnt} == {"unique", "estimate", "removed"}
    assert kinds - {attempt.kind for attempt in open_ if attempt.learnt} == {"removed"}


def test_sql_learns_of_another_tenant_where_there_are_no_policies(pg_engine: Engine) -> None:
    check_sql(pg_engine, "index", ["kdb_search"])


@pytest.mark.slow
@pytest.mark.parametrize("keyword_search", UNUSED)
def test_sql_learns_nothing_of_any_table(pg_engine: Engine, keyword_search: str) -> None:
    check_sql(pg_engine, keyword_search)
