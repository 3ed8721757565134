"""Triggers keep table entities as their tables are: whatever writes a row, or one that its text is made of."""

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kameleon import SearchEngine, searchable
from kameleon.doctor import examine
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider
from stress.workloads.models import index

LIBRARY = (
    "CREATE TABLE writer (id INTEGER PRIMARY KEY, name TEXT, born INTEGER)",
    "CREATE TABLE topic (code VARCHAR(20) PRIMARY KEY, label TEXT)",
    "CREATE TABLE volume (id INTEGER PRIMARY KEY, title TEXT, views INTEGER DEFAULT 0, "
    "writer_id INTEGER REFERENCES writer ON DELETE SET NULL ON UPDATE CASCADE)",
    "CREATE TABLE volume_topic (volume_id INTEGER REFERENCES volume ON DELETE CASCADE, "
    "topic_code VARCHAR(20) REFERENCES topic ON DELETE CASCADE ON UPDATE CASCADE, PRIMARY KEY (volume_id, topic_code))",
    "INSERT INTO writer VALUES (1, 'Lem', 1921), (2, 'Woolf', 1882)",
    "INSERT INTO topic VALUES ('sf', 'robots'), ('sea', 'islands')",
    "INSERT INTO volume (id, title, writer_id) VALUES (1, 'Solaris', 1), (2, 'Cyberiad', 1), (3, 'Waves', 2)",
    "INSERT INTO volume_topic VALUES (1, 'sf'), (2, 'sf'), (3, 'sea')",
)
TEXTS = ["title", "writer.name", "volume_topic.topic.label"]

Write = Callable[..., None]


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def write(engine: Engine) -> Write:
    """Runs statements in one transaction, as another program does."""

    def run(*statements: str) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    return run


def marked(engine: Engine) -> list[str]:
    """The ids of the rows that are marked, each as often as it is."""
    with engine.connect() as connection:
        return sorted(connection.execute(text("SELECT record_id FROM kdb_dirty")).scalars())


def contents(engine: Engine) -> dict[str, str]:
    return {id_: content for (_, id_), content in index(engine).items()}


@pytest.fixture
def books(search: SearchEngine, write: Write) -> Any:
    write(*LIBRARY)
    volume = search.tables.define("volume", TEXTS)
    search.tables.refresh("volume")
    return volume


def assert_synced(search: SearchEngine, engine: Engine, **expected: str) -> None:
    """`sync` alone makes the index what these contents are, and `refresh` finds nothing else to write."""
    search.sync()
    assert contents(engine) == {key.removeprefix("_"): content for key, content in expected.items()}
    assert marked(engine) == []
    assert search.tables.refresh("volume").indexed == 0


def test_a_row_that_a_text_is_made_of_marks_its_records(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    write("UPDATE writer SET name = 'Stanislaw Lem' WHERE id = 1")
    assert marked(engine) == ["1", "2"]
    write("UPDATE topic SET label = 'sea' WHERE code = 'sea'")
    assert marked(engine) == ["1", "2", "3"]
    assert_synced(
        search,
        engine,
        _1="Solaris\nStanislaw Lem\nrobots",
        _2="Cyberiad\nStanislaw Lem\nrobots",
        _3="Waves\nWoolf\nsea",
    )


def test_a_row_between_marks_the_records_on_both_sides_of_its_change(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    write("INSERT INTO volume_topic VALUES (3, 'sf')", "DELETE FROM volume_topic WHERE volume_id = 1")
    assert marked(engine) == ["1", "3"]
    write("UPDATE volume_topic SET volume_id = 1 WHERE volume_id = 2")
    assert marked(engine) == ["1", "1", "2", "3"]
    assert_synced(search, engine, _1="Solaris\nLem\nrobots", _2="Cyberiad\nLem", _3="Waves\nWoolf\nislands, robots")


def test_columns_that_no_text_is_made_of_mark_no_record_of_another_table(
    books: Any, engine: Engine, write: Write
) -> None:
    write(
        "UPDATE writer SET born = 1900", "INSERT INTO writer VALUES (3, 'Nobody', 1)", "DELETE FROM writer WHERE id = 3"
    )
    assert marked(engine) == []
    write("UPDATE writer SET name = 'lem' WHERE id = 1")
    assert marked(engine) == ["1", "2"]


def test_columns_that_are_renamed_since_leave_their_table_writable(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    write("ALTER TABLE writer RENAME COLUMN name TO full_name", "ALTER TABLE volume RENAME COLUMN title TO heading")
    write("UPDATE writer SET full_name = 'x' WHERE id = 2", "UPDATE volume SET heading = 'y' WHERE id = 1")
    assert marked(engine) == ["1", "3"]
    assert "changed-table" in [one.check for one in examine(search)]


def test_actions_of_foreign_keys_mark_what_they_change(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    if engine.dialect.name == "sqlite":
        engine.dispose()
        event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA foreign_keys = ON"))
    write("UPDATE writer SET id = 7 WHERE id = 1", "UPDATE topic SET code = 'bot' WHERE code = 'sf'")
    write("DELETE FROM writer WHERE id = 2", "DELETE FROM topic WHERE code = 'sea'", "DELETE FROM volume WHERE id = 1")
    assert_synced(search, engine, _2="Cyberiad\nLem\nrobots", _3="Waves")


def test_an_upsert_marks_what_it_changes(books: Any, search: SearchEngine, engine: Engine, write: Write) -> None:
    write(
        "INSERT INTO writer VALUES (1, 'S. Lem', 0), (3, 'Poe', 0) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        "INSERT INTO volume (id, title, writer_id) VALUES (3, 'The Waves', 3), (4, 'Raven', 3) "
        "ON CONFLICT (id) DO UPDATE SET title = excluded.title, writer_id = excluded.writer_id",
    )
    assert_synced(
        search,
        engine,
        _1="Solaris\nS. Lem\nrobots",
        _2="Cyberiad\nS. Lem\nrobots",
        _3="The Waves\nPoe\nislands",
        _4="Raven\nPoe",
    )


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_replace_marks_the_records_of_the_rows_that_it_deletes(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    write("CREATE UNIQUE INDEX one_name ON writer (name)", "CREATE UNIQUE INDEX one_title ON volume (title)")
    search.tables.define("volume", TEXTS)
    write("REPLACE INTO volume (id, title) VALUES (9, 'Waves')")
    assert marked(engine) == ["3", "9"]
    search.track(books)
    write("REPLACE INTO writer VALUES (5, 'Lem', 0)")
    assert_synced(search, engine, _1="Solaris\nrobots", _2="Cyberiad\nrobots", _9="Waves")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", ["volume_topic", "writer", "volume"])
def test_truncate_marks_the_records_of_every_table_that_it_empties(
    books: Any, search: SearchEngine, engine: Engine, write: Write, name: str
) -> None:
    write(f"TRUNCATE {name} CASCADE")
    left = {"_1": "Solaris\nLem", "_2": "Cyberiad\nLem", "_3": "Waves\nWoolf"} if name == "volume_topic" else {}
    assert_synced(search, engine, **left)


KEYS = {
    "two columns": ("a INTEGER, b VARCHAR(9), PRIMARY KEY (a, b)", (), "1, 'x'", "1, 'y'", ['[1,"x"]', '[1,"y"]']),
    "text": ("a TEXT PRIMARY KEY, b INTEGER", (), "'x', 1", "'y', 2", ["x", "y"]),
    "a unique column": ("a INTEGER PRIMARY KEY, b VARCHAR(9) UNIQUE", ("b",), "1, 'x'", "2, 'y'", ["x", "y"]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_rows_are_marked_by_the_key_that_names_their_records(
    search: SearchEngine, engine: Engine, write: Write, kind: str
) -> None:
    columns, key, first, second, ids = KEYS[kind]
    # the title comes first, for a table constraint is the last of a definition
    write(f"CREATE TABLE volume (title TEXT, {columns})")
    search.tables.define("volume", ["title"], key=key)
    write(f"INSERT INTO volume VALUES ('one', {first}), ('two', {second})")
    assert marked(engine) == ids
    search.sync()
    write("UPDATE volume SET title = 'three' WHERE title = 'two'", "DELETE FROM volume WHERE title = 'one'")
    assert marked(engine) == ids
    assert_synced(search, engine, **{ids[1]: "three"})


def test_a_row_whose_key_is_null_is_written_and_is_no_record(
    search: SearchEngine, engine: Engine, write: Write
) -> None:
    write("CREATE TABLE volume (id INTEGER PRIMARY KEY, isbn VARCHAR(9) UNIQUE, title TEXT)")
    search.tables.define("volume", ["title"], key=["isbn"])
    write("INSERT INTO volume VALUES (1, NULL, 'none'), (2, 'x', 'one'), (3, 'y', 'two')")
    write("UPDATE volume SET isbn = NULL WHERE id = 3", "UPDATE volume SET isbn = 'z' WHERE id = 1")
    assert marked(engine) == ["x", "y", "y", "z"]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_keys_that_the_server_makes_are_marked(search: SearchEngine, engine: Engine, write: Write) -> None:
    write("CREATE TABLE volume (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text)")
    search.tables.define("volume", ["title"])
    write("INSERT INTO volume (title) VALUES ('one'), ('two')")
    with engine.connect() as connection:
        ids = sorted(map(str, connection.execute(text("SELECT id FROM volume")).scalars()))
    assert marked(engine) == ids


def test_a_record_moves_with_the_column_that_is_its_tenant(search: SearchEngine, engine: Engine, write: Write) -> None:
    write("CREATE TABLE volume (id INTEGER PRIMARY KEY, shop VARCHAR(9), title TEXT)")
    search.tables.define("volume", ["title"], tenant="shop")
    write("INSERT INTO volume VALUES (1, 'north', 'one'), (2, 'north', 'two')")
    search.sync()
    write("UPDATE volume SET shop = 'south' WHERE id = 1")
    search.sync()
    with engine.connect() as connection:
        found = connection.execute(text("SELECT record_id, tenant FROM kdb_search ORDER BY 1")).all()
    assert [tuple(row) for row in found] == [("1", "south"), ("2", "north")]
    assert marked(engine) == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_copy_and_partitions_are_marked(search: SearchEngine, engine: Engine, write: Write) -> None:
    write(
        "CREATE TABLE volume (id int, year int, title text, PRIMARY KEY (id, year)) PARTITION BY RANGE (year)",
        "CREATE TABLE volume_old PARTITION OF volume FOR VALUES FROM (0) TO (2000)",
    )
    search.tables.define("volume", ["title"])
    write("CREATE TABLE volume_new PARTITION OF volume FOR VALUES FROM (2000) TO (3000)")
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy("COPY volume FROM STDIN") as copy:
            copy.write("1\t1990\tone\n2\t2001\ttwo\n3\t1991\tthree\n")
    assert marked(engine) == ["[1,1990]", "[2,2001]", "[3,1991]"]
    search.sync()
    write("UPDATE volume SET year = 2005 WHERE id = 1", "TRUNCATE volume_old")
    assert_synced(search, engine, **{"[1,2005]": "one", "[2,2001]": "two"})
    assert "older definition" in finding(search).message
    assert finding(search, fix=True).is_fixed
    write("TRUNCATE volume_new")
    assert_synced(search, engine)


def finding(search: SearchEngine, **options: Any) -> Any:
    (found,) = [one for one in examine(search, **options) if one.check == "untracked"]
    return found


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_rows_of_tables_that_inherit_one_are_marked(search: SearchEngine, engine: Engine, write: Write) -> None:
    write("CREATE TABLE volume (id int PRIMARY KEY, title text)", "CREATE TABLE rare (price int) INHERITS (volume)")
    search.tables.define("volume", ["title"])
    write("INSERT INTO rare VALUES (1, 'one', 5)", "INSERT INTO volume VALUES (2, 'two')")
    assert marked(engine) == ["1", "2"]
    search.sync()
    write("TRUNCATE rare")
    assert_synced(search, engine, _2="two")


def test_entities_of_one_table_are_marked_each_by_triggers_of_its_own(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    titles = search.tables.define("volume", ["title"], name="titles")
    search.tables.define("writer", ["name"])
    write("UPDATE volume SET title = 'x' WHERE id = 1", "UPDATE writer SET name = 'y' WHERE id = 2")
    assert marked(engine) == ["1", "1", "2", "3"]
    search.untrack(titles)
    write("UPDATE volume SET title = 'z' WHERE id = 2")
    assert marked(engine) == ["1", "2", "2", "3"]
    search.tables.remove("volume")
    write("DELETE FROM writer")
    assert marked(engine) == ["1", "2", "2"]


def test_triggers_of_the_tables_own_fire_beside(search: SearchEngine, engine: Engine, write: Write) -> None:
    """What they write is marked, too."""
    write("CREATE TABLE volume (id INTEGER PRIMARY KEY, title TEXT)", "CREATE TABLE log (id INTEGER, title TEXT)")
    if engine.dialect.name == "sqlite":
        write(
            "CREATE TRIGGER own AFTER INSERT ON volume "
            "BEGIN UPDATE volume SET title = upper(title) WHERE id = NEW.id; END"
        )
    else:
        write(
            "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.title = upper(NEW.title); RETURN NEW; END $$",
            "CREATE TRIGGER own BEFORE INSERT ON volume FOR EACH ROW EXECUTE FUNCTION own()",
        )
    search.tables.define("volume", ["title"])
    write("INSERT INTO volume VALUES (1, 'one')")
    assert_synced(search, engine, _1="ONE")


def test_a_process_that_imports_nothing_works_off_marks(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    write("UPDATE writer SET name = 'x'")
    other = SearchEngine(engine, search.index.services.provider, namespace=search.namespace)
    assert_synced(other, engine, _1="Solaris\nx\nrobots", _2="Cyberiad\nx\nrobots", _3="Waves\nx\nislands")


DYING = """
import os, signal, sys
import kameleon
from kameleon import SearchEngine
from kameleon.testing import HashProvider

class Dying(HashProvider):
    def embed_batch(self, texts):
        writing.exec_driver_sql("INSERT INTO volume (id, title) VALUES (9, 'not committed')")
        os.kill(os.getpid(), signal.SIGKILL)

engine = kameleon.create_engine(sys.argv[1])
with engine.begin() as connection:
    connection.exec_driver_sql("UPDATE writer SET name = 'committed' WHERE id = 1")
writing = engine.connect()
SearchEngine(engine, Dying()).sync()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")
def test_what_a_killed_process_committed_is_indexed_by_the_next(
    books: Any, search: SearchEngine, engine: Engine
) -> None:
    """It wrote raw SQL, had claimed the marks, and dies as it embeds, with other rows not committed."""
    url = engine.url.render_as_string(hide_password=False)
    done = subprocess.run([sys.executable, "-c", DYING, url], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert marked(engine) == ["1", "2"]
    assert_synced(
        search, engine, _1="Solaris\ncommitted\nrobots", _2="Cyberiad\ncommitted\nrobots", _3="Waves\nWoolf\nislands"
    )


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_materialized_view_is_refreshed_after_its_own_refresh(
    search: SearchEngine, engine: Engine, write: Write
) -> None:
    write(*LIBRARY, "CREATE MATERIALIZED VIEW lem AS SELECT id, title FROM volume WHERE writer_id = 1")
    search.tables.define("lem", ["title"], key=["id"])
    search.tables.refresh("lem")
    write("UPDATE volume SET writer_id = 2 WHERE id = 1", "REFRESH MATERIALIZED VIEW lem")
    search.tables.refresh("lem")
    assert contents(engine) == {"2": "Cyberiad"}


def test_a_mapped_class_that_takes_over_a_table_keeps_its_triggers(
    search: SearchEngine, engine: Engine, write: Write, provider: HashProvider
) -> None:
    name = f"brochure_{engine.dialect.name}"
    write(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, title TEXT)", f"INSERT INTO {name} VALUES (1, 'one')")
    search.tables.add(name, ["title"])
    calls = len(provider.calls)

    class Base(DeclarativeBase):
        pass

    @searchable(fields=["title"], name=name)
    class Brochure(Base):
        __tablename__ = name

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    assert search.sync().indexed == 0
    assert len(provider.calls) == calls
    write(f"UPDATE {name} SET title = 'two'")
    assert search.sync().indexed == 1
    assert [hit.id for hit in search.search("two", entity=Brochure)] == ["1"]
    assert [one.check for one in examine(search) if one.severity != "note"] == []


def test_a_view_has_no_triggers_and_is_refreshed(search: SearchEngine, engine: Engine, write: Write) -> None:
    write(*LIBRARY, "CREATE VIEW lem AS SELECT id, title FROM volume WHERE writer_id = 1")
    lem = search.tables.define("lem", ["title"], key=["id"])
    search.tables.refresh("lem")
    assert contents(engine) == {"1": "Solaris", "2": "Cyberiad"}
    write("DELETE FROM volume WHERE id = 2", "UPDATE volume SET title = 'x' WHERE id = 1")
    assert marked(engine) == []
    assert search.tables.refresh("lem", batch_size=1).indexed == 1
    assert contents(engine) == {"1": "x"}
    with pytest.raises(InvalidInput, match=r"is a view, so no triggers can mark its rows.*table refresh lem"):
        search.track(lem)


def test_a_mapped_class_of_a_view_is_refused_with_the_command_that_indexes_it(
    search: SearchEngine, engine: Engine, write: Write
) -> None:
    name = f"poster_{engine.dialect.name}"
    write(f"CREATE VIEW {name} AS SELECT 1 AS id, 'one' AS title")

    class Base(DeclarativeBase):
        pass

    @searchable(fields=["title"], name=name)
    class Poster(Base):
        __tablename__ = name

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    with pytest.raises(InvalidInput, match=rf"`kameleon entity update {name} --import MODULE` indexes them"):
        search.track(Poster)


def test_the_doctor_sets_triggers_again_that_went_with_their_table(
    books: Any, search: SearchEngine, engine: Engine, write: Write
) -> None:
    """As a migration that makes a table again."""
    assert [one.check for one in examine(search) if one.severity != "note"] == []
    write(
        "CREATE TABLE made (id INTEGER PRIMARY KEY, name TEXT, born INTEGER)",
        "INSERT INTO made SELECT id, name || '!', born FROM writer",
        "DROP TABLE writer" + (" CASCADE" if engine.dialect.name == "postgresql" else ""),
        "ALTER TABLE made RENAME TO writer",
    )
    if engine.dialect.name == "postgresql":
        write("ALTER TABLE volume ADD FOREIGN KEY (writer_id) REFERENCES writer")
    found = finding(search)
    assert (found.entity, found.severity) == ("volume", "error")
    assert "the triggers of writer are missing" in found.message
    assert finding(search, fix=True).is_fixed
    assert [one.check for one in examine(search) if one.severity != "note"] == []
    write("UPDATE writer SET name = 'y' WHERE id = 2")
    assert_synced(search, engine, _1="Solaris\nLem!\nrobots", _2="Cyberiad\nLem!\nrobots", _3="Waves\ny\nislands")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_doctor_finds_triggers_that_are_disabled(books: Any, search: SearchEngine, write: Write) -> None:
    write("ALTER TABLE volume DISABLE TRIGGER ALL")
    assert "the triggers of volume are missing or were changed" in finding(search).message
    assert finding(search, fix=True).is_fixed
    assert [one.check for one in examine(search) if one.severity != "note"] == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_the_right_that_is_missing_is_named(search: SearchEngine, engine: Engine, write: Write, schema: str) -> None:
    write(
        *LIBRARY,
        "DROP ROLE IF EXISTS kdb_indexer",
        "CREATE ROLE kdb_indexer",
        f"GRANT USAGE, CREATE ON SCHEMA {schema} TO kdb_indexer",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO kdb_indexer",
        "GRANT TRIGGER ON writer, volume_topic, topic TO kdb_indexer",
    )
    role = engine.execution_options()
    event.listen(role, "begin", lambda connection: connection.exec_driver_sql("SET LOCAL ROLE kdb_indexer"))
    with pytest.raises(InvalidInput, match='GRANT TRIGGER ON volume TO "kdb_indexer"'):
        SearchEngine(role, search.index.services.provider, create_tables=False).tables.define("volume", TEXTS)
    write("DROP OWNED BY kdb_indexer", "DROP ROLE kdb_indexer")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("options", ["WITHOUT ROWID", "STRICT", "STRICT, WITHOUT ROWID"])
def test_tables_of_each_kind_are_marked(search: SearchEngine, engine: Engine, write: Write, options: str) -> None:
    write(f"CREATE TABLE volume (id INTEGER PRIMARY KEY, isbn TEXT UNIQUE, title TEXT) {options}")
    search.tables.define("volume", ["title"])
    write("INSERT INTO volume VALUES (1, 'x', 'one'), (2, 'y', 'two')", "REPLACE INTO volume VALUES (3, 'x', 'three')")
    write("UPDATE volume SET title = 'four' WHERE id = 2")
    assert_synced(search, engine, _2="four", _3="three")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_virtual_table_is_refreshed(search: SearchEngine, engine: Engine, write: Write) -> None:
    write("CREATE VIRTUAL TABLE volume USING rtree(id, least, most)", "INSERT INTO volume VALUES (1, 2, 3)")
    volume = search.tables.define("volume", ["least"], key=["id"])
    search.tables.refresh("volume")
    assert contents(engine) == {"1": "2.0"}
    with pytest.raises(InvalidInput, match="is a virtual table"):
        search.track(volume)


@pytest.mark.parametrize("name", ['Größe "%s": o\'brien', "order"])
def test_names_of_every_kind_are_quoted(search: SearchEngine, engine: Engine, write: Write, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    driver = quoted if engine.dialect.name == "sqlite" else quoted.replace("%", "%%")
    write(
        f"CREATE TABLE {driver} ({driver} INTEGER PRIMARY KEY, title TEXT)",
        f"CREATE TABLE volume ({driver} INTEGER REFERENCES {driver}, title TEXT, isbn TEXT PRIMARY KEY)",
        f"INSERT INTO {driver} VALUES (1, 'one')",
        "INSERT INTO volume VALUES (1, 'two', 'x')",
    )
    search.tables.define("volume", ["title"])
    search.tables.define(name, ["title"])
    write(f"UPDATE {driver} SET title = 'three'", "UPDATE volume SET title = 'four'")
    assert marked(engine) == ["1", "x"]
