"""SQLite databases in folders that are read-only."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

import kameleon
from kameleon import SearchEngine

SEARCH = """
import json, sys
import kameleon, sqlalchemy
from kameleon import SearchEngine
create = kameleon.create_engine if sys.argv[2] == "kameleon" else sqlalchemy.create_engine
try:
    search = SearchEngine(create(sys.argv[1]), "static")
    print(json.dumps([hit.id for hit in search.search("wages")]))
    search.index_record("Note", "2", "written")
except kameleon.KameleonError as error:
    print(error)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "read only & shared"
    made.mkdir()
    engine = kameleon.create_engine(f"sqlite:///{made / 'app.db'}")
    SearchEngine(engine, "static").index_record("Note", "1", "Wages were not paid")
    engine.dispose()
    yield made
    made.chmod(0o755)


def plain_user(*command: str) -> list[str]:
    """The command without the capabilities that let root write everywhere."""
    if os.getuid():
        return list(command)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write read-only folders, and there is no setpriv")
    return [setpriv, "--bounding-set=-all", "--inh-caps=-all", *command]


def lock(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


def searched(folder: Path, url: str, create: str = "kameleon") -> list[str]:
    command = plain_user(sys.executable, "-W", "ignore", "-c", SEARCH, url, create)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("form", ["sqlite:///{}", "sqlite:///file:{}?mode=ro&uri=true"])
def test_a_search_works_and_the_error_of_a_write_gives_the_reason(folder: Path, form: str) -> None:
    lock(folder)
    path = str(folder / "app.db").replace(" ", "%20") if "uri" in form else str(folder / "app.db")
    hits, error = searched(folder, form.format(path))
    assert json.loads(hits) == ["1"]
    assert "attempt to write a readonly database" in error
    assert "a user who may write the file and its folder" in error


def test_the_command_searches_it(folder: Path, console_script: str) -> None:
    lock(folder)
    command = plain_user(console_script, "-d", f"sqlite:///{folder / 'app.db'}", "search", "wages", "--json")
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=True)
    assert [hit["id"] for hit in json.loads(done.stdout)["hits"]] == ["1"]
    command[-3:] = ["data", "insert", "Note", '{"text": "some words"}']
    refused = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert refused.returncode == 1
    assert "a user who may write the file and its folder" in refused.stderr


def test_a_plain_engine_gets_an_error_that_names_what_works(folder: Path) -> None:
    lock(folder)
    (error,) = searched(folder, f"sqlite:///{folder / 'app.db'}", "sqlalchemy")
    assert "kameleon.create_engine" in error
    assert "immutable=1" in error


def test_a_log_with_changes_is_not_passed_over(folder: Path, tmp_path: Path) -> None:
    engine = kameleon.create_engine(f"sqlite:///{folder / 'app.db'}")
    SearchEngine(engine, "static").index_record("Note", "9", "Wages of April")
    left = tmp_path / "left"
    left.mkdir()
    for name in ("app.db", "app.db-wal"):
        shutil.copy(folder / name, left / name)
    engine.dispose()
    assert (left / "app.db-wal").stat().st_size > 0
    lock(left)
    (error,) = searched(left, f"sqlite:///{left / 'app.db'}")
    assert "wal_checkpoint(TRUNCATE)" in error
    assert "app.db-wal" in error


def test_a_file_that_changes_is_opened_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the folder is another user's, whose process still writes."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    reading = kameleon.create_engine(f"sqlite:///{folder / 'app.db'}")
    search = SearchEngine(reading, "static")
    assert [hit.id for hit in search.search("wages")] == ["1"]
    monkeypatch.undo()
    writing = kameleon.create_engine(f"sqlite:///{folder / 'app.db'}")
    SearchEngine(writing, "static").index_record("Note", "2", "Wages of April")
    found: list[Any] = [hit.id for hit in search.search("wages")]
    writing.dispose()
    found += [hit.id for hit in search.search("wages")]
    reading.dispose()
    assert [sorted(found[:2]), sorted(found[2:])] == [["1", "2"], ["1", "2"]]


def test_a_folder_that_may_be_written_is_opened_as_ever(folder: Path) -> None:
    engine = kameleon.create_engine(f"sqlite:///{folder / 'app.db'}")
    search = SearchEngine(engine, "static")
    search.index_record("Note", "2", "Wages of April")
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("PRAGMA journal_mode")) == "wal"
    engine.dispose()
