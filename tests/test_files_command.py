"""`kameleon data insert` of CSV, several files and pipes."""

import gzip
import json
import os
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .test_cli import Run, checked

FILMS = "id;title;year;zip\n7;The long ferry;1999;007\n8;Harbour at noon;2003;008\n"


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(backend: str, request: pytest.FixtureRequest, command: Callable[..., Any]) -> Run:
    plain = checked(command)
    if backend == "sqlite":
        return plain
    url = request.getfixturevalue("pg_url").render_as_string(hide_password=False)

    def call(*arguments: str, **options: Any) -> Any:
        return plain(*arguments, KAMELEON_URL=url, **options)

    return call


def stored(run: Run, entity: str = "Film") -> list[Any]:
    return [json.loads(line) for line in run("data", "list", entity).stdout.splitlines()]


def continued(stderr: str) -> list[str]:
    return shlex.split(stderr.strip().rpartition("Continue with: ")[2])[1:]


def test_csv_is_inserted_and_searched(run: Run, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text(FILMS)
    done = run("data", "insert", "Film", "films.csv")
    assert "films.csv: 4 columns, delimiter semicolon: id, title, year (number), zip" in done.stderr
    assert stored(run)[0] == {"id": "7", "title": "The long ferry", "year": 1999, "zip": "007"}
    found = run("search", "ferry", "--entity", "Film", "--where", '{"year": {"$lt": 2000}}', "--json").stdout
    assert [hit["id"] for hit in json.loads(found)["hits"]] == ["7"]
    again = json.loads(run("data", "insert", "Film", "films.csv", "--on-conflict", "replace", "--json").stdout)
    assert (again["updated"], again["embedded"]) == (2, 0)


def test_several_files_are_one_run_that_can_be_continued(run: Run, tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,title,year\n1,a ferry,1999\n2,a boat,2000\n")
    (tmp_path / "2.csv").write_text("id,title,year\n3,a train,2001\n4,a plane,unknown\n5,a car,2002\n")
    (tmp_path / "3.jsonl").write_text('{"id": "6", "title": "a bike", "year": 2003}\n')
    failed = run("data", "insert", "Film", "1.csv", "2.csv", "--from-file", "3.jsonl", status=1)
    assert "Error: 2.csv:3: column year: 'unknown' is not a number" in failed.stderr
    words = continued(failed.stderr)
    assert words[-2:] == ["--from-line", "2.csv:3"]
    run(*words, "--null", "unknown")
    assert [(row["id"], row["year"]) for row in stored(run)] == [
        *(("1", 1999), ("2", 2000), ("3", 2001), ("4", None), ("5", 2002), ("6", 2003)),
    ]


def test_rejects_of_csv_can_be_inserted_once_they_are_corrected(run: Run, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_bytes('id,title\n1,Café\n2,x,y\n"3\n1,again\n4,Fin\n'.encode("cp1252"))
    options = ("--skip-invalid", "--rejects", "bad.csv", "--encoding", "cp1252")
    done = json.loads(run("data", "insert", "Film", "films.csv", *options, "--json").stdout)
    assert (done["inserted"], done["rejected"]) == (2, 3)
    bad = tmp_path / "bad.csv"
    assert bad.read_bytes() == b'id,title\n2,x,y\n"3\n1,again\n'
    bad.write_text("id,title\n2,x y\n3,z\n5,again\n")
    run("data", "insert", "Film", "bad.csv")
    assert [row["id"] for row in stored(run)] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    "printed",
    [
        '[{"id":7,"title":"The long ferry","year":1999},\n{"id":8,"title":"Harbour","year":null}]\n',  # sqlite3 -json
        'id,title,year\r\n7,"The long ferry",1999\r\n8,Harbour,\r\n',  # sqlite3 -csv -header
        "id,title,year\n7,The long ferry,1999\n8,Harbour,\n",  # psql --csv
        '{\n  "id": 7,\n  "title": "The long ferry",\n  "year": 1999\n}\n'  # jq
        '{\n  "id": 8,\n  "title": "Harbour",\n  "year": null\n}\n',
    ],
)
def test_what_other_programs_print_is_read_from_a_pipe(run: Run, printed: str) -> None:
    expected = [{"id": "7", "title": "The long ferry", "year": 1999}, {"id": "8", "title": "Harbour", "year": None}]
    run("data", "insert", "Film", stdin=printed)
    assert stored(run) == expected
    run("data", "insert", "Film", "--on-conflict", "replace", stdin=gzip.compress(printed.encode()))
    assert stored(run) == expected


def test_a_declared_field_has_its_own_type(run: Run) -> None:
    run("entity", "create", "Film", "--search", "title", "--field", "code:text", "--field", "tags:list")
    run("data", "insert", "Film", stdin='id,title,code,tags\n1,x,12,"[""a""]"\n')
    assert stored(run) == [{"id": "1", "title": "x", "code": "12", "tags": ["a"]}]
    failed = run("data", "insert", "Film", stdin="id,title,tags\n2,x,a\n", status=1)
    assert "stdin:2: column tags: 'a' is not a JSON list, its type. --null a makes it null" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["films.csv", '{"id": 1}'], "give records as an argument or name files, not both"),
        (["gone.csv"], "no file 'gone.csv'"),
        (["films.csv", "--type", "year"], "--type is NAME:TYPE"),
        (["films.csv", "--from-line", "films.csv"], "--from-line is a number from 1 on, or FILE:NUMBER"),
    ],
)
def test_wrong_usage_is_refused(command: Callable[..., Any], tmp_path: Path, arguments: list[str], reason: str) -> None:
    (tmp_path / "films.csv").write_text(FILMS)
    assert reason in checked(command)("data", "insert", "Film", *arguments, status=2).stderr


def test_types_and_columns_are_options(command: Callable[..., Any], tmp_path: Path) -> None:
    run = checked(command)
    (tmp_path / "films.csv").write_text("1,x,NA\n")
    options = ("--columns", "key,title,n", "--type", "title:text", "--null", "NA", "--id-field", "key")
    run("data", "insert", "Film", "films.csv", *options)
    assert stored(run) == [{"id": "1", "title": "x", "n": None}]


def test_options_that_no_file_has_are_refused_before_anything_is_read(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    run = checked(command)
    (tmp_path / "films.csv").write_text(FILMS)
    (tmp_path / "more.jsonl").write_text('{"id": "9"}\n')
    failed = run("data", "insert", "Film", "more.jsonl", "--quote", "none", status=1)
    assert "--quote is of csv, tsv, and what is read is jsonl" in failed.stderr
    failed = run("data", "insert", "Film", "films.csv", "more.jsonl", "--from-line", "other.csv:2", status=1)
    assert "'other.csv' is none of the files that are read" in failed.stderr
    assert run("entity", "list").stdout == ""
    run("data", "insert", "Film", "films.csv", "more.jsonl", "--quote", "none")
    assert len(stored(run)) == 3


def test_a_named_pipe_and_a_hyphen_are_read(command: Callable[..., Any], tmp_path: Path) -> None:
    run = checked(command)
    run("data", "insert", "Film", "-", stdin=FILMS)
    assert len(stored(run)) == 2
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        pool.submit((tmp_path / "pipe").write_text, FILMS.replace("ferry", "boat"))
        run("data", "insert", "Film", "pipe", "--on-conflict", "replace")
    assert stored(run)[0]["title"] == "The long boat"
