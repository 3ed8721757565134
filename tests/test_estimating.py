"""The estimates of a dry run, compared with what the run then does."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, text

from kameleon.errors import InvalidInput, UnknownEntity
from kameleon.reindex.gate import Gate
from kameleon.testing import HashProvider

from .conftest import Make


class Paid(HashProvider):
    is_costly = True
    price_per_million = 2.0

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class Silent(Paid):
    def embed_batch(self, texts: Sequence[str]) -> Any:
        raise AssertionError("a dry run calls no provider")


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def records(count: int) -> list[tuple[str, str, str]]:
    return [("Page", str(n), f"some words {n % 1500}") for n in range(count)]


def everything(engine: Engine) -> list[Any]:
    tables = ("kdb_generation", "kdb_reindex", "kdb_reindex_range", "kdb_embedding_cache", "kdb_embedding_g1")
    with engine.connect() as connection:
        return [sorted(map(repr, connection.execute(text(f"SELECT * FROM {table}")))) for table in tables]


def test_a_plan_counts_what_the_run_then_does(make: Make, engine: Engine) -> None:
    make(HashProvider()).index_records_batch(records(2500))
    search = make(None)
    before = everything(engine)
    plan = search.reindexing.plan(provider=Silent(32, model_name="paid"), batch_size=100)
    assert everything(engine) == before
    assert (plan.action, plan.rows, plan.distinct, plan.cached, plan.batches) == ("built", 2500, 1500, 0, 25)
    assert (plan.current_model, plan.target_model, plan.dimensions_change) == ("hash", "paid", True)
    assert (plan.rows_per_second, plan.embedding_s) == (None, None)
    assert plan.tokens == pytest.approx(4500, rel=0.01)
    assert plan.cost == pytest.approx(plan.tokens * 2 / 1e6)
    report = search.reindex(provider=Paid(32, model_name="paid"), batch_size=100)
    assert (report.embedded, report.embedded + report.reused) == (plan.distinct, plan.rows)


def test_what_is_cached_costs_nothing(make: Make) -> None:
    make(Paid(model_name="paid"), cache=True).index_records_batch(records(1000))
    make(None).index_records_batch(records(2500)[1000:])
    search = make(None, cache=True)
    plan = search.reindexing.plan(provider=Silent(model_name="paid"))
    assert (plan.rows, plan.distinct, plan.cached, plan.tokens) == (1500, 1500, 1000, 1500)
    report = search.reindex(provider=Paid(model_name="paid"))
    assert report.embedded == plan.distinct - plan.cached


def test_what_is_cached_is_paid_again_where_it_is_made_anew(make: Make) -> None:
    search = make(Paid(model_name="paid"), cache=True)
    search.index_records_batch(records(2500))
    plan = search.reindexing.plan(force=True)
    assert (plan.rows, plan.distinct, plan.cached) == (2500, 1500, 0)
    assert search.reindex(force=True).embedded == plan.distinct


def test_without_a_cache_a_text_is_paid_for_in_each_batch(make: Make) -> None:
    search = make(HashProvider(), cache=False)
    search.index_records_batch([("Page", str(n), "the same words") for n in range(1000)])
    provider = Paid(model_name="paid")
    plan = search.reindexing.plan(provider=provider, batch_size=250)
    assert (plan.distinct, plan.tokens) == (1, 12)
    search.reindex(provider=provider, batch_size=250)
    assert sum(map(len, provider.calls)) == 4


def test_tokens_of_many_texts_are_reckoned_from_a_sample(make: Make) -> None:
    search = make(HashProvider())
    search.index_records_batch([("Page", str(n), f"{n:05} " * (1 + n % 9)) for n in range(4000)])
    plan = search.reindexing.plan(provider=Silent(model_name="paid"))
    assert plan.tokens == pytest.approx(sum(1 + n % 9 for n in range(4000)), rel=0.05)


def test_a_price_that_is_given_comes_before_the_providers(make: Make) -> None:
    search = make(HashProvider())
    search.index_records_batch(records(10))
    assert search.reindexing.plan(force=True).cost is None
    assert search.reindexing.plan(force=True, price_per_million=1e6).cost == pytest.approx(
        search.reindexing.plan(force=True).tokens
    )
    plan = search.reindexing.plan(provider=Silent(model_name="paid"), price_per_million=0.0)
    assert plan.cost == 0.0


def test_time_is_what_an_earlier_run_took_or_what_is_given(make: Make) -> None:
    search = make(HashProvider())
    search.index_records_batch(records(300))
    assert search.reindexing.plan(force=True, rate=10.0).embedding_s == pytest.approx(30)
    search.reindex(force=True)
    (run,) = search.reindexing.status()
    plan = search.reindexing.plan(force=True)
    assert plan.rows_per_second == pytest.approx(run.rows_per_second)
    assert plan.embedding_s == pytest.approx(300 / run.rows_per_second)
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidInput, match="above 0"):
            search.reindexing.plan(force=True, rate=rate)


def test_a_plan_names_filling_nothing_and_one_entity(make: Make) -> None:
    make(None).index_records_batch([*records(20), ("Note", "1", "a note"), ("Note", "2", "a note")])
    search = make(HashProvider())
    plan = search.reindexing.plan()
    assert (plan.action, plan.rows, plan.distinct, plan.current_model) == ("built", 22, 21, None)
    search.reindex()
    plan = search.reindexing.plan()
    assert (plan.action, plan.rows, plan.tokens) == ("nothing", 0, 0)
    make(None).index_record("Note", "2", "another note")
    plan = search.reindexing.plan()
    assert (plan.action, plan.rows) == ("filled", 1)
    anew = search.reindexing.plan("Note", force=True)
    assert (anew.action, anew.rows) == ("built", 2)
    with pytest.raises(UnknownEntity):
        search.reindexing.plan("Nobody")


def test_a_price_of_nothing_is_a_price(make: Make) -> None:
    search = make(HashProvider())
    search.index_records_batch(records(10))
    report = search.reindex(provider=Paid(model_name="paid"), max_cost=0.0, price_per_million=0.0)
    assert (report.embedded, report.stopped) == (10, "")


def test_a_run_reports_its_phases(make: Make) -> None:
    search = make(HashProvider())
    search.index_records_batch(records(20))
    reported: list[tuple[str, int, int]] = []
    search.reindex(force=True, batch_size=15, gate=Gate(), progress=lambda *event: reported.append(event))
    assert reported == [("embedding", 15, 20), ("embedding", 20, 20), ("indexing", 0, 0), ("comparing", 0, 0)]


def test_a_gate_takes_numbers_alone() -> None:
    with pytest.raises(InvalidInput):
        Gate(ndcg=float("nan"))
