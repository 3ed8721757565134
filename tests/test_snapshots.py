"""The snapshot in which PostgreSQL answers a search: its settings, and those of the application."""

from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import URL, Connection, Engine, NullPool, event

from kameleon import SearchEngine
from kameleon.errors import StorageError
from kameleon.testing import HashProvider

SETTINGS = {
    "transaction_isolation": "repeatable read",
    "transaction_read_only": "on",
    "jit": "off",
    "hnsw.ef_search": "100",
    "hnsw.iterative_scan": "relaxed_order",
}
NOTES = [("Note", str(n), f"wages of month {n}") for n in range(300)]


@pytest.fixture
def search(pg_engine: Engine) -> SearchEngine:
    return SearchEngine(pg_engine, HashProvider(16))


def settings_of(connection: Connection, *names: str) -> dict[str, Any]:
    return {name: connection.exec_driver_sql(f"SHOW {name}").scalar() for name in (*SETTINGS, *names)}


def test_a_snapshot_has_the_settings_of_a_search(search: SearchEngine) -> None:
    for _ in range(2):
        with search.index.reading() as connection:
            assert settings_of(connection) == SETTINGS


def test_the_settings_end_with_the_snapshot(search: SearchEngine, pg_engine: Engine) -> None:
    with search.index.reading() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    with pg_engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == pid
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off"
        driver: Any = connection.connection.driver_connection
        assert (driver.autocommit, driver.isolation_level, driver.read_only) == (False, None, None)


def test_what_a_listener_sets_at_the_beginning_holds(search: SearchEngine, pg_engine: Engine) -> None:
    @event.listens_for(pg_engine, "begin")
    def set_reader(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL app.reader = 'ann'")

    with search.index.reading() as connection:
        assert settings_of(connection, "app.reader") == {**SETTINGS, "app.reader": "ann"}


def test_policies_decide_what_a_search_finds(search: SearchEngine, pg_engine: Engine) -> None:
    search.index_records_batch([("Note", "1", "wages of ann"), ("Note", "2", "wages of bob")])
    with pg_engine.begin() as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar()
        connection.exec_driver_sql("CREATE ROLE kdb_reader")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO kdb_reader")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO kdb_reader")
        connection.exec_driver_sql("ALTER TABLE kdb_search ENABLE ROW LEVEL SECURITY")
        connection.exec_driver_sql("CREATE POLICY own ON kdb_search USING (record_id = current_setting('app.reader'))")

    def become(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL ROLE kdb_reader")
        connection.exec_driver_sql("SET LOCAL app.reader = '2'")

    event.listen(pg_engine, "begin", become)
    try:
        for mode in ("keyword", "vector", "hybrid"):
            assert [hit.id for hit in search.search("wages", mode=mode)] == ["2"]
    finally:
        event.remove(pg_engine, "begin", become)
        with pg_engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY kdb_reader")
            connection.exec_driver_sql("DROP ROLE kdb_reader")


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
def test_a_read_only_database_is_searched_at_every_level(search: SearchEngine, pg_url: URL, level: str) -> None:
    search.index_records_batch(NOTES)
    options = f"{pg_url.query['options']} -c default_transaction_read_only=on"
    url = pg_url.update_query_dict({"options": options})
    reader = SearchEngine(sqlalchemy.create_engine(url, isolation_level=level, poolclass=NullPool), HashProvider(16))
    for mode in ("keyword", "vector", "hybrid"):
        assert reader.search("wages of month 7", mode=mode)[0].id == "7"
    assert reader.index.keywords.maintain_all(purges=True) == 0
    assert reader.search("month 7", mode="keyword")[0].id == "7"


def test_a_statement_timeout_ends_a_search(search: SearchEngine, pg_url: URL) -> None:
    search.index_records_batch(NOTES[:5])
    options = f"{pg_url.query['options']} -c statement_timeout=200"
    engine = sqlalchemy.create_engine(pg_url.update_query_dict({"options": options}))
    hurried = SearchEngine(engine, HashProvider(16))
    assert hurried.search("month 3", mode="hybrid")[0].id == "3"
    with search.engine.begin() as locking:
        locking.exec_driver_sql("LOCK TABLE kdb_tail IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StorageError, match="statement timeout"):
            hurried.search("month 3", mode="keyword")
    assert hurried.search("month 3", mode="hybrid")[0].id == "3"
    engine.dispose()
