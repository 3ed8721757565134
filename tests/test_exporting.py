"""Exports: every kind of entity, every format, and stored again elsewhere with nothing embedded."""

import gzip
import io
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

import kameleon
from kameleon import ALL_TENANTS, RecordStore, SearchEngine, searchable
from kameleon.errors import InvalidInput, TenantRequired, UnknownEntity
from kameleon.exporting import Export
from kameleon.files.vectors import split_embeddings
from kameleon.testing import HashProvider

from .conftest import Make, ids
from .test_cli import Run, checked

RECORDS: list[dict[str, Any]] = [
    {"id": "1", "title": "red fox", "year": 1990, "tags": ["a", "b"], "open": True},
    {"id": "2", "title": 'lazy "dog"\nsleeps', "year": 2001, "note": None},
    {"id": "3", "title": " ".join(f"word{n} and fox," for n in range(200))},
]


class Short(HashProvider):
    """Splits long texts."""

    passage_tokens = 64


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider() -> HashProvider:
    return Short()


@pytest.fixture
def run(command: Callable[..., subprocess.CompletedProcess[str]]) -> Run:
    return checked(command)


def lines(export: Export) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    export.write(stream)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_export_is_stored_elsewhere_with_the_same_embeddings_and_nothing_is_embedded(
    search: SearchEngine, provider: HashProvider, tmp_path: Path
) -> None:
    RecordStore(search).insert("D", RECORDS)
    before = lines(Export(search, "D", with_embeddings=True))
    assert [row["id"] for row in before] == ["1", "2", "3"]
    assert len(before[2]["embedding_passages"]) > 1
    other = Short()
    moved = SearchEngine(kameleon.create_engine(f"sqlite:///{tmp_path / 'other.db'}"), other)
    made = split_embeddings(before)
    report = RecordStore(moved).insert("D", made.records, embeddings=made.embeddings)
    assert (report.index.reused, report.index.pending, other.calls) == (3, 0, [])
    assert lines(Export(moved, "D", with_embeddings=True)) == before
    for id_ in "12":
        assert ids(moved.similar("D", id_, mode="vector")) == ids(search.similar("D", id_, mode="vector"))


def test_an_export_without_embeddings_is_the_records(search: SearchEngine) -> None:
    RecordStore(search).insert("D", RECORDS)
    assert lines(Export(search, "D")) == RECORDS


def test_pages_follow_each_other(search: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kameleon.exporting.RECORDS_A_PAGE", 2)
    store = RecordStore(search)
    for entity in ("A", "D", "E"):
        store.insert(entity, [{"id": f"{entity}{n}", "title": f"title {n}"} for n in range(5)])
    assert [row["id"] for row in Export(search, "D")] == [f"D{n}" for n in range(5)]


def test_pending_and_refused_records_have_no_embedding(make: Make) -> None:
    search = make("static")
    RecordStore(search).insert("D", [{"id": "1", "title": "a fox"}, {"id": "2", "title": "\u2603\u2603 \u2603"}])
    rows = {row["id"]: row["embedding"] for row in Export(search, "D", with_embeddings=True)}
    assert len(rows["1"]) == 256
    assert rows["2"] is None


def test_csv_has_the_columns_of_all_records(search: SearchEngine) -> None:
    RecordStore(search).insert("D", RECORDS[:2])
    stream = io.BytesIO()
    assert Export(search, "D").write(stream, "csv") == 2
    assert stream.getvalue().decode() == (
        'id,title,year,tags,open,note\n1,red fox,1990,"[""a"", ""b""]",true,\n2,"lazy ""dog""\nsleeps",2001,,,\n'
    )


def test_parquet_has_types_and_the_same_vectors(search: SearchEngine) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    mixed = [{"id": "4", "title": "x y", "year": 1.5, "any": {"a": 1}}, {"id": "5", "title": "z", "any": 3}]
    RecordStore(search).insert("D", [*RECORDS, *mixed])
    export = Export(search, "D", with_embeddings=True)
    stream = io.BytesIO()
    assert export.write(stream, "parquet") == 5
    stream.seek(0)
    table = parquet.read_table(stream)
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["year"], types["open"], types["any"]) == ("double", "bool", "string")
    read = table.to_pylist()
    assert read[0]["tags"] == ["a", "b"]
    assert [row["any"] for row in read[3:]] == ['{"a": 1}', "3"]
    given = split_embeddings(lines(export)).embeddings
    found = split_embeddings(read).embeddings
    assert len(found) == 5
    for one, other in zip(found, given, strict=True):
        assert flat(one) == pytest.approx(flat(other), abs=1e-9)


def flat(embedding: Sequence[Any]) -> list[float]:
    if isinstance(embedding[0], dict):
        return [number for passage in embedding for number in passage["embedding"]]
    return list(embedding)


def test_tenants_are_named_and_their_records_kept_apart(search: SearchEngine) -> None:
    store = RecordStore(search)
    store.create_entity("T", search=["title"], tenant_field="")
    for tenant in ("a", "b"):
        store.insert("T", [{"id": "1", "title": f"of {tenant}"}], tenant=tenant)
    with pytest.raises(TenantRequired):
        Export(search, "T")
    assert lines(Export(search, "T", tenant="b")) == [{"id": "1", "tenant": "b", "title": "of b"}]
    assert lines(Export(search.for_tenant("a"), "T")) == [{"id": "1", "tenant": "a", "title": "of a"}]
    assert [row["tenant"] for row in Export(search, "T", tenant=ALL_TENANTS)] == ["a", "b"]


def test_a_field_that_an_export_would_replace_is_refused(search: SearchEngine) -> None:
    RecordStore(search).insert("D", [{"id": "1", "title": "red fox", "embedding": "of my own"}])
    assert lines(Export(search, "D")) == [{"id": "1", "title": "red fox", "embedding": "of my own"}]
    with pytest.raises(InvalidInput, match="has a field 'embedding'"):
        Export(search, "D", with_embeddings=True)


def test_indexed_texts_are_exported_as_text(search: SearchEngine) -> None:
    search.index_record("X", "1", "hello world")
    assert lines(Export(search, "X")) == [{"id": "1", "text": "hello world"}]
    with pytest.raises(UnknownEntity, match="Known: X"):
        Export(search, "Y")
    with pytest.raises(InvalidInput, match="jsonl, csv, parquet"):
        Export(search, "X").write(io.BytesIO(), "xml")


class Base(DeclarativeBase):
    pass


@searchable(fields=["title"], name="ExportedNote")
class Note(Base):
    __tablename__ = "exported_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    stars: Mapped[int | None]
    api_key: Mapped[str | None]
    password_hash: Mapped[str | None]


@searchable(fields=["title"], name="ExportedOwned", tenant=lambda owned: owned.owner)
class Owned(Base):
    __tablename__ = "exported_owned"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    owner: Mapped[str]


def test_a_mapped_class_is_exported_with_its_columns_but_secrets(
    search: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kameleon.exporting.RECORDS_A_PAGE", 1)
    Base.metadata.create_all(search.engine)
    sessions = search.attach(sessionmaker(search.engine))
    with sessions.begin() as session:
        session.add_all(
            [Note(id=n, title=f"note {n}", stars=n, api_key=f"k{n}", password_hash=f"h{n}") for n in (1, 2, 3)]
        )
    with search.engine.begin() as connection:
        connection.execute(text("DELETE FROM exported_note WHERE id = 2"))
    rows = lines(Export(search, "ExportedNote", with_embeddings=True))
    assert [(row["id"], row["title"], row["stars"]) for row in rows] == [("1", "note 1", 1), ("3", "note 3", 3)]
    assert [set(row) for row in rows] == [{"id", "title", "stars", "embedding", "embedding_model"}] * 2


def test_a_row_that_moved_to_another_tenant_is_not_shown_to_the_former_one(search: SearchEngine) -> None:
    Base.metadata.create_all(search.engine)
    sessions = search.attach(sessionmaker(search.engine))
    with sessions.begin() as session:
        session.add_all([Owned(id=n, title=f"fox {n}", owner="a") for n in (1, 2)])
    with search.engine.begin() as connection:
        connection.execute(text("UPDATE exported_owned SET owner = 'b' WHERE id = 2"))
    assert lines(Export(search, "ExportedOwned", tenant="a")) == [{"id": "1", "title": "fox 1", "owner": "a"}]
    found = search.search("fox", entity=Owned, tenant="a", data=True)
    assert {hit.id: hit.data and hit.data["title"] for hit in found} == {"1": "fox 1", "2": None}


def test_an_existing_table_is_exported(search: SearchEngine) -> None:
    with search.engine.begin() as connection:
        connection.execute(text("CREATE TABLE exported_books (isbn varchar(9) PRIMARY KEY, title text, year integer)"))
        connection.execute(text("INSERT INTO exported_books VALUES ('a', 'the fox', 1990), ('b', 'the dog', NULL)"))
    search.tables.define("exported_books", {"title": 2})
    search.tables.refresh("exported_books")
    rows = lines(Export(search, "exported_books"))
    assert rows == [
        {"id": "a", "isbn": "a", "title": "the fox", "year": 1990},
        {"id": "b", "isbn": "b", "title": "the dog", "year": None},
    ]


# the command


def test_the_command_moves_records_between_databases(run: Run, tmp_path: Path) -> None:
    data = "".join(f'{{"id": "{n}", "title": "title number {n}", "n": {n}}}\n' for n in range(30))
    run("data", "insert", "D", "-d", "sqlite:///one.db", stdin=data)
    done = run("export", "D", "--with-embeddings", "-o", "d.jsonl.gz", "-d", "sqlite:///one.db")
    assert done.stdout == "exported 30 records of D to d.jsonl.gz\n"
    assert len(gzip.decompress((tmp_path / "d.jsonl.gz").read_bytes()).splitlines()) == 30
    done = run("data", "insert", "D", "d.jsonl.gz", "--embeddings", "embedding", "-d", "sqlite:///two.db", "--json")
    summary = json.loads(done.stdout)
    assert (summary["inserted"], summary["embedded"], summary["reused"], summary["pending"]) == (30, 0, 30, 0)
    printed = [run("export", "D", "--with-embeddings", "-d", f"sqlite:///{name}.db").stdout for name in ("one", "two")]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == 30


@pytest.mark.parametrize("file", ["d.csv", "d.parquet"])
def test_files_of_every_format_keep_the_embeddings(run: Run, file: str) -> None:
    if file == "d.parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    long = " ".join(f"word{n} and fox," for n in range(400))
    given = f'{{"id": "1", "title": "red, fox"}}\n{{"id": "2", "title": "{long}"}}'
    run("data", "insert", "D", "-d", "sqlite:///one.db", stdin=given)
    run("export", "D", "--with-embeddings", "-o", file, "-d", "sqlite:///one.db")
    done = run("data", "insert", "D", file, "--embeddings", "embedding", "-d", "sqlite:///two.db")
    assert "2 inserted; 0 embedded, 2 reused" in done.stdout
    one, two = (run("export", "D", "--with-embeddings", "-d", f"sqlite:///{name}.db").stdout for name in ("one", "two"))
    assert one == two
    assert one.count("embedding_passages") == 1


def test_vectors_of_another_model_are_refused_with_the_option_that_helps(run: Run) -> None:
    records = [
        '{"id": "1", "title": "red fox", "v": [1, 0, 0.5]}',
        '{"id": "2", "title": "lazy dog", "v": "[0, 1, 0]"}',
    ]
    given = "\n".join(records)
    done = run("data", "insert", "D", "--embeddings", "v", stdin=given, status=1)
    assert "--provider given --model NAME" in done.stderr
    named = ("--provider", "given", "--model", "mine")
    done = run("data", "insert", "D", "--embeddings", "v", *named, stdin=given)
    assert "2 inserted; 0 embedded, 2 reused" in done.stdout
    done = run("data", "insert", "D", "--embeddings", "v", stdin='{"id": "3", "title": "x", "v": [1, 2]}', status=1)
    assert "the embeddings have 2 numbers, this engine's model is mine (3 dimensions)" in done.stderr
    done = run("data", "insert", "D", "--embeddings", "v", stdin='{"id": "3", "title": "x"}', status=1)
    assert "no 'v', which --embeddings names; it has id, title" in done.stderr
    other = '{"id": "3", "title": "x", "v": [1, 2, 3], "v_model": "other 2-00"}'
    done = run("data", "insert", "D", "--embeddings", "v", stdin=other, status=1)
    assert "the embeddings are of other, this engine's model is mine" in done.stderr
    done = run("embeddings", "sync")
    assert done.stdout == "0 embedded, 0 failed, 0 pending\n"
    assert "come from outside" in run("embeddings", "reindex", "--force", "--no-confirm", status=1).stderr


def test_a_file_name_without_a_format_is_refused_with_the_option(run: Run) -> None:
    run("data", "insert", "D", stdin='{"id": "1", "title": "red fox"}')
    assert "--format" in run("export", "D", "-o", "d.txt", status=2).stderr
    assert run("export", "D", "--format", "csv").stdout == "id,title\n1,red fox\n"
