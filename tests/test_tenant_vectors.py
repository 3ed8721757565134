"""The vectors of tenants in PostgreSQL: an HNSW index of each large tenant, exact for the others."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event

from kameleon.stores.postgresql import hnsw as postgresql_hnsw
from kameleon.stores.values import Candidates, Embedding, Scope
from kameleon.values import Ref

from .test_store_parts import DIMENSIONS, NOW, Parts, entry

MANY, FEW = 400, 20
OF_ALL = "kdb_embedding_g1_hnsw"
OF_UNDIVIDED = Scope(is_undivided=True)


def scope_of(*tenants: str) -> Scope:
    return Scope(tenants=tenants)


class Divided(Parts):
    """Some tenants' records with random embeddings, `rows` of each tenant."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.vectors: dict[Ref, np.ndarray] = {}

    def fill(self, **rows: int) -> None:
        chance = np.random.default_rng(len(self.vectors))
        for tenant, count in rows.items():
            entries = [entry(str(n), f"{tenant} {n}", tenant=tenant) for n in range(count)]
            unit = chance.normal(size=(count, DIMENSIONS)).astype("<f4")
            unit /= np.linalg.norm(unit, axis=1, keepdims=True)
            self.vectors |= {made.ref: unit[n] for n, made in enumerate(entries)}
            embeddings = [Embedding(made.ref, made.content_hash, unit[n].tobytes()) for n, made in enumerate(entries)]
            with self.writing() as connection:
                docs = {ref: made.doc for ref, made in self.store.writes.upsert(connection, entries, [], NOW).items()}
                self.store.embeddings.write(connection, self.generation, embeddings, NOW, docs)
                if tenant:
                    self.store.schema.add_tenanted(connection, ["Note"])

    def indexes(self) -> list[str]:
        with self.reading() as connection:
            found = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema AND indexname LIKE '%hnsw%'"
            return sorted(connection.exec_driver_sql(found.replace("%", "%%")).scalars())

    def index_of(self, tenant: str) -> str:
        with self.reading() as connection:
            number = connection.exec_driver_sql("SELECT hashtextextended(%s, 0)", (tenant,)).scalar_one()
        return f"{OF_ALL}_{number % 2**64:016x}"

    def found(self, scope: Scope, limit: int = 10, seed: int = 0) -> tuple[Candidates, set[Ref], set[Ref]]:
        """What a random query finds in the scope, and what is nearest of its tenants."""
        query = np.random.default_rng(seed).normal(size=DIMENSIONS).astype("<f4")
        query /= np.linalg.norm(query)
        within = [ref for ref in self.vectors if scope.tenants is None or ref.tenant in scope.tenants]
        cosines = {ref: float(query @ self.vectors[ref]) for ref in within}
        with self.reading() as connection:
            found = self.store.vectors.nearest(connection, self.generation, query, scope, limit)
            refs = set(self.store.contents.refs(connection, list(found.scores)).values())
        return found, refs, set(sorted(cosines, key=lambda ref: -cosines[ref])[:limit])

    def plans(self, scope: Scope, *settings: str) -> list[str]:
        """The plans of the statements that compare vectors."""
        seen: list[str] = []

        def explain(_conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "halfvec" in statement:
                rows = cursor.connection.execute(f"EXPLAIN {statement}", parameters).fetchall()
                seen.append("\n".join(row[0] for row in rows))

        with self.engine.connect() as connection:
            for setting in settings:
                connection.exec_driver_sql(f"SET LOCAL {setting} = off")
            event.listen(connection, "before_cursor_execute", explain)
            query = np.eye(DIMENSIONS, dtype="<f4")[0]
            self.store.vectors.nearest(connection, self.generation, query, scope, 10)
        assert seen
        return seen


@pytest.fixture
def divided(pg_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Divided:
    monkeypatch.setattr(postgresql_hnsw, "INDEXED_FROM", 300)
    return Divided(pg_engine)


def test_each_large_tenant_has_an_index_of_its_own(divided: Divided) -> None:
    divided.fill(large=MANY, small=FEW, other=MANY)
    vectors = divided.store.vectors
    with divided.reading() as connection:
        assert "2 tenants each have no HNSW index" in vectors.missing_index(connection, divided.generation)
        assert vectors.index_state(connection, divided.generation) == "exact"
    assert vectors.build_index(divided.generation)
    assert not vectors.build_index(divided.generation)
    assert divided.indexes() == sorted([divided.index_of("large"), divided.index_of("other")])
    with divided.reading() as connection:
        assert vectors.missing_index(connection, divided.generation) == ""
        assert vectors.index_state(connection, divided.generation) == "hnsw"
        assert divided.store.health.index_faults(connection) == []

    off = ("enable_seqscan", "enable_sort")
    (plan,) = divided.plans(scope_of("large"), *off)
    assert f"Index Scan using {divided.index_of('large')}" in plan
    assert not any(f"using {OF_ALL}" in plan for plan in divided.plans(scope_of("small"), *off))
    for tenants, how in (("large", "hnsw"), ("other", "hnsw"), ("small", "exact"), ("none", "exact")):
        found, refs, nearest = divided.found(scope_of(tenants))
        assert (found.how, found.is_exact) == (how, how == "exact")
        assert {ref.tenant for ref in refs} <= {tenants}
        assert len(refs) == len(nearest)
        assert how == "hnsw" or refs == nearest


@pytest.mark.parametrize("tenants", [("large", "small"), ("", "large", "small"), (), ("small", "none"), None])
def test_several_tenants_have_the_nearest_of_them_all(divided: Divided, tenants: tuple[str, ...] | None) -> None:
    divided.fill(large=MANY, small=FEW, other=MANY)
    divided.fill(**{"": 30})
    scope = Scope(tenants=tenants)
    exact, refs, nearest = divided.found(scope)
    assert (refs, exact.is_exact) == (nearest, True)
    assert divided.store.vectors.build_index(divided.generation)
    approximate, refs, nearest = divided.found(scope)
    assert len(refs) == len(nearest)
    assert approximate.is_exact is ("large" not in (tenants or ()))
    assert list(approximate.scores.values()) == sorted(approximate.scores.values(), reverse=True)


def test_an_index_over_all_goes_once_records_have_tenants(divided: Divided) -> None:
    divided.fill(**{"": MANY})
    assert divided.store.vectors.build_index(divided.generation)
    assert divided.indexes() == [OF_ALL]
    assert divided.found(OF_UNDIVIDED)[0].how == "hnsw"
    divided.fill(small=FEW)
    found, refs, nearest = divided.found(scope_of("small"))
    assert (found.how, refs) == ("exact", nearest)
    assert {ref.tenant for ref in divided.found(OF_UNDIVIDED)[1]} == {""}
    assert divided.store.vectors.build_index(divided.generation)
    assert divided.indexes() == [divided.index_of("")]
    assert divided.found(scope_of(""))[0].how == "hnsw"


def test_a_tenant_s_broken_index_is_built_again(divided: Divided, pg_engine: Engine) -> None:
    divided.fill(large=MANY, other=MANY)
    divided.store.vectors.build_index(divided.generation)
    name = divided.index_of("large")
    with pg_engine.begin() as connection:
        broken = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('{name}')"
        assert connection.exec_driver_sql(broken).rowcount == 1
        assert divided.store.vectors.index_state(connection, divided.generation).startswith("hnsw is broken")
    assert divided.found(scope_of("large"))[0].how == "exact"
    assert divided.store.vectors.build_index(divided.generation)
    assert divided.found(scope_of("large"))[0].how == "hnsw"


@pytest.mark.parametrize("others", [0, MANY])
def test_another_tenant_s_vectors_change_nothing(divided: Divided, others: int) -> None:
    """To the last bit, approximate and exact."""
    divided.fill(large=MANY, small=FEW)
    divided.store.vectors.build_index(divided.generation)
    before = [divided.found(scope_of(tenant), 50, seed) for tenant in ("large", "small") for seed in range(5)]
    divided.fill(other=others, another=FEW)
    after = [divided.found(scope_of(tenant), 50, seed) for tenant in ("large", "small") for seed in range(5)]
    assert [found.scores for found, *_ in after] == [found.scores for found, *_ in before]


@pytest.mark.slow
def test_a_large_tenant_s_nearest_are_found(pg_engine: Engine) -> None:
    divided = Divided(pg_engine)
    divided.fill(large=11_000, other=12_000, small=9_000)
    assert divided.store.vectors.build_index(divided.generation)
    assert divided.indexes() == sorted([divided.index_of("large"), divided.index_of("other")])
    assert f"using {divided.index_of('large')}" in divided.plans(scope_of("large"))[0]
    results = [divided.found(scope_of("large"), 10, seed) for seed in range(50)]
    assert {found.how for found, *_ in results} == {"hnsw"}
    assert sum(len(refs & nearest) for _, refs, nearest in results) / 500 >= 0.95
    results = [divided.found(scope_of("small"), 10, seed) for seed in range(5)]
    assert all((found.how, refs) == ("exact", nearest) for found, refs, nearest in results)
