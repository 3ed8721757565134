"""Tables with hostile names and conditions, and tables that several processes add, remove and write at once."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from kameleon import SearchEngine
from kameleon.errors import InvalidInput, TransactionConflict
from kameleon.testing import HashProvider


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def write(engine: Engine) -> Callable[..., None]:
    def run(*statements: str) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.connection.cursor().execute(statement)

    return run


FOXES = (
    "CREATE TABLE fox (id INTEGER PRIMARY KEY, name TEXT, tenant TEXT, is_red INTEGER)",
    "INSERT INTO fox VALUES (1, 'red fox', 'a', 1), (2, 'red fox', 'b', 0)",
)


def found(search: SearchEngine, words: str, entity: str) -> list[str]:
    return sorted(hit.id for hit in search.search(words, entity=entity, mode="keyword"))


@pytest.mark.parametrize("name", ['a"b', "a\nb\tc", "a%(b)s %", ":a?", "$kdb$", "a;--\\", "{a}'"])
def test_names_of_tables_and_columns_are_never_sql(search: SearchEngine, write: Callable[..., None], name: str) -> None:
    table, key, column = ('"' + part + name.replace('"', '""') + '"' for part in ("t", "k", "c"))
    write(
        f"CREATE TABLE {table} ({key} VARCHAR(30) PRIMARY KEY, {column} TEXT)",
        f"INSERT INTO {table} VALUES ('1', 'red fox')",
    )
    search.tables.add(f"t{name}", [f"c{name}"], where=f"{key} IS NOT NULL")
    write(
        f"INSERT INTO {table} VALUES ('2''\"%\n', 'grey wolf')",
        f"UPDATE {table} SET {column} = 'owl' WHERE {key} = '1'",
    )
    search.sync()
    assert found(search, "wolf", f"t{name}") == ["2'\"%\n"]
    assert found(search, "owl", f"t{name}") == ["1"]
    search.tables.remove(f"t{name}")
    write(f"DELETE FROM {table}")


@pytest.mark.parametrize(
    "where",
    [
        "is_red = 1) OR (1 = 1",
        "is_red = 1; DROP TABLE fox; --",
        "is_red = 1, 2",
        "is_red = 1 /*",
        "is_red = :is_red",
        "?",
    ],
)
def test_what_is_no_single_condition_is_refused(
    search: SearchEngine, write: Callable[..., None], where: str, engine: Engine
) -> None:
    write(*FOXES)
    with pytest.raises(InvalidInput, match="is no condition on the rows of fox"):
        search.tables.add("fox", ["name"], where=where, tenant="tenant")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM fox")) == 2
    assert search.tables.list() == []


class Interrupting(HashProvider):
    """Calls `interrupt` while it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupt: Callable[[], object] = lambda: None

    def embed_batch(self, texts: Sequence[str]) -> Any:
        interrupt, self.interrupt = self.interrupt, lambda: None
        interrupt()
        return super().embed_batch(texts)


def in_the_index(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM kdb_search")) or 0


def test_a_table_that_is_removed_while_its_rows_are_embedded_stays_removed(
    engine: Engine, write: Callable[..., None]
) -> None:
    write(*FOXES)
    provider = Interrupting()
    search, other = SearchEngine(engine, provider), SearchEngine(engine, HashProvider())
    search.tables.add("fox", ["name"])
    assert in_the_index(engine) == 2
    write("UPDATE fox SET name = 'grey wolf'")
    provider.interrupt = lambda: other.tables.remove("fox")
    search.sync()
    assert in_the_index(engine) == 0

    search.tables.define("fox", ["name"])
    write("UPDATE fox SET name = 'white owl'")
    provider.interrupt = lambda: other.tables.remove("fox")
    with pytest.raises(InvalidInput, match="the table of fox was removed"):
        search.tables.refresh("fox")
    assert in_the_index(engine) == 0
    assert search.search("owl") == []


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_table_whose_writers_do_not_end_is_not_waited_for(search: SearchEngine, engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in FOXES:
            connection.exec_driver_sql(statement)
    with engine.begin() as writing:
        writing.exec_driver_sql("UPDATE fox SET name = 'white owl'")
        with pytest.raises(TransactionConflict, match="idle in transaction"):
            search.tables.define("fox", ["name"])
    search.tables.add("fox", ["name"])
    assert found(search, "owl", "fox") == ["1", "2"]
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == "0"


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_role_cannot_mark_rows_of_tables_that_it_may_not_write(
    search: SearchEngine, engine: Engine, schema: str
) -> None:
    role = f"role_{schema}"
    with engine.begin() as connection:
        for statement in (*FOXES, f"CREATE ROLE {role}", f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"GRANT INSERT ON fox TO {role}")
    search.tables.add("fox", ["name"])
    with engine.begin() as connection:
        (function,) = connection.scalars(text("SELECT proname FROM pg_proc WHERE proname LIKE 'kdb_track_fox_%'"))
        connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
        connection.exec_driver_sql("INSERT INTO fox VALUES (3, 'grey wolf', 'a', 1)")
        connection.exec_driver_sql("CREATE TABLE own (id INTEGER, name TEXT, tenant TEXT)")
        on_own = f"CREATE TRIGGER marks AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION {function}()"
        with pytest.raises(DBAPIError, match="permission denied for function"), connection.begin_nested():
            connection.exec_driver_sql(on_own)
    search.sync()
    assert found(search, "wolf", "fox") == ["3"]
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
