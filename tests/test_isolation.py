"""Whatever one tenant writes and searches, another observes nothing of it. Two databases get the same calls of tenant
"a"; in the second, tenant "b" writes and searches in between. Each observation of "a" is equal to the last bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import URL

from kameleon import SearchEngine
from stress.workloads.twins import QUICK, WAYS, opened, run

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
@pytest.mark.parametrize("seed", range(100, 106))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_nothing_that_another_tenant_does_is_observed_in_any_order(
    backend: str, way: str, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    check(backend, way, seed, 8, tmp_path, request)
