"""Requests that schemathesis makes of the OpenAPI document of the server, right ones and wrong ones: each is answered
as the document says. On both databases."""

import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from kameleon import RecordStore, SearchEngine
from kameleon.server import app

from .conftest import Indexes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.core.result import Ok
    from schemathesis.generation import GenerationMode

ANSWERED = ["2xx", "400", "404", "409"]
"""400, too: no schema has which fields an entity has, and which options go together."""
CONFIG = SchemathesisConfig.from_dict({"checks": {"positive_data_acceptance": {"expected-statuses": ANSWERED}}})


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.insert("Lamp", [{"id": n, "name": f"lamp {n}", "price": n} for n in range(5)])
    store.create_entity("Order", search=["about"], tenant_field="shop")
    store.insert("Order", [{"id": 1, "about": "an order", "shop": "a"}])


def check_requests(search: SearchEngine, mode: GenerationMode, examples: int) -> int:
    """How many operations were requested, each with so many requests."""
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app(search, write=True, hosts=("*",)), config=CONFIG)
    operations: list[Any] = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    for operation in operations:
        _check_operation(operation.as_strategy(generation_mode=mode), examples)
    return len(operations)


def _check_operation(cases: Any, examples: int) -> None:
    @given(case=cases)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[*HealthCheck],
    )
    def check(case: Any) -> None:
        case.call_and_validate()

    check()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_each_answer_is_one_that_the_document_describes(indexes: Indexes, backend: str, mode: GenerationMode) -> None:
    assert check_requests(indexes(backend, fill), mode, 5) >= 16
