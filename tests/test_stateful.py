"""Random work of sessions; after each commit the index is compared with the tables."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from kameleon.testing import HashProvider
from stress.workloads.machine import machine

from .conftest import Make, with_async


@pytest.fixture(params=with_async("sqlite", "postgresql"))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_after_each_commit_the_index_matches_the_tables(engine: Engine, make: Make) -> None:
    run_state_machine_as_test(
        machine(engine, make(HashProvider(8))),
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
