"""Alembic migrations of an application whose database also holds an index."""

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import Script
from sqlalchemy import URL, Column, Engine, Text, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from kameleon import SearchEngine, searchable
from kameleon.alembic import include_name, include_name_and
from kameleon.errors import InvalidInput
from kameleon.testing import HashProvider

from .conftest import ids, schema_on, url_in

ENV = """
from alembic import context

given = context.config.attributes
if context.is_offline_mode():
    context.configure(dialect_name="sqlite")
    context.run_migrations()
else:
    with given["engine"].connect() as connection:
        context.configure(connection=connection, target_metadata=given["metadata"], **given["options"])
        with context.begin_transaction():
            context.run_migrations()
"""


class Application:
    """One searchable table, and a folder of migrations."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        class Base(DeclarativeBase):
            pass

        @searchable(fields=["title"])
        class Note(Base):
            __tablename__ = "note"

            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(Text)

        self.engine, self.note, self.metadata = engine, Note, Base.metadata
        self.config = Config(folder / "alembic.ini", attributes={"engine": engine, "metadata": Base.metadata})
        command.init(self.config, str(folder / "migrations"))
        self.config.set_main_option("script_location", str(folder / "migrations"))
        (folder / "migrations" / "env.py").write_text(ENV, "utf-8")

    def revise(self, **options: Any) -> list[str]:
        """The operations that autogenerate proposes; the migration is kept if there are any."""
        self.config.attributes["options"] = options
        made = command.revision(self.config, autogenerate=True)
        assert isinstance(made, Script)
        upgrade = Path(made.path).read_text("utf-8").partition("def upgrade")[2].partition("def downgrade")[0]
        if "op." not in upgrade:
            Path(made.path).unlink()
        return re.findall(r"^    op\.(\w+\('\w+')", upgrade, re.MULTILINE)

    def upgrade(self, **options: Any) -> None:
        self.config.attributes["options"] = options
        command.upgrade(self.config, "head")

    def write_migration(self, line: str) -> None:
        made = command.revision(self.config)
        assert isinstance(made, Script)
        path = Path(made.path)
        code = path.read_text("utf-8").replace("import sqlalchemy as sa", "import kameleon.alembic")
        path.write_text(re.sub(r"(?s)(def upgrade.*?)    pass", rf"\1    {line}", code), "utf-8")

    def commit_a_note(self, search: SearchEngine) -> None:
        with search.attach(sessionmaker(self.engine)).begin() as session:
            session.add(self.note(title="red fox"))


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def application(engine: Engine, tmp_path: Path) -> Application:
    return Application(engine, tmp_path)


def migrated_and_indexed(application: Application, **options: Any) -> None:
    assert application.revise(include_name=include_name) == ["create_table('note'"]
    application.upgrade()
    application.commit_a_note(SearchEngine(application.engine, HashProvider(), **options))


def test_without_the_filter_autogenerate_would_drop_the_index(application: Application) -> None:
    migrated_and_indexed(application)
    assert {"drop_table('kdb_search'", "drop_table('kdb_embedding_g1'"} <= set(application.revise())


def test_autogenerate_sees_the_application_alone(application: Application) -> None:
    migrated_and_indexed(application)
    assert application.revise(include_name=include_name) == []
    application.note.__table__.append_column(Column("body", Text))  # type: ignore[attr-defined]
    assert application.revise(include_name=include_name) == ["add_column('note'"]
    application.upgrade()
    assert "body" in {column["name"] for column in inspect(application.engine).get_columns("note")}


def test_an_index_in_a_schema_of_its_own_is_left_alone(server: URL, pg_url: URL, tmp_path: Path) -> None:
    with schema_on(server) as main_schema, schema_on(server) as own:
        engine = sqlalchemy.create_engine(url_in(server, main_schema))
        application = Application(engine, tmp_path)
        migrated_and_indexed(application, schema=own)
        assert application.revise(include_name=include_name, include_schemas=True) == []
        engine.dispose()


def test_an_applications_own_filter_goes_on_top(application: Application) -> None:
    migrated_and_indexed(application)
    with application.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE legacy (id integer)")
    assert application.revise(include_name=include_name) == ["drop_table('legacy'"]
    both = include_name_and(lambda name, _type, _parents: name != "legacy")
    assert both("legacy", "table", {}) is False
    assert both("kdb_search_fts_data", "table", {}) is False
    assert both("kdb_mine", "index", {}) is True


def test_a_migration_makes_the_tables(application: Application) -> None:
    application.write_migration("kameleon.alembic.create_tables(op.get_bind())")
    application.upgrade()
    assert application.revise(include_name=include_name) == ["create_table('note'"]
    application.upgrade()
    search = SearchEngine(application.engine, HashProvider(), create_tables=False)
    application.commit_a_note(search)
    assert ids(search.search("fox")) == ["1"]


def test_a_migration_that_fails_makes_no_tables(pg_engine: Engine, tmp_path: Path) -> None:
    application = Application(pg_engine, tmp_path)
    application.write_migration("kameleon.alembic.create_tables(op.get_bind()); op.execute('SELECT 1 / 0')")
    with pytest.raises(sqlalchemy.exc.DataError):
        application.upgrade()
    assert inspect(pg_engine).get_table_names() == []


def test_an_offline_migration_is_refused(application: Application) -> None:
    application.write_migration("kameleon.alembic.create_tables(op.get_bind())")
    with pytest.raises(InvalidInput, match="online"):
        command.upgrade(application.config, "head", sql=True)
