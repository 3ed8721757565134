"""Classes that are made of tables: what of a table is searched, and how its columns and foreign keys are read."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import SearchEngine, create_engine, searchable
from kameleon.doctor import examine
from kameleon.errors import InvalidInput, InvalidRecord, TenantRequired, UnknownEntity
from kameleon.testing import HashProvider

LIBRARY = (
    "CREATE TABLE poet (id integer PRIMARY KEY, name text, country varchar(2))",
    "CREATE TABLE label (id integer PRIMARY KEY, name text)",
    "CREATE TABLE volume (id integer PRIMARY KEY, title text, poet_id integer REFERENCES poet (id), "
    "editor_id integer REFERENCES poet (id), sequel_id integer REFERENCES volume (id))",
    "CREATE TABLE volume_label (volume_id integer REFERENCES volume (id), label_id integer REFERENCES label (id))",
    "INSERT INTO poet VALUES (1, 'Ursula', 'us'), (2, 'Stanislaw', 'pl')",
    "INSERT INTO label VALUES (1, 'robots'), (2, 'islands')",
    "INSERT INTO volume VALUES (1, 'Earthsea', 1, 2, NULL), (2, 'Cyberiad', 2, NULL, 1), (3, 'Unknown', NULL, NULL, 2)",
    "INSERT INTO volume_label VALUES (1, 2), (2, 1), (2, 2)",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def ids(found: Sequence[Any]) -> list[str]:
    return sorted(hit.id for hit in found)


def test_texts_come_over_foreign_keys(search: SearchEngine, engine: Engine) -> None:
    run(engine, *LIBRARY)
    volume = search.tables.define(
        "volume", ["title", "poet.name", "volume_label.label.name", "editor.name", "sequel.title"]
    )
    search.tables.refresh("volume")

    assert ids(search.search("robots", entity=volume, mode="keyword")) == ["2"]
    assert ids(search.search("Stanislaw", entity=volume, mode="keyword")) == ["1", "2"]
    assert ids(search.search("Cyberiad", entity=volume, mode="keyword")) == ["2", "3"]
    assert ids(search.search("", entity=volume, where={"poet.country": "us"})) == ["1"]
    assert ids(search.search("", entity=volume, where={"volume_label.label.name": "islands"})) == ["1", "2"]
    found = search.search("", entity=volume, facets=["poet.country", "volume_label.label.name"])
    assert found.facets == {
        "poet.country": {"pl": 1, "us": 1},
        "volume_label.label.name": {"islands": 2, "robots": 1},
    }


def test_a_path_that_leads_nowhere_is_refused_with_what_there_is(search: SearchEngine, engine: Engine) -> None:
    run(engine, *LIBRARY)

    for path, known in {
        "writer.name": "There are: editor, poet, sequel, volume, volume_label",
        "poet.surname": "poet has no column 'surname'. ",
        "volume_label.genre.name": "There are: label, volume",
    }.items():
        with pytest.raises(InvalidInput, match=known):
            search.tables.define("volume", ["title", path])
    assert search.tables.list() == []


AWKWARD = {
    "sqlite": """CREATE TABLE "Odd ""Table"": 100%" (
        "the id" UUID PRIMARY KEY, "select" text, "it's" text, "100% :of" text, "größe" text, "metadata" text,
        "registry" text, "__class__" text, "_sa_instance_state" text, "a.b" text, "UPPER" text, untyped, day DATE,
        moment DATETIME, at TIME, amount NUMERIC(10, 2), flag BOOLEAN, document JSON, data BLOB, name STRING,
        long_ VARCHAR(10), "order" integer, made text GENERATED ALWAYS AS ("select" || '!') VIRTUAL)""",
    "postgresql": """CREATE TABLE "Odd ""Table"": 100%" (
        "the id" uuid PRIMARY KEY, "select" text, "it's" text, "100% :of" text, "größe" text, "metadata" text,
        "registry" text, "__class__" text, "_sa_instance_state" text, "a.b" text, "UPPER" text, untyped xid, day date,
        moment timestamptz, at timetz, amount money, flag boolean, document json, data bytea, name tsvector,
        long_ int4range, "order" integer, made text GENERATED ALWAYS AS ("select" || '!') STORED,
        ip inet, bits bit(3), parts text[], numbers integer[][], moods mood[], feeling mood, short short_text,
        many hstores, span interval, place point, embedding vector(2), ids oid, dims regclass, pair couple)""",
}
VALUES = {
    "sqlite": [
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('7f9c24e8-3b12-4fef-91e0-5d0cb1a4d1c2', 'ocelot', 'b', 'c', 'd',
        'e', 'f', 'g', 'h', 'i', 'J', 5, 'someday', 17, x'00', 'many', 'perhaps', '{broken', 'bytes', 12, 13, 'x')""",
        """INSERT INTO "Odd ""Table"": 100%" VALUES (12, 'margay', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'J', x'05',
        '2020-01-31', '2020-01-31T12:00:00Z', '12:30', 1.5, 1, '{"a": 1}', x'00', 'name', 'long', 3)""",
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('00000000-0000-0000-0000-000000000013', 'serval', 'b', 'c',
        'd', 'e', 'f', 'g', 'h', 'i', 'J', 'text',
        '2020-01-31 10:00:00', '2020-01-31 12:00:00', '12:30:00.5', 2, 0, '[1]', 5, 1.5, 'long', 4)""",
    ],
    "postgresql": [
        """INSERT INTO "Odd ""Table"": 100%" VALUES ('7f9c24e8-3b12-4fef-91e0-5d0cb1a4d1c2', 'ocelot', 'b', 'c', 'd',
        'e', 'f', 'g', 'h', 'i', 'J', '17', 'infinity', 'infinity', '12:30+02', 1.5, true, '{"a": 1}', '\\x00', 'a b',
        '[1,3)', 12, DEFAULT, '10.0.0.1', B'101', '{a,b}', '{{1,2}}', '{glad}', 'glad', 'short', '{x}', '1 year',
        '(1,2)', '[1,2]', 5, 'pg_class', '(1,x)')""",
        """INSERT INTO "Odd ""Table"": 100%" ("the id", "select", "it's", "100% :of", "größe", "a.b", "order", day)
        VALUES ('00000000-0000-0000-0000-000000000013', 'serval', 'b', 'c', 'd', 'i', 4, '2020-01-31')""",
    ],
}


def test_names_and_values_of_every_kind_are_read(search: SearchEngine, engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        run(
            engine,
            "CREATE TYPE mood AS ENUM ('glad', 'sad')",
            "CREATE DOMAIN short_text AS varchar(10)",
            "CREATE DOMAIN hstores AS text[]",
            "CREATE TYPE couple AS (one integer, other text)",
        )
    table = 'Odd "Table": 100%'
    name = engine.dialect.name
    with engine.begin() as connection:
        for statement in (AWKWARD[name], *VALUES[name]):
            connection.exec_driver_sql(statement.replace("%", "%%") if name == "postgresql" else statement)
    texts = ["select", "it's", "100% :of", "größe", "metadata", "registry", "a.b", "UPPER", "made", "untyped", "name"]
    cls = search.tables.define(table, texts)
    report = search.tables.refresh(table)

    assert report.failed == 0
    assert len(search.search("ocelot", entity=cls, mode="keyword")) == 1
    fields = list(map(str, inspect(cls).column_attrs.keys()))
    assert len(fields) > 20
    for field in fields:
        search.search("", entity=cls, sort=field)
        search.search("", entity=cls, facets=[field])
    found = search.search(
        "", entity=cls, where={"order": 4, "day": "2020-01-31", "größe": "d", "a.b": "i", "100% :of": "c", "it's": "b"}
    )
    assert ids(found) == ["00000000-0000-0000-0000-000000000013"]


KEYS = {
    "composite": ("(a integer, b text, title text, PRIMARY KEY (a, b))", (), '[1,"x"]'),
    "of_text": ("(a integer, b varchar(9) PRIMARY KEY, title text)", (), "x"),
    "of_a_unique_column": ("(a integer PRIMARY KEY, b text UNIQUE NOT NULL, title text)", ["b"], "x"),
    "of_named_columns": ("(a integer, b text, title text)", ["b", "a"], '["x",1]'),
}


def test_keys_of_every_kind_make_ids(search: SearchEngine, engine: Engine) -> None:
    for name, (columns, key, id_) in KEYS.items():
        run(engine, f"CREATE TABLE {name} {columns}", f"INSERT INTO {name} VALUES (1, 'x', 'fox'), (2, 'y', 'dog')")
        cls = search.tables.define(name, ["title"], key=key)
        search.tables.refresh(name)
        assert ids(search.search("fox", entity=cls, mode="keyword")) == [id_]
        assert search.search("", entity=cls, sort="a", facets=["b"])[0].id == id_


def test_rows_without_an_id_of_their_own_are_refused_by_name(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE parcel (a integer, b text, title text)")

    with pytest.raises(InvalidInput, match="parcel has no primary key"):
        search.tables.define("parcel", ["title"])
    run(engine, "INSERT INTO parcel VALUES (1, 'x', 'fox'), (2, 'x', 'dog'), (NULL, 'y', 'cat')")
    with pytest.raises(InvalidInput, match=r"rows of parcel share their b: x \(2 rows\)"):
        search.tables.define("parcel", ["title"], key=["b"])
    with pytest.raises(InvalidInput, match="1 rows of parcel have no a, so they have no id"):
        search.tables.define("parcel", ["title"], key=["a"])
    assert search.tables.list() == []


def test_a_row_that_gets_no_id_later_is_no_record(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE parcel (a integer, title text)", "INSERT INTO parcel VALUES (1, 'fox')")
    parcel = search.tables.define("parcel", ["title"], key=["a"])
    search.untrack(parcel)
    run(engine, "INSERT INTO parcel VALUES (NULL, 'dog'), (2, 'cat')")
    search.sync()
    search.tables.refresh("parcel")

    assert ids(search.search("", entity=parcel)) == ["1", "2"]
    assert search.get_status("parcel")[0].unindexed == 0


def test_rows_that_do_not_meet_the_condition_are_no_records(search: SearchEngine, engine: Engine) -> None:
    run(
        engine,
        "CREATE TABLE poet (id integer PRIMARY KEY, name text, deleted_at text)",
        "CREATE TABLE parcel (id integer PRIMARY KEY, title text, deleted_at text, poet_id integer REFERENCES poet)",
        "INSERT INTO poet VALUES (1, 'Ursula', '2020')",
        "INSERT INTO parcel VALUES (1, 'fox', NULL, 1), (2, '100%: done', NULL, 1), (3, 'dog', '2020', 1)",
    )
    where = "deleted_at IS NULL AND title NOT LIKE '%:%' -- rows that are there"
    parcel = search.tables.define("parcel", ["title", "poet.name"], where=where)
    assert search.get_status("parcel")[0].unindexed == 1
    search.sync()

    found = search.search("", entity=parcel, where={"poet.name": "Ursula"}, facets=["poet.deleted_at"])
    assert ids(found) == ["1"]
    assert found.facets == {"poet.deleted_at": {"2020": 1}}
    assert set(inspect(parcel).column_attrs.keys()) == {"id", "title", "deleted_at", "poet_id"}
    run(engine, "UPDATE parcel SET title = 'cat' WHERE id = 2", "UPDATE parcel SET deleted_at = '2021' WHERE id = 1")
    search.sync()
    assert ids(search.search("", entity=parcel)) == ["2"]
    assert [finding for finding in examine(search) if finding.severity == "error"] == []


def test_a_condition_that_is_none_is_refused(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE parcel (id integer PRIMARY KEY, title text)")

    for where in ("deleted IS NULL", "title =", "count(*) > 1"):
        with pytest.raises(InvalidInput, match="is no condition on the rows of parcel"):
            search.tables.define("parcel", ["title"], where=where)
    assert search.tables.list() == []


def test_a_column_divides_the_records_into_tenants(search: SearchEngine, engine: Engine) -> None:
    run(
        engine,
        'CREATE TABLE parcel (id integer PRIMARY KEY, title text, "org.id" integer)',
        "INSERT INTO parcel VALUES (1, 'fox', 7), (2, 'fox', 8)",
    )
    parcel = search.tables.define("parcel", ["title"], tenant="org.id")
    search.tables.refresh("parcel")

    assert ids(search.search("fox", entity=parcel, mode="keyword", tenant=7)) == ["1"]
    with pytest.raises(TenantRequired):
        search.search("fox", entity=parcel)


def test_a_declared_class_takes_the_place_of_a_table_entity(
    search: SearchEngine, engine: Engine, provider: HashProvider
) -> None:
    table = f"tome_{engine.dialect.name}"  # the class outlives the test
    run(engine, f"CREATE TABLE {table} (id integer PRIMARY KEY, title text)", f"INSERT INTO {table} VALUES (1, 'fox')")
    made = search.table(table, {"title": 2})
    search.sync()
    calls = len(provider.calls)

    class Base(DeclarativeBase):
        pass

    @searchable(fields={"title": 2}, name=table)
    class Tome(Base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    report = search.sync()
    assert (report.embedded, report.indexed) == (0, 0)
    assert ids(search.search("fox", entity=Tome, mode="keyword")) == ["1"]
    run(engine, f"INSERT INTO {table} VALUES (2, 'fox')")
    search.sync()
    assert ids(search.search("fox", entity=Tome, where=Tome.id > 1)) == ["2"]
    assert len(provider.calls) == calls + 1
    assert search.table(table) is search.table(table, {"title": 2}) is Tome
    with pytest.raises(InvalidInput, match="declared as a class"):
        search.search("fox", entity=made)


@pytest.mark.parametrize("column", ["title", "of_another_database"])
def test_a_declared_class_of_another_table_is_another_entity(search: SearchEngine, engine: Engine, column: str) -> None:
    table = f"leaflet_{column}_{engine.dialect.name}"
    run(engine, f"CREATE TABLE {table} (id integer PRIMARY KEY, title text)", f"INSERT INTO {table} VALUES (1, 'fox')")
    made = search.table(table, ["title"])
    search.sync()

    class Base(DeclarativeBase):
        pass

    @searchable(fields=["title"], name=table)
    class Other(Base):
        __tablename__ = f"other_{table}" if column == "title" else table
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(column)

    with pytest.raises(InvalidInput, match=f"two searchable classes are named '{table}'"):
        search.search("fox", entity=Other)
    assert ids(search.search("fox", entity=made, mode="keyword")) == ["1"]


def test_a_view_is_searched_by_a_key_that_is_named(search: SearchEngine, engine: Engine) -> None:
    run(engine, *LIBRARY, "CREATE VIEW bookcase AS SELECT id AS number, title FROM volume")
    kinds = ["bookcase"]
    if engine.dialect.name == "postgresql":
        run(engine, "CREATE MATERIALIZED VIEW hall AS SELECT * FROM bookcase")
        kinds.append("hall")
    for name in kinds:
        with pytest.raises(InvalidInput, match=f"{name} has no primary key"):
            search.tables.define(name, ["title"])
        bookcase = search.tables.define(name, ["title"], key=["number"])
        search.tables.refresh(name)
        assert ids(search.search("Earthsea", entity=bookcase, mode="keyword")) == ["1"]


def test_a_table_that_was_changed_is_found_and_breaks_no_other(search: SearchEngine, engine: Engine) -> None:
    run(engine, *LIBRARY)
    search.tables.define("volume", ["title", "poet.name"])
    label = search.tables.define("label", ["name"])
    search.sync()
    run(engine, "ALTER TABLE poet RENAME COLUMN name TO surname", "UPDATE label SET name = 'quays' WHERE id = 1")

    other = SearchEngine(engine, search.provider, namespace=search.namespace)
    assert ("changed-table", "volume", "error") in [(one.check, one.entity, one.severity) for one in examine(other)]
    other.sync()
    assert ids(other.search("quays", entity=other.tables.get("label"), mode="keyword")) == ["1"]
    assert "poet has no column 'name'" in other.get_status()[0].note
    with pytest.raises(InvalidInput, match="kameleon table remove volume"):
        other.tables.get("volume")
    run(engine, "UPDATE volume SET title = 'x'", "UPDATE label SET name = 'docks' WHERE id = 1")
    search.sync()
    assert ids(search.search("docks", entity=label, mode="keyword")) == ["1"]
    search.tables.define("volume", ["title", "poet.surname"], replace=True)
    search.sync()
    assert ids(search.search("Stanislaw", entity=search.tables.get("volume"), mode="keyword")) == ["2"]
    run(engine, "DROP TABLE volume_label", "DROP TABLE volume")
    other.tables.remove("volume")
    assert [one.entity for one in other.tables.list()] == ["label"]


JOINS = {
    "two_keys": (
        "(id integer PRIMARY KEY, title text, home_id integer REFERENCES squad (id), "
        "guest_id integer REFERENCES squad (id))",
        "(1, 'x', 1, 2)",
        {"home.name": "crows", "guest.name": "owls"},
    ),
    "a_column_of_the_name": (
        "(id integer PRIMARY KEY, title text, squad integer REFERENCES squad (id))",
        "(1, 'x', 2)",
        {"squad_by_squad.name": "owls"},
    ),
    "composite_key": (
        "(id integer PRIMARY KEY, title text, number integer, code text, "
        "FOREIGN KEY (number, code) REFERENCES squad (id, code))",
        "(1, 'x', 2, 'b')",
        {"squad.name": "owls"},
    ),
    "own_rows": (
        "(id integer PRIMARY KEY, title text, parent_id integer REFERENCES own_rows (id))",
        "(1, 'x', NULL), (2, 'owls', 1), (3, 'crows', 2)",
        {"own_rows.title": "owls", "own_rows.own_rows.title": "crows"},
    ),
    "unique_column": (
        "(id integer PRIMARY KEY, title text, squad_code text REFERENCES squad (code))",
        "(1, 'x', 'b')",
        {"squad_by_squad_code.name": "owls"},
    ),
}


def test_foreign_keys_of_every_kind_are_followed(search: SearchEngine, engine: Engine) -> None:
    squad = "CREATE TABLE squad (id integer PRIMARY KEY, code text UNIQUE, name text, UNIQUE (id, code))"
    run(engine, squad, "INSERT INTO squad VALUES (1, 'a', 'crows'), (2, 'b', 'owls')")
    for name, (columns, rows, words) in JOINS.items():
        run(engine, f"CREATE TABLE {name} {columns}", f"INSERT INTO {name} VALUES {rows}")
        cls = search.tables.define(name, ["title", *words])
        search.tables.refresh(name)
        for path, word in words.items():
            assert ids(search.search("", entity=cls, where={"id": 1, path: word})) == ["1"]
            assert "1" in ids(search.search(word, entity=cls, mode="keyword"))


def test_each_engine_has_its_own_table_entities(search: SearchEngine, engine: Engine, tmp_path: Path) -> None:
    other = SearchEngine(create_engine(f"sqlite:///{tmp_path / 'other.db'}"), HashProvider())
    for each, word in ((search, "fox"), (other, "dog")):
        run(
            each.engine,
            "CREATE TABLE parcel (id integer PRIMARY KEY, title text)",
            f"INSERT INTO parcel VALUES (1, '{word}')",
        )
        each.table("parcel", ["title"])
        each.sync()

    assert search.table("parcel") is not other.table("parcel")
    for each, word in ((search, "fox"), (other, "dog")):
        assert ids(each.search(word, entity=each.table("parcel"), mode="keyword")) == ["1"]
        assert [finding for finding in examine(each) if finding.severity == "error"] == []
    with pytest.raises(UnknownEntity, match="no table was added as 'books'"):
        search.table("books")


def test_a_table_of_another_schema_is_searched(pg_engine: Engine) -> None:
    other = f"other_{uuid4().hex[:8]}"
    with pg_engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {other}"))
        connection.execute(text(f"CREATE TABLE {other}.poet (id integer PRIMARY KEY, name text)"))
        connection.execute(
            text(
                f"CREATE TABLE {other}.volume (id integer PRIMARY KEY, title text, poet_id integer "
                f"REFERENCES {other}.poet)"
            )
        )
        connection.execute(text(f"INSERT INTO {other}.poet VALUES (1, 'Ursula')"))
        connection.execute(text(f"INSERT INTO {other}.volume VALUES (1, 'Earthsea', 1)"))
    try:
        engine = SearchEngine(pg_engine, HashProvider())
        volume = engine.table("volume", ["title", "poet.name"], schema=other)
        engine.sync()
        assert ids(engine.search("Ursula", entity=volume, where={"poet.name": "Ursula"})) == ["1"]
    finally:
        with pg_engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {other} CASCADE"))


@pytest.mark.parametrize("moment", ["2020-01-31 12:00:00", "2020-01-31T12:00:00Z", "2020-01-31 12:00:00.000000"])
def test_moments_that_sqlite_holds_compare_however_they_are_written(tmp_path: Path, moment: str) -> None:
    search = SearchEngine(create_engine(f"sqlite:///{tmp_path / 'test.db'}"), HashProvider())
    run(
        search.engine,
        "CREATE TABLE parcel (id integer PRIMARY KEY, title text, at DATETIME, day DATE)",
        f"INSERT INTO parcel VALUES (1, 'fox', '{moment}', '{moment}'), (2, 'dog', 'never', 'never')",
    )
    parcel = search.table("parcel", ["title"])
    search.sync()

    at = datetime(2020, 1, 31, 12)
    for condition in ({"at": at}, {"at": {"$gte": at, "$lte": at}}, {"at": {"$in": [at]}}, {"day": at.date()}):
        assert ids(search.search("", entity=parcel, where=condition)) == ["1"]
    assert ids(search.search("", entity=parcel, where={"at": {"$gt": at}})) == []
    found = search.search("", entity=parcel, facets=["at", "day"], sort="at")
    assert found.facets == {"at": {at: 1, "never": 1}, "day": {at.date(): 1, "never": 1}}


def test_a_class_of_a_definition_that_was_replaced_is_refused(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE parcel (id integer PRIMARY KEY, title text)", "INSERT INTO parcel VALUES (1, 'fox')")
    former = search.table("parcel", ["title"])
    search.tables.remove("parcel")
    with pytest.raises(InvalidInput, match="this class of the table parcel was made before it was removed"):
        search.search("fox", entity=former)
    search.table("parcel", {"title": 2})
    search.sync()

    with pytest.raises(InvalidInput, match="returns the present one"):
        search.search("fox", entity=former)
    assert ids(search.search("fox", entity=search.table("parcel"), mode="keyword")) == ["1"]


def test_sessions_write_rows_of_table_entities(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE parcel (id integer PRIMARY KEY, title text, gone text)")
    parcel: Any = search.table("parcel", ["title"], where="gone IS NULL")
    with search.attach(sessionmaker(engine))() as session:
        session.add_all([parcel(id=1, title="fox"), parcel(id=2, title="fox", gone="2020")])
        session.commit()
        assert ids(search.search("fox", entity=parcel, mode="keyword")) == ["1"]
        session.get_one(parcel, 1).gone = "2021"
        session.get_one(parcel, 2).gone = None
        session.commit()
        found = search.search("fox", entity=parcel, mode="keyword", session=session, load=True)
        assert [(hit.id, hit.object.title) for hit in found] == [("2", "fox")]


def test_a_text_among_whole_numbers_is_named(tmp_path: Path) -> None:
    search = SearchEngine(create_engine(f"sqlite:///{tmp_path / 'test.db'}"), HashProvider())
    run(search.engine, "CREATE TABLE parcel (a INT, title text)", "INSERT INTO parcel VALUES ('x', 'fox')")

    with pytest.raises(InvalidRecord, match=r"the key \('x',\) of parcel is not of its columns' types"):
        search.tables.add("parcel", ["title"], key=["a"])


def test_an_index_of_keywords_alone_is_synchronized(engine: Engine) -> None:
    run(engine, "CREATE TABLE wordbook (id integer PRIMARY KEY, title text)", "INSERT INTO wordbook VALUES (1, 'fox')")
    search = SearchEngine(engine)
    search.tables.define("wordbook", ["title"])

    assert search.sync().indexed == 1
    assert ids(search.search("fox", entity="wordbook")) == ["1"]


def test_rows_that_are_marked_during_sync_are_left_to_the_next(search: SearchEngine, engine: Engine) -> None:
    run(engine, "CREATE TABLE busybook (id integer PRIMARY KEY, title text)", "INSERT INTO busybook VALUES (1, 'one')")
    search.tables.define("busybook", ["title"])
    search.sync()
    written = list[int]()

    def write(_event: str, _figures: object) -> None:
        written.append(len(written) + 2)
        if len(written) < 9:
            run(engine, f"INSERT INTO busybook VALUES ({written[-1]}, 'number {written[-1]}')")

    search.on("embedding.batch_generated", write)
    run(engine, "UPDATE busybook SET title = 'a fox' WHERE id = 1")

    assert search.sync(only_marked=True).indexed == 1
    assert written == [2]
    assert search.sync(only_marked=True).indexed == 1


@pytest.mark.parametrize("where", ["id = $1", "id = %s", "id = :id"])
def test_a_condition_takes_no_parameters(search: SearchEngine, engine: Engine, where: str, backend: str) -> None:
    run(engine, "CREATE TABLE askbook (id integer PRIMARY KEY, title text)")

    with pytest.raises(InvalidInput, match="is no condition on the rows of askbook"):
        search.tables.define("askbook", ["title"], where=where)
