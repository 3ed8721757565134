"""Stores under test, and the small language the tests speak."""

import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine

import kameleon
from kameleon import SearchEngine
from kameleon.testing import HashProvider

SHARED = Path(__file__).parents[2] / "shared"
BACKENDS = ("sqlite", "sqlite-plain", "sqlite-memory", "sqlite-vec")

Make = Callable[..., SearchEngine]


def open_engine(backend: str, folder: Path) -> Engine:
    url = f"sqlite:///{folder / 'test.db'}"
    if backend == "sqlite-plain":
        return sqlalchemy.create_engine(url)
    if backend == "sqlite-memory":
        return kameleon.create_engine("sqlite://")
    if backend == "sqlite-vec":
        if find_spec("pysqlite3") is None:
            pytest.skip("pysqlite3 is not installed (Linux only)")
        import pysqlite3

        return kameleon.create_engine(url, module=pysqlite3)
    return kameleon.create_engine(url)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(backend: str, tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(backend, tmp_path)
    yield opened
    opened.dispose()


@pytest.fixture
def make(engine: Engine, backend: str) -> Make:
    """SearchEngines on the store under test."""

    def build(provider: Any = None, **options: Any) -> SearchEngine:
        vector_search: Any = "sqlite-vec" if backend == "sqlite-vec" else "auto"
        return SearchEngine(engine, provider, vector_search=vector_search, **options)

    return build


@pytest.fixture
def provider() -> HashProvider:
    return HashProvider()


@pytest.fixture
def search(make: Make, provider: HashProvider) -> SearchEngine:
    return make(provider)


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[Engine]:
    opened = kameleon.create_engine(f"sqlite:///{tmp_path / 'test.db'}")
    yield opened
    opened.dispose()


@pytest.fixture(scope="session")
def minilm() -> Path:
    path = SHARED / "models" / "all-MiniLM-L6-v2"
    if not path.is_dir():
        pytest.skip("the all-MiniLM-L6-v2 folder is not beside the project")
    return path


@pytest.fixture(scope="session")
def console_script() -> str:
    (script,) = entry_points(group="console_scripts", name="kameleon")
    path = shutil.which(script.name, path=str(Path(sys.executable).parent))
    assert path, "the kameleon command is not installed beside this Python"
    return path


def ids(results: Any) -> list[str]:
    return [hit.id for hit in results]
